//! Cosignatures: kept beside the checkpoints they are of, and shown with them.

use std::collections::VecDeque;

use sammati_kernel::{Fact, Reason, Refusal, Slot};
use sammati_log::cosignature::{Cosignature, Witness, cosignatures, split_note};
use sammati_server::event::Draft;
use sammati_store::{Command, Error, Keys, Reader, Record, View};

use crate::log::Log;
use crate::rows::{CheckpointRow, CosignatureRow, SLOT};

/// Cosignatures of a witness that are read at once.
const PAGE: i64 = 64;

impl Log {
    /// The cosignatures of the checkpoint of this size.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn cosignatures(&self, size: u64) -> Result<Vec<CosignatureRow>, Refusal> {
        let read = self
            .store
            .read(move |r| r.group::<CosignatureRow>(SLOT, "size", &size.to_be_bytes()));
        let mut rows: Vec<_> = read.await?.into_iter().map(|row| row.record).collect();
        rows.sort_by_key(Record::key);
        Ok(rows)
    }

    /// A checkpoint with its cosignatures in the note.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn noted(&self, mut row: CheckpointRow) -> Result<CheckpointRow, Refusal> {
        for cosignature in self.cosignatures(row.size).await? {
            row.note.push_str(&cosignature.line);
        }
        Ok(row)
    }

    /// The newest checkpoint that so many of the witnesses have cosigned.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn cosigned(&self, at_least: usize) -> Result<Option<CheckpointRow>, Refusal> {
        let keys: Vec<_> = self.witnesses.keys().iter().map(CosignatureRow::witness_key).collect();
        let read = self.store.snapshot(move |r| {
            let Some(size) = common(r, &keys, at_least)? else {
                return Ok(None);
            };
            Ok(r.get::<CheckpointRow>(SLOT, &size.to_be_bytes())?.map(|row| row.record))
        });
        read.await
    }

    /// The checkpoint of `size`, or with 0 the newest, with at least so many cosignatures, which are in its note.
    ///
    /// # Errors
    /// `COSIGNATURES_MISSING`, and those of reading a checkpoint.
    pub async fn checkpoint_with(&self, size: u64, at_least: usize) -> Result<CheckpointRow, Refusal> {
        let found = match (size, at_least) {
            (0, 0) => Some(self.newest().await?),
            (0, _) => self.cosigned(at_least).await?,
            (size, _) => {
                let row = self.checkpoint(size).await?.ok_or_else(unknown)?;
                let (known, found) = (self.witnesses.keys(), self.cosignatures(size).await?);
                let has = |key: &&Witness| found.iter().any(|row| row.is_of(key));
                (known.iter().filter(has).count() >= at_least).then_some(row)
            }
        };
        let missing = || {
            Refusal::new(Reason::CosignaturesMissing)
                .saying("not so many witnesses have cosigned it; try again, or ask for fewer")
        };
        self.noted(found.ok_or_else(missing)?).await
    }

    /// Takes a cosignature that a witness brought, and if it is new the event `told` that says so. Returns the checkpoint
    /// with it.
    ///
    /// # Errors
    /// `SIZE_CONFLICT` when no checkpoint of that size was signed, `COSIGNATURE_INVALID`, `LOG_FROZEN`,
    /// `STORAGE_UNAVAILABLE`.
    pub async fn add_cosignature(&self, size: u64, line: &str, told: Draft) -> Result<CheckpointRow, Refusal> {
        let Some(row) = self.checkpoint(size).await? else {
            let signed = self.head().await?.signed.unwrap_or(0);
            return Err(Refusal::new(Reason::SizeConflict)
                .saying("no checkpoint of this size was signed; tree_size says what was signed last")
                .with(Fact::TreeSize, signed));
        };
        let text = split_note(&row.note).map_or("", |(text, _)| text);
        let mut fresh = None;
        for key in self.witnesses.keys() {
            let found = cosignatures(text, line, std::slice::from_ref(&key));
            if let Some(cosignature) = found.ok().and_then(|found| found.into_iter().next()) {
                fresh = Some(self::row(size, &key, cosignature));
            }
        }
        let invalid = || {
            Refusal::new(Reason::CosignatureInvalid)
                .saying("the line is not a cosignature of this checkpoint by one of the log's witnesses")
        };
        let fresh = fresh.ok_or_else(invalid)?;
        // Nothing is sealed for what is there already.
        if !self
            .cosignatures(size)
            .await?
            .iter()
            .any(|row| row.key() == fresh.key())
        {
            self.tell(Cosigned { row: fresh }, told).await?;
        }
        self.noted(row).await
    }
}

/// The largest size that so many of the witnesses with these keys have cosigned. None is larger than the `at_least`-th
/// largest of the sizes that each is at; from there on down each skips what is larger.
fn common(r: &mut Reader<'_>, keys: &[Vec<u8>], at_least: usize) -> Result<Option<u64>, Error> {
    let nth = at_least.saturating_sub(1);
    let mut walks: Vec<_> = keys.iter().map(Sizes::of).collect();
    let mut most = u64::MAX;
    loop {
        let mut at = Vec::with_capacity(walks.len());
        for walk in &mut walks {
            at.extend(walk.at_most(r, most)?);
        }
        at.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&size) = at.get(nth) else { return Ok(None) };
        if size == most || at.first() == Some(&size) {
            return Ok(Some(size));
        }
        most = size;
    }
}

/// The sizes that one witness has cosigned, from the largest on down.
struct Sizes<'a> {
    key: &'a Vec<u8>,
    read: VecDeque<u64>,
    is_over: bool,
}

impl<'a> Sizes<'a> {
    const fn of(key: &'a Vec<u8>) -> Self {
        Self {
            key,
            read: VecDeque::new(),
            is_over: false,
        }
    }

    /// The largest that is not above `most`, which only falls.
    fn at_most(&mut self, r: &mut Reader<'_>, most: u64) -> Result<Option<u64>, Error> {
        loop {
            while self.read.front().is_some_and(|size| *size > most) {
                self.read.pop_front();
            }
            if !self.read.is_empty() || self.is_over {
                return Ok(self.read.front().copied());
            }
            // Rows are in the order of their sizes.
            let before = most.checked_add(1).map(u64::to_be_bytes);
            let rows = r.page::<CosignatureRow>("witness", self.key, before.as_ref().map(<[u8; 8]>::as_slice), PAGE)?;
            self.is_over = rows.len() < PAGE as usize;
            self.read = rows.into_iter().map(|row| row.record.size).collect();
        }
    }
}

/// What is said of a size that was not signed.
pub(crate) fn unknown() -> Refusal {
    Refusal::new(Reason::CheckpointUnknown).saying("no checkpoint was signed at this size; 0 asks for the newest")
}

/// The row of a cosignature that verified.
pub(crate) fn row(size: u64, key: &Witness, cosignature: Cosignature) -> CosignatureRow {
    CosignatureRow {
        size,
        witness: key.name().to_owned(),
        key_id: key.key_id(),
        time: cosignature.time,
        line: cosignature.line,
    }
}

/// Puts a cosignature beside its checkpoint; the first of a witness stays.
#[derive(Clone)]
pub(crate) struct Cosigned {
    /// It was verified.
    pub(crate) row: CosignatureRow,
}

impl Command for Cosigned {
    /// Whether it is new.
    type Answer = bool;
    const NAME: &'static str = "audit.cosigned";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<CheckpointRow>(self.row.size.to_be_bytes());
        keys.row::<CosignatureRow>(self.row.key());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let signed = view.get::<CheckpointRow>(&self.row.size.to_be_bytes()).is_some();
        if !signed || view.get::<CosignatureRow>(&self.row.key()).is_some() {
            return Ok(false);
        }
        view.put(&self.row);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stores;

    struct Put(Vec<CosignatureRow>);

    impl Command for Put {
        type Answer = ();
        const NAME: &'static str = "test.put";

        fn slot(&self) -> Slot {
            SLOT
        }

        fn reads(&self, keys: &mut Keys) {
            self.0.iter().for_each(|row| keys.row::<CosignatureRow>(row.key()));
        }

        fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
            self.0.iter().for_each(|row| view.put(row));
            Ok(())
        }
    }

    fn by(witness: &str, size: u64) -> CosignatureRow {
        CosignatureRow {
            size,
            witness: witness.to_owned(),
            key_id: 1,
            time: 1,
            line: "\n".to_owned(),
        }
    }

    /// However much one of them has cosigned alone since.
    #[tokio::test(flavor = "multi_thread")]
    async fn a2_the_newest_that_enough_witnesses_cosigned_is_found() {
        for (_database, store) in stores(|| crate::rows::MIGRATIONS) {
            let all: [(&str, Vec<u64>); 4] = [
                ("a", (1..=1000).collect()),
                ("b", vec![5, 10, 2000]),
                ("c", (1..400).map(|n| 2 * n).chain([2000]).collect()),
                ("gone", (1..=2500).step_by(50).collect()),
            ];
            let rows = all
                .iter()
                .flat_map(|(who, sizes)| sizes.iter().map(|size| by(who, *size)));
            store.apply(Put(rows.collect())).await.unwrap();
            for (witnesses, at_least, newest) in [
                ("a", 1, Some(1000)),
                ("ab", 2, Some(10)),
                ("ac", 2, Some(798)),
                ("bc", 2, Some(2000)),
                ("abc", 0, Some(2000)),
                ("abc", 1, Some(2000)),
                ("abc", 2, Some(2000)),
                ("abc", 3, Some(10)),
                ("abc", 4, None),
                ("", 1, None),
            ] {
                let keys: Vec<_> = witnesses
                    .chars()
                    .map(|name| [&1_u32.to_be_bytes(), name.to_string().as_bytes()].concat())
                    .collect();
                let found = store.snapshot(move |r| common(r, &keys, at_least)).await.unwrap();
                assert_eq!(found, newest, "{at_least} of {witnesses}");
            }
        }
    }
}
