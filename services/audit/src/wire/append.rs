//! `AppendEventsRequest`: direct events, or a stretch of a feed whose chain is computed again.

use prost::Message;
use sammati_api::audit::v1::{self as audit, append_events_request};
use sammati_kernel::{Reason, Refusal, Violations};
use sammati_server::event::{each_forbidden, withhold};
use sammati_store::chain;

use super::event::{self, Judge};
use crate::append::Stretch;
use crate::log::Received;

/// The most events of one call.
const MAX_EVENTS: usize = 1000;

/// The most bytes of one payload.
const MAX_PAYLOAD: usize = 32 * 1024;

/// What is said of a field that holds what must not be in the log.
const FORBIDDEN: &str = "holds what looks like an Aadhaar number, VID, OTP or PID block; an event never carries one";

/// What is to be appended.
#[derive(Debug)]
pub(crate) struct Batch {
    /// In order.
    pub events: Vec<Received>,
    /// If relayed: where from.
    pub stretch: Option<Stretch>,
    /// If relayed: the fields that were changed before the log keeps them.
    pub mended: Vec<Mended>,
}

/// A field of a relayed event that the log does not keep as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mended {
    /// The position of the event.
    pub position: i64,
    /// Its path in the event.
    pub field: &'static str,
    /// It held what must not be in the log; else it was malformed, or over a bound.
    pub forbidden: bool,
}

/// Reads the batch of an `AppendEventsRequest`.
///
/// # Errors
/// `BATCH_LIMIT`, `FIELD_INVALID`, `EVENT_TOO_LARGE`, `EVENT_FORBIDDEN_FIELD`, each naming all fields it is about. The
/// last two, and what an event must look like, only for direct events.
pub(crate) fn batch(batch: Option<append_events_request::Batch>) -> Result<Batch, Refusal> {
    use append_events_request::Batch as Sent;
    match batch {
        None => Err(Refusal::field("direct", "set direct or relayed")),
        Some(Sent::Direct(direct)) => read_direct(direct),
        Some(Sent::Relayed(relayed)) => read_relayed(relayed),
    }
}

fn read_direct(direct: audit::DirectEvents) -> Result<Batch, Refusal> {
    if direct.events.is_empty() {
        return Err(Refusal::field("direct.events", "at least one event"));
    }
    check_count("direct.events", direct.events.len())?;
    let (mut wrong, mut large, mut found) = (Violations::new(), Violations::new(), Violations::new());
    let mut seen = std::collections::HashSet::new();
    let mut events = Vec::with_capacity(direct.events.len());
    for (at, mut event) in direct.events.into_iter().enumerate() {
        let path = format!("direct.events[{at}]");
        let body = event.encode_to_vec();
        if !seen.insert(event.event_id.clone()) {
            wrong.add(format!("{path}.event_id"), "each id once in a call");
        }
        event::check(&mut event, &mut Judge::Refuse(&path, &mut wrong));
        if !event.payload.as_ref().is_none_or(fits) {
            large.add(format!("{path}.payload"), "at most 32 KiB, encoded");
        }
        each_forbidden(&mut event, |field, _| found.add(format!("{path}.{field}"), FORBIDDEN));
        events.push(Received { event, body });
    }
    wrong.check()?;
    large.check_as(Reason::EventTooLarge)?;
    found.check_as(Reason::EventForbiddenField)?;
    Ok(Batch {
        events,
        stretch: None,
        mended: Vec::new(),
    })
}

fn read_relayed(relayed: audit::RelayedEvents) -> Result<Batch, Refusal> {
    check_count("relayed.events", relayed.events.len())?;
    let mut wrong = Violations::new();
    let source = relayed.source.unwrap_or_default();
    check_source(&source, &mut wrong);
    let mut chains = vec![source.previous_chain];
    let (mut events, mut mended) = (Vec::with_capacity(relayed.events.len()), Vec::new());
    let mut seen = std::collections::HashSet::new();
    for (at, sent) in relayed.events.into_iter().enumerate() {
        let path = format!("relayed.events[{at}]");
        let position = i64::try_from(at)
            .ok()
            .and_then(|at| source.first_position.checked_add(at));
        if position != Some(sent.position) {
            wrong.add(format!("{path}.position"), "first_position plus its place in the call");
        }
        let before = chains.last().map_or(&[][..], Vec::as_slice);
        let after = chain(before, &sent.body);
        if after != sent.chain {
            wrong.add(format!("{path}.chain"), "must be SHA-256(chain hash before ‖ body)");
        }
        let received = mend(sent.body, &after, sent.position, &mut mended);
        if !seen.insert(received.event.event_id.clone()) {
            wrong.add(format!("{path}.body.event_id"), "each id once in a call");
        }
        chains.push(after);
        events.push(received);
    }
    wrong.check()?;
    let stretch = Stretch {
        service: source.service,
        epoch: source.epoch,
        partition: source.partition,
        first: source.first_position,
        chains,
    };
    Ok(Batch {
        events,
        stretch: Some(stretch),
        mended,
    })
}

/// Makes of the bytes of a feed an event that the log can keep, whatever is in them: they are in the feed for ever, and
/// nothing after them would reach the log. The chain and the digest are over the bytes as they were sent.
fn mend(body: Vec<u8>, after: &[u8], position: i64, mended: &mut Vec<Mended>) -> Received {
    let mut fields = Vec::new();
    let mut event = audit::Event::decode(body.as_slice()).unwrap_or_else(|_| {
        fields.push("body");
        audit::Event::default()
    });
    if !event::is_uuid_v7(&event.event_id) {
        fields.push("event_id");
        event.event_id = event::stand_in(after);
    }
    event::check(&mut event, &mut Judge::Mend(&mut fields));
    if let Some(payload) = event.payload.as_mut().filter(|payload| !fits(payload)) {
        fields.push("payload");
        event::cut(payload, fits);
    }
    let forbidden = withhold(&mut event);
    let noted = |forbidden: bool| {
        move |field| Mended {
            position,
            field,
            forbidden,
        }
    };
    mended.extend(fields.into_iter().map(noted(false)));
    mended.extend(forbidden.into_iter().map(noted(true)));
    Received { event, body }
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

fn check_count(field: &'static str, count: usize) -> Result<(), Refusal> {
    if count <= MAX_EVENTS {
        return Ok(());
    }
    Err(Refusal {
        reason: Reason::BatchLimit,
        ..Refusal::field(field, "at most 1000 events in one call; send the rest in the next")
    })
}

fn fits(payload: &audit::Payload) -> bool {
    payload.encoded_len() <= MAX_PAYLOAD
}
