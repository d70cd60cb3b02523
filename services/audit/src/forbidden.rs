//! What must never enter the log: what looks like an Aadhaar number, in any text of an event.

use sammati_api::audit::v1::{Event, Payload};
use sammati_api::types::v1::Scope;
use sammati_kernel::{AadhaarNumber, Violations};

/// Names every field of `event` that holds something forbidden; `path` is where the event stands in the request.
pub(crate) fn check(path: &str, event: &Event, found: &mut Violations) {
    let mut look = |field: &str, text: &str| {
        if AadhaarNumber::found_in(text) {
            found.add(
                format!("{path}.{field}"),
                "holds what looks like an Aadhaar number; an event never carries one",
            );
        }
    };
    look("event_id", &event.event_id);
    look("event_type", &event.event_type);
    look("reason_code", &event.reason_code);
    look("trace_id", &event.trace_id);
    look("txn_id", &event.txn_id);
    look("causation_event_id", &event.causation_event_id);
    look("resource_type", &event.resource_type);
    if let Some(payload) = &event.payload {
        in_payload(payload, &mut look);
    }
}

fn in_payload(payload: &Payload, look: &mut impl FnMut(&str, &str)) {
    if let Some(actor) = &payload.actor {
        look("payload.actor.id", &actor.id);
        look("payload.actor.session", &actor.session);
        actor
            .factors
            .iter()
            .for_each(|factor| look("payload.actor.factors", factor));
    }
    if let Some(behalf) = &payload.on_behalf_of {
        look("payload.on_behalf_of.representation", &behalf.representation);
    }
    look("payload.subject", &payload.subject);
    look("payload.resource", &payload.resource);
    payload
        .object_refs
        .iter()
        .for_each(|name| look("payload.object_refs", name));
    look("payload.legal_basis", &payload.legal_basis);
    look("payload.consent", &payload.consent);
    if let Some(notice) = &payload.notice {
        look("payload.notice.notice", &notice.notice);
        look("payload.notice.version", &notice.version.to_string());
        look("payload.notice.language", &notice.language);
    }
    if let Some(decision) = &payload.decision {
        look("payload.decision.id", &decision.id);
        look("payload.decision.revision", &decision.revision);
        if let Some(scope) = &decision.checked {
            in_scope(scope, look);
        }
    }
    payload
        .changed_fields
        .iter()
        .for_each(|field| look("payload.changed_fields", field));
    if let Some(client) = &payload.client {
        look("payload.client.network", &client.network);
        look("payload.client.app", &client.app);
    }
}

fn in_scope(scope: &Scope, look: &mut impl FnMut(&str, &str)) {
    if let Some(purpose) = &scope.purpose {
        look("payload.decision.checked.purpose.text", &purpose.text);
        look("payload.decision.checked.purpose.ref_uri", &purpose.ref_uri);
    }
    for context in &scope.care_contexts {
        look(
            "payload.decision.checked.care_contexts.patient_reference",
            &context.patient_reference,
        );
        look(
            "payload.decision.checked.care_contexts.care_context_reference",
            &context.care_context_reference,
        );
        look("payload.decision.checked.care_contexts.display", &context.display);
    }
}
