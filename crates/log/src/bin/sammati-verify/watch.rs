//! A monitor: it keeps the last checkpoint, and holds each new one against it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use sammati_log::checkpoint::{Checkpoint, MAX_NOTE};
use serde_json::json;

use super::input::{Answer, Failure, read_text};
use super::source::Source;
use super::tiles::{Tiles, newest};
use super::trust::Keys;
use super::{describe, facts, same_log};

/// Looks once, or `every` so many seconds until something does not verify.
pub(crate) fn watch(source: &Source, keys: &Keys<'_>, state: &str, every: Option<u64>, as_json: bool) -> Answer {
    let mut is_first = true;
    loop {
        let looked = look(source, keys, state, is_first);
        is_first = false;
        let Some(seconds) = every else { return looked };
        match looked {
            // What was signed contradicts what was signed before: nothing is checked beyond it.
            Err(failure) if failure.is_refuted() => return Err(failure),
            Err(failure) if as_json => say(&mut io::stdout(), &failure.facts())?,
            Err(failure) => say(&mut io::stderr(), &failure.sentence())?,
            Ok((_, facts)) if as_json => say(&mut io::stdout(), &facts)?,
            Ok((sentence, _)) => say(&mut io::stdout(), &format!("verified: {sentence}"))?,
        }
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

fn say(to: &mut impl Write, what: &impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(to, "{what}").map_err(|error| Failure::unusable("the output", error))
}

/// Holds the newest checkpoint against the one that was kept, and keeps it. Only the first look may find none that was kept.
fn look(source: &Source, keys: &Keys<'_>, state: &str, is_first: bool) -> Answer {
    let note = newest(source)?;
    // What nobody signed says nothing of the log.
    let checkpoint = keys.open("checkpoint", &note).map_err(Failure::unproven)?;
    let is_kept = Path::new(state)
        .try_exists()
        .map_err(|error| Failure::unusable(state, error))?;
    if is_first && !is_kept {
        keep(state, &note)?;
        let sentence = format!("first look, nothing to compare with: {}", describe(&checkpoint));
        return Ok((sentence, json!({"checkpoint": facts(&checkpoint)})));
    }
    let before = read_text(state, MAX_NOTE)?;
    let kept = keys.open(state, &before)?;
    if let Err(failure) = compare(source, &kept, &checkpoint) {
        if failure.is_refuted() {
            // Both are signed: together they convict the log.
            keep(&format!("{state}.conflict"), &format!("{before}\n{note}"))?;
        }
        return Err(failure);
    }
    keep(state, &note)?;
    let sentence = format!(
        "the first {} leaves are unchanged in {}",
        kept.size(),
        describe(&checkpoint)
    );
    Ok((
        sentence,
        json!({"kept": facts(&kept), "checkpoint": facts(&checkpoint)}),
    ))
}

fn compare(source: &Source, kept: &Checkpoint, new: &Checkpoint) -> Result<(), Failure> {
    same_log(kept, new)?;
    Tiles::of(source, new.clone()).continues(kept)
}

/// Writes a file at once and for good: what is there afterwards is the old or the new one.
fn keep(file: &str, content: &str) -> Result<(), Failure> {
    let partial = format!("{file}.partial");
    let write = || {
        let mut open = File::create(&partial)?;
        open.write_all(content.as_bytes())?;
        open.sync_all()?;
        fs::rename(&partial, file)
    };
    write().map_err(|error: io::Error| Failure::unusable(file, error))
}
