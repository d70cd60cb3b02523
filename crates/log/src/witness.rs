//! `c2sp.org/tlog-witness`: what a log sends with `add-checkpoint`, and how a witness judges it.

use std::fmt;
use std::str::FromStr;

use crate::checkpoint::{self, Checkpoint, MAX_NOTE, Verifier};
use crate::cosignature::split_note;
use crate::proof::verify_consistency;
use crate::{Error, Hash32, text};

/// The most hashes of a consistency proof.
const MAX_PROOF: usize = 63;
/// The most bytes of a request that are read.
pub const MAX_REQUEST: usize = MAX_NOTE + 4096;

/// The body of `add-checkpoint`. [`fmt::Display`] writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the log believes the witness to have.
    pub old: u64,
    /// The consistency proof from there.
    pub proof: Vec<Hash32>,
    /// The signed checkpoint.
    pub note: String,
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "old {}\n{}\n{}", self.old, text::format_path(&self.proof), self.note)
    }
}

impl FromStr for AddCheckpoint {
    type Err = Error;

    fn from_str(body: &str) -> Result<Self, Error> {
        let malformed = |why: &str| Error::malformed("add-checkpoint request", why);
        if body.len() > MAX_REQUEST {
            return Err(malformed("it is too long"));
        }
        let (old, rest) = body
            .strip_prefix("old ")
            .and_then(|rest| rest.split_once('\n'))
            .ok_or_else(|| malformed("the first line is not 'old <size>'"))?;
        let old = text::decimal(old).ok_or_else(|| malformed("the old size is not a plain number"))?;
        let no_end = || malformed("no empty line before the checkpoint");
        let (path, note) = match rest.strip_prefix('\n') {
            Some(note) => ("", note),
            None => {
                let end = rest.find("\n\n").ok_or_else(no_end)?;
                (&rest[..=end], &rest[end + 2..])
            }
        };
        let proof = text::parse_path("add-checkpoint request", path)?;
        if proof.len() > MAX_PROOF {
            return Err(malformed("more than 63 hashes"));
        }
        Ok(Self {
            old,
            proof,
            note: note.to_owned(),
        })
    }
}

impl AddCheckpoint {
    /// The log that it says to be of: the first line of the checkpoint.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.note.split('\n').next().unwrap_or_default()
    }

    /// Judges it as a witness that saw `known`, size and root, last of this log, or nothing. `keys` are those of the log.
    ///
    /// # Errors
    /// Why it must not be cosigned.
    pub fn judge(&self, known: Option<(u64, Hash32)>, keys: &[Verifier]) -> Result<Accepted, Rejected> {
        let opened = checkpoint::open_as(&self.note, self.origin(), keys);
        let checkpoint = opened.map_err(|error| match error {
            Error::Malformed { .. } => Rejected::Malformed(error),
            error => Rejected::NotSigned(error),
        })?;
        let text = split_note(&self.note)
            .map(|(text, _)| text.to_owned())
            .unwrap_or_default();
        if self.old > checkpoint.size() {
            return Err(Rejected::Malformed(Error::SizesReversed {
                first: self.old,
                second: checkpoint.size(),
            }));
        }
        let (size, root) = known.unwrap_or((0, crate::hash::EMPTY_ROOT));
        if self.old != size || (size == checkpoint.size() && root != checkpoint.root()) {
            return Err(Rejected::Conflict(size));
        }
        verify_consistency(size, checkpoint.size(), root, checkpoint.root(), &self.proof)
            .map_err(Rejected::Inconsistent)?;
        Ok(Accepted { checkpoint, text })
    }
}

impl AddCheckpoint {
    /// Whether the log signed another root of the size that the witness knows: whoever holds both has convicted it.
    #[must_use]
    pub fn forks(&self, known: Option<(u64, Hash32)>, keys: &[Verifier]) -> bool {
        let opened = checkpoint::open_as(&self.note, self.origin(), keys);
        let differs = |(size, root)| move |other: Checkpoint| other.size() == size && other.root() != root;
        known.is_some_and(|known| opened.is_ok_and(differs(known)))
    }
}

/// What may be cosigned, once it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Its text, extension lines included.
    pub text: String,
}

/// Why a witness does not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is not what the format asks for.
    #[error("{0}")]
    Malformed(Error),
    /// No key of the log signed it.
    #[error("{0}")]
    NotSigned(Error),
    /// The witness knows another size, or another root of the same size.
    #[error("the witness has {0} leaves of this log, or another root of them")]
    Conflict(u64),
    /// It does not continue what the witness knows.
    #[error("{0}")]
    Inconsistent(Error),
}

impl Rejected {
    /// The status of HTTP that says it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotSigned(_) => 403,
            Self::Conflict(_) => 409,
            Self::Inconsistent(_) => 422,
        }
    }
}
