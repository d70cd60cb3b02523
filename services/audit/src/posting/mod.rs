//! What finds leaves: postings, each a tag (a short keyed hash of what a leaf is about) and the leaf that has it.
//!
//! Appending writes none. Whoever asks looks through the newest leaves themselves, and in pages of postings for all others.
//! The pages are made behind the appends (`follow`), and never one posting at a time: those of 256 leaves make a *run* of
//! level 0, one page; sixteen runs of a level are merged into one of the next, which has sixteen times as many pages, each
//! with the tags that begin alike. So a page has about as much in it at every level, a merge takes sixteen pages and makes
//! sixteen, and an event costs the same however many there are, where a tree of single postings would write a page of the
//! database for each. A tag is found by reading one page of each run: about ninety in a log of ten million leaves.
//!
//! The merges of a run are spread over the time in which the next sixteen come to be: one of each level for every sixteen
//! runs of level 0. What is merged by when follows from two numbers in the head of the log, and from nothing else.

mod check;
mod clear;
mod follow;
mod page;
mod walk;

use std::ops::Range;

use prost::Message;
use ring::digest::{SHA256, digest};
use sammati_log::tile::FULL;
use sammati_store::{Record, Table};

use self::page::Posting;

pub(crate) use self::check::Sum;
pub(crate) use self::clear::Clear;
pub(crate) use self::walk::Walk;

/// Runs of a level that make one of the next.
const FAN: u64 = 16;

/// Bits of a tag that choose among the pages of the next level.
const FAN_BITS: u32 = 4;

/// Levels that a log can have: with 16^8 runs of 256 leaves it has a trillion.
const LEVELS: u32 = 9;

/// Leaves in a run of level 0.
pub(crate) const RUN: u64 = FULL as u64;

/// Reads what may be a page as all who read one do, for [`crate::fuzzed`].
pub(crate) fn read_page(bytes: &[u8]) {
    const FIRST: u64 = 1000;
    let mut merged = Vec::new();
    let merging = page::merge(&[(FIRST, bytes)], FIRST, |tag, leaves| {
        page::add(&mut merged, tag, leaves)
    });
    let Ok(postings) = page::decode(bytes, FIRST) else {
        return;
    };
    for (tag, leaf) in postings.iter().take(4) {
        let found = page::oldest(bytes, FIRST, *tag, *leaf, 1);
        assert!(found.is_ok_and(|found| found.iter().all(|found| found >= leaf)));
    }
    // A page that was made: sorted, and spelled in the one way.
    if postings.is_sorted() && page::encode(&postings, FIRST) == bytes {
        assert!(merging.is_ok());
        assert_eq!(page::decode(&merged, FIRST), Ok(postings));
    }
}

/// What a leaf is found by. Two things share one once in a trillion: what is found is compared with what was sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tag(pub(crate) [u8; 5]);

impl Tag {
    /// From the first bytes of a hash; `None` of what is too short to be one.
    pub(crate) fn of(hash: &[u8]) -> Option<Self> {
        hash.first_chunk().copied().map(Self)
    }

    /// Of a trace; `None` of none.
    pub(crate) fn of_trace(trace: &str) -> Option<Self> {
        let hash = digest(&SHA256, trace.as_bytes());
        if trace.is_empty() {
            None
        } else {
            Self::of(hash.as_ref())
        }
    }

    /// Of the day that something occurred on.
    pub(crate) fn of_day(day: i64) -> Self {
        let hash = digest(&SHA256, &day.to_be_bytes());
        Self::of(hash.as_ref()).unwrap_or(Self([0; 5]))
    }

    /// In which page of a run of `level` it is.
    fn page(self, level: u32) -> u64 {
        let bits = self.0.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
        bits >> (40 - FAN_BITS * level)
    }
}

/// One page of a run.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PostingRow {
    /// The level of the run.
    #[prost(uint32, tag = "1")]
    pub level: u32,
    /// The place of the run in its level.
    #[prost(uint64, tag = "2")]
    pub run: u64,
    /// The place of the page in the run.
    #[prost(uint64, tag = "3")]
    pub page: u64,
    /// The postings; none once they were merged into the next level.
    #[prost(bytes = "vec", tag = "4")]
    pub postings: Vec<u8>,
}

impl PostingRow {
    const fn place(&self) -> Place {
        Place {
            level: self.level,
            run: self.run,
            page: self.page,
        }
    }
}

impl Record for PostingRow {
    const TABLE: Table = Table {
        name: "posting",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.place().key()
    }
}

/// Which page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    level: u32,
    run: u64,
    page: u64,
}

impl Place {
    fn key(self) -> Vec<u8> {
        let level = u8::try_from(self.level).unwrap_or(u8::MAX);
        [&[level], &self.run.to_be_bytes()[..], &self.page.to_be_bytes()[..]].concat()
    }

    /// The first leaf of its run.
    const fn first(self) -> u64 {
        self.run * span(self.level) * RUN
    }

    /// The first leaf of the run after it.
    const fn end(self) -> u64 {
        (self.run + 1) * span(self.level) * RUN
    }

    fn row(self, postings: &[Posting]) -> PostingRow {
        PostingRow {
            level: self.level,
            run: self.run,
            page: self.page,
            postings: page::encode(postings, self.first()),
        }
    }
}

/// How many runs of level 0 are in one of `level`, and how many pages it has.
const fn span(level: u32) -> u64 {
    FAN.pow(level)
}

/// How far the postings have come, as the head of the log says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Runs of level 0.
    pub(crate) posted: u64,
    /// Runs of level 0 whose merges are done; a multiple of [`FAN`].
    pub(crate) merged: u64,
}

impl Reach {
    /// How many runs of `level` have come to be, as far as `tag` goes.
    fn runs(self, level: u32, tag: Tag) -> u64 {
        match level.checked_sub(1) {
            None => self.posted,
            Some(below) => self.merged.saturating_sub(FAN * tag.page(below)) / span(level),
        }
    }

    /// The page that has the posting of `tag` and `leaf` now; `None` if there is none yet.
    fn place(self, tag: Tag, leaf: u64) -> Option<Place> {
        let mut places = (0..LEVELS).map(|level| Place {
            level,
            run: leaf / (span(level) * RUN),
            page: tag.page(level),
        });
        places.find(|place| self.live(place.level, tag).contains(&place.run))
    }

    /// The runs of `level` that have the postings of `tag`: those before went into the next level.
    fn live(self, level: u32, tag: Tag) -> Range<u64> {
        FAN * self.runs(level + 1, tag)..self.runs(level, tag)
    }

    /// The pages in which `tag` is looked for, those of the newest leaves first.
    fn pages(self, tag: Tag) -> impl Iterator<Item = Place> {
        (0..LEVELS).flat_map(move |level| {
            self.live(level, tag).rev().map(move |run| Place {
                level,
                run,
                page: tag.page(level),
            })
        })
    }
}

/// A merge: page `page` of sixteen runs of the level below becomes sixteen pages of `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Merge {
    level: u32,
    run: u64,
    page: u64,
}

impl Merge {
    /// Those that are done when there are `at` runs of level 0, a multiple of [`FAN`]; lower levels first.
    fn due(at: u64) -> impl Iterator<Item = Self> {
        (1..LEVELS)
            .take_while(move |level| at >= span(*level))
            .map(move |level| Self {
                level,
                run: at / span(level) - 1,
                page: at % span(level) / FAN,
            })
    }

    fn from(self) -> impl Iterator<Item = Place> {
        (0..FAN).map(move |n| Place {
            level: self.level - 1,
            run: self.run * FAN + n,
            page: self.page,
        })
    }

    fn into(self) -> impl Iterator<Item = Place> {
        (0..FAN).map(move |n| Place {
            level: self.level,
            run: self.run,
            page: self.page * FAN + n,
        })
    }
}

#[cfg(test)]
mod tests;
