//! `subject`: are these all events about one person?

use std::fs::File;
use std::io::{self, BufReader, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use sammati_log::subject::{Head, Proved, verify, verify_since};
use serde_json::{Deserializer, Value, json};

use crate::{Failure, MAX_SMALL, Trust, describe, facts, read_text, stdin_once};

/// What `subject` is given.
#[derive(Args)]
pub(crate) struct Subject {
    #[command(flatten)]
    trust: Trust,
    /// A subject head that was kept from an earlier time: what it stated must still hold.
    #[arg(long)]
    since: Option<String>,
    /// The pages of ListSubjectEvents as grpcurl prints them, with proofs, one after the other; or an export in native
    /// JSON.
    events: String,
}

/// The verdict in a sentence and as facts.
pub(crate) fn run(asked: &Subject) -> Result<(String, Value), Failure> {
    let since = asked.since.as_ref();
    let files: Vec<_> = [Some(&asked.events), since]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    stdin_once(&asked.trust, &files)?;
    let keys = asked.trust.keys()?;
    let given = match asked.events.as_str() {
        "-" => Given::read(io::stdin().lock()),
        file => Given::read(File::open(file).map_err(|error| Failure::unusable(file, error))?),
    };
    let Given { proved, head } = given.map_err(|why| Failure::unusable(&asked.events, why))?;
    let head = head.ok_or_else(|| Failure::unusable(&asked.events, "no subject head: the last page is missing"))?;
    let head = Head::open(&head, &keys.verifiers)?;
    verify(&head, &proved, &keys.verifiers)?;
    if let Some(since) = since {
        let old = Head::open(&read_text(since, MAX_SMALL)?, &keys.verifiers)?;
        verify_since(&old, &head, &proved)?;
    }
    let sentence = format!(
        "all {} events of the subject in {}",
        head.seq,
        describe(&head.checkpoint)
    );
    let answer = json!({
        "subject_tag": STANDARD.encode(&head.tag),
        "events": head.seq,
        "checkpoint": facts(&head.checkpoint),
    });
    Ok((sentence, answer))
}

/// The leaves in the order they were given, and the signed statement of the newest.
#[derive(Default)]
struct Given {
    proved: Vec<Proved>,
    head: Option<String>,
}

impl Given {
    fn read(source: impl Read) -> Result<Self, String> {
        let mut given = Self::default();
        for value in Deserializer::from_reader(BufReader::new(source)).into_iter::<Value>() {
            given.take(&value.map_err(|error| error.to_string())?)?;
        }
        Ok(given)
    }

    /// A page, one event of an export, or its end.
    fn take(&mut self, value: &Value) -> Result<(), String> {
        for event in value["events"].as_array().into_iter().flatten() {
            self.proved.push(proved(event)?);
        }
        if value.get("leaf").is_some() {
            self.proved.push(proved(value)?);
        }
        if let Some(note) = value["subjectHead"]["note"].as_str() {
            self.head = Some(note.to_owned());
        }
        Ok(())
    }
}

fn proved(event: &Value) -> Result<Proved, String> {
    let text = |field: &str| {
        let found = event[field].as_str().filter(|text| !text.is_empty());
        found.ok_or_else(|| format!("an event has no {field}: ask for the list with_proofs"))
    };
    let leaf = STANDARD.decode(text("leaf")?);
    Ok(Proved {
        leaf: leaf.map_err(|_| "a leaf is not base64".to_owned())?,
        bundle: text("proof")?
            .parse()
            .map_err(|error: sammati_log::Error| error.to_string())?,
    })
}
