//! All that the log has about one person: her chain of leaves, newest first, of the tree that was signed when it was first
//! asked for, and what the log states of it.

use sammati_kernel::{Reason, Refusal};
use sammati_log::checkpoint::Checkpoint;
use sammati_log::subject::Head;
use sammati_log::{Error, Hash32};
use sammati_store::Reader;

use crate::log::Log;
use crate::rows::{CheckpointRow, LeafRow, SLOT, SubjectRow, newest_of_subject};

/// Where a list of one subject stands: all of it is of one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walk {
    /// The size of the tree.
    pub size: u64,
    /// How many events there are in it, and where the newest is.
    pub top: (u64, Option<u64>),
    /// The place and index of the next event; 0 after the last.
    pub next: (u64, u64),
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    /// Newest first.
    pub rows: Vec<LeafRow>,
    /// Where it goes on, or where it ended: `next` is 0 then.
    pub walk: Walk,
}

impl Walk {
    /// As a page token carries it.
    pub(crate) fn write(self) -> Vec<u8> {
        let (seq, index) = self.top;
        let numbers = [
            self.size,
            seq,
            index.map_or(u64::MAX, |index| index),
            self.next.0,
            self.next.1,
        ];
        numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    /// Reads what [`Self::write`] made.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (numbers, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let &[size, seq, index, next, at] = numbers else {
            return None;
        };
        let index = u64::from_be_bytes(index);
        Some(Self {
            size: u64::from_be_bytes(size),
            top: (u64::from_be_bytes(seq), (index != u64::MAX).then_some(index)),
            next: (u64::from_be_bytes(next), u64::from_be_bytes(at)),
        })
    }

    /// Whether nothing comes after it.
    pub(crate) const fn is_over(&self) -> bool {
        self.next.0 == 0
    }
}

/// What a walk along a subject's chain finds.
type Found<T> = Result<Result<T, String>, sammati_store::Error>;

impl Log {
    /// Begins a list of the events about the subject with this tag, in the tree of this size.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn begin_walk(&self, tag: &[u8], size: u64) -> Result<Walk, Refusal> {
        let tag = tag.to_vec();
        let found = self.store.snapshot(move |r| begin(r, &tag, size)).await?;
        self.or_frozen(found).await
    }

    /// The next `most` events of a list.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn walk(&self, tag: &[u8], from: Walk, most: usize) -> Result<Page, Refusal> {
        let tag = tag.to_vec();
        let found = self.store.snapshot(move |r| page(r, &tag, from, most)).await?;
        self.or_frozen(found).await
    }

    /// What the log states of a list that has been walked.
    ///
    /// # Errors
    /// `LOG_FROZEN` when the checkpoint is gone.
    pub(crate) async fn subject_head(&self, tag: &[u8], walk: Walk) -> Result<(Head, String, CheckpointRow), Refusal> {
        let checkpoint = self.checkpoint(walk.size).await?.ok_or(Reason::Internal)?;
        let checkpoint = self.noted(checkpoint).await?;
        let signed = self.state(tag, walk, &checkpoint);
        let (head, note) = signed.map_err(|error| {
            tracing::error!(%error, "a subject head cannot be signed");
            Refusal::from(Reason::Internal)
        })?;
        Ok((head, note, checkpoint))
    }

    fn state(&self, tag: &[u8], walk: Walk, checkpoint: &CheckpointRow) -> Result<(Head, String), Error> {
        let head = Head {
            tag: tag.to_vec(),
            seq: walk.top.0,
            index: walk.top.1,
            checkpoint: Checkpoint::new(self.origin(), checkpoint.size, Hash32::from_slice(&checkpoint.root)?)?,
        };
        let note = head.sign_by(&self.keys.signers())?;
        Ok((head, note))
    }

    /// Events that contradict one another were changed beside the service.
    async fn or_frozen<T>(&self, found: Result<T, String>) -> Result<T, Refusal> {
        match found {
            Ok(found) => Ok(found),
            Err(why) => Err(self.freeze(why).await),
        }
    }
}

/// Goes back from the newest event to the newest that the tree has.
fn begin(r: &mut Reader<'_>, tag: &[u8], size: u64) -> Found<Walk> {
    let newest = r.get::<SubjectRow>(SLOT, tag)?.map(|row| row.record);
    let mut next = newest.as_ref().map(|row| (number(row.seq), row.last));
    // The chain and the look-up are kept apart: whoever takes away from one must take away from both.
    if newest_of_subject(r, tag)? != next.map(|(_, index)| index) {
        return Ok(Err(
            "the newest event of a subject is not the one that its row names".to_owned()
        ));
    }
    while let Some((seq, index)) = next.filter(|(_, index)| *index >= size) {
        next = match step(r, tag, seq, index)? {
            Ok((_, before)) => before,
            Err(why) => return Ok(Err(why)),
        };
    }
    let top = next.map_or((0, None), |(seq, index)| (seq, Some(index)));
    Ok(Ok(Walk {
        size,
        top,
        next: next.unwrap_or_default(),
    }))
}

fn page(r: &mut Reader<'_>, tag: &[u8], from: Walk, most: usize) -> Found<Page> {
    let (mut rows, mut walk) = (Vec::new(), from);
    while !walk.is_over() && rows.len() < most {
        match step(r, tag, walk.next.0, walk.next.1)? {
            Ok((row, before)) => {
                rows.push(row);
                walk.next = before.unwrap_or_default();
            }
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(Page { rows, walk }))
}

/// The leaf at `index`, and the place and index of the one before it.
fn step(r: &mut Reader<'_>, tag: &[u8], seq: u64, index: u64) -> Found<(LeafRow, Option<(u64, u64)>)> {
    let Some(row) = r.get::<LeafRow>(SLOT, &index.to_be_bytes())?.map(|row| row.record) else {
        return Ok(Err(format!("leaf {index} of a subject's chain is missing")));
    };
    let header = row.header();
    let before = header.subject_prev.and_then(|prev| u64::try_from(prev).ok());
    let fits = header.subject_tag == tag && number(header.subject_seq) == seq && (seq == 1) == before.is_none();
    if !fits {
        return Ok(Err(format!("leaf {index} does not fit into its subject's chain")));
    }
    Ok(Ok((row, before.map(|before| (seq - 1, before)))))
}

fn number(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or_default()
}
