//! OCSF 1.3: logins as Authentication, the rest as API Activity, with leaf and proof beside each event. They stand among
//! what is unmapped: OCSF's own attestations (of later versions) are over the event as it is spelled in JSON, ours is over the
//! leaf.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sammati_api::audit::v1::{Actor, Leaf, Payload, event};
use sammati_api::types::v1::CallerKind;
use serde_json::{Value, json};

use super::{Told, instant, parties};

/// The version of the schema that the numbers are of.
const VERSION: &str = "1.3.0";

/// What OCSF has no number for; it is named.
const OTHER: i64 = 99;

/// The classes that events are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Authentication,
    ApiActivity,
}

impl Class {
    fn of(event_type: &str) -> Self {
        match event_type {
            "identity.authn_succeeded"
            | "identity.authn_failed"
            | "identity.session_created"
            | "identity.challenge_sent" => Self::Authentication,
            _ => Self::ApiActivity,
        }
    }

    /// Its number, its name, and its category.
    const fn named(self) -> (i64, &'static str, i64) {
        match self {
            Self::Authentication => (3002, "Authentication", 3),
            Self::ApiActivity => (6003, "API Activity", 6),
        }
    }

    /// Logon; create, read, update, delete; anything else is other.
    fn activity(self, header: &Leaf) -> i64 {
        match (self, header.action()) {
            // That a code was sent is no logon yet.
            (Self::Authentication, _) if header.event_type == "identity.challenge_sent" => OTHER,
            (Self::Authentication, _) | (Self::ApiActivity, event::Action::Create) => 1,
            (Self::ApiActivity, event::Action::Read) => 2,
            (Self::ApiActivity, event::Action::Update) => 3,
            (Self::ApiActivity, event::Action::Delete) => 4,
            (Self::ApiActivity, event::Action::Execute | event::Action::Unspecified) => OTHER,
        }
    }
}

pub(super) fn event(told: &Told<'_>) -> Value {
    let header = told.header;
    let class = Class::of(&header.event_type);
    let (class_uid, class_name, category) = class.named();
    let activity = class.activity(header);
    let service = header.source.as_ref().map_or("audit", |source| source.service.as_str());
    let mut event = json!({
        "category_uid": category,
        "class_uid": class_uid,
        "class_name": class_name,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "severity_id": severity(header),
        "status_id": status(header),
        "time": millis(header.occurred_time.as_ref()),
        "metadata": {
            "version": VERSION,
            "uid": header.event_id,
            "event_code": header.event_type,
            "logged_time": millis(header.accept_time.as_ref()),
            "log_name": told.name.split("/events/").next(),
            "log_provider": "Sammati",
            "sequence": told.bundle.index,
            "product": {"name": "Sammati", "vendor_name": "Sammati", "feature": {"name": service}},
        },
        "actor": actor(told.payload, service),
        "unmapped": unmapped(told),
    });
    let Some(object) = event.as_object_mut() else {
        return event;
    };
    let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
    if activity == OTHER {
        add("activity_name", header.event_type.as_str().into());
    }
    if !header.reason_code.is_empty() {
        add("status_detail", header.reason_code.as_str().into());
    }
    let from = told.payload.map(endpoint);
    match class {
        Class::ApiActivity => {
            add(
                "api",
                json!({"operation": header.event_type, "service": {"name": service}}),
            );
            // It is required, and of what is erased nothing is known.
            add("src_endpoint", from.unwrap_or_else(|| json!({"name": "unknown"})));
            if let Some(payload) = told.payload {
                add("resources", resources(header, payload));
            }
        }
        Class::Authentication => {
            add("user", authenticated(told.payload));
            add("service", json!({"name": service}));
            if let Some(from) = from {
                add("src_endpoint", from);
            }
        }
    }
    if !header.trace_id.is_empty() {
        event["metadata"]["correlation_uid"] = header.trace_id.as_str().into();
    }
    event
}

fn millis(time: Option<&prost_types::Timestamp>) -> i64 {
    time.map_or(0, |t| t.seconds * 1000 + i64::from(t.nanos) / 1_000_000)
}

/// Success, failure; 0 is unknown.
fn status(header: &Leaf) -> i64 {
    match header.outcome() {
        event::Outcome::Unspecified => 0,
        event::Outcome::Success => 1,
        event::Outcome::Minor | event::Outcome::Serious | event::Outcome::Major => 2,
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

/// Who did it; of what is erased the service alone is known.
fn actor(payload: Option<&Payload>, service: &str) -> Value {
    let Some(payload) = payload else {
        return json!({"app_name": format!("services/{service}")});
    };
    let actor = payload.actor.clone().unwrap_or_default();
    let mut told = json!({"user": user(&actor)});
    if !actor.session.is_empty() {
        told["session"] = json!({"uid": actor.session});
    }
    let app = payload.client.as_ref().map_or("", |client| &client.app);
    if !app.is_empty() {
        told["app_uid"] = app.into();
    }
    told
}

fn user(actor: &Actor) -> Value {
    if actor.id.is_empty() {
        return nobody();
    }
    let kind = actor.kind();
    let number = match kind {
        CallerKind::Person | CallerKind::Representative => 1,
        CallerKind::Operator => 2,
        CallerKind::Service => 3,
        _ => OTHER,
    };
    let name = kind.as_str_name().trim_start_matches("CALLER_KIND_");
    json!({"uid": actor.id, "type_id": number, "type": name})
}

/// Who logged in, or tried: whom it is about, or else who did it.
fn authenticated(payload: Option<&Payload>) -> Value {
    match payload {
        Some(payload) if !payload.subject.is_empty() => json!({"uid": payload.subject, "type_id": 1, "type": "PERSON"}),
        Some(payload) => user(&payload.actor.clone().unwrap_or_default()),
        None => nobody(),
    }
}

/// A user has a name or a uid.
fn nobody() -> Value {
    json!({"name": "unknown", "type_id": 0})
}

/// From where it was called: what the clock or a feed did, from the service itself.
fn endpoint(payload: &Payload) -> Value {
    let network = payload.client.as_ref().map_or("", |client| &client.network);
    let actor = payload.actor.clone().unwrap_or_default();
    match (network, actor.kind()) {
        ("", CallerKind::Service) if !actor.id.is_empty() => json!({"svc_name": actor.id}),
        ("", _) => json!({"name": "unknown"}),
        (network, _) => json!({"name": network}),
    }
}

/// What it was done to, under which consent, about whom, and the participants in it.
fn resources(header: &Leaf, payload: &Payload) -> Value {
    let mut all = Vec::new();
    if !payload.resource.is_empty() {
        let mut resource = json!({"type": header.resource_type, "uid": payload.resource});
        if payload.resource_version > 0 {
            resource["version"] = payload.resource_version.to_string().into();
        }
        all.push(resource);
    }
    let mut add = |kind: &str, name: &str| {
        if !name.is_empty() && name != payload.resource {
            all.push(json!({"type": kind, "uid": name}));
        }
    };
    add("consents", &payload.consent);
    add("subject", &payload.subject);
    parties(payload).for_each(|name| add("participant", name));
    all.into()
}

/// What OCSF has no attribute for.
fn unmapped(told: &Told<'_>) -> Value {
    let header = told.header;
    let mut unmapped = json!({
        "log_event": told.name,
        "recorded": instant(header.accept_time.as_ref()),
        "leaf": STANDARD.encode(told.leaf),
        "tlog_proof": told.bundle.to_string(),
    });
    if header.subject_seq > 0 {
        unmapped["subject_seq"] = header.subject_seq.into();
    }
    match told.payload {
        None => unmapped["payload_state"] = "ERASED".into(),
        Some(payload) => {
            if payload.purpose != 0 {
                unmapped["purpose"] = payload.purpose().as_str_name().into();
            }
            if !payload.legal_basis.is_empty() {
                unmapped["legal_basis"] = payload.legal_basis.as_str().into();
            }
            if let Some(acting) = &payload.on_behalf_of {
                unmapped["representation"] = acting.representation.as_str().into();
            }
        }
    }
    unmapped
}
