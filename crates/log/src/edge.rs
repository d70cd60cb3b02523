//! The right edge of a tree: the roots of its complete subtrees, largest first, one for each bit that is
//! set in the size. It is all that a writer needs to append and to know the root.

use crate::error::check_size;
use crate::hash::{EMPTY_ROOT, node_hash};
use crate::proof::{HashReader, subtrees};
use crate::{Error, Hash32};

/// Bytes of the encoded size.
const SIZE_LEN: usize = 8;

/// The compact state of a growing tree: its size and at most 63 hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RightEdge {
    size: u64,
    /// As many as there are bits set in `size`, the largest subtree first.
    hashes: Vec<Hash32>,
}

impl RightEdge {
    /// The tree without leaves.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            size: 0,
            hashes: Vec::new(),
        }
    }

    /// From a size and the roots of the complete subtrees, largest first.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the number of hashes does not fit the size, [`Error::TooLarge`].
    pub fn from_parts(size: u64, hashes: Vec<Hash32>) -> Result<Self, Error> {
        check_size(size)?;
        if hashes.len() != size.count_ones() as usize {
            let why = format!(
                "a right edge of {} hashes cannot be that of {size} leaves",
                hashes.len()
            );
            return Err(Error::Damaged { why });
        }
        Ok(Self { size, hashes })
    }

    /// The right edge of the first `size` leaves, from stored hashes.
    ///
    /// # Errors
    /// What the reader answers; [`Error::TooLarge`].
    pub fn load(size: u64, reader: &impl HashReader) -> Result<Self, Error> {
        check_size(size)?;
        let hashes = subtrees(0, size)
            .into_iter()
            .map(|(level, index)| reader.read(level, index));
        Self::from_parts(size, hashes.collect::<Result<_, _>>()?)
    }

    /// Leaves in the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, largest first.
    #[must_use]
    pub fn hashes(&self) -> &[Hash32] {
        &self.hashes
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash32 {
        let right_to_left = self.hashes.iter().rev().copied();
        right_to_left
            .reduce(|right, left| node_hash(left, right))
            .unwrap_or(EMPTY_ROOT)
    }

    /// Appends one leaf. Returns the hashes of all subtrees that it completed, as (level, index within the
    /// level, hash), the leaf itself first at level 0. They never change again: a store may keep exactly these.
    pub fn append(&mut self, leaf: Hash32) -> Vec<(u8, u64, Hash32)> {
        let mut completed = Vec::with_capacity(1 + self.size.trailing_ones() as usize);
        let (mut level, mut index, mut hash) = (0, self.size, leaf);
        completed.push((level, index, hash));
        // Each bit set at the low end of the size is a subtree as large as the one just completed.
        while index & 1 == 1
            && let Some(left) = self.hashes.pop()
        {
            hash = node_hash(left, hash);
            level += 1;
            index >>= 1;
            completed.push((level, index, hash));
        }
        self.hashes.push(hash);
        self.size += 1;
        completed
    }

    /// Appends leaves in order. Returns what [`RightEdge::append`] returns for each, one after the other.
    pub fn extend(&mut self, leaves: impl IntoIterator<Item = Hash32>) -> Vec<(u8, u64, Hash32)> {
        leaves.into_iter().flat_map(|leaf| self.append(leaf)).collect()
    }

    /// For a column of a database: the size, big-endian, then the hashes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SIZE_LEN + self.hashes.len() * Hash32::LEN);
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend(self.hashes.iter().flat_map(|hash| hash.0));
        bytes
    }

    /// The inverse of [`RightEdge::encode`].
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::TooLarge`] if the bytes are not such an encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (size, rest) = bytes.split_first_chunk::<SIZE_LEN>().ok_or_else(|| Error::Damaged {
            why: "a right edge shorter than its size".to_owned(),
        })?;
        let (hashes, tail) = rest.as_chunks::<{ Hash32::LEN }>();
        if !tail.is_empty() {
            return Err(Error::Damaged {
                why: "a right edge with half a hash".to_owned(),
            });
        }
        Self::from_parts(
            u64::from_be_bytes(*size),
            hashes.iter().map(|hash| Hash32(*hash)).collect(),
        )
    }
}
