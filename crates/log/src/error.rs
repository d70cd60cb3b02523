//! What can go wrong, and whose fault it is.

use crate::hash::Hash32;

/// The most leaves one log may hold: a size must fit a signed 64-bit column.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// Who has to act on an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller asked for something that does not exist.
    Caller,
    /// A text or a byte string is not in the format it claims.
    Input,
    /// The material is well formed and does not verify: somebody changed it, or the log lied.
    Evidence,
    /// The hashes we keep are missing or damaged.
    Store,
    /// Our own signing key cannot be used.
    Key,
}

impl Fault {
    /// One lower-case word, stable, for machines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Input => "input",
            Self::Evidence => "evidence",
            Self::Store => "store",
            Self::Key => "key",
        }
    }
}

/// Every failure of this crate. The text is a sentence for a person; [`Error::fault`] says who must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A proof was asked for a leaf that the tree does not have.
    #[error("there is no leaf {index} in a tree of {size} leaves")]
    IndexBeyondTree {
        /// Zero-based leaf index asked for.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The earlier tree is larger than the later one.
    #[error("a tree of {first} leaves cannot have come before one of {second}")]
    SizesReversed {
        /// Size said to be the earlier.
        first: u64,
        /// Size said to be the later.
        second: u64,
    },
    /// More leaves than [`MAX_SIZE`].
    #[error("{size} leaves are more than a log can hold")]
    TooLarge {
        /// The size asked for.
        size: u64,
    },
    /// Bytes or text that are not what they should be.
    #[error("this is not a usable {what}: {why}")]
    Malformed {
        /// What was expected, as a noun.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The proof speaks of a leaf that its own checkpoint does not cover.
    #[error("the proof is for leaf {index}, but its checkpoint covers only {size} leaves")]
    LeafNotCovered {
        /// Index in the proof.
        index: u64,
        /// Size in the checkpoint.
        size: u64,
    },
    /// The path ended before it reached the root.
    #[error("the proof has {got} hashes, too few to reach the root")]
    ProofTooShort {
        /// Hashes in the path.
        got: usize,
    },
    /// The path goes on beyond the root.
    #[error("the proof has {got} hashes, more than lead to the root")]
    ProofTooLong {
        /// Hashes in the path.
        got: usize,
    },
    /// Leaf and path give another root than the one stated.
    #[error("leaf and proof lead to root {computed}, but the root of the {size} leaves is {stated}")]
    RootDiffers {
        /// Leaves in the tree whose root it is.
        size: u64,
        /// Root that follows from the material.
        computed: Hash32,
        /// Root that was stated.
        stated: Hash32,
    },
    /// A consistency proof does not lead to the root of one of its two trees.
    #[error(
        "the {which} tree ({size} leaves): the proof leads to root {computed}, but {stated} is stated; \
         history was changed, or this is another log's proof"
    )]
    Inconsistent {
        /// `earlier` or `later`.
        which: &'static str,
        /// Leaves in that tree.
        size: u64,
        /// Root that follows from the proof.
        computed: Hash32,
        /// Root that was stated.
        stated: Hash32,
    },
    /// Two roots for one size: the log showed different histories.
    #[error("two different roots for the same {size} leaves: {first} and {second}")]
    SplitView {
        /// Leaves in both trees.
        size: u64,
        /// One root.
        first: Hash32,
        /// The other.
        second: Hash32,
    },
    /// No signature of a known key.
    #[error("the note is not signed by {wanted}")]
    NotSigned {
        /// Names and ids of the keys that were asked for.
        wanted: String,
    },
    /// A signature line of a known key that does not verify.
    #[error("the signature of {name} (key {key_id:08x}) does not fit the text: one of them was changed")]
    BadSignature {
        /// Key name.
        name: String,
        /// Key id.
        key_id: u32,
    },
    /// The checkpoint is another log's.
    #[error("the checkpoint is of log {origin:?}, not of {expected:?}")]
    WrongOrigin {
        /// Origin in the checkpoint.
        origin: String,
        /// Origin expected.
        expected: String,
    },
    /// Not all leaves of a subject are there, or one is not what it must be.
    #[error("event {seq} of the subject: {why}")]
    Incomplete {
        /// Its place among the subject's events, from 1.
        seq: u64,
        /// What is missing or does not fit.
        why: String,
    },
    /// Part of a tree that does not lead to the hash above it.
    #[error("{what} does not make the hash that the tree has above it")]
    Unlike {
        /// Its path.
        what: String,
    },
    /// The store lacks a hash that a tree of this size must have.
    #[error("the hash at level {level}, index {index} is missing from the store")]
    MissingHash {
        /// Height above the leaves.
        level: u8,
        /// Position within the level.
        index: u64,
    },
    /// The stored hashes contradict themselves.
    #[error("the stored hashes are damaged: {why}")]
    Damaged {
        /// What contradicts what.
        why: String,
    },
    /// The signing key cannot be used. Says nothing of its content.
    #[error("the signing key cannot be used: {why}")]
    Key {
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Error {
    pub(crate) fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { what, why: why.into() }
    }

    /// Who has to act.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::IndexBeyondTree { .. } | Self::SizesReversed { .. } | Self::TooLarge { .. } => Fault::Caller,
            Self::Malformed { .. } => Fault::Input,
            Self::LeafNotCovered { .. }
            | Self::ProofTooShort { .. }
            | Self::ProofTooLong { .. }
            | Self::RootDiffers { .. }
            | Self::Inconsistent { .. }
            | Self::SplitView { .. }
            | Self::NotSigned { .. }
            | Self::BadSignature { .. }
            | Self::Incomplete { .. }
            | Self::Unlike { .. }
            | Self::WrongOrigin { .. } => Fault::Evidence,
            Self::MissingHash { .. } | Self::Damaged { .. } => Fault::Store,
            Self::Key { .. } => Fault::Key,
        }
    }
}

/// Refuses a size that no log can have.
pub(crate) const fn check_size(size: u64) -> Result<(), Error> {
    if size > MAX_SIZE {
        Err(Error::TooLarge { size })
    } else {
        Ok(())
    }
}
