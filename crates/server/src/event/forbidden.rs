//! What must never be in an event, and every place of one where somebody else's text could bring it in.
//!
//! Ids that our services make (UUIDs, trace ids, sealed revisions, hashes) are not looked at: they hold nothing that
//! anybody typed, and one in some hundred millions would look like a number by chance.

use sammati_api::audit::v1::{Event, Payload};
use sammati_api::types::v1::Scope;
use sammati_kernel::AadhaarNumber;

/// What stands in the place of a text that must not be in an event.
pub const WITHHELD: &str = "[withheld]";

/// How an XML PID block begins, which is what a biometric device makes.
const PID: &[u8] = b"<pid";

/// What may stand in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A name or an id of somebody else's making: numbers of any length are common.
    Name,
    /// Sentences: numbers of orders and files, but none of 16 digits.
    Prose,
    /// A word of a closed vocabulary: no number at all.
    Word,
}

impl Kind {
    /// What no text of this kind may hold.
    fn forbids(self, text: &str) -> bool {
        let (vid, otp) = (self != Self::Name, self == Self::Word);
        AadhaarNumber::found_in(text)
            || text.as_bytes().windows(PID.len()).any(|w| w.eq_ignore_ascii_case(PID))
            || vid && AadhaarNumber::virtual_id_found_in(text)
            || otp && holds_otp(text)
    }
}

/// Whether six digits stand alone in `text`.
fn holds_otp(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word.len() == 6 && word.bytes().all(|b| b.is_ascii_digit()))
}

/// Calls `found` with the path and text of everything in `event` that must not be there.
pub fn each_forbidden(event: &mut Event, mut found: impl FnMut(&'static str, &mut String)) {
    let mut look = |kind: Kind, field: &'static str, text: &mut String| {
        if kind.forbids(text) {
            found(field, text);
        }
    };
    look(Kind::Word, "event_type", &mut event.event_type);
    look(Kind::Word, "reason_code", &mut event.reason_code);
    look(Kind::Word, "resource_type", &mut event.resource_type);
    look(Kind::Name, "txn_id", &mut event.txn_id);
    if let Some(payload) = &mut event.payload {
        in_payload(payload, &mut look);
    }
}

/// Puts [`WITHHELD`] in the place of everything in `event` that must not be there; tells where.
pub fn withhold(event: &mut Event) -> Vec<&'static str> {
    let mut fields = Vec::new();
    each_forbidden(event, |field, text| {
        fields.push(field);
        WITHHELD.clone_into(text);
    });
    fields
}

fn in_payload(payload: &mut Payload, look: &mut impl FnMut(Kind, &'static str, &mut String)) {
    if let Some(actor) = &mut payload.actor {
        look(Kind::Name, "payload.actor.id", &mut actor.id);
        for factor in &mut actor.factors {
            look(Kind::Word, "payload.actor.factors", factor);
        }
    }
    look(Kind::Name, "payload.resource", &mut payload.resource);
    for name in &mut payload.object_refs {
        look(Kind::Name, "payload.object_refs", name);
    }
    look(Kind::Prose, "payload.legal_basis", &mut payload.legal_basis);
    if let Some(notice) = &mut payload.notice {
        look(Kind::Name, "payload.notice.notice", &mut notice.notice);
        look(Kind::Word, "payload.notice.language", &mut notice.language);
    }
    if let Some(scope) = payload.decision.as_mut().and_then(|decision| decision.checked.as_mut()) {
        in_scope(scope, look);
    }
    for field in &mut payload.changed_fields {
        look(Kind::Word, "payload.changed_fields", field);
    }
    if let Some(cut) = &mut payload.cut {
        look(Kind::Word, "payload.cut.operator", &mut cut.operator);
    }
    if let Some(client) = &mut payload.client {
        look(Kind::Name, "payload.client.network", &mut client.network);
        look(Kind::Name, "payload.client.app", &mut client.app);
    }
}

fn in_scope(scope: &mut Scope, look: &mut impl FnMut(Kind, &'static str, &mut String)) {
    if let Some(purpose) = &mut scope.purpose {
        look(Kind::Word, "payload.decision.checked.purpose.text", &mut purpose.text);
        look(
            Kind::Name,
            "payload.decision.checked.purpose.ref_uri",
            &mut purpose.ref_uri,
        );
    }
    for context in &mut scope.care_contexts {
        let path = "payload.decision.checked.care_contexts.patient_reference";
        look(Kind::Name, path, &mut context.patient_reference);
        let path = "payload.decision.checked.care_contexts.care_context_reference";
        look(Kind::Name, path, &mut context.care_context_reference);
        let path = "payload.decision.checked.care_contexts.display";
        look(Kind::Prose, path, &mut context.display);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AADHAAR: &str = "999941057058";
    const VID: &str = "9876543210987659";

    #[test]
    fn each_kind_of_text_forbids_its_own_shapes() {
        for (text, kinds) in [
            (AADHAAR.to_owned(), 3),
            ("participants/9999-4105-7058".to_owned(), 3),
            ("<PID ts=\"2026\">".to_owned(), 3),
            (format!("order about {VID}"), 2),
            ("password 204816".to_owned(), 1),
            ("order 2048165 of 2026".to_owned(), 0),
            ("participants/IN2710204816".to_owned(), 0),
            ("019c0a5e-0a1b-7c2d-8e3f-999941057058".to_owned(), 0),
        ] {
            let forbidden = [Kind::Name, Kind::Prose, Kind::Word].map(|kind| kind.forbids(&text));
            assert_eq!(forbidden, [kinds > 2, kinds > 1, kinds > 0], "{text}");
        }
    }

    /// A sealed revision is random base64: what it happens to hold is not looked at, and neither are ids of ours.
    #[test]
    fn what_we_made_is_not_looked_at() {
        let mut event = Event {
            event_id: AADHAAR.to_owned(),
            trace_id: AADHAAR.to_owned(),
            payload: Some(Payload {
                subject: AADHAAR.to_owned(),
                consent: AADHAAR.to_owned(),
                decision: Some(sammati_api::audit::v1::DecisionRecord {
                    id: AADHAAR.to_owned(),
                    revision: format!("a-{AADHAAR}-"),
                    ..Default::default()
                }),
                ..Payload::default()
            }),
            ..Event::default()
        };
        let before = event.clone();
        assert!(withhold(&mut event).is_empty());
        assert_eq!(event, before);
    }

    #[test]
    fn s1_what_is_found_is_withheld_and_named() {
        let mut event = Event {
            payload: Some(Payload {
                legal_basis: format!("asked by {AADHAAR}"),
                object_refs: vec!["participants/hip".to_owned(), format!("participants/{AADHAAR}")],
                changed_fields: vec!["otp 123456".to_owned()],
                ..Payload::default()
            }),
            ..Event::default()
        };
        let fields = withhold(&mut event);
        assert_eq!(
            fields,
            ["payload.object_refs", "payload.legal_basis", "payload.changed_fields"]
        );
        let payload = event.payload.unwrap();
        assert_eq!(payload.object_refs, ["participants/hip", WITHHELD]);
        assert_eq!(
            (payload.legal_basis.as_str(), payload.changed_fields),
            (WITHHELD, vec![WITHHELD.to_owned()])
        );
    }
}
