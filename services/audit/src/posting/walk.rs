//! Looking: the leaves that have a tag, newest first, or for exports oldest first.

use std::ops::Range;

use sammati_kernel::Slot;
use sammati_store::{Error, Reader};

use super::{Place, PostingRow, RUN, Reach, Tag, page};
use crate::rows::{LeafRow, LogRow, SLOT};
use crate::tree::Tree;

/// Pages of one query.
const PAGES: usize = 16;

/// Pages of one query where all that a tag has is wanted, beginning with the oldest, which are the largest.
const LARGE_PAGES: usize = 4;

/// The leaves of one snapshot, and how far their postings have come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    /// How many leaves there are.
    pub(crate) size: u64,
    reach: Reach,
}

impl Walk {
    /// As the head of the log has it in the snapshot of `r`.
    pub(crate) fn begin(r: &mut Reader<'_>) -> Result<Self, Error> {
        let head = r.get::<LogRow>(SLOT, LogRow::KEY)?.map(|row| row.record);
        let head = head.unwrap_or_default();
        let tree = Tree::of(&head).map_err(|error| Error::Broken(error.to_string()))?;
        Ok(Self {
            size: tree.size(),
            reach: head.reach(),
        })
    }

    /// The next rows below the leaf `below`, the newest first; none when there are no more. All that have `tag` are among
    /// them; others may be.
    pub(crate) fn rows(self, r: &mut Reader<'_>, tag: Tag, below: u64, limit: usize) -> Result<Vec<LeafRow>, Error> {
        let (posted, below) = (self.reach.posted * RUN, below.min(self.size));
        let leaves = if below > posted {
            let from = below.saturating_sub(limit as u64).max(posted);
            (from..below).collect()
        } else {
            self.posted(r, tag, below, limit)?
        };
        let keys: Vec<_> = leaves.iter().map(|leaf| (SLOT, LeafRow::key_of(*leaf))).collect();
        let rows = r.many::<LeafRow>(&keys)?;
        let mut rows: Vec<_> = rows.into_iter().map(|row| row.record).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.index));
        Ok(rows)
    }

    /// At most `limit` of the leaves that have postings and `tag`.
    fn posted(self, r: &mut Reader<'_>, tag: Tag, below: u64, limit: usize) -> Result<Vec<u64>, Error> {
        let places: Vec<_> = self.reach.pages(tag).filter(|place| place.first() < below).collect();
        let mut leaves: Vec<u64> = Vec::new();
        for places in places.chunks(PAGES) {
            for row in pages(r, places)? {
                let found = page::newest(&row.postings, row.place().first(), tag, below, limit);
                leaves.extend(found.map_err(|_| Error::Broken("a page of postings cannot be read".into()))?);
            }
            if leaves.len() >= limit {
                break;
            }
        }
        leaves.sort_unstable_by(|a, b| b.cmp(a));
        leaves.truncate(limit);
        Ok(leaves)
    }

    /// The next leaves among `among`, the oldest first, at most `limit`; none when there are no more. All that have `tag`
    /// are among them; others may be.
    pub(crate) fn onward(
        self,
        r: &mut Reader<'_>,
        tag: Tag,
        among: Range<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, Error> {
        let (posted, end) = (self.reach.posted * RUN, among.end.min(self.size));
        let mut leaves = Vec::new();
        let mut places: Vec<_> = self.reach.pages(tag).collect();
        places.retain(|place| place.end() > among.start && place.first() < end);
        places.reverse();
        for places in places.chunks(LARGE_PAGES) {
            for row in pages(r, places)? {
                let more = limit - leaves.len();
                let found = page::oldest(&row.postings, row.place().first(), tag, among.start, more);
                leaves.extend(found.map_err(|_| Error::Broken("a page of postings cannot be read".into()))?);
            }
            if leaves.len() == limit {
                break;
            }
        }
        leaves.retain(|leaf| *leaf < end);
        // What has no postings yet is looked through.
        let rest = limit - leaves.len();
        leaves.extend((among.start.max(posted)..end).take(rest));
        Ok(leaves)
    }
}

/// Pages, in the order of their leaves.
fn pages(r: &mut Reader<'_>, places: &[Place]) -> Result<Vec<PostingRow>, Error> {
    let keys: Vec<(Slot, _)> = places.iter().map(|place| (SLOT, place.key())).collect();
    let rows = r.many::<PostingRow>(&keys)?;
    if rows.len() != places.len() {
        return Err(Error::Broken("a page of postings is missing".into()));
    }
    let mut rows: Vec<_> = rows.into_iter().map(|row| row.record).collect();
    rows.sort_unstable_by_key(|row| row.place().first());
    Ok(rows)
}
