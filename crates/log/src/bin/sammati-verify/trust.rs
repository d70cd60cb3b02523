//! Whom to believe.

use clap::Args;
use sammati_log::checkpoint::{self, Checkpoint, Verifier};
use sammati_log::cosignature::{Witness, cosignatures, split_note};

use super::input::{Failure, MAX_SMALL, read_text};

/// Whom to believe.
#[derive(Args)]
pub(crate) struct Trust {
    /// The log's public key, `<name>+<id>+<key>`, or a file with it. More than one while a key is replaced.
    #[arg(long, required = true)]
    vkey: Vec<String>,
    /// The log's origin, if it is not the name of its key.
    #[arg(long)]
    origin: Option<String>,
    /// A witness's public key (of type 0x04), or a file with it. May be given several times.
    #[arg(long, value_name = "VKEY")]
    witness: Vec<String>,
    /// How many of the witnesses must have cosigned; all, if it is not given.
    #[arg(long, requires = "witness", value_name = "N")]
    cosignatures: Option<usize>,
}

impl Trust {
    fn files(&self) -> impl Iterator<Item = &str> {
        let all = self.vkey.iter().chain(&self.witness).map(String::as_str);
        all.filter(|vkey| !vkey.contains('+'))
    }

    /// Reads the keys. Once per run, for one may come from standard input.
    pub(crate) fn keys(&self) -> Result<Keys<'_>, Failure> {
        let verifiers = self.vkey.iter().map(|vkey| {
            let text = read_vkey(vkey)?;
            Verifier::parse(text.trim_end()).map_err(|error| Failure::from(error).about("--vkey"))
        });
        let witnesses = self.witness.iter().map(|vkey| {
            let text = read_vkey(vkey)?;
            Witness::parse(text.trim_end()).map_err(|error| Failure::from(error).about("--witness"))
        });
        let witnesses: Vec<_> = witnesses.collect::<Result<_, _>>()?;
        let required = self.cosignatures.unwrap_or(witnesses.len());
        if required > witnesses.len() {
            return Err(Failure::usage("--cosignatures", "more than there are witnesses"));
        }
        Ok(Keys {
            verifiers: verifiers.collect::<Result<_, _>>()?,
            origin: self.origin.as_deref(),
            witnesses,
            required,
        })
    }
}

/// A key given as text, or else the file that holds it: only a key has plus signs in it.
fn read_vkey(vkey: &str) -> Result<String, Failure> {
    if vkey.contains('+') {
        Ok(vkey.to_owned())
    } else {
        read_text(vkey, MAX_SMALL)
    }
}

/// [`Trust`] with its files read.
pub(crate) struct Keys<'a> {
    pub(crate) verifiers: Vec<Verifier>,
    pub(crate) origin: Option<&'a str>,
    pub(crate) witnesses: Vec<Witness>,
    pub(crate) required: usize,
}

impl Keys<'_> {
    /// Verifies a checkpoint; `what` says in a refusal which one it was.
    pub(crate) fn open(&self, what: &str, note: &str) -> Result<Checkpoint, Failure> {
        let opened = match self.origin {
            Some(origin) => checkpoint::open_as(note, origin, &self.verifiers),
            None => checkpoint::open(note, &self.verifiers),
        };
        let opened = opened.map_err(|error| Failure::from(error).about(what))?;
        let (text, lines) = split_note(note).unwrap_or_default();
        let found = cosignatures(text, lines, &self.witnesses).map_err(|error| Failure::from(error).about(what))?;
        if found.len() < self.required {
            let why = format!(
                "{} of the {} witnesses cosigned it, and {} are required",
                found.len(),
                self.witnesses.len(),
                self.required
            );
            return Err(Failure::refuted(what, why));
        }
        Ok(opened)
    }
}

/// Standard input can be read only once.
pub(crate) fn stdin_once(trust: &Trust, files: &[&str]) -> Result<(), Failure> {
    let files = files.iter().copied().chain(trust.files());
    if files.filter(|file| *file == "-").count() > 1 {
        return Err(Failure::usage("-", "standard input is named more than once"));
    }
    Ok(())
}
