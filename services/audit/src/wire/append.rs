//! `AppendEventsRequest`: direct events, or a stretch of a feed whose chain is computed again.

use prost::Message;
use sammati_api::audit::v1::{self as audit, append_events_request};
use sammati_kernel::{Reason, Refusal, Violations};
use sammati_store::chain;

use super::event;
use crate::append::Stretch;
use crate::forbidden;
use crate::log::Received;

/// The most events of one call.
const MAX_EVENTS: usize = 1000;

/// The most bytes of one payload.
const MAX_PAYLOAD: usize = 32 * 1024;

/// What is to be appended.
#[derive(Debug)]
pub(crate) struct Batch {
    /// In order.
    pub events: Vec<Received>,
    /// If relayed: where from.
    pub stretch: Option<Stretch>,
}

/// What was read, each event with its path in the request.
struct Read {
    events: Vec<(String, Received)>,
    stretch: Option<Stretch>,
}

/// Reads the batch of an `AppendEventsRequest`.
///
/// # Errors
/// `BATCH_LIMIT`, `FIELD_INVALID`, `EVENT_TOO_LARGE`, `EVENT_FORBIDDEN_FIELD`, each naming all fields it is about.
pub(crate) fn batch(batch: Option<append_events_request::Batch>) -> Result<Batch, Refusal> {
    use append_events_request::Batch as Sent;
    let mut wrong = Violations::new();
    let read = match batch {
        None => return Err(Refusal::field("direct", "set direct or relayed")),
        Some(Sent::Direct(direct)) => read_direct(direct, &mut wrong)?,
        Some(Sent::Relayed(relayed)) => read_relayed(relayed, &mut wrong)?,
    };
    for (path, received) in &read.events {
        event::check(path, &received.event, &mut wrong);
    }
    wrong.check()?;
    check_sizes(&read.events)?;
    let mut found = Violations::new();
    for (path, received) in &read.events {
        forbidden::check(path, &received.event, &mut found);
    }
    found.check_as(Reason::EventForbiddenField)?;
    let events = read.events.into_iter().map(|(_, received)| received).collect();
    Ok(Batch {
        events,
        stretch: read.stretch,
    })
}

fn read_direct(direct: audit::DirectEvents, wrong: &mut Violations) -> Result<Read, Refusal> {
    check_count(direct.events.len())?;
    let mut seen = std::collections::HashSet::new();
    for (at, event) in direct.events.iter().enumerate() {
        if !seen.insert(event.event_id.as_str()) {
            wrong.add(format!("direct.events[{at}].event_id"), "each id once in a call");
        }
    }
    let received = |(at, event): (usize, audit::Event)| {
        let body = event.encode_to_vec();
        (format!("direct.events[{at}]"), Received { event, body })
    };
    let events = direct.events.into_iter().enumerate().map(received).collect();
    Ok(Read { events, stretch: None })
}

fn read_relayed(relayed: audit::RelayedEvents, wrong: &mut Violations) -> Result<Read, Refusal> {
    check_count(relayed.events.len())?;
    let source = relayed.source.unwrap_or_default();
    check_source(&source, wrong);
    let mut chains = vec![source.previous_chain];
    let mut events = Vec::with_capacity(relayed.events.len());
    let mut seen = std::collections::HashSet::new();
    for (at, sent) in relayed.events.into_iter().enumerate() {
        let path = format!("relayed.events[{at}]");
        if i64::try_from(at)
            .ok()
            .and_then(|at| source.first_position.checked_add(at))
            != Some(sent.position)
        {
            wrong.add(format!("{path}.position"), "first_position plus its place in the call");
        }
        let after = chains
            .last()
            .map(|before| chain(before, &sent.body))
            .unwrap_or_default();
        if after != sent.chain {
            wrong.add(format!("{path}.chain"), "must be SHA-256(chain hash before ‖ body)");
        }
        chains.push(after);
        match audit::Event::decode(sent.body.as_slice()) {
            Ok(event) if !seen.insert(event.event_id.clone()) => {
                wrong.add(format!("{path}.body.event_id"), "each id once in a call");
            }
            Ok(event) => events.push((format!("{path}.body"), Received { event, body: sent.body })),
            Err(_) => wrong.add(format!("{path}.body"), "must be an encoded sammati.audit.v1.Event"),
        }
    }
    let stretch = Stretch {
        service: source.service,
        epoch: source.epoch,
        partition: source.partition,
        first: source.first_position,
        chains,
    };
    Ok(Read {
        events,
        stretch: Some(stretch),
    })
}

fn check_source(source: &audit::SourceRange, wrong: &mut Violations) {
    let plain = source.service.bytes().all(|b| b.is_ascii_lowercase());
    if source.service.is_empty() || source.service.len() > 64 || !plain {
        wrong.add(
            "relayed.source.service",
            "required: the service whose feed it is, as \"consent\"",
        );
    }
    if source.epoch < 1 {
        wrong.add("relayed.source.epoch", "1 and up");
    }
    if !(0..4096).contains(&source.partition) {
        wrong.add("relayed.source.partition", "0 to 4095");
    }
    if source.first_position < 0 {
        wrong.add("relayed.source.first_position", "0 and up");
    }
    if source.previous_chain.len() != 32 {
        wrong.add(
            "relayed.source.previous_chain",
            "32 bytes; all zero before the first event of a feed",
        );
    }
}

fn check_count(count: usize) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::field("events", "at least one event")),
        1..=MAX_EVENTS => Ok(()),
        _ => Err(Refusal::new(Reason::BatchLimit).saying("at most 1000 events in one call; send the rest in the next")),
    }
}

fn check_sizes(events: &[(String, Received)]) -> Result<(), Refusal> {
    let mut large = Violations::new();
    for (path, received) in events {
        if received.event.payload.as_ref().map_or(0, Message::encoded_len) > MAX_PAYLOAD {
            large.add(format!("{path}.payload"), "at most 32 KiB, encoded");
        }
    }
    large.check_as(Reason::EventTooLarge)
}
