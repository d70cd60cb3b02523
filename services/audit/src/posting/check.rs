//! Are the postings those that the leaves make? Both are added up, for neither fits in memory.

use super::page::{self, Posting};
use super::{FAN, PostingRow, RUN, Reach, Tag, span};
use crate::rows::LeafRow;

/// What postings add up to, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    count: u64,
    sum: u64,
}

impl Sum {
    fn add(&mut self, (tag, leaf): Posting) {
        let Tag([a, b, c, d, e]) = tag;
        let tag = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        // Two rounds of a multiplicative hash, so that what is exchanged between postings shows.
        let mixed = (tag ^ leaf.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.sum = self
            .sum
            .wrapping_add((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9));
        self.count += 1;
    }

    /// Adds those that a leaf makes, if it has postings by now.
    pub(crate) fn leaf(&mut self, reach: Reach, row: &LeafRow) {
        if row.index < reach.posted * RUN {
            row.postings().into_iter().for_each(|tag| self.add((tag, row.index)));
        }
    }

    /// Adds those of a page; tells what is wrong with it.
    pub(crate) fn page(&mut self, reach: Reach, row: &PostingRow) -> Option<&'static str> {
        let place = row.place();
        let Ok(postings) = page::decode(&row.postings, place.first()) else {
            return Some("cannot be read");
        };
        let merged_at = span(row.level + 1) * (row.run / FAN + 1) + FAN * row.page;
        if reach.merged >= merged_at && !postings.is_empty() {
            return Some("has postings that were merged into the next level");
        }
        let run = place.first()..place.first() + span(row.level) * RUN;
        let strays = |(tag, leaf): &Posting| tag.page(row.level) != row.page || !run.contains(leaf);
        if postings.iter().any(strays) {
            return Some("has a posting of another page, where nobody looks for it");
        }
        postings.into_iter().for_each(|posting| self.add(posting));
        None
    }
}
