//! `AppendEventsRequest`: direct events, or a stretch of a feed whose chain is computed again.

use std::collections::HashSet;

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

/// The most stretches of one call.
const MAX_STRETCHES: usize = 256;

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
    pub stretches: Vec<Stretch>,
    /// If relayed: the fields that were changed before the log keeps them.
    pub mended: Vec<Mended>,
}

/// A field of a relayed event that the log does not keep as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mended {
    /// The partition of the feed.
    pub partition: i32,
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
        Some(Sent::Direct(direct)) => direct_events(direct.events, "direct.events"),
        Some(Sent::Relayed(relayed)) => read_relayed(vec![relayed], |_| "relayed".to_owned()),
        Some(Sent::Stretches(sent)) => {
            let count = sent.stretches.len();
            if count == 0 || count > MAX_STRETCHES {
                return Err(Refusal::field("stretches.stretches", "1 to 256 stretches"));
            }
            read_relayed(sent.stretches, |at| format!("stretches.stretches[{at}]"))
        }
    }
}

/// Reads events of the caller's own; `field` names them in the request.
///
/// # Errors
/// As [`batch`].
pub(crate) fn direct_events(sent: Vec<audit::Event>, field: &'static str) -> Result<Batch, Refusal> {
    if sent.is_empty() {
        return Err(Refusal::field(field, "at least one event"));
    }
    check_count(field, sent.len())?;
    let (mut wrong, mut large, mut found) = (Violations::new(), Violations::new(), Violations::new());
    let mut seen = HashSet::with_capacity(sent.len());
    for (at, event) in sent.iter().enumerate() {
        if !seen.insert(event.event_id.as_str()) {
            wrong.add(format!("{field}[{at}].event_id"), "each id once in a call");
        }
    }
    let mut events = Vec::with_capacity(sent.len());
    for (at, mut event) in sent.into_iter().enumerate() {
        // Spelled where something is wrong alone.
        let path = format_args!("{field}[{at}]");
        let body = event.encode_to_vec();
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
        stretches: Vec::new(),
        mended: Vec::new(),
    })
}

/// Reads stretches; `path` names each in the request.
fn read_relayed(sent: Vec<audit::RelayedEvents>, path: impl Fn(usize) -> String) -> Result<Batch, Refusal> {
    let count = sent.iter().map(|stretch| stretch.events.len()).sum();
    check_count(path(0) + ".events", count)?;
    let (mut wrong, mut ids, mut partitions) = (Violations::new(), HashSet::new(), HashSet::new());
    let mut batch = Batch {
        events: Vec::with_capacity(count),
        stretches: Vec::with_capacity(sent.len()),
        mended: Vec::new(),
    };
    for (at, sent) in sent.into_iter().enumerate() {
        let path = path(at);
        let source = sent.source.unwrap_or_default();
        check_source(&source, &path, &mut wrong);
        if !partitions.insert(source.partition) {
            wrong.add(format!("{path}.source.partition"), "each partition once in a call");
        }
        read_stretch(source, sent.events, &path, &mut ids, &mut wrong, &mut batch);
    }
    let services: HashSet<_> = batch.stretches.iter().map(|stretch| &stretch.service).collect();
    if services.len() > 1 {
        wrong.add(
            "stretches.stretches.source.service",
            "the same in all stretches: the caller",
        );
    }
    wrong.check()?;
    Ok(batch)
}

fn read_stretch(
    source: audit::SourceRange,
    sent: Vec<audit::RelayedEvent>,
    path: &str,
    ids: &mut HashSet<String>,
    wrong: &mut Violations,
    batch: &mut Batch,
) {
    let mut chains = Vec::with_capacity(sent.len() + 1);
    chains.push(source.previous_chain);
    for (at, sent) in sent.into_iter().enumerate() {
        let field = |name: &str| format!("{path}.events[{at}].{name}");
        let position = i64::try_from(at)
            .ok()
            .and_then(|at| source.first_position.checked_add(at));
        if position != Some(sent.position) {
            wrong.add(field("position"), "first_position plus its place in the call");
        }
        let before = chains.last().map_or(&[][..], Vec::as_slice);
        let after = chain(before, &sent.body);
        if after != sent.chain {
            wrong.add(field("chain"), "must be SHA-256(chain hash before ‖ body)");
        }
        let received = mend(sent.body, &after, (source.partition, sent.position), &mut batch.mended);
        if !ids.insert(received.event.event_id.clone()) {
            wrong.add(field("body.event_id"), "each id once in a call");
        }
        chains.push(after);
        batch.events.push(received);
    }
    batch.stretches.push(Stretch {
        service: source.service,
        epoch: source.epoch,
        partition: source.partition,
        first: source.first_position,
        chains,
    });
}

/// Makes of the bytes of a feed an event that the log can keep, whatever is in them: they are in the feed for ever, and
/// nothing after them would reach the log. The chain and the digest are over the bytes as they were sent.
fn mend(body: Vec<u8>, after: &[u8], (partition, position): (i32, i64), mended: &mut Vec<Mended>) -> Received {
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
            partition,
            position,
            field,
            forbidden,
        }
    };
    mended.extend(fields.into_iter().map(noted(false)));
    mended.extend(forbidden.into_iter().map(noted(true)));
    Received { event, body }
}

fn check_source(source: &audit::SourceRange, path: &str, wrong: &mut Violations) {
    let mut must = |holds: bool, field: &str, allowed: &'static str| {
        if !holds {
            wrong.add(format!("{path}.source.{field}"), allowed);
        }
    };
    let service = &source.service;
    let plain = !service.is_empty() && service.len() <= 64 && service.bytes().all(|b| b.is_ascii_lowercase());
    must(
        plain,
        "service",
        "required: the service whose feed it is, as \"consent\"",
    );
    must(source.epoch >= 1, "epoch", "1 and up");
    must((0..4096).contains(&source.partition), "partition", "0 to 4095");
    must(source.first_position >= 0, "first_position", "0 and up");
    must(
        source.previous_chain.len() == 32,
        "previous_chain",
        "32 bytes; all zero before the first event of a feed",
    );
}

fn check_count(field: impl Into<std::borrow::Cow<'static, str>>, count: usize) -> Result<(), Refusal> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sammati_api::types::v1::{NoticeRef, Purpose, Scope};
    use sammati_kernel::AadhaarNumber;

    use super::*;

    /// Where somebody else's text could come in, by its path; whether a number of 16 digits is told there, and six digits.
    const TEXTS: [(&str, bool, bool); 8] = [
        ("payload.actor.id", false, false),
        ("payload.resource", false, false),
        ("payload.object_refs", false, false),
        ("payload.legal_basis", true, false),
        ("payload.notice.notice", false, false),
        ("payload.changed_fields", true, true),
        ("payload.decision.checked.purpose.text", true, true),
        ("payload.decision.checked.purpose.ref_uri", false, false),
    ];

    /// An event in which nothing is wrong, but for `text` at a place of [`TEXTS`].
    fn event(at: usize, text: &str) -> audit::Event {
        let mut payload = audit::Payload {
            actor: Some(audit::Actor {
                kind: 1,
                id: "services/consent".to_owned(),
                ..audit::Actor::default()
            }),
            ..audit::Payload::default()
        };
        let (notice, purpose) = (
            |notice| NoticeRef {
                notice,
                version: 1,
                language: "hi".to_owned(),
                sha256: "a".repeat(64),
            },
            |text, ref_uri| {
                Some(audit::DecisionRecord {
                    id: event::stand_in(&[2; 32]),
                    checked: Some(Scope {
                        purpose: Some(Purpose {
                            text,
                            ref_uri,
                            ..Purpose::default()
                        }),
                        ..Scope::default()
                    }),
                    ..audit::DecisionRecord::default()
                })
            },
        );
        let text = text.to_owned();
        match at {
            0 => payload.actor.as_mut().unwrap().id = text,
            1 => payload.resource = text,
            2 => payload.object_refs = vec!["participants/one".to_owned(), text],
            3 => payload.legal_basis = text,
            4 => payload.notice = Some(notice(format!("notices/{text}"))),
            5 => payload.changed_fields = vec![text],
            6 => payload.decision = purpose(text, String::new()),
            _ => payload.decision = purpose(String::new(), text),
        }
        audit::Event {
            schema_version: 1,
            event_id: event::stand_in(&[1; 32]),
            event_type: "access.denied".to_owned(),
            action: 1,
            outcome: 1,
            class: 2,
            occurred_time: Some(prost_types::Timestamp::default()),
            payload: Some(payload),
            ..audit::Event::default()
        }
    }

    /// What a direct appender is told, and what becomes of it in a feed.
    fn taken(at: usize, text: &str) -> (Result<(), Vec<String>>, audit::Event) {
        let sent = event(at, text);
        let direct = direct_events(vec![sent.clone()], "direct.events")
            .map(drop)
            .map_err(|refusal| {
                assert_eq!(refusal.reason, Reason::EventForbiddenField);
                assert!(refusal.violations.iter().all(|v| !v.description.contains(text)));
                refusal.violations.iter().map(|v| v.field.to_string()).collect()
            });
        let mended = mend(sent.encode_to_vec(), &[1; 32], (0, 0), &mut Vec::new());
        (direct, mended.event)
    }

    /// The check digit that makes a number of `body`.
    fn checked(body: &str) -> String {
        let with = |digit: u32| format!("{body}{digit}");
        (0..10)
            .map(with)
            .find(|text| AadhaarNumber::virtual_id_found_in(text))
            .unwrap()
    }

    proptest! {
        /// Wherever a text could bring it in, an Aadhaar number in any spelling, a PID block, and where nothing else
        /// looks so a virtual id or an OTP, is named to who sends it, and is not in what is kept of a feed.
        #[test]
        fn what_must_never_be_in_an_event_is_named_by_its_field(
            body in prop::array::uniform11(0_u8..10),
            vid in "[2-9][0-9]{14}",
            otp in "[0-9]{6}",
            sep in prop::sample::select(vec!["", " ", "-"]),
            before in "[g-z /]{0,5}",
            after in "[g-z ]{0,5}",
            at in 0..TEXTS.len(),
        ) {
            let mut body = body;
            body[0] = 2 + body[0] % 8;
            let number = AadhaarNumber::from_body(&body).unwrap();
            let (d, vid) = (number.expose(), checked(&vid));
            let (field, tells_vid, tells_otp) = TEXTS[at];
            for (found, told) in [
                (format!("{}{sep}{}{sep}{}", &d[..4], &d[4..8], &d[8..]), true),
                ("<Pid ts=\"".to_owned(), true),
                (vid, tells_vid),
                (otp, tells_otp),
            ] {
                // The six digits stand alone, as those of an OTP do.
                let text = format!("{before} {found} {after}");
                let (direct, kept) = taken(at, &text);
                let named = Err(vec![format!("direct.events[0].{field}")]);
                prop_assert_eq!(direct, if told { named } else { Ok(()) }, "{}: {}", field, text);
                // Six digits may stand in an id as well.
                let gone = if found.len() == 6 { &text } else { &found };
                let kept = kept.encode_to_vec();
                let is_kept = kept.windows(gone.len()).any(|bytes| bytes == gone.as_bytes());
                prop_assert_eq!(is_kept, !told, "{}: {}", field, text);
            }
        }
    }
}
