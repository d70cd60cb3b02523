//! `export`: is every line of this file an event of the log?

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use prost::Message;
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::Checkpoint;
use sammati_log::hash::leaf_hash;
use serde_json::{Value, json};

use super::trust::Keys;
use super::{Failure, Trust, describe, facts, stdin_once};

/// What `export` is given.
#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    trust: Trust,
    /// The file: lines of NATIVE, FHIR or OCSF, as ExportEvents and ExportSubject write them.
    file: String,
}

/// The longest line that is read: one with the largest payload is far shorter.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// What of a leaf a line tells too.
#[derive(Clone, PartialEq, Eq, Message)]
struct Named {
    #[prost(string, tag = "2")]
    event_id: String,
    #[prost(string, tag = "4")]
    event_type: String,
}

/// The verdict in a sentence and as facts.
pub(crate) fn run(asked: &Export) -> Result<(String, Value), Failure> {
    stdin_once(&asked.trust, &[&asked.file])?;
    let keys = asked.trust.keys()?;
    let mut lines: Box<dyn BufRead> = match asked.file.as_str() {
        "-" => Box::new(io::stdin().lock()),
        file => Box::new(BufReader::new(
            File::open(file).map_err(|error| Failure::unusable(file, error))?,
        )),
    };
    let mut seen = Seen::default();
    let mut number = 0_u64;
    while let Some(line) = next(&mut lines).map_err(|why| Failure::unusable(&asked.file, why))? {
        number += 1;
        let about = format!("{} line {number}", asked.file);
        if !line.is_empty() {
            seen.take(&line, &keys, &about)?;
        }
    }
    let none = || Failure::unusable(&asked.file, "there is no event in it, so there is nothing to check");
    let (_, checkpoint) = seen.tree.ok_or_else(none)?;
    let events = seen.indexes.len();
    let sentence = format!("{events} events, each once, are in {}", describe(&checkpoint));
    Ok((sentence, json!({"events": events, "checkpoint": facts(&checkpoint)})))
}

/// The next line, without its end; `None` after the last.
pub(crate) fn next(lines: &mut impl BufRead) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    let read = io::Read::take(&mut *lines, MAX_LINE as u64 + 1).read_until(b'\n', &mut line);
    match read.map_err(|error| error.to_string())? {
        0 => return Ok(None),
        length if length > MAX_LINE => return Err(format!("a line has more than {MAX_LINE} bytes")),
        _ => {}
    }
    while line.last().is_some_and(u8::is_ascii_whitespace) {
        line.pop();
    }
    Ok(Some(line))
}

/// What was read so far.
#[derive(Default)]
pub(crate) struct Seen {
    /// The checkpoint that all is proved against, with the note that was opened last.
    tree: Option<(String, Checkpoint)>,
    indexes: HashSet<u64>,
}

impl Seen {
    pub(crate) fn take(&mut self, line: &[u8], keys: &Keys<'_>, about: &str) -> Result<(), Failure> {
        let value: Value = serde_json::from_slice(line).map_err(|error| Failure::unusable(about, error))?;
        // What all events of one person end with says nothing of a single one.
        if value.get("subjectHead").is_some() {
            return Ok(());
        }
        let told = Told::read(&value).map_err(|why| Failure::unusable(about, why))?;
        let in_line = |error: sammati_log::Error| Failure::from(error).about(about);
        let bundle: Bundle = told.proof.parse().map_err(in_line)?;
        self.one_tree(&bundle.checkpoint_note, keys, about)?;
        let checkpoint = self.tree.as_ref().map(|(_, checkpoint)| checkpoint);
        let checkpoint = checkpoint.ok_or_else(|| Failure::unusable(about, "no checkpoint"))?;
        bundle.verify_in(leaf_hash(&told.leaf), checkpoint).map_err(in_line)?;
        let named = Named::decode(told.leaf.as_slice()).map_err(|_| Failure::refuted(about, "its leaf is no event"))?;
        for (is, says, what) in [
            (&named.event_id, told.event_id, "event"),
            (&named.event_type, told.event_type, "type"),
        ] {
            if is != says {
                let why = format!("the line tells of {what} {says:?}, its leaf is of {is:?}");
                return Err(Failure::refuted(about, why));
            }
        }
        if !self.indexes.insert(bundle.index) {
            let why = format!("event {} of the log stands in the file twice", bundle.index);
            return Err(Failure::refuted(about, why));
        }
        Ok(())
    }

    /// All lines are proved against one checkpoint. Cosignatures may have come between two calls.
    fn one_tree(&mut self, note: &str, keys: &Keys<'_>, about: &str) -> Result<(), Failure> {
        match &mut self.tree {
            Some((opened, _)) if opened == note => Ok(()),
            Some((opened, first)) => {
                let checkpoint = keys.open(about, note)?;
                if checkpoint != *first {
                    let why = format!(
                        "it is proved in {}, and the lines before in {}: export all with one tree_size",
                        describe(&checkpoint),
                        describe(first)
                    );
                    return Err(Failure::refuted(about, why));
                }
                note.clone_into(opened);
                Ok(())
            }
            first => {
                *first = Some((note.to_owned(), keys.open(about, note)?));
                Ok(())
            }
        }
    }
}

/// What a line tells that its leaf proves.
struct Told<'a> {
    leaf: Vec<u8>,
    proof: String,
    event_id: &'a str,
    event_type: &'a str,
}

impl<'a> Told<'a> {
    fn read(line: &'a Value) -> Result<Self, String> {
        if line["resourceType"] == "AuditEvent" {
            return Self::fhir(line);
        }
        if line.get("class_uid").is_some() {
            let unmapped = &line["unmapped"];
            return Ok(Self {
                leaf: base64(&unmapped["leaf"], "unmapped.leaf")?,
                proof: text(&unmapped["tlog_proof"], "unmapped.tlog_proof")?.to_owned(),
                event_id: text(&line["metadata"]["uid"], "metadata.uid")?,
                event_type: text(&line["metadata"]["event_code"], "metadata.event_code")?,
            });
        }
        let header = &line["event"]["header"];
        Ok(Self {
            leaf: base64(&line["leaf"], "leaf")?,
            proof: text(&line["proof"], "proof")?.to_owned(),
            event_id: text(&header["eventId"], "event.header.eventId")?,
            event_type: text(&header["eventType"], "event.header.eventType")?,
        })
    }

    fn fhir(line: &'a Value) -> Result<Self, String> {
        let extension = |name: &str| {
            let all = line["extension"].as_array().into_iter().flatten();
            let mut named = all.filter(|one| one["url"].as_str().is_some_and(|url| url.ends_with(name)));
            named.next().unwrap_or(&Value::Null)
        };
        let proof = base64(&extension("/log-proof")["valueAttachment"]["data"], "log-proof")?;
        Ok(Self {
            leaf: base64(&extension("/log-leaf")["valueBase64Binary"], "log-leaf")?,
            proof: String::from_utf8(proof).map_err(|_| "the log-proof is no text".to_owned())?,
            event_id: text(&line["id"], "id")?,
            event_type: text(&extension("/event-type")["valueCode"], "event-type")?,
        })
    }
}

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("it has no {what}"))
}

fn base64(value: &Value, what: &str) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(text(value, what)?)
        .map_err(|_| format!("its {what} is not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_bound() {
        let mut good = format!("{}\n{{}}\n", " ".repeat(MAX_LINE - 1)).into_bytes();
        let mut lines = good.as_slice();
        assert_eq!(next(&mut lines), Ok(Some(Vec::new())));
        assert_eq!(next(&mut lines), Ok(Some(b"{}".to_vec())));
        assert_eq!(next(&mut lines), Ok(None));
        good.insert(0, b' ');
        assert!(next(&mut good.as_slice()).is_err());
        assert!(next(&mut BufReader::new(io::repeat(b'x'))).is_err());
    }
}
