use sammati_api::audit::v1::{Actor, Client, Counts, Cut, DecisionRecord, OnBehalfOf, Payload};
use sammati_api::types::v1::{CareContextRef, NoticeRef, Purpose, Scope};
use sammati_kernel::Violations;

use super::*;

/// The fields that a direct appender is told of.
fn refused(event: &audit::Event) -> Vec<String> {
    let mut wrong = Violations::new();
    check(&mut event.clone(), &mut Judge::Refuse(&"direct.events[3]", &mut wrong));
    let bare = |v: &sammati_kernel::Violation| v.field.trim_start_matches("direct.events[3].").to_owned();
    wrong.iter().map(bare).collect()
}

fn mended(event: &mut audit::Event) -> Vec<&'static str> {
    let mut fields = Vec::new();
    check(event, &mut Judge::Mend(&mut fields));
    fields
}

/// One in which nothing is wrong.
fn good() -> audit::Event {
    let payload = Payload {
        actor: Some(Actor {
            kind: types::CallerKind::Hiu.into(),
            id: "participants/hiu".to_owned(),
            roles: vec![2],
            factors: vec!["MOBILE_OTP".to_owned()],
            ..Actor::default()
        }),
        ..Payload::default()
    };
    audit::Event {
        schema_version: 1,
        event_id: stand_in(&[3; 32]),
        event_type: "access.denied".to_owned(),
        action: event::Action::Execute.into(),
        outcome: event::Outcome::Serious.into(),
        reason_code: "NO_CONSENT".to_owned(),
        class: types::RetentionClass::Access.into(),
        occurred_time: Some(prost_types::Timestamp::default()),
        txn_id: "transfers/019c0a5e-0a1b-7c2d-8e3f-0123456789ab".to_owned(),
        payload: Some(payload),
        ..audit::Event::default()
    }
}

/// One in which every field is wrong that can be.
fn bad() -> audit::Event {
    let long = "x".repeat(256);
    let mut event = good();
    event.event_type = EPOCH_OPENED.to_owned();
    event.class = types::RetentionClass::Admin.into();
    event.trace_id = "AB".to_owned();
    event.txn_id = "asha rao".to_owned();
    event.causation_event_id = "1".to_owned();
    event.resource_type = "con sents".to_owned();
    event.reason_code = "no".to_owned();
    event.payload = Some(Payload {
        actor: Some(Actor {
            kind: 77,
            session: "sessions/1".to_owned(),
            roles: vec![99; 17],
            factors: vec!["MOBILE_OTP".to_owned(), "Asha".to_owned()],
            ..Actor::default()
        }),
        on_behalf_of: Some(OnBehalfOf {
            representation: "asha".to_owned(),
        }),
        subject: "accounts/1".to_owned(),
        resource: long.clone(),
        object_refs: vec![String::new(), "participants/hip".to_owned()],
        consent: "consents/\0".to_owned(),
        changed_fields: vec!["a\0".to_owned()],
        purpose: 77,
        legal_basis: "order\0 7".to_owned(),
        artefact_sha256: vec![1],
        notice: Some(NoticeRef {
            notice: "1".to_owned(),
            version: -1,
            language: "the language of Maharashtra and its people".to_owned(),
            sha256: "AB".to_owned(),
        }),
        decision: Some(DecisionRecord {
            id: "1".to_owned(),
            revision: "not base64".to_owned(),
            rule: -1,
            checked: Some(Scope {
                hi_types: vec![99; 101],
                purpose: Some(Purpose {
                    text: long.clone(),
                    ..Purpose::default()
                }),
                care_contexts: vec![CareContextRef {
                    display: long,
                    ..CareContextRef::default()
                }],
                ..Scope::default()
            }),
        }),
        resource_version: -1,
        consent_version: -1,
        counts: Some(Counts {
            records: -1,
            bytes: -1,
            repeats: -1,
        }),
        client: Some(Client {
            network: "203.0.113.7".to_owned(),
            app: "Asha's phone".to_owned(),
        }),
        claims: vec![vec![7; 31]],
        cut: Some(Cut {
            epoch: 0,
            next_position: -1,
            chain: vec![7; 33],
            operator: String::new(),
        }),
    });
    event
}

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
fn everything_required_is_named_at_once() {
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
    assert_eq!(refused(&audit::Event::default()), required);
    assert_eq!(refused(&good()), Vec::<String>::new());
}

#[test]
fn a_direct_appender_is_told_of_every_field_of_the_payload() {
    let fields = [
        "reason_code",
        "trace_id",
        "txn_id",
        "causation_event_id",
        "resource_type",
        "payload.actor.kind",
        "payload.actor.id",
        "payload.actor.session",
        "payload.actor.roles",
        "payload.actor.roles",
        "payload.actor.factors",
        "payload.on_behalf_of.representation",
        "payload.subject",
        "payload.resource",
        "payload.object_refs",
        "payload.consent",
        "payload.changed_fields",
        "payload.purpose",
        "payload.legal_basis",
        "payload.artefact_sha256",
        "payload.notice.notice",
        "payload.notice.version",
        "payload.notice.language",
        "payload.notice.sha256",
        "payload.decision.id",
        "payload.decision.revision",
        "payload.decision.rule",
        "payload.decision.checked.hi_types",
        "payload.decision.checked.hi_types",
        "payload.decision.checked.purpose",
        "payload.decision.checked.care_contexts",
        "payload.resource_version",
        "payload.consent_version",
        "payload.counts.records",
        "payload.counts.bytes",
        "payload.counts.repeats",
        "payload.client.network",
        "payload.client.app",
        "payload.claims",
        "payload.cut.epoch",
        "payload.cut.next_position",
        "payload.cut.chain",
        "payload.cut.operator",
    ];
    assert_eq!(refused(&bad()), fields);
}

#[test]
fn a_direct_appender_is_held_to_the_words_that_there_are() {
    let with = |change: fn(&mut audit::Event)| {
        let mut event = good();
        change(&mut event);
        refused(&event)
    };
    assert_eq!(with(|e| e.event_type = "access.heard".to_owned()), ["event_type"]);
    assert_eq!(with(|e| e.event_type = "audit.sealed".to_owned()), ["event_type"]);
    assert_eq!(with(|e| e.event_type = "consent.granted".to_owned()), ["class"]);
    let cut = |e: &mut audit::Event| {
        e.payload.as_mut().unwrap().cut = Some(Cut {
            epoch: 1,
            next_position: 0,
            chain: vec![7; 32],
            operator: "asha".to_owned(),
        });
    };
    assert_eq!(with(cut), ["payload.cut"]);
}

/// O1: a service that is newer than the log knows more words.
#[test]
fn o1_a_relayed_event_keeps_a_type_and_a_class_that_the_log_does_not_know() {
    let mut event = good();
    event.event_type = "gossip.heard".to_owned();
    event.class = types::RetentionClass::General.into();
    let sent = event.clone();
    assert_eq!(mended(&mut event), Vec::<&str>::new());
    assert_eq!(event, sent);
}

/// O1: a relayed event is made to fit whatever it holds, and what a newer service may have added to it stays.
#[test]
fn o1_a_relayed_event_is_mended_until_nothing_is_wrong() {
    let mut event = bad();
    assert!(mended(&mut event).contains(&"payload.legal_basis"));
    let payload = event.payload.clone().unwrap();
    assert_eq!(payload.object_refs, ["participants/hip"], "what is right stays");
    assert_eq!(payload.actor.as_ref().unwrap().factors, ["MOBILE_OTP"]);
    assert_eq!(
        (payload.purpose, payload.actor.unwrap().kind),
        (77, 77),
        "a newer service knows more words"
    );
    assert_eq!((event.txn_id.as_str(), payload.legal_basis.as_str()), ("", ""));

    let mut nothing = audit::Event::default();
    mended(&mut nothing);
    assert_eq!(nothing.event_type, UNREADABLE);
    assert_eq!(nothing.class, types::RetentionClass::Consent as i32);
    assert_eq!(mended(&mut good()), Vec::<&str>::new());
}

#[test]
fn a_payload_is_cut_only_as_far_as_it_must() {
    let big = |mut event: audit::Event| {
        let payload = event.payload.as_mut().unwrap();
        payload.object_refs = vec!["x".repeat(255); 100];
        payload.changed_fields = vec!["y".repeat(255); 100];
        payload.clone()
    };
    let fits = |payload: &Payload| prost::Message::encoded_len(payload) <= 32 * 1024;
    let mut payload = big(good());
    cut(&mut payload, fits);
    assert_eq!((payload.changed_fields.len(), payload.object_refs.len()), (0, 100));
    cut(&mut payload, |_| false);
    assert_eq!((payload.object_refs.len(), payload.actor.is_some()), (0, true));
}

#[test]
fn a_stand_in_is_an_id_and_always_the_same() {
    assert!(is_uuid_v7(&stand_in(&[9; 32])));
    assert_eq!(stand_in(&[9; 32]), stand_in(&[9; 32]));
    assert_ne!(stand_in(&[9; 32]), stand_in(&[8; 32]));
}
