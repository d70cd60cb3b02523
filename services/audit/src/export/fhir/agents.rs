//! Who took part: the slices of each profile, and beside them who is known besides.

use sammati_api::audit::v1::{Leaf, Payload, event};
use serde_json::{Value, json};

use super::super::{Told, parties};
use super::{DCM, Pattern, coding, purpose, reference};
use crate::summary;

const EXTRA_ROLES: &str = "http://terminology.hl7.org/CodeSystem/extra-security-role-type";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const ROLE_CLASS: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleClass";
const PROVENANCE: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
const DATA_ABSENT: &str = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";

/// Who recorded it: of sharing the side that tells of it, as its profile has it; else the service.
pub(super) fn observer(told: &Told<'_>, pattern: Pattern) -> Value {
    let sides = told.payload.and_then(sides);
    match (pattern, sides) {
        (Pattern::Source, Some((source, _))) => reference(source),
        (Pattern::Recipient, Some((_, recipient))) => reference(recipient),
        _ => server(told.header),
    }
}

/// From whom data went, and to whom.
fn sides(payload: &Payload) -> Option<(&str, &str)> {
    let mut parties = parties(payload);
    parties.next().zip(parties.next())
}

/// The organisation that asked for a decision: the caller, or of a person's question who was to see the data.
pub(super) fn organization(header: &Leaf, payload: &Payload) -> Option<String> {
    let caller = payload.actor.as_ref().map_or("", |actor| &actor.id);
    let is_one = |name: &String| name.starts_with("participants/");
    let asked = Some(caller.to_owned()).filter(is_one);
    asked.or_else(|| Some(summary::recipient(header, payload)).filter(is_one))
}

/// Who did it, from where and for whom; of what is erased the server alone is known.
pub(super) fn agents(told: &Told<'_>, pattern: Pattern) -> Vec<Value> {
    let header = told.header;
    let Some(payload) = told.payload else {
        let mut server = agent(deciding_or_serving(pattern), server(header));
        server["requestor"] = true.into();
        return vec![server];
    };
    let mut agents = match pattern {
        Pattern::Authorization => of_decision(header, payload),
        Pattern::Source | Pattern::Recipient => of_sharing(header, payload),
        Pattern::Rest => of_rest(header, payload),
    };
    if let Some(acting) = &payload.on_behalf_of {
        let role = coding(ROLE_CLASS, "AGNT", "agent");
        agents.push(agent(role, reference(&acting.representation)));
    }
    agents
}

fn of_decision(header: &Leaf, payload: &Payload) -> Vec<Value> {
    let mut agents = vec![
        agent(deciding_or_serving(Pattern::Authorization), server(header)),
        at(
            agent(coding(DCM, "110150", "Application"), client(payload)),
            network(payload),
        ),
        user(payload, coding(PARTICIPATION, "IRCP", "information recipient")),
    ];
    let organization = organization(header, payload);
    if let Some(name) = &organization {
        agents.push(agent(provider(), reference(name)));
    }
    // The others hold what was asked for.
    let holders = parties(payload).filter(|name| organization.as_deref() != Some(*name));
    let custodian = |name| agent(coding(PARTICIPATION, "CST", "custodian"), reference(name));
    agents.extend(holders.map(custodian));
    agents
}

fn of_sharing(header: &Leaf, payload: &Payload) -> Vec<Value> {
    let mut agents = vec![
        agent(deciding_or_serving(Pattern::Source), server(header)),
        user(payload, coding(PARTICIPATION, "IRCP", "information recipient")),
    ];
    let actor = payload.actor.as_ref().map_or("", |actor| &actor.id);
    let side = |name: &str, role: Value| {
        let from = if name == actor { network(payload) } else { unknown() };
        at(agent(role, reference(name)), from)
    };
    if let Some((source, recipient)) = sides(payload) {
        agents.push(side(source, source_role()));
        agents.push(side(recipient, destination_role()));
    }
    if payload.client.is_some() {
        let app = agent(coding(DCM, "110150", "Application"), client(payload));
        agents.push(at(app, network(payload)));
    }
    agents
}

fn of_rest(header: &Leaf, payload: &Payload) -> Vec<Value> {
    let author = || coding(PARTICIPATION, "AUT", "author (originator)");
    let receiver = || coding(PARTICIPATION, "IRCP", "information recipient");
    let application = || coding(DCM, "110150", "Application");
    // Data goes to whoever reads, and comes from whoever writes.
    let (asking, serving, human) = match header.action() {
        event::Action::Create | event::Action::Update => (source_role(), destination_role(), author()),
        event::Action::Delete => (application(), coding(PROVENANCE, "custodian", "Custodian"), author()),
        event::Action::Read | event::Action::Unspecified => (destination_role(), source_role(), receiver()),
        event::Action::Execute => (application(), destination_role(), receiver()),
    };
    let mut agents = vec![
        at(agent(asking, client(payload)), network(payload)),
        at(agent(serving, server(header)), unknown()),
        user(payload, human),
    ];
    agents.extend(parties(payload).map(|name| agent(provider(), reference(name))));
    agents
}

/// The service is what decides, lets data pass, or else serves.
fn deciding_or_serving(pattern: Pattern) -> Value {
    match pattern {
        Pattern::Rest => destination_role(),
        _ => coding(EXTRA_ROLES, "authserver", "authorization server"),
    }
}

fn source_role() -> Value {
    coding(DCM, "110153", "Source Role ID")
}

fn destination_role() -> Value {
    coding(DCM, "110152", "Destination Role ID")
}

fn provider() -> Value {
    coding(ROLE_CLASS, "PROV", "healthcare provider")
}

/// The service that told of it.
fn server(header: &Leaf) -> Value {
    let service = header.source.as_ref().map_or("audit", |source| &source.service);
    json!({"display": format!("services/{service}")})
}

/// What called: the app, or the caller's own system.
fn client(payload: &Payload) -> Value {
    let app = payload.client.as_ref().map_or("", |client| &client.app);
    let actor = payload.actor.as_ref().map_or("", |actor| &actor.id);
    reference(if app.is_empty() { actor } else { app })
}

/// Who asked for it to be done.
fn user(payload: &Payload, role: Value) -> Value {
    let actor = payload.actor.clone().unwrap_or_default();
    let mut user = agent(role, reference(&actor.id));
    user["requestor"] = true.into();
    let roles: Vec<_> = actor.roles().map(|role| json!({"text": role.as_str_name()})).collect();
    if !roles.is_empty() {
        user["role"] = roles.into();
    }
    if let Some(purpose) = purpose(payload.purpose()) {
        user["purposeOfUse"] = json!([purpose]);
    }
    user
}

fn agent(role: Value, who: Value) -> Value {
    json!({"type": {"coding": [role]}, "who": who, "requestor": false})
}

fn at(mut agent: Value, network: Value) -> Value {
    agent["network"] = network;
    agent
}

/// From where the caller called.
fn network(payload: &Payload) -> Value {
    match payload.client.as_ref().map_or("", |client| &client.network) {
        "" => unknown(),
        network => json!({"address": network, "type": "2"}),
    }
}

/// Profiles demand a network; FHIR's way to say that there is one and it is not known.
fn unknown() -> Value {
    json!({"extension": [{"url": DATA_ABSENT, "valueCode": "unknown"}]})
}
