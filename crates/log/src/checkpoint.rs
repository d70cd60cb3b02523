//! `c2sp.org/tlog-checkpoint`: a log's size and root, signed. Whoever holds two checkpoints of one log can
//! demand the proof that the later continues the earlier.

use signed_note::{Note, NoteError};

pub use crate::note::{PublicKey, Sign, Signer, Verifier};

use crate::error::check_size;
use crate::hash::EMPTY_ROOT;
use crate::note::{Known, signed};
use crate::{Error, Hash32, text};

/// The most bytes of a note that are read; room for the cosignatures of dozens of witnesses.
pub const MAX_NOTE: usize = 256 * 1024;

/// What a log states: that its tree of `size` leaves has this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash32,
}

impl Checkpoint {
    /// `origin` names the log, on one line.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an origin that is empty, too long or has control characters, or an empty
    /// tree with another root than [`EMPTY_ROOT`]; [`Error::TooLarge`].
    pub fn new(origin: &str, size: u64, root: Hash32) -> Result<Self, Error> {
        check_size(size)?;
        if origin.is_empty() || origin.len() > 256 || origin.chars().any(char::is_control) {
            return Err(malformed("the origin is not 1 to 256 bytes on one line"));
        }
        if size == 0 && root != EMPTY_ROOT {
            return Err(malformed("the root of no leaves is not the empty root"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
        })
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Leaves in the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree.
    #[must_use]
    pub const fn root(&self) -> Hash32 {
        self.root
    }

    /// The text that is signed: origin, size and root, a line each.
    #[must_use]
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Parses the signed text of a checkpoint. Extension lines are allowed and dropped. Says nothing of who
    /// signed it: [`open`] does.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse_body(body: &str) -> Result<Self, Error> {
        let lines = body
            .strip_suffix('\n')
            .ok_or_else(|| malformed("it does not end in a newline"))?;
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(malformed("it has not the three lines origin, size and root"));
        };
        if lines.any(str::is_empty) {
            return Err(malformed("it has an empty extension line"));
        }
        let size = text::decimal(size).ok_or_else(|| malformed("the size is not a plain number"))?;
        check_size(size).map_err(|error| malformed(error.to_string()))?;
        Self::new(origin, size, root.parse()?)
    }
}

/// Signs a checkpoint. Call it only for a size and root that are committed.
///
/// # Errors
/// [`Error::WrongOrigin`] if the key's name is not the checkpoint's origin.
pub fn sign(checkpoint: &Checkpoint, signer: &Signer) -> Result<String, Error> {
    sign_by(checkpoint, &[signer])
}

/// The same by several keys of the log, a line each: while one replaces another, readers of both are served.
///
/// # Errors
/// As [`sign`], and [`Error::Key`].
pub fn sign_by(checkpoint: &Checkpoint, signers: &[&dyn Sign]) -> Result<String, Error> {
    for signer in signers {
        require_origin(checkpoint, signer.verifier().name())?;
    }
    signed(&checkpoint.body(), signers)
}

/// Verifies a signed checkpoint: a key of the log it names, one of `verifiers`, must have signed it.
/// Signatures of unknown keys are ignored, a bad one of a known key refuses the note.
///
/// # Errors
/// [`Error::NotSigned`], [`Error::BadSignature`], [`Error::WrongOrigin`] if only other logs' keys signed
/// it, [`Error::Malformed`].
pub fn open(note: &str, verifiers: &[Verifier]) -> Result<Checkpoint, Error> {
    let (checkpoint, signed_by) = open_any(note, verifiers)?;
    let own = signed_by.iter().find(|name| **name == checkpoint.origin);
    let name = own.or(signed_by.first()).map_or("", String::as_str);
    require_origin(&checkpoint, name)?;
    Ok(checkpoint)
}

/// As [`open`], for logs whose origin is not the name of their key: any of `verifiers` may have signed it,
/// and the origin must be this.
///
/// # Errors
/// As [`open`].
pub fn open_as(note: &str, origin: &str, verifiers: &[Verifier]) -> Result<Checkpoint, Error> {
    let (checkpoint, _) = open_any(note, verifiers)?;
    require_origin(&checkpoint, origin)?;
    Ok(checkpoint)
}

/// The checkpoint and the names of the known keys that signed it, at least one.
fn open_any(note: &str, verifiers: &[Verifier]) -> Result<(Checkpoint, Vec<String>), Error> {
    let (body, names) = open_text(note, verifiers)?;
    Ok((Checkpoint::parse_body(&body)?, names))
}

/// The text of a note, and the names of the known keys that signed it, at least one.
pub(crate) fn open_text(note: &str, verifiers: &[Verifier]) -> Result<(String, Vec<String>), Error> {
    if note.len() > MAX_NOTE {
        return Err(malformed(format!("it has more than {MAX_NOTE} bytes")));
    }
    let note = Note::from_bytes(note.as_bytes()).map_err(|error| refused(error, verifiers))?;
    let (signatures, _) = note
        .verify(&Known(verifiers))
        .map_err(|error| refused(error, verifiers))?;
    let body = std::str::from_utf8(note.text()).map_err(|error| malformed(error.to_string()))?;
    let names = signatures.iter().map(|signature| signature.name().to_owned()).collect();
    Ok((body.to_owned(), names))
}

fn require_origin(checkpoint: &Checkpoint, expected: &str) -> Result<(), Error> {
    if checkpoint.origin == expected {
        return Ok(());
    }
    let (origin, expected) = (checkpoint.origin.clone(), expected.to_owned());
    Err(Error::WrongOrigin { origin, expected })
}

fn refused(error: NoteError, verifiers: &[Verifier]) -> Error {
    match error {
        NoteError::UnverifiedNote => {
            let wanted: Vec<_> = verifiers.iter().map(Verifier::to_string).collect();
            Error::NotSigned {
                wanted: wanted.join(" or "),
            }
        }
        NoteError::InvalidSignature { name, id } => Error::BadSignature { name, key_id: id },
        NoteError::MalformedNote => malformed("it is not a text, an empty line and signature lines"),
        other => malformed(other.to_string()),
    }
}

fn malformed(why: impl Into<String>) -> Error {
    Error::malformed("checkpoint", why)
}
