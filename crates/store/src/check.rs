//! The check value that a body ends with: whatever is changed of a row beside the store shows, where nothing else in the
//! database could make it again.
//!
//! It is a CRC-32, which misses no change within four bytes, and of others one in four billion. Against whoever changes a row
//! on purpose, and could make it anew, stand signatures and hash chains.
//!
//! It is spelled as one more field of the message, which no message has: code that knows nothing of it passes over it, and
//! drops it from a row that it rewrites. Such a row has none, as those of before.

use crate::table::{Raw, Record};

/// The key of that field, number 23,651,197, of four bytes. So long that other bytes do not look like it.
const MARK: [u8; 4] = [0xed, 0xb7, 0x9c, 0x5a];

/// The body of a record on its way into its table, where it will have this key and version.
pub(crate) fn body<R: Record>(record: &R, id: &[u8], version: i64) -> Vec<u8> {
    let mut body = Vec::with_capacity(record.encoded_len() + MARK.len() + 4);
    record.encode_raw(&mut body);
    let value = value(R::TABLE.name, id, version, R::FORMAT, &body);
    body.extend_from_slice(&MARK);
    body.extend_from_slice(&value.to_le_bytes());
    body
}

/// What the check value of a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is as it was written.
    Whole,
    /// It is not.
    Changed,
    /// There is none.
    Without,
}

/// Looks at a row of this table.
pub(crate) fn look(table: &str, row: &Raw) -> Checked {
    let Some((head, (mark, kept))) = split(&row.body) else {
        return Checked::Without;
    };
    let fits = value(table, &row.id, row.version, row.format, head).to_le_bytes() == *kept;
    let alike = MARK.iter().zip(mark).filter(|(a, b)| a == b).count();
    match (alike, fits) {
        (4, true) => Checked::Whole,
        // A value that fits stands there for no other reason: the mark was changed.
        (4, false) | (3, true) => Checked::Changed,
        _ => Checked::Without,
    }
}

type Tail<'a> = (&'a [u8; 4], &'a [u8; 4]);

fn split(body: &[u8]) -> Option<(&[u8], Tail<'_>)> {
    let (rest, kept) = body.split_last_chunk()?;
    let (head, mark) = rest.split_last_chunk()?;
    Some((head, (mark, kept)))
}

fn value(table: &str, id: &[u8], version: i64, format: i64, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    let [version, format] = [version, format].map(i64::to_le_bytes);
    for part in [table.as_bytes(), &[0], id, &version, &format, body] {
        sum.update(part);
    }
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::table::Table;

    #[derive(Clone, PartialEq, Eq, Message)]
    struct Some {
        #[prost(bytes = "vec", tag = "1")]
        key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        more: Vec<u8>,
    }

    impl Record for Some {
        const TABLE: Table = Table {
            name: "some",
            columns: &[],
        };

        fn key(&self) -> Vec<u8> {
            self.key.clone()
        }
    }

    fn row(record: &Some, version: i64) -> Raw {
        Raw {
            partition: 0,
            id: record.key(),
            version,
            format: 1,
            body: body(record, &record.key, version),
        }
    }

    fn some() -> impl Strategy<Value = Some> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        (bytes(), bytes()).prop_map(|(key, more)| Some { key, more })
    }

    proptest! {
        #[test]
        fn any_byte_that_is_changed_is_found(record in some(), version in 1..1_000_000_i64, bits in 1..=255_u8) {
            let whole = row(&record, version);
            prop_assert_eq!(look("some", &whole), Checked::Whole);
            prop_assert_eq!(look("other", &whole), Checked::Changed);
            let bent = |change: &dyn Fn(&mut Raw)| {
                let mut bent = whole.clone();
                change(&mut bent);
                look("some", &bent)
            };
            for at in 0..whole.body.len() {
                prop_assert_eq!(bent(&|row| row.body[at] ^= bits), Checked::Changed, "body {}", at);
            }
            for at in 0..whole.id.len() {
                prop_assert_eq!(bent(&|row| row.id[at] ^= bits), Checked::Changed, "id {}", at);
            }
            for at in 0..8 {
                let bits = i64::from(bits) << (8 * at);
                prop_assert_eq!(bent(&|row| row.version ^= bits), Checked::Changed, "version {}", at);
                prop_assert_eq!(bent(&|row| row.format ^= bits), Checked::Changed, "format {}", at);
            }
        }

        /// As code wrote it that knew of no check values, and reads what has one.
        #[test]
        fn a_row_of_before_has_none(record in some()) {
            let mut old = row(&record, 1);
            prop_assert_eq!(Some::decode(old.body.as_slice()), Ok(record.clone()));
            old.body = record.encode_to_vec();
            prop_assert_eq!(look("some", &old), Checked::Without);
        }
    }
}
