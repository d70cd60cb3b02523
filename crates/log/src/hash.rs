//! Hashes of RFC 6962 §2.1: leaves and nodes are hashed under different prefixes, so that a node can
//! never be passed off as a leaf. Computed by `tlog_tiles` with sha2, which is quicker than ring on the
//! 65 bytes of a node.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Error;

/// Length of the base64 form of a hash.
const BASE64_LEN: usize = 44;

/// A SHA-256 hash of a leaf, a subtree or a whole tree. Shown as standard base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash32(pub [u8; 32]);

/// The hash of a leaf: the value [`leaf_hash`] gives.
pub type LeafHash = Hash32;

/// The root of a tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash32 = Hash32(tlog_tiles::EMPTY_HASH.0);

/// The hash of one leaf's bytes: SHA-256 of 0x00 and the bytes.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> LeafHash {
    Hash32(tlog_tiles::record_hash(leaf).0)
}

/// The hash of two neighbouring subtrees: SHA-256 of 0x01, left and right.
#[must_use]
pub fn node_hash(left: Hash32, right: Hash32) -> Hash32 {
    Hash32(tlog_tiles::node_hash(tlog_tiles::Hash(left.0), tlog_tiles::Hash(right.0)).0)
}

impl Hash32 {
    /// Bytes in a hash.
    pub const LEN: usize = 32;

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From raw bytes of exactly 32.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        <[u8; 32]>::try_from(bytes)
            .map(Self)
            .map_err(|_| Error::malformed("hash", format!("{} bytes, not 32", bytes.len())))
    }
}

impl From<[u8; 32]> for Hash32 {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Hash32> for [u8; 32] {
    fn from(hash: Hash32) -> Self {
        hash.0
    }
}

impl AsRef<[u8]> for Hash32 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Hash32 {
    type Err = Error;

    /// Parses standard base64 with padding and nothing beside it.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() != BASE64_LEN {
            return Err(Error::malformed("hash", "not 44 characters of base64"));
        }
        let bytes = STANDARD
            .decode(text)
            .map_err(|e| Error::malformed("hash", e.to_string()))?;
        Self::from_slice(&bytes)
    }
}

impl fmt::Display for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash32({self})")
    }
}
