//! What rows say and the log tells too: which keys ended, what holds erasures back, how the log ended, who cosigned it.
//!
//! Whoever changes such a row on purpose can make its check value anew, but not the leaf that recorded it.

use std::collections::BTreeMap;

use sammati_api::audit::v1::Leaf;
use sammati_api::types::v1::RetentionClass;
use sammati_log::cosignature::{Witness, split_note};
use sammati_server::event::micros;
use sammati_store::verbs::Fsck;
use sammati_store::{Error, Record};

use crate::erase::{class_of, is_of_subject, tag_of};
use crate::keyring;
use crate::log::SERVICE;
use crate::rows::{CheckpointRow, CosignatureRow, Done, ErasureRow, HoldRow};
use crate::succession::SuccessionRow;

/// What the leaves so far tell of rows.
#[derive(Default)]
pub(super) struct Told {
    /// The leaves that record the end of a key.
    ended: BTreeMap<u64, End>,
    /// Of each class of a subject of which payloads are gone: the newest generation of its key that they were under, and the
    /// leaf.
    emptied: BTreeMap<(RetentionClass, Vec<u8>), (i64, u64)>,
    /// Of each subject, or of everybody: how many holds were set, and how many of them lifted.
    holds: BTreeMap<Vec<u8>, (u64, u64)>,
    /// The leaf that records the end of the log.
    sealed: Option<u64>,
}

/// The end of a key, as its leaf records it.
#[derive(PartialEq, Eq)]
struct End {
    of_subject: bool,
    tag: Vec<u8>,
    at: i64,
}

impl Told {
    /// Takes in the next leaf.
    pub(super) fn leaf(&mut self, index: u64, header: &Leaf) {
        if header.source.as_ref().is_none_or(|source| source.service != SERVICE) {
            return;
        }
        let tag = || header.subject_tag.clone();
        match header.event_type.as_str() {
            what @ ("audit.erasure_executed" | "key.destroyed") => {
                let end = End {
                    of_subject: what == "audit.erasure_executed",
                    tag: tag(),
                    at: header.occurred_time.as_ref().and_then(micros).unwrap_or_default().0,
                };
                self.ended.insert(index, end);
            }
            "audit.legal_hold_set" => self.holds.entry(tag()).or_default().0 += 1,
            "audit.legal_hold_lifted" => self.holds.entry(tag()).or_default().1 += 1,
            "audit.sealed" => self.sealed = self.sealed.or(Some(index)),
            _ => {}
        }
    }

    /// Takes in that the payload of a leaf is gone.
    pub(super) fn emptied(&mut self, index: u64, header: &Leaf) {
        let class = RetentionClass::try_from(header.class).unwrap_or_default();
        let of = (keyring::generation(header), index);
        let newest = self.emptied.entry((class, header.subject_tag.clone())).or_insert(of);
        *newest = of.max(*newest);
    }

    /// Compares what the rows say.
    pub(super) fn end(mut self, fsck: &mut Fsck<'_>, partition: i64) -> Result<(), Error> {
        each::<ErasureRow>(fsck, partition, |fsck, row| {
            for done in &row.done {
                if self.ended.remove(&done.index) != Some(end_of(&row, done)) {
                    let what = format!("leaf {} does not record the end of the key that it says", done.index);
                    fsck.disagree(Some(partition), place(&row), what);
                }
            }
            self.went_with(&row);
            Ok(())
        })?;
        for (_, index) in self.emptied.values() {
            let what = "its payload is gone, and no row says that its key ended";
            fsck.disagree(Some(partition), format!("leaf {index}"), what);
        }
        for index in self.ended.keys() {
            let what = "records the end of a key that no row knows of";
            fsck.disagree(Some(partition), format!("leaf {index}"), what);
        }
        self.holds(fsck, partition)?;
        self.seal(fsck, partition)
    }

    /// What is gone with a key that ended, or is ending.
    fn went_with(&mut self, row: &ErasureRow) {
        let running = row.running.iter().map(|running| running.generation);
        let through = row.done.iter().map(|done| done.generation).chain(running).max();
        let of = (class_of(&row.key), tag_of(&row.key).to_vec());
        let newest = self.emptied.get(&of).filter(|_| is_of_subject(&row.key));
        if newest.is_some_and(|(generation, _)| through.is_some_and(|through| *generation <= through)) {
            self.emptied.remove(&of);
        }
    }

    fn holds(&self, fsck: &mut Fsck<'_>, partition: i64) -> Result<(), Error> {
        let mut kept = BTreeMap::<_, (u64, u64)>::new();
        each::<HoldRow>(fsck, partition, |_, row| {
            let (set, lifted) = kept.entry(row.subject.clone()).or_default();
            *set += 1;
            *lifted += u64::from(row.lifted != 0);
            Ok(())
        })?;
        if kept != self.holds {
            let what = "are not as many, or not as many of them lifted, as the leaves tell of each subject";
            fsck.disagree(Some(partition), "legal holds", what);
        }
        Ok(())
    }

    fn seal(&self, fsck: &mut Fsck<'_>, partition: i64) -> Result<(), Error> {
        let kept = fsck.get::<SuccessionRow>(partition, SuccessionRow::SEALED)?;
        let kept = kept.map(|row| row.size);
        if kept != self.sealed {
            let what = format!(
                "kept as {kept:?}, but the leaves say {:?} (leaves before it)",
                self.sealed
            );
            fsck.disagree(Some(partition), "seal", what);
        }
        Ok(())
    }
}

fn end_of(row: &ErasureRow, done: &Done) -> End {
    End {
        of_subject: is_of_subject(&row.key),
        tag: tag_of(&row.key).to_vec(),
        at: done.at,
    }
}

/// Whether each cosignature is one of the checkpoint that it stands beside. Of a witness that is not one of the log's any
/// more the key is not known, and only the check value tells of a change.
pub(super) fn cosignatures(fsck: &mut Fsck<'_>, partition: i64, witnesses: &[Witness]) -> Result<(), Error> {
    each::<CosignatureRow>(fsck, partition, |fsck, row| {
        let checkpoint = fsck.get::<CheckpointRow>(partition, &row.size.to_be_bytes())?;
        let text = checkpoint.as_ref().and_then(|checkpoint| split_note(&checkpoint.note));
        let what = match (text, witnesses.iter().find(|witness| row.is_of(witness))) {
            (None, _) => "there is no checkpoint of its size",
            (Some((text, _)), Some(witness)) if witness.verify(text, &row.line) != Ok(Some(row.time)) => {
                "it is not the witness's, of this checkpoint and at its time"
            }
            _ => return Ok(()),
        };
        fsck.disagree(Some(partition), place(&row), what);
        Ok(())
    })
}

/// Hands on each record of a table that can be read.
fn each<R: Record>(
    fsck: &mut Fsck<'_>,
    partition: i64,
    mut of: impl FnMut(&mut Fsck<'_>, R) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut after = Vec::new();
    loop {
        let page = fsck.page::<R>(partition, &after)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after.clone_from(last);
        for row in page.into_iter().filter_map(|(_, row)| row) {
            of(fsck, row)?;
        }
    }
}

fn place<R: Record>(row: &R) -> String {
    format!("{} {}", R::TABLE.name, sammati_kernel::hex(&row.key()))
}
