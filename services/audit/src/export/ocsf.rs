//! OCSF: logins as Authentication, the rest as API Activity, with the proof beside each event.

use sammati_api::audit::v1::{Leaf, event};
use serde_json::{Value, json};

use super::{Told, instant, parties};

/// The version of the schema that the numbers are of.
const VERSION: &str = "1.3.0";

/// An activity that OCSF has no number for; it is named.
const OTHER: i64 = 99;

pub(super) fn event(told: &Told<'_>) -> Value {
    let header = told.header;
    let (class_uid, class_name, category) = class(&header.event_type);
    let activity = activity(header);
    let actor = told
        .payload
        .and_then(|payload| payload.actor.clone())
        .unwrap_or_default();
    let mut event = json!({
        "category_uid": category,
        "class_uid": class_uid,
        "class_name": class_name,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "severity_id": severity(header),
        "status_id": if header.outcome() == event::Outcome::Success { 1 } else { 2 },
        "time": header.occurred_time.as_ref().map_or(0, |t| t.seconds * 1000 + i64::from(t.nanos) / 1_000_000),
        "metadata": {
            "version": VERSION,
            "uid": header.event_id,
            "event_code": header.event_type,
            "logged_time": header.accept_time.as_ref().map_or(0, |t| t.seconds * 1000 + i64::from(t.nanos) / 1_000_000),
            "product": {"name": "Sammati", "vendor_name": "Sammati", "feature": {
                "name": header.source.as_ref().map_or("audit", |source| source.service.as_str()),
            }},
        },
        "actor": {"user": {"uid": actor.id, "type_id": 99}, "session": {"uid": actor.session}},
        "unmapped": {
            "log_event": told.name,
            "subject_seq": header.subject_seq,
            "recorded": instant(header.accept_time.as_ref()),
            "tlog_proof": told.bundle.to_string(),
        },
    });
    let Some(object) = event.as_object_mut() else {
        return event;
    };
    if activity == OTHER {
        object.insert("activity_name".to_owned(), header.event_type.as_str().into());
    }
    if !header.reason_code.is_empty() {
        object.insert("status_detail".to_owned(), header.reason_code.as_str().into());
    }
    if !header.trace_id.is_empty() {
        object["metadata"]["correlation_uid"] = header.trace_id.as_str().into();
    }
    if let Some(payload) = told.payload {
        let named = parties(payload).map(|name| json!({"type": "participant", "uid": name}));
        let resource = (!payload.resource.is_empty()).then(|| {
            json!({"type": header.resource_type, "uid": payload.resource, "version": payload.resource_version.to_string()})
        });
        object.insert("resources".to_owned(), resource.into_iter().chain(named).collect());
    }
    if class_uid == 6003 {
        object.insert("api".to_owned(), json!({"operation": header.event_type}));
        let network = told
            .payload
            .and_then(|payload| payload.client.as_ref())
            .map_or("", |client| &client.network);
        object.insert("src_endpoint".to_owned(), json!({"name": network}));
    } else {
        object.insert("user".to_owned(), json!({"uid": actor.id, "type_id": 99}));
    }
    event
}

/// Class, its name, and its category.
fn class(event_type: &str) -> (i64, &'static str, i64) {
    match event_type {
        "identity.authn_succeeded"
        | "identity.authn_failed"
        | "identity.session_created"
        | "identity.challenge_sent" => (3002, "Authentication", 3),
        _ => (6003, "API Activity", 6),
    }
}

/// Create, read, update, delete; anything else is other.
fn activity(header: &Leaf) -> i64 {
    if class(&header.event_type).0 == 3002 {
        // Logon.
        return 1;
    }
    match header.action() {
        event::Action::Create => 1,
        event::Action::Read => 2,
        event::Action::Update => 3,
        event::Action::Delete => 4,
        event::Action::Execute | event::Action::Unspecified => OTHER,
    }
}

/// Informational, low, medium, high.
fn severity(header: &Leaf) -> i64 {
    match header.outcome() {
        event::Outcome::Success | event::Outcome::Unspecified => 1,
        event::Outcome::Minor => 2,
        event::Outcome::Serious => 3,
        event::Outcome::Major => 4,
    }
}
