//! FHIR R4 AuditEvents by IHE's Basic Audit Log Patterns: decisions as AuthZconsent, sharing as PrivacyDisclosure.Source and
//! .Recipient, everything else as the REST pattern of its action with the patient in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sammati_api::audit::v1::{Leaf, Payload, event};
use sammati_api::types::v1::PurposeCode;
use sammati_kernel::hex;
use serde_json::{Value, json};

use super::{Told, instant, parties};

const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const PROFILES: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition";
const AUDIT_EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const BALP_CODES: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
const ROLE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const EXTRA_ROLES: &str = "http://terminology.hl7.org/CodeSystem/extra-security-role-type";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const INDIA: &str = "https://nrces.in/ndhm/fhir/r4/CodeSystem/ndhm-consent-purpose";
/// Ours: the proof of the leaf, which FHIR has no element for.
const LOG_PROOF: &str = "https://sammati.dev/fhir/StructureDefinition/log-proof";

/// Ours: the keyed hash of a subject that a leaf has.
const TAGS: &str = "https://sammati.dev/subject-tags";

/// What kind of event it is to BALP.
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

    /// The profile; none where BALP has none: what was executed is no query, whose text its profile demands.
    fn profile(&self, header: &Leaf) -> Option<String> {
        let name = match self {
            Self::Authorization => "IHE.BasicAudit.AuthZconsent",
            Self::Source => "IHE.BasicAudit.PrivacyDisclosure.Source",
            Self::Recipient => "IHE.BasicAudit.PrivacyDisclosure.Recipient",
            Self::Rest => match header.action() {
                event::Action::Create => "IHE.BasicAudit.PatientCreate",
                event::Action::Update => "IHE.BasicAudit.PatientUpdate",
                event::Action::Delete => "IHE.BasicAudit.PatientDelete",
                event::Action::Execute => return None,
                event::Action::Read | event::Action::Unspecified => "IHE.BasicAudit.PatientRead",
            },
        };
        Some(format!("{PROFILES}/{name}"))
    }

    fn kind(&self) -> Value {
        match self {
            Self::Authorization => coding(DCM, "110113", "Security Alert"),
            Self::Source => coding(DCM, "110106", "Export"),
            Self::Recipient => coding(DCM, "110107", "Import"),
            Self::Rest => coding(AUDIT_EVENT_TYPE, "rest", "Restful Operation"),
        }
    }

    fn subtypes(&self, header: &Leaf) -> Vec<Value> {
        let own = json!({"system": "https://sammati.dev/fhir/CodeSystem/event-type", "code": header.event_type});
        let given = match self {
            Self::Authorization => json!({
                "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType",
                "code": "AuthZ-Consent",
            }),
            Self::Source | Self::Recipient => json!({
                "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/DisclosureSubType",
                "code": "disclose",
            }),
            Self::Rest => json!({
                "system": "http://hl7.org/fhir/restful-interaction",
                "code": interaction(header),
            }),
        };
        vec![given, own]
    }
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
    let action = match (&pattern, header.action()) {
        (Pattern::Authorization, _) | (Pattern::Rest, event::Action::Execute) => "E",
        (Pattern::Source, _) | (Pattern::Rest, event::Action::Read | event::Action::Unspecified) => "R",
        (Pattern::Recipient, _) | (Pattern::Rest, event::Action::Create) => "C",
        (Pattern::Rest, event::Action::Update) => "U",
        (Pattern::Rest, event::Action::Delete) => "D",
    };
    let mut told_as = json!({
        "resourceType": "AuditEvent",
        "id": header.event_id,
        "extension": [{
            "url": LOG_PROOF,
            "valueAttachment": {
                "contentType": "text/plain",
                "title": told.name,
                "data": STANDARD.encode(told.bundle.to_string()),
            },
        }],
        "type": pattern.kind(),
        "subtype": pattern.subtypes(header),
        "action": action,
        "recorded": instant(header.accept_time.as_ref()),
        "outcome": outcome(header),
        "agent": agents(header, told.payload, &pattern),
        "source": {
            "observer": {"display": format!("services/{}", header.source.as_ref().map_or("audit", |s| &s.service))},
            "type": [coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server")],
        },
        "entity": entities(header, told.payload),
    });
    let Some(object) = told_as.as_object_mut() else {
        return told_as;
    };
    if let Some(profile) = pattern.profile(header) {
        object.insert("meta".to_owned(), json!({"profile": [profile]}));
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

/// FHIR's grades are ours.
fn outcome(header: &Leaf) -> &'static str {
    match header.outcome() {
        event::Outcome::Success | event::Outcome::Unspecified => "0",
        event::Outcome::Minor => "4",
        event::Outcome::Serious => "8",
        event::Outcome::Major => "12",
    }
}

/// Who did it, from where and for whom; one that is erased has its server alone.
fn agents(header: &Leaf, payload: Option<&Payload>, pattern: &Pattern) -> Vec<Value> {
    let server = header.source.as_ref().map_or("audit", |source| &source.service);
    // Whoever decided or let data pass is no receiver of them.
    let role = match pattern {
        Pattern::Rest => coding(DCM, "110152", "Destination Role ID"),
        _ => coding(EXTRA_ROLES, "authserver", "authorization server"),
    };
    let mut agents = vec![json!({
        "type": {"coding": [role]},
        "who": {"display": format!("services/{server}")},
        "requestor": payload.is_none(),
    })];
    let Some(payload) = payload else { return agents };
    let actor = payload.actor.clone().unwrap_or_default();
    let mut user = json!({
        "type": {"coding": [coding(PARTICIPATION, "IRCP", "information recipient")]},
        "who": reference(&actor.id),
        "requestor": true,
    });
    if let (Some(user), Some(purpose)) = (user.as_object_mut(), purpose(payload.purpose())) {
        user.insert("purposeOfUse".to_owned(), json!([purpose]));
    }
    agents.push(user);
    let mut parties = parties(payload);
    let (first, second) = (parties.next(), parties.next());
    let disclosed = matches!(pattern, Pattern::Source | Pattern::Recipient);
    let roles: [(Option<&str>, Value); 2] = match disclosed {
        true => [
            (first, coding(DCM, "110153", "Source Role ID")),
            (second, coding(DCM, "110152", "Destination Role ID")),
        ],
        false => [
            (first, coding(PARTICIPATION, "PROV", "healthcare provider")),
            (second, coding(PARTICIPATION, "CST", "custodian")),
        ],
    };
    let party = |(name, role): (Option<&str>, Value)| {
        Some(json!({"type": {"coding": [role]}, "who": reference(name?), "requestor": false}))
    };
    agents.extend(roles.into_iter().filter_map(party));
    if let Some(client) = &payload.client {
        let mut named = json!({
            "type": {"coding": [coding(DCM, "110150", "Application")]},
            "who": reference(&client.app),
            "requestor": false,
        });
        if !client.network.is_empty() {
            named["network"] = json!({"address": client.network, "type": "2"});
        }
        agents.push(named);
    }
    agents
}

/// The patient, the consent, the resource, the session and the call that it belongs to.
fn entities(header: &Leaf, payload: Option<&Payload>) -> Vec<Value> {
    let mut entities = Vec::new();
    let mut add = |what: Value, kind: Value, role: Value| {
        entities.push(json!({"what": what, "type": kind, "role": role}));
    };
    let object = || coding(ENTITY_TYPE, "2", "System Object");
    // Of what is erased, and of the erasure itself, the tag alone tells whom it was about.
    let subject = payload.map_or("", |payload| &payload.subject);
    let patient = match subject.is_empty() {
        true => json!({"identifier": {"system": TAGS, "value": hex(&header.subject_tag)}}),
        false => reference(subject),
    };
    let person = coding(ENTITY_TYPE, "1", "Person");
    add(patient, person, coding(ROLE_TYPE, "1", "Patient"));
    if let Some(payload) = payload {
        if !payload.consent.is_empty() {
            add(
                reference(&payload.consent),
                object(),
                coding(ROLE_TYPE, "4", "Domain Resource"),
            );
        }
        if !payload.resource.is_empty() && payload.resource != payload.consent {
            add(
                reference(&payload.resource),
                object(),
                coding(ROLE_TYPE, "4", "Domain Resource"),
            );
        }
        let session = payload.actor.as_ref().map_or("", |actor| &actor.session);
        if !session.is_empty() {
            let jti = json!({"identifier": {"system": "urn:ietf:params:oauth:jti", "value": session}});
            add(jti, object(), coding(ROLE_TYPE, "13", "Security Resource"));
        }
    }
    if !header.trace_id.is_empty() {
        let call = json!({"identifier": {"value": header.trace_id}});
        add(
            call,
            coding(BALP_CODES, "XrequestId", "X-Request-Id"),
            coding(ROLE_TYPE, "20", "Job"),
        );
    }
    entities
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
