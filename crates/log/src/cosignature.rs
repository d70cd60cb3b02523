//! `c2sp.org/tlog-cosignature`, Ed25519: a witness states that, at a time, a checkpoint is the newest it knows of its
//! log and continues all that it saw before.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::Ed25519KeyPair;

use crate::Error;
use crate::note::{PublicKey, private_key};

/// The signature type of timestamped cosignatures.
const COSIGNATURE_TYPE: u8 = 4;
/// Bytes behind the base64 of a line: key id, time, signature.
const LINE_LEN: usize = 4 + 8 + 64;
/// What a signature line begins with.
pub(crate) const DASH: &str = "\u{2014} ";

/// A witness's signing key. Shows only its name and id.
pub struct Cosigner {
    pair: Ed25519KeyPair,
    witness: Witness,
}

impl Cosigner {
    /// From an Ed25519 key in PKCS#8 DER. `name` is the witness's. The key must sign nothing but cosignatures.
    ///
    /// # Errors
    /// [`Error::Key`]; [`Error::Malformed`] for a name that no key can have.
    pub fn from_pkcs8(name: &str, der: &[u8]) -> Result<Self, Error> {
        let (pair, public) = private_key(der)?;
        let witness = Witness::new(name, public)?;
        Ok(Self { pair, witness })
    }

    /// The public half.
    #[must_use]
    pub const fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Cosigns a checkpoint's text, which ends in a newline, at `time` (seconds since 1970). Returns the signature
    /// line with its newline. Call it only after the checkpoint was recorded as the newest.
    #[must_use]
    pub fn cosign(&self, text: &str, time: u64) -> String {
        let signature = self.pair.sign(message(text, time).as_bytes());
        let mut line = self.witness.key_id().to_be_bytes().to_vec();
        line.extend_from_slice(&time.to_be_bytes());
        line.extend_from_slice(signature.as_ref());
        format!("{DASH}{} {}\n", self.witness.name(), STANDARD.encode(line))
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosigner({})", self.witness)
    }
}

/// The public key of a witness that a log or a reader trusts.
pub type Witness = PublicKey<COSIGNATURE_TYPE>;

impl Witness {
    /// Verifies a signature line over a checkpoint's text. Returns the time in it; `None` if the line is another key's.
    ///
    /// # Errors
    /// [`Error::BadSignature`] for a line of this key that does not verify.
    pub fn verify(&self, text: &str, line: &str) -> Result<Option<u64>, Error> {
        let Some((name, bytes)) = split_line(line) else {
            return Ok(None);
        };
        if name != self.name() || bytes.first_chunk() != Some(&self.key_id().to_be_bytes()) {
            return Ok(None);
        }
        let verified = timed(&bytes).filter(|(time, signature)| {
            i64::try_from(*time).is_ok() && self.has_signed(message(text, *time).as_bytes(), signature)
        });
        let bad = || Error::BadSignature {
            name: self.name().to_owned(),
            key_id: self.key_id(),
        };
        verified.map(|(time, _)| Some(time)).ok_or_else(bad)
    }
}

/// A cosignature that verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The witness.
    pub witness: String,
    /// When it cosigned, seconds since 1970.
    pub time: u64,
    /// The line, with its newline.
    pub line: String,
}

/// The cosignatures of `witnesses` among the signature lines `lines`, each witness's first one. Lines of others are
/// ignored.
///
/// # Errors
/// [`Error::BadSignature`] for a line of one of the witnesses that does not verify.
pub fn cosignatures(text: &str, lines: &str, witnesses: &[Witness]) -> Result<Vec<Cosignature>, Error> {
    let mut found: Vec<Cosignature> = Vec::new();
    for line in lines.lines() {
        for witness in witnesses {
            let Some(time) = witness.verify(text, line)? else {
                continue;
            };
            if found.iter().all(|known| known.witness != witness.name()) {
                found.push(Cosignature {
                    witness: witness.name().to_owned(),
                    time,
                    line: format!("{line}\n"),
                });
            }
        }
    }
    Ok(found)
}

/// The text of a note, with its last newline, and its signature lines.
#[must_use]
pub fn split_note(note: &str) -> Option<(&str, &str)> {
    let at = note.rfind("\n\n")?;
    Some((&note[..=at], &note[at + 2..]))
}

/// What is signed.
fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Name and bytes of a signature line.
fn split_line(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, base64) = line.strip_prefix(DASH)?.trim_end_matches('\n').split_once(' ')?;
    Some((name, STANDARD.decode(base64).ok()?))
}

/// Time and signature of a line's bytes.
fn timed(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (time, signature) = bytes
        .get(4..)
        .filter(|_| bytes.len() == LINE_LEN)?
        .split_first_chunk()?;
    Some((u64::from_be_bytes(*time), signature))
}
