//! What an event must look like to be taken.

use sammati_api::audit::v1::{self as audit, event};
use sammati_api::types::v1 as types;
use sammati_kernel::{AccountId, Violations};
use uuid::Uuid;

/// The most characters of an id or name.
const MAX_NAME: usize = 255;

/// The most entries of a list in a payload.
const MAX_LIST: usize = 100;

/// Adds everything that is wrong with the event that stands at `path` in the request.
pub(super) fn check(path: &str, event: &audit::Event, wrong: &mut Violations) {
    let mut must = |holds: bool, field: &str, allowed: &'static str| {
        if !holds {
            wrong.add(format!("{path}.{field}"), allowed);
        }
    };
    must(event.schema_version == 1, "schema_version", "1");
    must(
        is_uuid_v7(&event.event_id),
        "event_id",
        "must be a UUIDv7 in lower case",
    );
    must(
        event.source.is_none(),
        "source",
        "must be empty; it is filled from the call",
    );
    must(
        is_event_type(&event.event_type),
        "event_type",
        "{family}.{verb} in lower case, at most 64 characters",
    );
    must(
        event::Action::try_from(event.action).is_ok_and(|a| a as i32 != 0),
        "action",
        "required: what was done",
    );
    must(
        event::Outcome::try_from(event.outcome).is_ok_and(|o| o as i32 != 0),
        "outcome",
        "required: how it ended",
    );
    must(
        is_word(&event.reason_code, 64),
        "reason_code",
        "a reason in capitals and underscores, at most 64 characters",
    );
    let class = types::RetentionClass::try_from(event.class);
    must(
        class.is_ok_and(|c| c as i32 != 0),
        "class",
        "required: how long it is kept",
    );
    let time = event.occurred_time.as_ref().and_then(sammati_server::event::micros);
    must(
        time.is_some(),
        "occurred_time",
        "required: when it happened, in the years 1 to 9999",
    );
    must(
        event.trace_id.is_empty() || is_trace(&event.trace_id),
        "trace_id",
        "32 lower-case hexadecimal digits",
    );
    must(
        is_name(&event.txn_id),
        "txn_id",
        "transactions/{id} or transfers/{id}, at most 255 characters",
    );
    let cause = &event.causation_event_id;
    must(
        cause.is_empty() || is_uuid_v7(cause),
        "causation_event_id",
        "must be a UUIDv7 in lower case",
    );
    let kind = &event.resource_type;
    must(
        kind.len() <= 64 && is_name(kind),
        "resource_type",
        "a collection, as \"consents\", at most 64 characters",
    );
    match &event.payload {
        None => must(false, "payload", "required"),
        Some(payload) => check_payload(payload, &mut must),
    }
}

fn check_payload(payload: &audit::Payload, must: &mut impl FnMut(bool, &str, &'static str)) {
    let actor = payload.actor.as_ref();
    let kind = actor
        .and_then(|actor| types::CallerKind::try_from(actor.kind).ok())
        .map_or(0, |kind| kind as i32);
    must(kind != 0, "payload.actor.kind", "required: the kind of caller");
    let id = actor.map_or("", |actor| &actor.id);
    must(
        !id.is_empty() && is_name(id),
        "payload.actor.id",
        "required: who did it, at most 255 characters",
    );
    let session = actor.map_or("", |actor| &actor.session);
    must(is_name(session), "payload.actor.session", "sessions/{id}");
    let subject = &payload.subject;
    must(
        subject.is_empty() || AccountId::parse_name(subject).is_some(),
        "payload.subject",
        "accounts/{id}",
    );
    must(
        is_name(&payload.resource),
        "payload.resource",
        "a resource name, at most 255 characters",
    );
    let refs = &payload.object_refs;
    must(
        refs.len() <= MAX_LIST && refs.iter().all(|r| !r.is_empty() && is_name(r)),
        "payload.object_refs",
        "at most 100 names",
    );
    must(
        payload.legal_basis.chars().count() <= MAX_NAME,
        "payload.legal_basis",
        "at most 255 characters",
    );
    let consent = &payload.consent;
    must(
        consent.is_empty() || consent.starts_with("consents/") && is_name(consent),
        "payload.consent",
        "consents/{id}",
    );
    must(
        matches!(payload.artefact_sha256.len(), 0 | 32),
        "payload.artefact_sha256",
        "32 bytes",
    );
    let fields = &payload.changed_fields;
    must(
        fields.len() <= MAX_LIST && fields.iter().all(|f| is_name(f)),
        "payload.changed_fields",
        "at most 100 names",
    );
}

/// Whether `id` is a lower-case, hyphenated UUIDv7.
pub(super) fn is_uuid_v7(id: &str) -> bool {
    let plain = id.len() == 36 && !id.bytes().any(|b| b.is_ascii_uppercase());
    plain && Uuid::try_parse(id).is_ok_and(|id| id.get_version_num() == 7)
}

/// Whether `id` is a W3C trace id.
pub(super) fn is_trace(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether `name` may be an id or a resource name: bounded, and without control characters. Empty is fine.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

fn is_word(word: &str, most: usize) -> bool {
    word.len() <= most
        && word
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn is_event_type(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.len() <= 64
        && text
            .split_once('.')
            .is_some_and(|(family, verb)| part(family) && part(verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_types_are_family_and_verb() {
        for good in ["consent.granted", "data.use_consumed", "identity.participant_created"] {
            assert!(is_event_type(good), "{good}");
        }
        for bad in [
            "",
            "consent",
            "consent.",
            ".granted",
            "Consent.granted",
            "a.b.c",
            "consent.granted ",
        ] {
            assert!(!is_event_type(bad), "{bad}");
        }
        assert!(!is_event_type(&format!("a.{}", "b".repeat(63))));
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let mut wrong = Violations::new();
        check("direct.events[3]", &audit::Event::default(), &mut wrong);
        let fields: Vec<_> = wrong
            .iter()
            .map(|v| v.field.trim_start_matches("direct.events[3].").to_owned())
            .collect();
        let required = [
            "schema_version",
            "event_id",
            "event_type",
            "action",
            "outcome",
            "class",
            "occurred_time",
            "payload",
        ];
        assert_eq!(fields, required);
    }
}
