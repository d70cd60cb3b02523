//! Proofs: that a leaf is in a tree, and that a tree is the beginning of a later one (RFC 6962 §2.1.1–2).
//!
//! A [`Plan`] says which stored hashes a proof is made of before any is read, so that a database can load
//! them in one query; then it builds the proof from them.

mod verify;

use std::collections::{BTreeMap, HashMap};

pub use verify::{verify_consistency, verify_inclusion};

use crate::error::check_size;
use crate::hash::{EMPTY_ROOT, node_hash};
use crate::{Error, Hash32, text};

/// Where stored hashes come from.
pub trait HashReader {
    /// The root of the complete subtree of `2^level` leaves that is the `index`-th of its level.
    ///
    /// # Errors
    /// [`Error::MissingHash`] if it is not there.
    fn read(&self, level: u8, index: u64) -> Result<Hash32, Error>;
}

impl HashReader for HashMap<(u8, u64), Hash32> {
    fn read(&self, level: u8, index: u64) -> Result<Hash32, Error> {
        self.get(&(level, index))
            .copied()
            .ok_or(Error::MissingHash { level, index })
    }
}

impl HashReader for BTreeMap<(u8, u64), Hash32> {
    fn read(&self, level: u8, index: u64) -> Result<Hash32, Error> {
        self.get(&(level, index))
            .copied()
            .ok_or(Error::MissingHash { level, index })
    }
}

/// A proof before its hashes are read: for each hash of the proof the complete subtrees, left to right,
/// that it is computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan(Vec<Vec<(u8, u64)>>);

impl Plan {
    /// The proof that leaf `index` (zero-based) is in the tree of the first `size` leaves.
    ///
    /// # Errors
    /// [`Error::IndexBeyondTree`], [`Error::TooLarge`].
    pub fn inclusion(index: u64, size: u64) -> Result<Self, Error> {
        check_size(size)?;
        if index >= size {
            return Err(Error::IndexBeyondTree { index, size });
        }
        let (mut low, mut high, mut parts) = (0, size, Vec::new());
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                parts.push(subtrees(middle, high));
                high = middle;
            } else {
                parts.push(subtrees(low, middle));
                low = middle;
            }
        }
        parts.reverse();
        Ok(Self(parts))
    }

    /// The proof that the tree of the first `first` leaves is the beginning of that of `second`. It has no
    /// hashes when the sizes are equal or the first tree is empty.
    ///
    /// # Errors
    /// [`Error::SizesReversed`], [`Error::TooLarge`].
    pub fn consistency(first: u64, second: u64) -> Result<Self, Error> {
        check_size(second)?;
        if first > second {
            return Err(Error::SizesReversed { first, second });
        }
        let (mut low, mut high, mut parts) = (0, second, Vec::new());
        while first != high && first != 0 {
            let middle = low + split(high - low);
            if first <= middle {
                parts.push(subtrees(middle, high));
                high = middle;
            } else {
                parts.push(subtrees(low, middle));
                low = middle;
            }
        }
        // The verifier knows the first root; only if the first tree ends inside a subtree that does not
        // begin at leaf 0 does it need that part's hash.
        if low != 0 {
            parts.push(subtrees(low, high));
        }
        parts.reverse();
        Ok(Self(parts))
    }

    /// The root of the tree of the first `size` leaves, as a proof of one hash.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn root(size: u64) -> Result<Self, Error> {
        check_size(size)?;
        Ok(Self(vec![subtrees(0, size)]))
    }

    /// The hashes to load, as (level, index), in ascending order and each once.
    #[must_use]
    pub fn needs(&self) -> Vec<(u8, u64)> {
        let mut needs: Vec<_> = self.0.iter().flatten().copied().collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    /// Reads the hashes and makes the proof.
    ///
    /// # Errors
    /// What the reader answers.
    pub fn build(&self, reader: &impl HashReader) -> Result<Vec<Hash32>, Error> {
        self.0.iter().map(|parts| fold(parts, reader)).collect()
    }
}

/// The inclusion proof of leaf `index` in the tree of the first `size` leaves.
///
/// # Errors
/// Those of [`Plan::inclusion`] and of the reader.
pub fn inclusion(index: u64, size: u64, reader: &impl HashReader) -> Result<Vec<Hash32>, Error> {
    Plan::inclusion(index, size)?.build(reader)
}

/// The consistency proof between the trees of the first `first` and the first `second` leaves.
///
/// # Errors
/// Those of [`Plan::consistency`] and of the reader.
pub fn consistency(first: u64, second: u64, reader: &impl HashReader) -> Result<Vec<Hash32>, Error> {
    Plan::consistency(first, second)?.build(reader)
}

/// The root of the tree of the first `size` leaves, recomputed from stored hashes.
///
/// # Errors
/// Those of the reader; [`Error::TooLarge`].
pub fn root(size: u64, reader: &impl HashReader) -> Result<Hash32, Error> {
    check_size(size)?;
    fold(&subtrees(0, size), reader)
}

/// A path as text: one base64 hash per line, the form of a consistency proof in a file.
#[must_use]
pub fn format_path(path: &[Hash32]) -> String {
    text::format_path(path)
}

/// The inverse of [`format_path`]. A path of no hashes is an empty text.
///
/// # Errors
/// [`Error::Malformed`], also for more hashes than any proof has.
pub fn parse_path(text: &str) -> Result<Vec<Hash32>, Error> {
    text::parse_path("proof", text)
}

/// The largest power of two smaller than `length`, where RFC 6962 cuts a tree. `length` is 2 or more.
const fn split(length: u64) -> u64 {
    1 << (length - 1).ilog2()
}

/// The complete subtrees, left to right, that make up the leaves `low..high` of a tree. The range is one
/// that cutting by [`split`] gives, so `low` is a multiple of every subtree's width.
pub(crate) fn subtrees(mut low: u64, high: u64) -> Vec<(u8, u64)> {
    let mut parts = Vec::new();
    while let Some(level) = high.checked_sub(low).and_then(u64::checked_ilog2) {
        // A 64-bit length has at most 63 as its logarithm.
        parts.push((level as u8, low >> level));
        low += 1 << level;
    }
    parts
}

/// The hash over neighbouring subtrees of falling size.
fn fold(parts: &[(u8, u64)], reader: &impl HashReader) -> Result<Hash32, Error> {
    let mut folded = None;
    for &(level, index) in parts.iter().rev() {
        let left = reader.read(level, index)?;
        folded = Some(folded.map_or(left, |right| node_hash(left, right)));
    }
    Ok(folded.unwrap_or(EMPTY_ROOT))
}
