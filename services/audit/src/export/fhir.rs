//! FHIR R4 AuditEvents by IHE's Basic Audit Log Patterns (BALP 1.1.4): decisions as AuthZconsent, sharing as
//! PrivacyDisclosure.Source and .Recipient, everything else as the REST pattern of its action, that with a patient if it is
//! about somebody.
//!
//! An event claims a profile only when it has all that the profile demands. What is erased claims none, for who did it is
//! gone; nor does what failed and is no decision, what was executed and is none, and a decision without a consent: the REST
//! patterns are of successes, that of queries demands the query's text, AuthZconsent a consent. They are AuditEvents all
//! the same, in the same words.

mod agents;
mod entities;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sammati_api::audit::v1::{Leaf, Payload, event};
use sammati_api::types::v1::PurposeCode;
use serde_json::{Value, json};

use super::{Told, instant, parties};

const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const PROFILES: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition";
const AUDIT_EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const INDIA: &str = "https://nrces.in/ndhm/fhir/r4/CodeSystem/ndhm-consent-purpose";
/// Ours: what FHIR has no element for.
const EXTENSIONS: &str = "https://sammati.dev/fhir/StructureDefinition";

/// What kind of event it is to BALP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    /// A decision under a consent.
    Authorization,
    /// Data left its holder.
    Source,
    /// Data reached its receiver.
    Recipient,
    /// Anything else, by its action.
    Rest,
}

impl Pattern {
    fn of(event_type: &str) -> Self {
        match event_type {
            "access.authorized" | "access.denied" | "access.break_glass" => Self::Authorization,
            "data.disclosed" => Self::Source,
            "data.received" => Self::Recipient,
            _ => Self::Rest,
        }
    }

    /// The profile, if the event has all that it demands.
    fn profile(self, told: &Told<'_>) -> Option<String> {
        let (header, payload) = (told.header, told.payload?);
        let is_of_somebody = !payload.subject.is_empty();
        let has_data = entities::data(self, payload).is_some();
        let has_consent = !payload.consent.is_empty();
        let patient = if is_of_somebody { "Patient" } else { "" };
        let name = match self {
            Self::Authorization => {
                let decided = is_of_somebody && has_consent && agents::organization(header, payload).is_some();
                decided.then(|| "AuthZconsent".to_owned())
            }
            Self::Source => shared(payload, has_data || has_consent).then(|| "PrivacyDisclosure.Source".to_owned()),
            Self::Recipient => {
                shared(payload, has_data || has_consent).then(|| "PrivacyDisclosure.Recipient".to_owned())
            }
            Self::Rest if !has_data || outcome(header) != "0" => None,
            Self::Rest => match header.action() {
                event::Action::Create => Some(format!("{patient}Create")),
                event::Action::Update => Some(format!("{patient}Update")),
                event::Action::Delete => Some(format!("{patient}Delete")),
                event::Action::Execute => None,
                event::Action::Read | event::Action::Unspecified => Some(format!("{patient}Read")),
            },
        };
        name.map(|name| format!("{PROFILES}/IHE.BasicAudit.{name}"))
    }

    fn kind(self) -> Value {
        match self {
            Self::Authorization => coding(DCM, "110113", "Security Alert"),
            Self::Source => coding(DCM, "110106", "Export"),
            Self::Recipient => coding(DCM, "110107", "Import"),
            Self::Rest => json!({"system": AUDIT_EVENT_TYPE, "code": "rest"}),
        }
    }

    /// The pattern's, and where it lets others stand beside it our own.
    fn subtypes(self, header: &Leaf) -> Vec<Value> {
        let own = json!({"system": "https://sammati.dev/fhir/CodeSystem/event-type", "code": header.event_type});
        let given = match self {
            Self::Authorization => json!({
                "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType",
                "code": "AuthZ-Consent",
            }),
            Self::Source | Self::Recipient => json!({"system": LIFECYCLE, "code": "disclose"}),
            Self::Rest => json!({"system": "http://hl7.org/fhir/restful-interaction", "code": interaction(header)}),
        };
        let is_closed = self == Self::Authorization || (self == Self::Rest && header.action() == event::Action::Delete);
        if is_closed { vec![given] } else { vec![given, own] }
    }

    fn action(self, header: &Leaf) -> &'static str {
        match (self, header.action()) {
            (Self::Authorization, _) | (Self::Rest, event::Action::Execute) => "E",
            (Self::Source, _) | (Self::Rest, event::Action::Read | event::Action::Unspecified) => "R",
            (Self::Recipient, _) | (Self::Rest, event::Action::Create) => "C",
            (Self::Rest, event::Action::Update) => "U",
            (Self::Rest, event::Action::Delete) => "D",
        }
    }
}

/// Whether data passed between two who are known, about somebody and something.
fn shared(payload: &Payload, has_something: bool) -> bool {
    !payload.subject.is_empty() && parties(payload).nth(1).is_some() && has_something
}

fn interaction(header: &Leaf) -> &'static str {
    match header.action() {
        event::Action::Create => "create",
        event::Action::Update => "update",
        event::Action::Delete => "delete",
        event::Action::Execute => "operation",
        event::Action::Read | event::Action::Unspecified => "read",
    }
}

pub(super) fn audit_event(told: &Told<'_>) -> Value {
    let header = told.header;
    let pattern = Pattern::of(&header.event_type);
    let mut told_as = json!({
        "resourceType": "AuditEvent",
        "id": header.event_id,
        "extension": extensions(told, pattern),
        "type": pattern.kind(),
        "subtype": pattern.subtypes(header),
        "action": pattern.action(header),
        "recorded": instant(header.accept_time.as_ref()),
        "outcome": outcome(header),
        "agent": agents::agents(told, pattern),
        "source": {
            "observer": agents::observer(told, pattern),
            "type": [coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server")],
        },
    });
    let Some(object) = told_as.as_object_mut() else {
        return told_as;
    };
    if let Some(profile) = pattern.profile(told) {
        object.insert("meta".to_owned(), json!({"profile": [profile]}));
    }
    // FHIR knows no empty list.
    let entities = entities::entities(told, pattern);
    if !entities.is_empty() {
        object.insert("entity".to_owned(), entities.into());
    }
    if !header.reason_code.is_empty() {
        object.insert("outcomeDesc".to_owned(), header.reason_code.as_str().into());
    }
    let occurred = instant(header.occurred_time.as_ref());
    object.insert("period".to_owned(), json!({"start": occurred, "end": occurred}));
    if let Some(purpose) = told.payload.and_then(|payload| purpose(payload.purpose())) {
        object.insert("purposeOfEvent".to_owned(), json!([purpose]));
    }
    told_as
}

/// The proof and the leaf that it proves, the event's type, and of a decision what its closed entities have no place for.
fn extensions(told: &Told<'_>, pattern: Pattern) -> Vec<Value> {
    let header = told.header;
    let proof = json!({
        "contentType": "text/plain",
        "title": told.name,
        "data": STANDARD.encode(told.bundle.to_string()),
    });
    let mut all = vec![
        json!({"url": format!("{EXTENSIONS}/log-proof"), "valueAttachment": proof}),
        json!({"url": format!("{EXTENSIONS}/log-leaf"), "valueBase64Binary": STANDARD.encode(told.leaf)}),
        json!({"url": format!("{EXTENSIONS}/event-type"), "valueCode": header.event_type}),
    ];
    if pattern != Pattern::Authorization {
        return all;
    }
    let mut add = |name: &str, text: &str| {
        if !text.is_empty() {
            all.push(json!({"url": format!("{EXTENSIONS}/{name}"), "valueString": text}));
        }
    };
    add("trace-id", &header.trace_id);
    if let Some(payload) = told.payload {
        add("session", payload.actor.as_ref().map_or("", |actor| &actor.session));
        if payload.resource != payload.consent {
            add("resource", &payload.resource);
        }
    }
    all
}

/// FHIR's grades are ours.
fn outcome(header: &Leaf) -> &'static str {
    match header.outcome() {
        event::Outcome::Success | event::Outcome::Unspecified => "0",
        event::Outcome::Minor => "4",
        event::Outcome::Serious => "8",
        event::Outcome::Major => "12",
    }
}

fn purpose(code: PurposeCode) -> Option<Value> {
    let (system, code) = match code {
        PurposeCode::Unspecified => return None,
        PurposeCode::Btg => (ACT_REASON, "BTG"),
        PurposeCode::Pubhlth => (ACT_REASON, "PUBHLTH"),
        PurposeCode::Hpaymt => (ACT_REASON, "HPAYMT"),
        PurposeCode::Patrqt => (ACT_REASON, "PATRQT"),
        PurposeCode::Caremgt => (ACT_REASON, "CAREMGT"),
        PurposeCode::Dsrch => (INDIA, "DSRCH"),
    };
    Some(json!({"coding": [{"system": system, "code": code}]}))
}

/// Resources of ours are no FHIR resources: they are named by identifier. FHIR knows no empty text.
fn reference(name: &str) -> Value {
    if name.is_empty() {
        return json!({"display": "unknown"});
    }
    json!({"identifier": {"system": "https://sammati.dev/names", "value": name}})
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({"system": system, "code": code, "display": display})
}
