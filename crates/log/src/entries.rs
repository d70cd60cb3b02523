//! Entry bundles of `c2sp.org/tlog-tiles`: the leaves under one tile of level 0, each behind its length as a
//! big-endian 16-bit number.

use std::ops::Range;

use crate::tile::{FULL, TileId};
use crate::{Error, path};

/// The most bytes that a leaf of a bundle has.
pub const MAX_ENTRY: usize = u16::MAX as usize;
/// The most bytes that a bundle has.
pub const MAX_BUNDLE: usize = FULL as usize * (MAX_ENTRY + 2);

/// Which entry bundle: its position, and how many leaves it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntriesId {
    index: u64,
    width: u16,
}

impl EntriesId {
    /// `width` is 1 to 256.
    ///
    /// # Errors
    /// [`Error::Malformed`] if no log has such a bundle.
    pub fn new(index: u64, width: u16) -> Result<Self, Error> {
        TileId::new(0, index, width)?;
        Ok(Self { index, width })
    }

    /// Its position: it begins with leaf 256 times this.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Leaves in it, 1 to 256.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// The indexes of its leaves.
    #[must_use]
    pub fn leaves(&self) -> Range<u64> {
        let first = self.index * u64::from(FULL);
        first..first + u64::from(self.width)
    }

    /// `tile/entries/<index in groups of three digits>[.p/<width>]`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("tile/entries/{}", path::format(self.index, self.width))
    }

    /// The inverse of [`EntriesId::path`]; accepts that one spelling only.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse_path(path: &str) -> Result<Self, Error> {
        let bad = || Error::malformed("entry bundle path", format!("{path:.80?}"));
        let rest = path.strip_prefix("tile/entries/").ok_or_else(bad)?;
        let (index, width) = path::parse(rest).ok_or_else(bad)?;
        Self::new(index, width)
    }
}

/// The bundles of a log of `size` leaves, in order, the last one partial.
pub fn all(size: u64) -> impl Iterator<Item = EntriesId> {
    within(size, 0..size)
}

/// Those of them that have any of these leaves.
pub(crate) fn within(size: u64, leaves: Range<u64>) -> impl Iterator<Item = EntriesId> {
    let bundles = leaves.start / u64::from(FULL)..leaves.end.min(size).div_ceil(u64::from(FULL));
    bundles.map(move |index| EntriesId {
        index,
        // The rest is 256 at most, and then it fits.
        width: (size - index * u64::from(FULL)).min(u64::from(FULL)) as u16,
    })
}

/// Puts leaves into a bundle.
///
/// # Errors
/// [`Error::Malformed`] for a leaf of more than [`MAX_ENTRY`] bytes.
pub fn encode<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for leaf in leaves {
        let leaf = leaf.as_ref();
        let length = u16::try_from(leaf.len())
            .map_err(|_| Error::malformed("leaf", format!("{} bytes, more than {MAX_ENTRY}", leaf.len())))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(leaf);
    }
    Ok(bytes)
}

/// The leaves of a bundle, which are as many as its name says.
///
/// # Errors
/// [`Error::Damaged`] if they are not, or the bytes end within one.
pub fn decode(id: EntriesId, mut bytes: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let damaged = |why: &str| Error::Damaged {
        why: format!("{} {why}", id.path()),
    };
    let mut leaves = Vec::with_capacity(usize::from(id.width));
    for _ in 0..id.width {
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
            break;
        };
        let (leaf, rest) = rest
            .split_at_checked(usize::from(u16::from_be_bytes(*length)))
            .ok_or_else(|| damaged("ends within a leaf"))?;
        leaves.push(leaf);
        bytes = rest;
    }
    match (leaves.len() == usize::from(id.width), bytes) {
        (true, []) => Ok(leaves),
        (true, _) => Err(damaged("goes on behind its leaves")),
        (false, []) => Err(damaged(&format!("has {} leaves", leaves.len()))),
        (false, _) => Err(damaged("ends within a length")),
    }
}
