//! Going on: the events that pass a filter, the oldest first, in a tree that grows no more. For exports, which take up where
//! they broke off: all that it stands on is the last event that was told.

use std::collections::VecDeque;

use sammati_kernel::Refusal;

use crate::list::{By, Wanted};
use crate::log::Log;
use crate::posting::{Tag, Walk};
use crate::rows::{LeafRow, SLOT};
use crate::tags::Tagger;
use crate::wire::Filter;

/// Indexes of one look: a page of postings is read whole however few are wanted of it.
const LOOK: usize = 4096;

/// Where it stands. No transaction is open between two steps.
#[derive(Debug)]
pub(crate) struct Onward {
    wanted: Wanted,
    /// How many leaves the tree has.
    size: u64,
    /// The day that it is at, if it goes by days.
    day: i64,
    /// The index that the next look begins with.
    next: u64,
    /// Found and not yet read.
    found: VecDeque<u64>,
    is_over: bool,
}

impl Onward {
    /// The events that pass `filter` in the tree of this size, behind the leaf `after`.
    pub(crate) fn new(filter: &Filter, tags: &Tagger, size: u64, after: Option<&LeafRow>) -> Self {
        let wanted = Wanted::new(filter, tags);
        let behind = after.map_or(0, |row| row.index + 1);
        let (day, next) = match (wanted.by, after.map(|row| LeafRow::day(&row.header()))) {
            (By::Tag(_), _) => (0, behind),
            (By::Days(first, _), Some(day)) if day >= first => (day, behind),
            (By::Days(first, _), _) => (first, 0),
        };
        Self {
            wanted,
            size,
            day,
            next,
            found: VecDeque::new(),
            is_over: false,
        }
    }

    /// What it looks for now; `None` behind the last day.
    fn tag(&self) -> Option<Tag> {
        match self.wanted.by {
            _ if self.is_over => None,
            By::Tag(tag) => Some(tag),
            By::Days(_, last) => (self.day <= last).then(|| Tag::of_day(self.day)),
        }
    }

    /// Nothing more is found where it is.
    const fn turn(&mut self) {
        match self.wanted.by {
            By::Tag(_) => self.is_over = true,
            By::Days(..) => (self.day, self.next) = (self.day + 1, 0),
        }
    }

    fn passes(&self, row: &LeafRow) -> bool {
        let header = row.header();
        let is_of_the_day = match self.wanted.by {
            By::Tag(_) => true,
            By::Days(..) => LeafRow::day(&header) == self.day,
        };
        is_of_the_day && self.wanted.matches(row, &header)
    }
}

impl Log {
    /// The next events of `onward`, after at most `most` were looked at: perhaps none. `None` after the last.
    ///
    /// # Errors
    /// `LOG_FROZEN` when a leaf is missing, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn further(&self, onward: &mut Onward, most: usize) -> Result<Option<Vec<LeafRow>>, Refusal> {
        while onward.found.is_empty() {
            let Some(tag) = onward.tag() else { return Ok(None) };
            let among = onward.next..onward.size;
            let look = self
                .store
                .snapshot(move |r| Walk::begin(r)?.onward(r, tag, among.clone(), LOOK));
            let found = look.await?;
            match found.last() {
                Some(last) => onward.next = last + 1,
                None => onward.turn(),
            }
            onward.found = found.into();
        }
        let most = most.min(onward.found.len());
        let indexes: Vec<_> = onward.found.drain(..most).collect();
        let rows = self.leaves_at(&indexes).await?;
        Ok(Some(rows.into_iter().filter(|row| onward.passes(row)).collect()))
    }

    /// The leaves at these indexes, ascending, which are all there.
    async fn leaves_at(&self, indexes: &[u64]) -> Result<Vec<LeafRow>, Refusal> {
        let keys: Vec<_> = indexes.iter().map(|index| (SLOT, LeafRow::key_of(*index))).collect();
        let read = self.store.read(move |r| r.many::<LeafRow>(&keys)).await?;
        let mut rows: Vec<_> = read.into_iter().map(|row| row.record).collect();
        rows.sort_unstable_by_key(|row| row.index);
        if rows.iter().map(|row| row.index).eq(indexes.iter().copied()) {
            return Ok(rows);
        }
        Err(self.freeze(format!("a leaf among {indexes:?} is missing")).await)
    }
}
