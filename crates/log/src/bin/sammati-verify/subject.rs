//! `subject`: are these all events about one person?

use std::fs::File;
use std::io::{self, BufReader, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use sammati_log::subject::{Head, Proved, verify, verify_since};
use serde_json::{Deserializer, Value, json};

use super::{Failure, MAX_SMALL, Trust, describe, facts, read_text, stdin_once};

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
        "-" => Given::read(io::stdin().lock(), MAX_EVENTS),
        file => Given::read(
            File::open(file).map_err(|error| Failure::unusable(file, error))?,
            MAX_EVENTS,
        ),
    };
    let given = given.map_err(|why| Failure::unusable(&asked.events, why))?;
    let (proved, head) = (given.proved, given.head);
    let (head, note) =
        head.ok_or_else(|| Failure::unusable(&asked.events, "no subject head: the last page is missing"))?;
    let head = Head::open(&head, &keys.verifiers)?;
    // The origin that is asked for, and the cosignatures of witnesses.
    let checkpoint = keys.open("the checkpoint of the subject head", &note)?;
    if checkpoint != head.checkpoint {
        return Err(Failure::refuted(
            "the subject head",
            "it is of another tree than its checkpoint",
        ));
    }
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

/// The most bytes that are read: a page of 1000 events with proofs has a few MB.
const MAX_EVENTS: u64 = 1 << 30;

/// The leaves in the order they were given, the signed statement of the newest, and the checkpoint that it is of.
#[derive(Debug, Default)]
pub(crate) struct Given {
    proved: Vec<Proved>,
    head: Option<(String, String)>,
}

impl Given {
    pub(crate) fn read(source: impl Read, limit: u64) -> Result<Self, String> {
        let (mut given, mut source) = (Self::default(), source.take(limit + 1));
        let values = Deserializer::from_reader(BufReader::new(&mut source)).into_iter::<Value>();
        let taken = values.into_iter().try_for_each(|value| {
            let value = value.map_err(|error| error.to_string())?;
            given.take(&value)
        });
        if source.limit() == 0 {
            return Err(format!("more than {limit} bytes"));
        }
        taken.map(|()| given)
    }

    /// A page, one event of an export, or its end.
    fn take(&mut self, value: &Value) -> Result<(), String> {
        for event in value["events"].as_array().into_iter().flatten() {
            self.proved.push(proved(event)?);
        }
        if value.get("leaf").is_some() {
            self.proved.push(proved(value)?);
        }
        let head = &value["subjectHead"];
        if let Some(note) = head["note"].as_str() {
            let checkpoint = head["checkpoint"].as_str().unwrap_or_default();
            self.head = Some((note.to_owned(), checkpoint.to_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_has_a_bound() {
        let page = r#"{"events": [], "subjectHead": {"note": "a", "checkpoint": "b"}}"#;
        let length = page.len() as u64;
        let given = Given::read(page.as_bytes(), length).unwrap();
        assert_eq!(given.head, Some(("a".to_owned(), "b".to_owned())));
        let refused = Given::read(page.as_bytes(), length - 1).unwrap_err();
        assert_eq!(refused, format!("more than {} bytes", length - 1));
        let endless = io::repeat(b' ');
        assert_eq!(Given::read(endless, 1000).unwrap_err(), "more than 1000 bytes");
        let endless = b"[".chain(io::repeat(b'['));
        assert!(Given::read(endless, 1000).is_err());
    }
}
