//! Cosignatures: kept beside the checkpoints they are of, and shown with them.

use std::collections::BTreeMap;

use sammati_kernel::{Fact, Reason, Refusal, Slot};
use sammati_log::cosignature::{Cosignature, Witness, cosignatures, split_note};
use sammati_store::{Command, Keys, Record, View};

use crate::log::Log;
use crate::rows::{CheckpointRow, CosignatureRow, SLOT};

/// So many of a witness's newest cosignatures are looked at for a checkpoint that enough witnesses have in common.
const LOOK_BACK: i64 = 256;

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
            let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
            for key in &keys {
                for row in r.page::<CosignatureRow>("witness", key, None, LOOK_BACK)? {
                    *sizes.entry(row.record.size).or_default() += 1;
                }
            }
            let newest = sizes.into_iter().rev().find(|(_, count)| *count >= at_least);
            let Some((size, _)) = newest else { return Ok(None) };
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
                (self.cosignatures(size).await?.len() >= at_least).then_some(row)
            }
        };
        let missing = || {
            Refusal::new(Reason::CosignaturesMissing)
                .saying("not so many witnesses have cosigned it; try again, or ask for fewer")
        };
        self.noted(found.ok_or_else(missing)?).await
    }

    /// Takes a cosignature that a witness brought. Returns the checkpoint with it, and whether it is new.
    ///
    /// # Errors
    /// `SIZE_CONFLICT` when no checkpoint of that size was signed, `COSIGNATURE_INVALID`, `STORAGE_UNAVAILABLE`.
    pub async fn add_cosignature(&self, size: u64, line: &str) -> Result<(CheckpointRow, bool), Refusal> {
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
        let new = self
            .store
            .apply(Cosigned {
                row: fresh.ok_or_else(invalid)?,
            })
            .await?;
        Ok((self.noted(row).await?, new))
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
