//! Checks what a log of Sammati states, with nothing but the log's public key: from files, from a folder with the
//! paths of `c2sp.org/tlog-tiles`, or from a server of them. It links none of the server's code, so that it can be
//! trusted where the server is not.

pub(crate) mod archive;
pub(crate) mod export;
mod input;
pub(crate) mod source;
pub(crate) mod subject;
mod tiles;
pub(crate) mod trust;
mod watch;
pub(crate) mod zipped;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sammati_log::Error;
use sammati_log::bundle::{Bundle, MAX_BUNDLE};
use sammati_log::checkpoint::{Checkpoint, MAX_NOTE};
use sammati_log::hash::leaf_hash;
use sammati_log::proof::{parse_path, verify_consistency};
use serde_json::{Value, json};

use self::input::{Answer, Failure, MAX_SMALL, read, read_text};
use self::source::Source;
use self::tiles::Tiles;
use self::trust::{Trust, stdin_once};

/// The largest leaf that is read; the servers allow far less.
const MAX_LEAF: usize = 1024 * 1024;

/// Verify checkpoints, proofs and whole logs, offline or over the tile paths of a log.
///
/// Exit status: 0 verified; 1 refuted: it does not verify; 2 the command line is not good; 3 it could not be checked,
/// for something is missing or cannot be read. A file may be "-" for standard input, once. LOG is a folder, a ZIP file or
/// an http:// URL with checkpoint, tile/ and tile/entries/ below it.
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
    /// Check the signature of a checkpoint, and the cosignatures of witnesses.
    Checkpoint {
        #[command(flatten)]
        trust: Trust,
        /// The signed checkpoint (a signed note).
        #[arg(required_unless_present = "log")]
        note: Option<String>,
        /// The log whose newest checkpoint is checked instead.
        #[arg(long, conflicts_with = "note", value_name = "LOG")]
        log: Option<String>,
    },
    /// Check that a leaf is in the log, by a proof or by the log's tiles.
    Inclusion {
        #[command(flatten)]
        trust: Trust,
        /// The leaf's bytes.
        #[arg(long)]
        leaf: String,
        /// The proof, c2sp.org/tlog-proof@v1, with its checkpoint.
        #[arg(required_unless_present = "log")]
        proof: Option<String>,
        /// The log whose tiles prove it instead.
        #[arg(long, conflicts_with = "proof", requires = "index", value_name = "LOG")]
        log: Option<String>,
        /// The index of the leaf, with --log.
        #[arg(long, requires = "log", conflicts_with = "proof")]
        index: Option<u64>,
    },
    /// Check a proof bundle: a leaf, and a c2sp.org/tlog-proof@v1 file.
    Bundle {
        #[command(flatten)]
        trust: Trust,
        /// The leaf's bytes.
        #[arg(long)]
        leaf: String,
        /// The bundle.
        bundle: String,
    },
    /// Check that a later checkpoint continues an earlier one, by a proof or by the log's tiles.
    Consistency {
        #[command(flatten)]
        trust: Trust,
        /// The earlier signed checkpoint.
        #[arg(long)]
        old: String,
        #[command(flatten)]
        later: Later,
    },
    /// Check a whole log: every leaf, every tile, that the events of each person follow one another, and the root that was
    /// signed.
    ///
    /// The parts of an archive are ZIP files: name all of them, or a folder into which they were unpacked. Each verifies by
    /// itself; that some are missing is 3, and is told, unless --partial is given. Between parts the events of each person are
    /// followed as far as no part before is missing.
    Archive {
        #[command(flatten)]
        trust: Trust,
        /// Take what is here: not all parts need be.
        #[arg(long)]
        partial: bool,
        /// The log, or parts of its archive.
        #[arg(value_name = "LOG", required = true)]
        logs: Vec<String>,
    },
    /// Check that these are all events about one person: none missing, none changed.
    ///
    /// Not checked is that the log gave no place twice and shows another list to others: a head that was kept binds it
    /// (--since), witnesses see one tree (--witness), and `archive` follows the events of everybody through the whole log.
    Subject(subject::Subject),
    /// Check each line of an export: its leaf is in the log, in the one checkpoint of the file, and no line is there twice.
    ///
    /// Not checked is that no line is missing: the headers are public, and whoever reads the whole log (`archive`) can count
    /// them; all events about one person have `subject`. What a payload says is as the log read it: its leaf commits to the
    /// ciphertext.
    Export(export::Export),
    /// Watch a log: keep its last checkpoint, and shout when it does not continue.
    Watch {
        #[command(flatten)]
        trust: Trust,
        /// The log.
        #[arg(value_name = "LOG")]
        log: String,
        /// The file that keeps the last checkpoint; made by the first look.
        #[arg(long, value_name = "FILE")]
        state: String,
        /// Seconds between looks.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        every: u64,
        /// Look once, and end.
        #[arg(long)]
        once: bool,
    },
}

/// The later checkpoint, and what proves that it continues the earlier.
#[derive(Args)]
struct Later {
    /// The later signed checkpoint; with --log, that of the log if it is left out.
    #[arg(long, required_unless_present = "log")]
    new: Option<String>,
    /// The proof: one base64 hash per line.
    #[arg(long, required_unless_present = "log")]
    proof: Option<String>,
    /// The log whose tiles prove it instead.
    #[arg(long, conflicts_with = "proof", value_name = "LOG")]
    log: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let answer = run(&cli);
    let code = answer.as_ref().map_or_else(Failure::exit_code, |_| 0);
    match report(cli.json, answer) {
        Ok(()) => ExitCode::from(code),
        // A verdict that nobody can read is no verdict.
        Err(_) => ExitCode::from(3),
    }
}

/// Says the verdict: the good one on standard output, the bad one on standard error, JSON always on the first.
fn report(as_json: bool, answer: Answer) -> io::Result<()> {
    match (as_json, answer) {
        (true, Ok((_, mut facts))) => {
            if let Some(facts) = facts.as_object_mut() {
                facts.insert("verified".to_owned(), true.into());
            }
            writeln!(io::stdout(), "{facts}")
        }
        (true, Err(failure)) => writeln!(io::stdout(), "{}", failure.facts()),
        (false, Ok((sentence, _))) => writeln!(io::stdout(), "verified: {sentence}"),
        (false, Err(failure)) => writeln!(io::stderr(), "{}", failure.sentence()),
    }
}

/// The verdict in a sentence and as facts.
fn run(cli: &Cli) -> Answer {
    match &cli.command {
        Command::Checkpoint { trust, note, log } => {
            let note = note.as_deref().unwrap_or_default();
            stdin_once(trust, &[note])?;
            let keys = trust.keys()?;
            let checkpoint = match log {
                Some(log) => Tiles::newest(&Source::parse(log)?, &keys)?.checkpoint().clone(),
                None => keys.open(note, &read_text(note, MAX_NOTE)?)?,
            };
            Ok((describe(&checkpoint), json!({"checkpoint": facts(&checkpoint)})))
        }
        Command::Inclusion {
            trust,
            leaf,
            log: Some(log),
            index,
            ..
        } => {
            stdin_once(trust, &[leaf])?;
            let source = Source::parse(log)?;
            let tiles = Tiles::newest(&source, &trust.keys()?)?;
            let (index, leaf) = (index.unwrap_or_default(), leaf_hash(&read(leaf, MAX_LEAF)?));
            tiles.inclusion(index, leaf)?;
            Ok(included(index, leaf, tiles.checkpoint()))
        }
        Command::Inclusion { trust, leaf, proof, .. } => bundle(trust, leaf, proof.as_deref().unwrap_or_default()),
        Command::Bundle {
            trust,
            leaf,
            bundle: file,
        } => bundle(trust, leaf, file),
        Command::Consistency { trust, old, later } => consistency(trust, old, later),
        Command::Archive { trust, partial, logs } => {
            let sources = logs
                .iter()
                .map(|log| Source::parse(log))
                .collect::<Result<Vec<_>, _>>()?;
            archive::check(&sources, *partial, &trust.keys()?)
        }
        Command::Subject(asked) => subject::run(asked),
        Command::Export(asked) => export::run(asked),
        Command::Watch {
            trust,
            log,
            state,
            every,
            once,
        } => watch::watch(
            &Source::parse(log)?,
            &trust.keys()?,
            state,
            (!once).then_some(*every),
            cli.json,
        ),
    }
}

fn bundle(trust: &Trust, leaf: &str, proof: &str) -> Answer {
    stdin_once(trust, &[leaf, proof])?;
    let leaf = leaf_hash(&read(leaf, MAX_LEAF)?);
    let bundle: Bundle = read_text(proof, MAX_BUNDLE)?.parse()?;
    let checkpoint = trust.keys()?.open("the proof's checkpoint", &bundle.checkpoint_note)?;
    bundle.verify_in(leaf, &checkpoint)?;
    Ok(included(bundle.index, leaf, &checkpoint))
}

fn included(index: u64, leaf: sammati_log::Hash32, checkpoint: &Checkpoint) -> (String, Value) {
    let sentence = format!("the leaf is number {index} of {}", describe(checkpoint));
    let leaf = leaf.to_string();
    (
        sentence,
        json!({"index": index, "leaf_hash": leaf, "checkpoint": facts(checkpoint)}),
    )
}

fn consistency(trust: &Trust, old: &str, later: &Later) -> Answer {
    let (new, proof) = (later.new.as_deref(), later.proof.as_deref());
    let files: Vec<_> = [Some(old), new, proof].into_iter().flatten().collect();
    stdin_once(trust, &files)?;
    let keys = trust.keys()?;
    let earlier = keys.open(old, &read_text(old, MAX_NOTE)?)?;
    let given = match new {
        Some(new) => Some(keys.open(new, &read_text(new, MAX_NOTE)?)?),
        None => None,
    };
    let newer = match (&later.log, given) {
        (Some(log), given) => {
            let source = Source::parse(log)?;
            let tiles = match given {
                Some(given) => Tiles::of(&source, given),
                None => Tiles::newest(&source, &keys)?,
            };
            same_log(&earlier, tiles.checkpoint())?;
            tiles.continues(&earlier)?;
            tiles.checkpoint().clone()
        }
        (None, given) => {
            let newer = given.ok_or_else(|| Failure::usage("--new", "it is missing"))?;
            same_log(&earlier, &newer)?;
            let path = parse_path(&read_text(proof.unwrap_or_default(), MAX_SMALL)?)?;
            verify_consistency(earlier.size(), newer.size(), earlier.root(), newer.root(), &path)?;
            newer
        }
    };
    let sentence = format!(
        "the first {} leaves are unchanged in {}",
        earlier.size(),
        describe(&newer)
    );
    Ok((sentence, json!({"old": facts(&earlier), "new": facts(&newer)})))
}

fn same_log(earlier: &Checkpoint, later: &Checkpoint) -> Result<(), Failure> {
    if earlier.origin() == later.origin() {
        return Ok(());
    }
    let (origin, expected) = (later.origin().to_owned(), earlier.origin().to_owned());
    Err(Error::WrongOrigin { origin, expected }.into())
}

fn describe(checkpoint: &Checkpoint) -> String {
    let (origin, size, root) = (checkpoint.origin(), checkpoint.size(), checkpoint.root());
    format!("log {origin} at {size} leaves, root {root}")
}

fn facts(checkpoint: &Checkpoint) -> Value {
    let root = checkpoint.root().to_string();
    json!({"origin": checkpoint.origin(), "size": checkpoint.size(), "root": root})
}
