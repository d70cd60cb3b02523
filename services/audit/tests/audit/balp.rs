//! What FHIR R4 and the profiles of IHE's Basic Audit Log Patterns (1.1.4) demand, element by element, written from the
//! profiles and from nothing of ours.

use serde_json::Value;

const PROFILES: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.";
const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";

/// The profile that an event claims, without what all begin with; empty without one.
pub(crate) fn profile(event: &Value) -> &str {
    let claimed = event["meta"]["profile"][0].as_str();
    claimed.map_or("", |url| url.strip_prefix(PROFILES).expect("a profile of BALP"))
}

/// An event is an AuditEvent, and what its profile says it is.
pub(crate) fn conforms(event: &Value) {
    is_audit_event(event);
    let name = profile(event);
    let (patient, verb) = match name.strip_prefix("Patient") {
        Some(verb) => (true, verb),
        None => (false, name),
    };
    match verb {
        "" => assert!(event.get("meta").is_none()),
        "AuthZconsent" => decision(event),
        "PrivacyDisclosure.Source" => sharing(event, ("110106", "R"), "110153"),
        "PrivacyDisclosure.Recipient" => sharing(event, ("110107", "C"), "110152"),
        verb => rest(event, verb, patient),
    }
}

fn is_audit_event(event: &Value) {
    assert_eq!(event["resourceType"], "AuditEvent");
    nothing_is_empty(event);
    let id = event["id"].as_str().unwrap();
    assert!(id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'));
    assert!(event["type"]["system"].is_string() && event["type"]["code"].is_string());
    assert!(["C", "R", "U", "D", "E"].contains(&event["action"].as_str().unwrap()));
    assert!(["0", "4", "8", "12"].contains(&event["outcome"].as_str().unwrap()));
    for time in [&event["recorded"], &event["period"]["start"], &event["period"]["end"]] {
        chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap();
    }
    let agents = list(&event["agent"]);
    assert!(!agents.is_empty() && agents.iter().all(|agent| agent["requestor"].is_boolean()));
    assert_eq!(agents.iter().filter(|agent| agent["requestor"] == true).count(), 1);
    assert!(event["source"]["observer"].is_object());
    assert!(event.get("modifierExtension").is_none());
    for agent in agents.iter().filter(|agent| agent["network"]["type"].is_string()) {
        let kind = agent["network"]["type"].as_str().unwrap();
        assert!(["1", "2", "3", "4", "5"].contains(&kind));
    }
}

/// FHIR knows no null, no empty text, no empty list and no empty object.
fn nothing_is_empty(value: &Value) {
    match value {
        Value::Null => panic!("a null"),
        Value::String(text) => assert!(!text.trim().is_empty(), "an empty text"),
        Value::Array(all) => {
            assert!(!all.is_empty(), "an empty list");
            all.iter().for_each(nothing_is_empty);
        }
        Value::Object(all) => {
            assert!(!all.is_empty(), "an empty object");
            for (name, value) in all {
                assert!(!matches!(value, Value::Null), "{name} is null");
                nothing_is_empty(value);
            }
        }
        Value::Bool(_) | Value::Number(_) => {}
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is(coding: &Value, system: &str, code: &str) -> bool {
    coding["system"] == system && coding["code"] == code
}

/// The agents of a slice: those of its type.
fn agents<'a>(event: &'a Value, system: &str, code: &str) -> Vec<&'a Value> {
    let has = |agent: &&Value| {
        list(&agent["type"]["coding"])
            .iter()
            .any(|coding| is(coding, system, code))
    };
    list(&event["agent"]).iter().filter(has).collect()
}

/// The only agent of a slice, which has a `who` and none of these elements.
fn only<'a>(event: &'a Value, system: &str, code: &str, absent: &[&str]) -> &'a Value {
    let all = agents(event, system, code);
    let [agent] = all[..] else {
        panic!("{} agents of {code} in {event:#}", all.len());
    };
    assert!(agent["who"].is_object());
    for name in absent {
        assert!(agent.get(name).is_none(), "{name} of {code}");
    }
    agent
}

fn entities<'a>(event: &'a Value, system: &str, code: &str) -> Vec<&'a Value> {
    let all = list(&event["entity"]).iter();
    all.filter(|entity| is(&entity["type"], system, code)).collect()
}

fn has_patient(event: &Value) {
    let patients = entities(event, ENTITY_TYPE, "1");
    let [patient] = patients[..] else {
        panic!("{} patients", patients.len());
    };
    assert!(is(&patient["role"], ROLE, "1"));
    assert_eq!(patient["what"]["type"], "Patient");
}

fn decision(event: &Value) {
    assert!(is(&event["type"], DCM, "110113") && event["action"] == "E");
    let subtypes = list(&event["subtype"]);
    let bound = "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType";
    assert!(!subtypes.is_empty());
    for subtype in subtypes {
        assert!(
            is(subtype, bound, "AuthZ-Consent") || is(subtype, bound, "AuthZ-Role"),
            "{subtype}"
        );
    }
    let bare = ["role", "altId", "name", "location", "media", "purposeOfUse"];
    let client = only(event, DCM, "110150", &bare);
    assert!(client["network"].is_object());
    let user = only(event, PARTICIPATION, "IRCP", &["altId", "location", "media", "network"]);
    assert_eq!(user["requestor"], true);
    let unconnected = ["role", "altId", "name", "location", "policy", "media", "network"];
    let role_class = "http://terminology.hl7.org/CodeSystem/v3-RoleClass";
    assert_eq!(only(event, role_class, "PROV", &unconnected)["requestor"], false);
    let roles = "http://terminology.hl7.org/CodeSystem/extra-security-role-type";
    let authorizer = only(event, roles, "authserver", &unconnected);
    assert_eq!(authorizer["requestor"], false);
    assert_eq!(authorizer["who"], event["source"]["observer"], "val-audit-source");
    has_patient(event);
    let consents = entities(event, "http://hl7.org/fhir/resource-types", "Consent");
    assert!(!consents.is_empty() && consents.iter().all(|consent| consent["what"].is_object()));
    let agent_types = "https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes";
    let tokens = entities(event, agent_types, "UserOauthAgent");
    for token in &tokens {
        let id = token["what"]["identifier"]["value"].as_str().unwrap();
        assert!(id.starts_with("urn:ietf:params:oauth:jti:"));
    }
    assert!(tokens.len() <= 1);
    assert_eq!(
        list(&event["entity"]).len(),
        1 + consents.len() + tokens.len(),
        "the entities are closed"
    );
}

fn sharing(event: &Value, (kind, action): (&str, &str), own: &str) {
    assert!(is(&event["type"], DCM, kind) && event["action"] == action);
    let lifecycle = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";
    assert!(
        list(&event["subtype"])
            .iter()
            .any(|subtype| is(subtype, lifecycle, "disclose"))
    );
    for side in ["110153", "110152"] {
        let agent = only(event, DCM, side, &[]);
        assert!(agent["network"].is_object());
        if side == own {
            assert_eq!(agent["who"], event["source"]["observer"], "val-audit-source");
        }
    }
    has_patient(event);
    assert!(list(&event["entity"]).len() >= 2);
}

fn rest(event: &Value, verb: &str, patient: bool) {
    let audit_event_type = "http://terminology.hl7.org/CodeSystem/audit-event-type";
    assert!(is(&event["type"], audit_event_type, "rest"));
    assert_eq!(event["outcome"], "0", "failures are recorded differently");
    let provenance = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
    let (action, client, server) = match verb {
        "Create" => ("C", (DCM, "110153"), (DCM, "110152")),
        "Read" => ("R", (DCM, "110152"), (DCM, "110153")),
        "Update" => ("U", (DCM, "110153"), (DCM, "110152")),
        "Delete" => ("D", (DCM, "110150"), (provenance, "custodian")),
        other => panic!("{other} is no profile"),
    };
    assert_eq!(event["action"], action);
    let subtypes = list(&event["subtype"]);
    let interaction = verb.to_lowercase();
    let interactions = "http://hl7.org/fhir/restful-interaction";
    assert!(subtypes.iter().any(|subtype| is(subtype, interactions, &interaction)));
    assert!(verb != "Delete" || subtypes.len() == 1);
    for (system, code) in [client, server] {
        assert!(only(event, system, code, &["media"])["network"].is_object());
    }
    let users: Vec<_> = match verb {
        "Read" => agents(event, PARTICIPATION, "IRCP"),
        _ => ["AUT", "INF", "CST"]
            .iter()
            .flat_map(|code| agents(event, PARTICIPATION, code))
            .collect(),
    };
    assert!(users.len() <= 1);
    for user in users {
        assert!(user["who"].is_object() && user["requestor"] == true);
        assert!(user.get("network").is_none() && user.get("media").is_none());
    }
    let data = entities(event, ENTITY_TYPE, "2");
    let [data] = data[..] else {
        panic!("{} pieces of data", data.len());
    };
    assert!(data["what"].is_object() && ["3", "4", "20"].iter().any(|code| is(&data["role"], ROLE, code)));
    let balp = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
    let calls = entities(event, balp, "XrequestId");
    assert!(calls.len() <= 1 && calls.iter().all(|call| call["what"]["identifier"]["value"].is_string()));
    match patient {
        true => has_patient(event),
        false => assert_eq!(entities(event, ENTITY_TYPE, "1").len(), 0),
    }
}
