//! An event that is ready to be appended: checked, sealed, hashed for look-up, and encoded but for what only the lock tells.

use std::ops::Range;

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, int64, skip_field};
use prost::{DecodeError, Message};
use sammati_api::audit::v1::Leaf;
use sammati_kernel::{Fact, Micros, Reason, Refusal, hex};
use sammati_log::Hash32;
use sammati_log::hash::leaf_hash;
use sammati_server::event::timestamp;
use sammati_store::{Cell, Record, Table};

use crate::append::Placed;
use crate::keyring;
use crate::log::SERVICE;
use crate::rows::{ErasureRow, LeafRow, event_key};

/// Numbers of fields of a `Leaf`.
const SUBJECT_SEQ: u32 = 18;
const SUBJECT_PREV: u32 = 19;

/// Numbers of fields of a [`LeafRow`].
const INDEX: u32 = 1;
const LEAF: u32 = 2;

/// An event on its way into the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its producer's id.
    pub(crate) event_id: String,
    /// The tag of its subject; empty without one.
    pub(crate) subject: Vec<u8>,
    /// The name of the subject's key that it is sealed under.
    pub(crate) sealed_under: Vec<u8>,
    /// Which of that name.
    generation: i64,
    /// The month whose key it is sealed under.
    month: String,
    key: Vec<u8>,
    /// The leaf up to its `accept_time`, and what follows upon that.
    leaf: [Vec<u8>; 2],
    /// What follows upon the leaf in its row.
    rest: Vec<u8>,
    digest: Vec<u8>,
    /// Whether the log tells it of itself.
    pub(crate) is_own: bool,
}

impl Entry {
    /// The leaf `header` with its `payload`, sealed. `digest` is a keyed hash of the event as it was sent, `names` what it
    /// is looked up by.
    pub(crate) fn new(mut header: Leaf, payload: Vec<u8>, digest: Vec<u8>, names: Vec<u8>) -> Self {
        use std::mem::take;
        let key = event_key(&header.event_id);
        let sealed_under = keyring::subject_key_of(&header);
        let (generation, month) = (keyring::generation(&header), keyring::month_of(&header).to_owned());
        // prost writes fields in the order of their numbers: `accept_time` is the tenth.
        let after = Leaf {
            trace_id: take(&mut header.trace_id),
            txn_id: take(&mut header.txn_id),
            causation_event_id: take(&mut header.causation_event_id),
            resource_type: take(&mut header.resource_type),
            payload_hash: take(&mut header.payload_hash),
            key_id: take(&mut header.key_id),
            subject_tag: take(&mut header.subject_tag),
            ..Leaf::default()
        };
        let rest = LeafRow {
            payload,
            digest: digest.clone(),
            names,
            ..LeafRow::default()
        };
        Self {
            leaf: [header.encode_to_vec(), after.encode_to_vec()],
            is_own: header.source.as_ref().is_some_and(|source| source.service == SERVICE),
            event_id: header.event_id,
            subject: after.subject_tag,
            sealed_under,
            generation,
            month,
            key,
            rest: rest.encode_to_vec(),
            digest,
        }
    }

    /// By what the log finds whether it has it.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether it was sealed too early: the subject's key is destroyed since, or being destroyed, or the month's goes before
    /// what is taken in this month may go.
    pub(crate) fn is_late(&self, erasure: Option<&ErasureRow>, month: &str) -> bool {
        let end = erasure.and_then(ErasureRow::end);
        self.month.as_str() < month || end.is_some_and(|end| end.generation >= self.generation)
    }

    /// How many bytes it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        512 + self.leaf.iter().map(Vec::len).sum::<usize>() + self.rest.len()
    }

    /// Its row at `index`, with the leaf encoded once and for ever. `subject` are its place among the events of its subject,
    /// and the index of the one before.
    pub(crate) fn row(&self, index: u64, accepted: &Accepted, subject: (i64, Option<u64>)) -> Row {
        let mut place = Vec::with_capacity(24);
        if subject.0 != 0 {
            int64::encode(SUBJECT_SEQ, &subject.0, &mut place);
        }
        if let Some(prev) = subject.1.and_then(|prev| i64::try_from(prev).ok()) {
            int64::encode(SUBJECT_PREV, &prev, &mut place);
        }
        let [before, after] = &self.leaf;
        let pieces = [before, &accepted.0, after, &place];
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        // Two keys of one byte, and two numbers of ten at most.
        let mut body = Vec::with_capacity(22 + length + self.rest.len());
        if index != 0 {
            prost::encoding::uint64::encode(INDEX, &index, &mut body);
        }
        if length != 0 {
            encode_key(LEAF, WireType::LengthDelimited, &mut body);
            encode_varint(length as u64, &mut body);
        }
        let leaf = body.len()..body.len() + length;
        pieces.iter().for_each(|piece| body.extend_from_slice(piece));
        body.extend_from_slice(&self.rest);
        Row {
            body,
            leaf,
            index,
            event_key: self.key.clone(),
        }
    }

    /// Its place, if `row` is the same event.
    ///
    /// # Errors
    /// `EVENT_CONFLICT` when it is another under the same id.
    pub(crate) fn same_as(&self, row: &LeafRow) -> Result<Placed, Refusal> {
        // Rows of the first schema have a longer one, which begins alike.
        if !row.digest.starts_with(&self.digest) {
            return Err(Refusal::new(Reason::EventConflict)
                .saying("this event id is in the log with another body; an event is never changed, send a new one")
                .with(Fact::EventId, &self.event_id)
                .with(Fact::KnownDigest, hex(&row.digest))
                .with(Fact::SentDigest, hex(&self.digest)));
        }
        let accepted = row
            .header()
            .accept_time
            .as_ref()
            .and_then(sammati_server::event::micros);
        Ok(Placed {
            index: row.index,
            hash: row.hash().0,
            accepted: accepted.unwrap_or_default(),
        })
    }
}

/// When events were taken in, as their leaves say.
pub(crate) struct Accepted(Vec<u8>);

impl Accepted {
    /// At this time.
    pub(crate) fn at(time: Micros) -> Self {
        let time = Leaf {
            accept_time: Some(timestamp(time)),
            ..Leaf::default()
        };
        Self(time.encode_to_vec())
    }
}

/// A [`LeafRow`] on its way into its table: encoded, with its key and its look-up value beside it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    body: Vec<u8>,
    /// Where the leaf is in it.
    leaf: Range<usize>,
    index: u64,
    event_key: Vec<u8>,
}

impl Row {
    /// The hash of the leaf.
    pub(crate) fn hash(&self) -> Hash32 {
        leaf_hash(&self.body[self.leaf.clone()])
    }
}

impl Record for Row {
    const TABLE: Table = LeafRow::TABLE;
    const FORMAT: i64 = LeafRow::FORMAT;

    fn key(&self) -> Vec<u8> {
        LeafRow::key_of(self.index)
    }

    fn cells(&self) -> Vec<Cell> {
        vec![self.event_key.as_slice().into()]
    }
}

/// It is written alone: whoever reads it has a [`LeafRow`].
impl Message for Row {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.body);
    }

    fn encoded_len(&self) -> usize {
        self.body.len()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, ctx)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use sammati_api::audit::v1::EventSource;

    use super::*;

    fn row(entry: &Entry, index: u64, time: Micros, subject: (i64, Option<u64>)) -> LeafRow {
        let row = entry.row(index, &Accepted::at(time), subject);
        let read = LeafRow::decode(row.encode_to_vec().as_slice()).unwrap();
        assert_eq!(row.hash(), read.hash());
        // As it would be written in one piece.
        assert_eq!(row.encode_to_vec(), read.encode_to_vec());
        assert_eq!((row.key(), row.cells()), (read.key(), read.cells()));
        read
    }

    /// A row of the first schema has the whole of the hash of which later ones keep the beginning.
    #[test]
    fn a1_what_older_code_appended_is_the_same_event() {
        let entry = Entry::new(Leaf::default(), Vec::new(), vec![7; 16], Vec::new());
        let row = |digest| LeafRow {
            digest,
            ..row(&entry, 3, Micros(1), (0, None))
        };
        for same in [vec![7; 16], [[7; 16], [9; 16]].concat()] {
            assert_eq!(entry.same_as(&row(same)).unwrap().index, 3);
        }
        for other in [vec![8; 16], [[8; 16], [7; 16]].concat(), vec![7; 15], Vec::new()] {
            assert_eq!(entry.same_as(&row(other)).unwrap_err().reason, Reason::EventConflict);
        }
    }

    /// The leaf is what prost makes of the whole of it, whatever of it is empty.
    #[test]
    fn a_leaf_in_pieces_is_the_leaf() {
        let full = Leaf {
            schema_version: 1,
            event_id: "019ab0c2-0000-7000-8000-000000000001".to_owned(),
            source: Some(EventSource {
                service: "consent".to_owned(),
                epoch: 1,
                partition: 2,
                position: 3,
            }),
            event_type: "consent.granted".to_owned(),
            action: 1,
            outcome: 1,
            reason_code: "X".to_owned(),
            class: 2,
            occurred_time: Some(timestamp(Micros(1_234_567))),
            accept_time: None,
            trace_id: "a".repeat(32),
            txn_id: "transfers/x".to_owned(),
            causation_event_id: "c".to_owned(),
            resource_type: "consents".to_owned(),
            payload_hash: vec![1; 32],
            key_id: "k".to_owned(),
            subject_tag: vec![2; 32],
            subject_seq: 0,
            subject_prev: None,
        };
        let some = Leaf {
            event_id: full.event_id.clone(),
            ..Leaf::default()
        };
        for header in [full, some] {
            let entry = Entry::new(header.clone(), vec![4; 300], vec![5; 16], vec![7; 27]);
            for (index, (seq, prev)) in (0..).zip([(0, None), (1, None), (7, Some(0)), (8, Some(1_000_000))]) {
                let whole = Leaf {
                    accept_time: Some(timestamp(Micros(99))),
                    subject_seq: seq,
                    subject_prev: prev.and_then(|prev| i64::try_from(prev).ok()),
                    ..header.clone()
                };
                let row = row(&entry, index, Micros(99), (seq, prev));
                assert_eq!(row.index, index);
                assert_eq!(row.leaf, whole.encode_to_vec());
                assert_eq!(
                    (row.payload, row.digest, row.names),
                    (vec![4; 300], vec![5; 16], vec![7; 27])
                );
            }
        }
    }
}
