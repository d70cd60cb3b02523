//! All leaves about one subject: each says which place it has among them and where the one before is, and the log signs
//! which one is the newest. Whoever holds them all sees a leaf that is missing, changed or put elsewhere. A log that gave one
//! place twice could still show one of two chains to one person and the other to another: whoever reads the whole log sees
//! that ([`Chains`]), and a head that was kept binds it ([`verify_since`]).
//!
//! The signed statement is a note with the lines `sammati/subject-head@v1`, origin, subject tag, number of leaves, index of
//! the newest (`-` without one), size and root of the tree. Its first line is no origin, so that it is never taken for a
//! checkpoint.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

use crate::bundle::Bundle;
use crate::checkpoint::{self, Checkpoint, Sign, Signer, Verifier};
use crate::hash::leaf_hash;
use crate::note::signed;
use crate::{Error, text};

/// The first line of the statement.
const HEADER: &str = "sammati/subject-head@v1";
/// The longest subject tag.
const MAX_TAG: usize = 64;

/// What a leaf says of its subject; a leaf is an encoded `sammati.audit.v1.Leaf`, of which this is a part.
#[derive(Clone, PartialEq, Eq, Message)]
struct Place {
    #[prost(bytes = "vec", tag = "17")]
    tag: Vec<u8>,
    #[prost(int64, tag = "18")]
    seq: i64,
    #[prost(int64, optional, tag = "19")]
    prev: Option<i64>,
}

/// What the log states: in the tree of this checkpoint the subject has `seq` leaves, and the newest is at `index`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The subject's tag.
    pub tag: Vec<u8>,
    /// How many leaves there are.
    pub seq: u64,
    /// The index of the newest; `None` if there is none.
    pub index: Option<u64>,
    /// The tree.
    pub checkpoint: Checkpoint,
}

/// A leaf, and the proof that it is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// The bytes that are hashed.
    pub leaf: Vec<u8>,
    /// Its proof.
    pub bundle: Bundle,
}

impl Head {
    /// The text that is signed.
    #[must_use]
    pub fn body(&self) -> String {
        let tag = STANDARD.encode(&self.tag);
        let index = self.index.map_or_else(|| "-".to_owned(), |index| index.to_string());
        let (origin, size, root) = (self.checkpoint.origin(), self.checkpoint.size(), self.checkpoint.root());
        format!("{HEADER}\n{origin}\n{tag}\n{}\n{index}\n{size}\n{root}\n", self.seq)
    }

    /// Signs the statement. Call it only for what is committed.
    ///
    /// # Errors
    /// [`Error::WrongOrigin`] if the key's name is not the log's origin.
    pub fn sign(&self, signer: &Signer) -> Result<String, Error> {
        self.sign_by(&[signer])
    }

    /// The same by several keys of the log, a line each, while one replaces another.
    ///
    /// # Errors
    /// As [`Head::sign`], and [`Error::Key`].
    pub fn sign_by(&self, signers: &[&dyn Sign]) -> Result<String, Error> {
        for signer in signers {
            same_origin(&self.checkpoint, signer.verifier().name())?;
        }
        signed(&self.body(), signers)
    }

    /// Verifies a signed statement: a key of the log it names must have signed it.
    ///
    /// # Errors
    /// As [`checkpoint::open`].
    pub fn open(note: &str, verifiers: &[Verifier]) -> Result<Self, Error> {
        let (body, signed_by) = checkpoint::open_text(note, verifiers)?;
        let head = Self::parse(&body).ok_or_else(|| malformed("it has not the seven lines of a subject head"))?;
        let own = signed_by.iter().find(|name| *name == head.checkpoint.origin());
        same_origin(&head.checkpoint, own.or(signed_by.first()).map_or("", String::as_str))?;
        Ok(head)
    }

    fn parse(body: &str) -> Option<Self> {
        let lines: Vec<_> = body.strip_suffix('\n')?.split('\n').collect();
        let [HEADER, origin, tag, seq, index, size, root] = lines[..] else {
            return None;
        };
        let head = Self {
            tag: STANDARD
                .decode(tag)
                .ok()
                .filter(|tag| (1..=MAX_TAG).contains(&tag.len()))?,
            seq: text::decimal(seq)?,
            index: match index {
                "-" => None,
                index => Some(text::decimal(index)?),
            },
            checkpoint: Checkpoint::new(origin, text::decimal(size)?, root.parse().ok()?).ok()?,
        };
        ((head.seq == 0) == head.index.is_none()).then_some(head)
    }
}

/// Verifies that `leaves`, the newest first, are all leaves that the subject of `head` has in its tree: each is in it, all
/// are hers, and their places and links have no hole.
///
/// # Errors
/// [`Error::Incomplete`] names the first place where something is missing or does not fit; else the errors of
/// [`Bundle::verify_in`] and [`checkpoint::open`].
pub fn verify(head: &Head, leaves: &[Proved], verifiers: &[Verifier]) -> Result<(), Error> {
    let mut expected = (head.seq, head.index);
    for proved in leaves {
        expected = after(head, expected, proved, verifiers)?;
    }
    match expected {
        (0, None) => Ok(()),
        (seq, _) => Err(incomplete(seq, "missing: the list ends before it")),
    }
}

/// Checks one leaf; tells the place and index of the one before.
fn after(
    head: &Head,
    (seq, index): (u64, Option<u64>),
    proved: &Proved,
    verifiers: &[Verifier],
) -> Result<(u64, Option<u64>), Error> {
    let Some(index) = index else {
        return Err(incomplete(seq, "there is one more leaf than the log states"));
    };
    if proved.bundle.index != index {
        let why = format!(
            "its leaf is number {index} of the log, but number {} was given",
            proved.bundle.index
        );
        return Err(incomplete(seq, why));
    }
    let stated = checkpoint::open(&proved.bundle.checkpoint_note, verifiers)?;
    if stated != head.checkpoint {
        return Err(incomplete(
            seq,
            "its proof is against another tree than the subject head",
        ));
    }
    proved.bundle.verify_in(leaf_hash(&proved.leaf), &head.checkpoint)?;
    let place = Place::decode(proved.leaf.as_slice()).map_err(|_| incomplete(seq, "its leaf cannot be read"))?;
    if place.tag != head.tag {
        return Err(incomplete(seq, "its leaf is about somebody else"));
    }
    if u64::try_from(place.seq) != Ok(seq) {
        return Err(incomplete(seq, format!("its leaf says that it is event {}", place.seq)));
    }
    let prev = place
        .prev
        .map(|prev| u64::try_from(prev).map_err(|_| incomplete(seq, "its link is negative")));
    let prev = prev.transpose()?;
    if prev.is_some_and(|prev| prev >= index) {
        return Err(incomplete(seq, "its leaf links to one that is not before it"));
    }
    if (seq == 1) != prev.is_none() {
        return Err(incomplete(
            seq,
            "its leaf does not link to the one before as its place says",
        ));
    }
    Ok((seq - 1, prev))
}

/// Verifies that what `old` stated still holds: the leaf that was the newest then has its place in `leaves`, which
/// [`verify`] found complete, and none that is newer by its place was in the tree already. That the tree continues the
/// older one is not looked at, but for two of one size: a consistency proof does that.
///
/// # Errors
/// [`Error::Incomplete`], [`Error::SplitView`].
pub fn verify_since(old: &Head, head: &Head, leaves: &[Proved]) -> Result<(), Error> {
    if old.tag != head.tag || old.checkpoint.origin() != head.checkpoint.origin() {
        return Err(malformed("the two subject heads are not of one subject in one log"));
    }
    let (before, after) = (&old.checkpoint, &head.checkpoint);
    if before.size() == after.size() && before.root() != after.root() {
        return Err(Error::SplitView {
            size: after.size(),
            first: before.root(),
            second: after.root(),
        });
    }
    let place = head.seq.checked_sub(old.seq).and_then(|at| usize::try_from(at).ok());
    let Some(place) = place.filter(|_| after.size() >= before.size()) else {
        return Err(incomplete(old.seq, "the log stated it before, and states less now"));
    };
    // Behind the oldest there is none, and then there was none before.
    let now = leaves.get(place).map(|proved| proved.bundle.index);
    if now != old.index {
        return Err(incomplete(old.seq, "the log stated another leaf in its place before"));
    }
    let hidden = leaves
        .iter()
        .take(place)
        .position(|proved| proved.bundle.index < before.size());
    match hidden {
        Some(at) => {
            let why = "the log had it already when it stated that there were fewer";
            Err(incomplete(head.seq - at as u64, why))
        }
        None => Ok(()),
    }
}

/// The chains of all subjects of a log that is read from its first leaf on: each leaf takes the next place of its subject
/// and links to the one before.
#[derive(Debug, Default)]
pub struct Chains(HashMap<Vec<u8>, (u64, u64)>);

impl Chains {
    /// Takes the leaf at `index`. One that is about nobody, or is no leaf of this kind of log, has no place.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if it does not follow the one before it.
    pub fn take(&mut self, index: u64, leaf: &[u8]) -> Result<(), Error> {
        let Ok(place) = Place::decode(leaf) else {
            return Ok(());
        };
        if place.tag.is_empty() {
            return Ok(());
        }
        let (before, link) = match self.0.get(&place.tag) {
            Some((seq, index)) => (*seq, i64::try_from(*index).ok()),
            None => (0, None),
        };
        let seq = before + 1;
        if u64::try_from(place.seq) != Ok(seq) || place.prev != link {
            let why = format!(
                "leaf {index} does not follow the one before: it says that it is event {}, after leaf {}",
                place.seq,
                place.prev.map_or_else(|| "-".to_owned(), |prev| prev.to_string())
            );
            return Err(incomplete(seq, why));
        }
        self.0.insert(place.tag, (seq, index));
        Ok(())
    }
}

fn same_origin(checkpoint: &Checkpoint, expected: &str) -> Result<(), Error> {
    if checkpoint.origin() == expected {
        return Ok(());
    }
    let (origin, expected) = (checkpoint.origin().to_owned(), expected.to_owned());
    Err(Error::WrongOrigin { origin, expected })
}

fn incomplete(seq: u64, why: impl Into<String>) -> Error {
    Error::Incomplete { seq, why: why.into() }
}

fn malformed(why: impl Into<String>) -> Error {
    Error::malformed("subject head", why)
}
