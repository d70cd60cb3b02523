//! What it was about: the patient, the data, the consent, the session and the call that it belongs to. The slices of a
//! profile are told apart by their types, so each kind has one of its own.

use sammati_api::audit::v1::Payload;
use sammati_kernel::hex;
use serde_json::{Value, json};

use super::super::Told;
use super::{Pattern, coding, reference};

const ROLE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";
const BALP_CODES: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
const AGENT_CODES: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes";
/// Ours: the keyed hash of a subject that a leaf has.
const TAGS: &str = "https://sammati.dev/subject-tags";

/// What it was done to. Of a decision nothing: the entities of AuthZconsent are closed.
pub(super) fn data(pattern: Pattern, payload: &Payload) -> Option<&str> {
    let named = [payload.resource.as_str(), payload.consent.as_str()];
    let candidates: &[&str] = match pattern {
        Pattern::Authorization => &[],
        Pattern::Source | Pattern::Recipient => &named[..1],
        Pattern::Rest => &named,
    };
    candidates.iter().copied().find(|name| !name.is_empty())
}

pub(super) fn entities(told: &Told<'_>, pattern: Pattern) -> Vec<Value> {
    let header = told.header;
    let mut entities = Vec::new();
    // Of what is erased, and of the erasure itself, the tag alone tells whom it was about.
    let subject = told.payload.map_or("", |payload| &payload.subject);
    let mut patient = match subject.is_empty() {
        true => json!({"identifier": {"system": TAGS, "value": hex(&header.subject_tag)}}),
        false => reference(subject),
    };
    patient["type"] = "Patient".into();
    if !subject.is_empty() || !header.subject_tag.is_empty() {
        let person = coding(ENTITY_TYPE, "1", "Person");
        entities.push(json!({"what": patient, "type": person, "role": coding(ROLE_TYPE, "1", "Patient")}));
    }
    if let Some(payload) = told.payload {
        let data = data(pattern, payload);
        let domain = coding(ROLE_TYPE, "4", "Domain Resource");
        if let Some(name) = data {
            let object = coding(ENTITY_TYPE, "2", "System Object");
            entities.push(json!({"what": reference(name), "type": object, "role": domain}));
        }
        if !payload.consent.is_empty() && data != Some(&payload.consent) {
            let mut consent = reference(&payload.consent);
            consent["type"] = "Consent".into();
            let kind = coding(RESOURCE_TYPES, "Consent", "Consent");
            entities.push(json!({"what": consent, "type": kind, "role": domain}));
        }
        let session = payload.actor.as_ref().map_or("", |actor| &actor.session);
        // That of a decision is known by its token's id, and the log knows the session alone.
        if !session.is_empty() && pattern != Pattern::Authorization {
            let kind = json!({"system": AGENT_CODES, "code": "UserOauthAgent"});
            let role = coding(ROLE_TYPE, "13", "Security Resource");
            entities.push(json!({"what": reference(session), "type": kind, "role": role}));
        }
    }
    if !header.trace_id.is_empty() && pattern != Pattern::Authorization {
        let call = json!({"identifier": {"value": header.trace_id}});
        let kind = json!({"system": BALP_CODES, "code": "XrequestId"});
        entities.push(json!({"what": call, "type": kind, "role": coding(ROLE_TYPE, "20", "Job")}));
    }
    entities
}
