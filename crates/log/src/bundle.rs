//! `c2sp.org/tlog-proof@v1`: one text with all that proves a leaf offline, but for the leaf and the log's key.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{self, Checkpoint, MAX_NOTE, Verifier};
use crate::proof::verify_inclusion;
use crate::{Error, Hash32, text};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// The most extra bytes that are read.
pub const MAX_EXTRA: usize = 64 * 1024;
/// The most bytes of a bundle that are read.
pub const MAX_BUNDLE: usize = MAX_NOTE + 2 * MAX_EXTRA;

/// An inclusion proof with the checkpoint it leads to. [`fmt::Display`] gives the text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Zero-based index of the leaf.
    pub index: u64,
    /// Inclusion path, the leaf's sibling first.
    pub path: Vec<Hash32>,
    /// The signed checkpoint, verbatim.
    pub checkpoint_note: String,
    /// What the application adds; not authenticated. Empty if nothing.
    pub extra: Vec<u8>,
}

impl Bundle {
    /// Verifies the checkpoint's signature and that the leaf is in its tree at this index.
    ///
    /// # Errors
    /// Those of [`checkpoint::open`] and [`verify_inclusion`].
    pub fn verify(&self, leaf_hash: Hash32, verifiers: &[Verifier]) -> Result<Checkpoint, Error> {
        let checkpoint = checkpoint::open(&self.checkpoint_note, verifiers)?;
        self.verify_in(leaf_hash, &checkpoint)?;
        Ok(checkpoint)
    }

    /// Verifies only the path, against a checkpoint that is already trusted.
    ///
    /// # Errors
    /// Those of [`verify_inclusion`].
    pub fn verify_in(&self, leaf_hash: Hash32, checkpoint: &Checkpoint) -> Result<(), Error> {
        verify_inclusion(leaf_hash, self.index, checkpoint.size(), &self.path, checkpoint.root())
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADER)?;
        if !self.extra.is_empty() {
            writeln!(f, "extra {}", STANDARD.encode(&self.extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        write!(f, "{}\n{}", text::format_path(&self.path), self.checkpoint_note)
    }
}

impl FromStr for Bundle {
    type Err = Error;

    /// Parses the text form. The checkpoint is taken as it stands; verifying it reads it.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_BUNDLE {
            return Err(malformed(format!("it has more than {MAX_BUNDLE} bytes")));
        }
        let rest = text.strip_prefix(HEADER);
        let rest = rest.ok_or_else(|| malformed("the first line is not c2sp.org/tlog-proof@v1"))?;
        let (extra, rest) = match rest.strip_prefix("extra ") {
            Some(rest) => parse_extra(rest)?,
            None => (Vec::new(), rest),
        };
        let index = rest.strip_prefix("index ").and_then(|rest| rest.split_once('\n'));
        let (index, rest) = index.ok_or_else(|| malformed("the line 'index <number>' is missing"))?;
        let index = text::decimal(index).ok_or_else(|| malformed("the index is not a plain number"))?;
        let (path, note) = split_path(rest)?;
        Ok(Self {
            index,
            path: text::parse_path("proof bundle", path)?,
            checkpoint_note: note.to_owned(),
            extra,
        })
    }
}

/// The bytes of the extra line and what follows it.
fn parse_extra(rest: &str) -> Result<(Vec<u8>, &str), Error> {
    let (extra, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let extra = STANDARD
        .decode(extra)
        .map_err(|_| malformed("the extra data is not base64"))?;
    if extra.is_empty() || extra.len() > MAX_EXTRA {
        return Err(malformed(format!("the extra data is not 1 to {MAX_EXTRA} bytes")));
    }
    Ok((extra, rest))
}

/// The hash lines, and the checkpoint after the empty line.
fn split_path(rest: &str) -> Result<(&str, &str), Error> {
    if let Some(note) = rest.strip_prefix('\n') {
        return Ok(("", note));
    }
    let end = rest
        .find("\n\n")
        .ok_or_else(|| malformed("no empty line before the checkpoint"))?;
    let (path, note) = rest.split_at(end + 1);
    Ok((path, note.strip_prefix('\n').unwrap_or(note)))
}

fn malformed(why: impl Into<String>) -> Error {
    Error::malformed("proof bundle", why)
}
