//! Checks what a log of Sammati states, from files and with nothing but the log's public key. It links none
//! of the server's code and opens no connection, so that it can be trusted where the server is not.

mod subject;

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sammati_log::bundle::{Bundle, MAX_BUNDLE};
use sammati_log::checkpoint::{self, Checkpoint, MAX_NOTE, Verifier};
use sammati_log::hash::leaf_hash;
use sammati_log::proof::{parse_path, verify_consistency};
use sammati_log::{Error, Fault};
use serde_json::{Value, json};

/// The largest leaf that is read; the servers allow far less.
const MAX_LEAF: usize = 1024 * 1024;
/// The largest key or proof file that is read.
const MAX_SMALL: usize = 64 * 1024;

/// Verify checkpoints and proofs of a transparency log, offline.
///
/// Exit status: 0 verified; 1 does not verify; 2 the input cannot be used. A file may be "-" for standard
/// input, once.
#[derive(Parser)]
#[command(name = "sammati-verify", version)]
struct Cli {
    /// Answer as one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the signature of a checkpoint.
    Checkpoint {
        #[command(flatten)]
        trust: Trust,
        /// The signed checkpoint (a signed note).
        note: String,
    },
    /// Check that a leaf is in the log.
    Inclusion {
        #[command(flatten)]
        trust: Trust,
        /// The leaf's bytes.
        #[arg(long)]
        leaf: String,
        /// The proof, c2sp.org/tlog-proof@v1, with its checkpoint.
        proof: String,
    },
    /// Check that a later checkpoint continues an earlier one.
    Consistency {
        #[command(flatten)]
        trust: Trust,
        /// The earlier signed checkpoint.
        #[arg(long)]
        old: String,
        /// The later signed checkpoint.
        #[arg(long)]
        new: String,
        /// The proof: one base64 hash per line.
        #[arg(long)]
        proof: String,
    },
    /// Check that these are all events about one person: none missing, none changed.
    Subject(subject::Subject),
}

/// Whom to believe.
#[derive(Args)]
struct Trust {
    /// The log's public key, `<name>+<id>+<key>`, or a file with it. More than one while a key is replaced.
    #[arg(long, required = true)]
    vkey: Vec<String>,
    /// The log's origin, if it is not the name of its key.
    #[arg(long)]
    origin: Option<String>,
}

impl Trust {
    fn files(&self) -> impl Iterator<Item = &str> {
        self.vkey.iter().map(String::as_str).filter(|vkey| !vkey.contains('+'))
    }

    /// Reads the keys. Once per run, for one may come from standard input.
    fn keys(&self) -> Result<Keys<'_>, Failure> {
        let verifiers = self.vkey.iter().map(|vkey| read_vkey(vkey)).collect::<Result<_, _>>()?;
        Ok(Keys {
            verifiers,
            origin: self.origin.as_deref(),
        })
    }
}

/// [`Trust`] with its files read.
struct Keys<'a> {
    verifiers: Vec<Verifier>,
    origin: Option<&'a str>,
}

impl Keys<'_> {
    /// Verifies a checkpoint; `what` says in a refusal which one it was.
    fn open(&self, what: &str, note: &str) -> Result<Checkpoint, Failure> {
        let opened = match self.origin {
            Some(origin) => checkpoint::open_as(note, origin, &self.verifiers),
            None => checkpoint::open(note, &self.verifiers),
        };
        opened.map_err(|error| Failure {
            what: what.to_owned(),
            ..error.into()
        })
    }
}

/// Why the answer is not "verified".
struct Failure {
    /// Which input it is about, or nothing.
    what: String,
    why: String,
    fault: Fault,
}

impl Failure {
    fn unusable(what: &str, why: impl ToString) -> Self {
        Self {
            what: what.to_owned(),
            why: why.to_string(),
            fault: Fault::Input,
        }
    }

    const fn exit_code(&self) -> u8 {
        if matches!(self.fault, Fault::Evidence) { 1 } else { 2 }
    }

    fn sentence(&self) -> String {
        let verdict = if self.exit_code() == 1 {
            "does not verify"
        } else {
            "cannot be checked"
        };
        if self.what.is_empty() {
            format!("{verdict}: {}", self.why)
        } else {
            format!("{verdict}: {}: {}", self.what, self.why)
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            what: String::new(),
            why: error.to_string(),
            fault: error.fault(),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let answer = run(&cli.command);
    let code = answer.as_ref().map_or_else(Failure::exit_code, |_| 0);
    match report(cli.json, answer) {
        Ok(()) => ExitCode::from(code),
        // A verdict that nobody can read is no verdict.
        Err(_) => ExitCode::from(2),
    }
}

/// Says the verdict: the good one on standard output, the bad one on standard error, JSON always on the first.
fn report(as_json: bool, answer: Result<(String, Value), Failure>) -> io::Result<()> {
    match (as_json, answer) {
        (true, Ok((_, mut facts))) => {
            if let Some(facts) = facts.as_object_mut() {
                facts.insert("verified".to_owned(), true.into());
            }
            writeln!(io::stdout(), "{facts}")
        }
        (true, Err(failure)) => {
            let (reason, fault) = (failure.sentence(), failure.fault.as_str());
            writeln!(
                io::stdout(),
                "{}",
                json!({"verified": false, "fault": fault, "reason": reason})
            )
        }
        (false, Ok((sentence, _))) => writeln!(io::stdout(), "verified: {sentence}"),
        (false, Err(failure)) => writeln!(io::stderr(), "{}", failure.sentence()),
    }
}

/// The verdict in a sentence and as facts.
fn run(command: &Command) -> Result<(String, Value), Failure> {
    match command {
        Command::Checkpoint { trust, note } => {
            stdin_once(trust, &[note])?;
            let checkpoint = trust.keys()?.open(note, &read_text(note, MAX_NOTE)?)?;
            Ok((describe(&checkpoint), json!({"checkpoint": facts(&checkpoint)})))
        }
        Command::Inclusion { trust, leaf, proof } => {
            stdin_once(trust, &[leaf, proof])?;
            inclusion(trust, leaf, proof)
        }
        Command::Consistency { trust, old, new, proof } => {
            stdin_once(trust, &[old, new, proof])?;
            consistency(trust, old, new, proof)
        }
        Command::Subject(asked) => subject::run(asked),
    }
}

fn inclusion(trust: &Trust, leaf: &str, proof: &str) -> Result<(String, Value), Failure> {
    let leaf = leaf_hash(&read(leaf, MAX_LEAF)?);
    let bundle: Bundle = read_text(proof, MAX_BUNDLE)?.parse()?;
    let checkpoint = trust.keys()?.open("the proof's checkpoint", &bundle.checkpoint_note)?;
    bundle.verify_in(leaf, &checkpoint)?;
    let index = bundle.index;
    let sentence = format!("the leaf is number {index} of {}", describe(&checkpoint));
    let leaf = leaf.to_string();
    Ok((
        sentence,
        json!({"index": index, "leaf_hash": leaf, "checkpoint": facts(&checkpoint)}),
    ))
}

fn consistency(trust: &Trust, old: &str, new: &str, proof: &str) -> Result<(String, Value), Failure> {
    let keys = trust.keys()?;
    let earlier = keys.open(old, &read_text(old, MAX_NOTE)?)?;
    let later = keys.open(new, &read_text(new, MAX_NOTE)?)?;
    if earlier.origin() != later.origin() {
        let (origin, expected) = (later.origin().to_owned(), earlier.origin().to_owned());
        return Err(Error::WrongOrigin { origin, expected }.into());
    }
    let path = parse_path(&read_text(proof, MAX_SMALL)?)?;
    verify_consistency(earlier.size(), later.size(), earlier.root(), later.root(), &path)?;
    let sentence = format!(
        "the first {} leaves are unchanged in {}",
        earlier.size(),
        describe(&later)
    );
    Ok((sentence, json!({"old": facts(&earlier), "new": facts(&later)})))
}

fn describe(checkpoint: &Checkpoint) -> String {
    let (origin, size, root) = (checkpoint.origin(), checkpoint.size(), checkpoint.root());
    format!("log {origin} at {size} leaves, root {root}")
}

fn facts(checkpoint: &Checkpoint) -> Value {
    let root = checkpoint.root().to_string();
    json!({"origin": checkpoint.origin(), "size": checkpoint.size(), "root": root})
}

/// A key given as text, or else the file that holds it: only a key has plus signs in it.
fn read_vkey(vkey: &str) -> Result<Verifier, Failure> {
    let text = if vkey.contains('+') {
        vkey.to_owned()
    } else {
        read_text(vkey, MAX_SMALL)?
    };
    Ok(Verifier::parse(text.trim_end())?)
}

/// Standard input can be read only once.
fn stdin_once(trust: &Trust, files: &[&str]) -> Result<(), Failure> {
    let files = files.iter().copied().chain(trust.files());
    if files.filter(|file| *file == "-").count() > 1 {
        return Err(Failure::unusable("-", "standard input is named more than once"));
    }
    Ok(())
}

fn read_text(file: &str, limit: usize) -> Result<String, Failure> {
    String::from_utf8(read(file, limit)?).map_err(|error| Failure::unusable(file, error))
}

fn read(file: &str, limit: usize) -> Result<Vec<u8>, Failure> {
    let bytes = if file == "-" {
        read_at_most(io::stdin().lock(), limit)
    } else {
        File::open(file).and_then(|open| read_at_most(open, limit))
    };
    let bytes = bytes.map_err(|error| Failure::unusable(file, error))?;
    if bytes.len() > limit {
        return Err(Failure::unusable(file, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads one byte more than allowed, to tell a file at the limit from one beyond it.
fn read_at_most(source: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
