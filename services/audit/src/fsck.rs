//! Is the log what it signed? Leaf hashes, tree, tiles, checkpoints, subjects and sources, made again from the leaves; and
//! whether each event has one leaf, sealed payloads are those that the leaves commit to, notes and cosignatures verify, and
//! rows say what the log tells.
//!
//! Not made again is what a key makes: the names that a leaf is found by, and the digest of what was sent. Of these, as of
//! all rows, the check value tells whether they are as they were written.

mod repeats;
mod told;

use sammati_kernel::hex;
use std::collections::{HashMap, VecDeque};

use prost::Message;
use ring::digest::{SHA256, digest};
use sammati_api::audit::v1::Leaf;
use sammati_log::checkpoint::{self, Verifier};
use sammati_log::cosignature::Witness;
use sammati_server::event::micros;
use sammati_store::Error;
use sammati_store::verbs::{Fsck, More};

use self::told::Told;
use crate::posting::{Reach, Sum};
use crate::rows::{CheckpointRow, LeafRow, LogKeyRow, LogRow, PostingRow, SourceRow, SubjectRow, TileRow};
use crate::succession::SuccessionRow;
use crate::tree::Tree;

/// What the leaves so far make.
#[derive(Default)]
struct Made {
    tree: Tree,
    /// Of each subject: how many events, and the index of the newest.
    subjects: HashMap<Vec<u8>, (i64, u64)>,
    /// Of each partition of a feed, by its row's key: the position behind the last.
    sources: HashMap<Vec<u8>, i64>,
    checkpoints: Checkpoints,
    /// Who signs, and under which name.
    keys: Vec<Verifier>,
    origin: String,
    /// When the newest leaf was taken in, microseconds.
    accepted: i64,
    /// How far the postings have come, as the head says, and what they add up to.
    reach: Reach,
    postings: Sum,
    told: Told,
}

/// What was signed, by size, read as the tree grows.
#[derive(Default)]
struct Checkpoints {
    read: VecDeque<CheckpointRow>,
    after: Vec<u8>,
    ended: bool,
    last: Option<u64>,
}

impl Checkpoints {
    fn next(&mut self, fsck: &mut Fsck<'_>, partition: i64) -> Result<Option<&CheckpointRow>, Error> {
        while self.read.is_empty() && !self.ended {
            let page = fsck.page::<CheckpointRow>(partition, &self.after)?;
            self.ended = page.is_empty();
            if let Some((key, _)) = page.last() {
                self.after.clone_from(key);
            }
            self.read.extend(page.into_iter().filter_map(|(_, row)| row));
        }
        Ok(self.read.front())
    }
}

/// Checks a log with these witnesses.
pub fn log(witnesses: Vec<Witness>) -> More {
    Box::new(move |fsck, partition| {
        told::cosignatures(fsck, partition, &witnesses)?;
        leaves(fsck, partition)
    })
}

/// Checks the log in `partition`, the only one there is.
fn leaves(fsck: &mut Fsck<'_>, partition: i64) -> Result<(), Error> {
    let head = fsck.get::<LogRow>(partition, LogRow::KEY)?.unwrap_or_default();
    let mut made = Made {
        reach: head.reach(),
        keys: keys(fsck, partition, &head)?,
        origin: head.origin,
        ..Made::default()
    };
    let mut after = Vec::new();
    made.signed(fsck, partition)?;
    loop {
        let page = fsck.page::<LeafRow>(partition, &after)?;
        let Some((last, _)) = page.last() else { break };
        after.clone_from(last);
        repeats::events(fsck, partition, &page)?;
        for (key, row) in &page {
            // One that cannot be read was told; without it no tree can be made.
            let Some(row) = row else { return Ok(()) };
            if !made.leaf(fsck, partition, key, row)? {
                return Ok(());
            }
        }
    }
    made.end(fsck, partition)
}

/// The keys that ever signed it; tells those that cannot be read.
fn keys(fsck: &mut Fsck<'_>, partition: i64, head: &LogRow) -> Result<Vec<Verifier>, Error> {
    let later = fsck.page::<LogKeyRow>(partition, &[])?;
    let later = later.into_iter().filter_map(|(_, row)| Some(row?.vkey));
    let mut keys = Vec::new();
    for vkey in std::iter::once(head.vkey.clone())
        .filter(|key| !key.is_empty())
        .chain(later)
    {
        match Verifier::parse(&vkey) {
            Ok(key) => keys.push(key),
            Err(error) => fsck.disagree(Some(partition), "log key", error),
        }
    }
    Ok(keys)
}

/// Whether a payload is gone with all that it named.
fn is_emptied(row: &LeafRow) -> bool {
    row.payload.is_empty() && row.names.is_empty()
}

impl Made {
    /// Takes in the next leaf; `false` when the tree cannot be made any further.
    fn leaf(&mut self, fsck: &mut Fsck<'_>, partition: i64, key: &[u8], row: &LeafRow) -> Result<bool, Error> {
        let (at, index) = (Some(partition), self.tree.size());
        if key != index.to_be_bytes() {
            let what = format!(
                "missing: the next leaf has the key {}; no tree is made without it",
                hex(key)
            );
            fsck.disagree(at, format!("leaf {index}"), what);
            return Ok(false);
        }
        let place = format!("leaf {index}");
        let hash = row.hash();
        self.postings.leaf(self.reach, row);
        match Leaf::decode(row.leaf.as_slice()) {
            Err(_) => fsck.disagree(at, &place, "its header cannot be read"),
            Ok(header) => {
                if is_emptied(row) {
                    self.told.emptied(index, &header);
                } else if digest(&SHA256, &row.payload).as_ref() != header.payload_hash {
                    fsck.disagree(at, &place, "its payload is not the one that the leaf commits to");
                }
                self.told.leaf(index, &header);
                self.header(fsck, partition, index, header);
            }
        }
        let full = match self.tree.extend([hash]) {
            Ok(full) => full,
            Err(error) => {
                fsck.disagree(at, &place, format!("the tree cannot be made: {error}"));
                return Ok(false);
            }
        };
        for tile in full {
            let key = TileRow::key_of(u8::try_from(tile.level).unwrap_or(u8::MAX), tile.index);
            let kept = fsck.get::<TileRow>(partition, &key)?;
            if kept.as_ref() != Some(&tile) {
                let what = if kept.is_none() {
                    "missing"
                } else {
                    "its hashes are not those that the leaves make"
                };
                fsck.disagree(at, format!("tile {} of level {}", tile.index, tile.level), what);
            }
        }
        self.signed(fsck, partition)?;
        Ok(true)
    }

    /// The places of a leaf in its subject's chain and in its source's feed.
    fn header(&mut self, fsck: &mut Fsck<'_>, partition: i64, index: u64, header: Leaf) {
        self.accepted = header.accept_time.as_ref().and_then(micros).unwrap_or_default().0;
        if !header.subject_tag.is_empty() {
            let before = self.subjects.get(&header.subject_tag).copied();
            let seq = before.map_or(0, |(seq, _)| seq) + 1;
            let prev = before.and_then(|(_, last)| i64::try_from(last).ok());
            if (header.subject_seq, header.subject_prev) != (seq, prev) {
                let what = format!(
                    "says that it is event {} of its subject after leaf {:?}; it is event {seq} after {prev:?}",
                    header.subject_seq, header.subject_prev
                );
                fsck.disagree(Some(partition), format!("leaf {index}"), what);
            }
            // From here on as it says: one leaf that was changed is not told again with each that follows.
            self.subjects.insert(header.subject_tag, (header.subject_seq, index));
        }
        // Epochs begin at 1; what was sent directly has none.
        if let Some(source) = header.source.filter(|source| source.epoch > 0) {
            let key = format!("{}/{}/{}", source.service, source.epoch, source.partition).into_bytes();
            let next = self.sources.entry(key).or_default();
            *next = (*next).max(source.position.saturating_add(1));
        }
    }

    /// Compares the checkpoint that was signed at this size, if one was.
    fn signed(&mut self, fsck: &mut Fsck<'_>, partition: i64) -> Result<(), Error> {
        let size = self.tree.size();
        while let Some(row) = self.checkpoints.next(fsck, partition)?.filter(|row| row.size <= size) {
            let (at, root) = (row.size, row.root.clone());
            let note = checkpoint::open_as(&row.note, &self.origin, &self.keys);
            if !note.is_ok_and(|note| note.size() == at && note.root().0.as_slice() == root) {
                let what = "its note is not signed by the log, or says something else";
                fsck.disagree(Some(partition), format!("checkpoint {at}"), what);
            }
            if at == size && root != self.tree.root().0 {
                let what = format!(
                    "SIGNED over the root {}, but the leaves make {}",
                    hex(&root),
                    hex(&self.tree.root().0)
                );
                fsck.disagree(Some(partition), format!("checkpoint {at}"), what);
            }
            self.checkpoints.last = Some(at);
            self.checkpoints.read.pop_front();
        }
        Ok(())
    }

    fn end(mut self, fsck: &mut Fsck<'_>, partition: i64) -> Result<(), Error> {
        let at = Some(partition);
        if let Some(row) = self.checkpoints.next(fsck, partition)? {
            let what = format!("SIGNED, but there are only {} leaves", self.tree.size());
            fsck.disagree(at, format!("checkpoint {}", row.size), what);
            return Ok(());
        }
        let Some(head) = fsck.get::<LogRow>(partition, LogRow::KEY)? else {
            if self.tree.size() > 0 {
                fsck.disagree(at, "log", "has leaves and no head");
            }
            return Ok(());
        };
        let mut made = head.clone();
        self.tree.store(&mut made);
        // A log without a leaf may have no edge at all.
        let same_edge = made.edge == head.edge || (self.tree.size() == 0 && head.edge.is_empty());
        if !same_edge || made.open != head.open {
            let what = format!("its tree is not the one that the {} leaves make", self.tree.size());
            fsck.disagree(at, "log head", what);
        }
        if head.accept_time != self.accepted || !head.origin.ends_with(&format!("/{}", head.id)) {
            fsck.disagree(
                at,
                "log head",
                "its time is not that of the newest leaf, or its id not that of its origin",
            );
        }
        if head.signed != self.checkpoints.last {
            let what = format!(
                "says that it signed up to {:?}; the last checkpoint is {:?}",
                head.signed, self.checkpoints.last
            );
            fsck.disagree(at, "log head", what);
        }
        self.subjects(fsck, partition)?;
        self.sources(fsck, partition)?;
        self.postings(fsck, partition)?;
        self.told.end(fsck, partition)
    }

    fn postings(&self, fsck: &mut Fsck<'_>, partition: i64) -> Result<(), Error> {
        let (mut kept, mut after) = (Sum::default(), Vec::new());
        loop {
            let page = fsck.page::<PostingRow>(partition, &after)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (key, row) in &page {
                if let Some(wrong) = row.as_ref().and_then(|row| kept.page(self.reach, row)) {
                    fsck.disagree(Some(partition), format!("posting {}", hex(key)), wrong);
                }
            }
        }
        if kept != self.postings {
            let what = format!("are not those that the first {} runs of leaves make", self.reach.posted);
            fsck.disagree(Some(partition), "postings", what);
        }
        Ok(())
    }

    fn subjects(&mut self, fsck: &mut Fsck<'_>, partition: i64) -> Result<(), Error> {
        let mut after = Vec::new();
        loop {
            let page = fsck.page::<SubjectRow>(partition, &after)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (key, row) in page {
                let made = self.subjects.remove(&key);
                let kept = row.map(|row| (row.seq, row.last));
                if kept.is_some() && kept != made {
                    let what = format!("kept as {kept:?}, but the leaves make {made:?} (events, newest leaf)");
                    fsck.disagree(Some(partition), format!("subject {}", hex(&key)), what);
                }
            }
        }
        for key in self.subjects.keys() {
            fsck.disagree(
                Some(partition),
                format!("subject {}", hex(key)),
                "has leaves and no row",
            );
        }
        Ok(())
    }

    fn sources(&mut self, fsck: &mut Fsck<'_>, partition: i64) -> Result<(), Error> {
        // Where the log before ended there are no leaves of it here.
        let goes_on = fsck.get::<SuccessionRow>(partition, SuccessionRow::FOLLOWS)?.is_some();
        let mut after = Vec::new();
        loop {
            let page = fsck.page::<SourceRow>(partition, &after)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (key, row) in page {
                let made = self.sources.remove(&key);
                let is_taken_over = goes_on && made.is_none();
                let made = made.unwrap_or(0);
                if let Some(row) = row.filter(|row| row.next != made && !is_taken_over) {
                    let what = format!("expects position {} next; its leaves end before {made}", row.next);
                    fsck.disagree(
                        Some(partition),
                        format!("source {}", String::from_utf8_lossy(&key)),
                        what,
                    );
                }
            }
        }
        for key in self.sources.keys() {
            let place = format!("source {}", String::from_utf8_lossy(key));
            fsck.disagree(Some(partition), place, "has leaves and no row");
        }
        Ok(())
    }
}
