//! Participants on the wire.

use std::collections::BTreeSet;

use sammati_api::identity::v1::participant::Kind;
use sammati_api::identity::v1::{CallRates, Participant, ParticipantKey, Registration};
use sammati_kernel::jws::PublicKey;
use sammati_kernel::{Micros, Violations};
use sammati_server::event::{micros, timestamp};

use super::request::{LANGUAGES, text, told};
use super::roles;
use crate::rows::{ParticipantRow, etag};

/// The fields that can be changed.
const MUTABLE: [&str; 9] = [
    "display_name",
    "roles",
    "registrations",
    "spiffe_id",
    "keys",
    "transfer_origins",
    "grievance_contact",
    "languages",
    "rates",
];

/// The most calls in a second that a row may say.
const MOST_CALLS: i32 = 1_000_000;

/// Fields that a mask may name without effect.
const OUTPUT: [&str; 5] = ["name", "state", "create_time", "update_time", "etag"];

/// Checks `fields` of a resource that is to be kept, and leaves out what is output only.
pub(crate) fn resource(v: &mut Violations, given: &Participant, fields: &[String]) -> Participant {
    let has = |field: &str| fields.iter().any(|f| f == field);
    if has("display_name") {
        told(v, "participant.display_name", &given.display_name, 1, 255);
    }
    if has("roles") {
        roles(v, "participant.roles", &given.roles);
    }
    if has("registrations") {
        registrations(v, &given.registrations);
    }
    if has("spiffe_id") && !given.spiffe_id.is_empty() {
        if !given.spiffe_id.starts_with("spiffe://") {
            v.add("participant.spiffe_id", "must begin with spiffe://");
        }
        text(v, "participant.spiffe_id", &given.spiffe_id, 1, 255);
    }
    if has("keys") {
        keys(v, &given.keys);
    }
    if has("transfer_origins") {
        each_once(
            v,
            "participant.transfer_origins",
            &given.transfer_origins,
            16,
            is_origin,
            "https://host[:port]",
        );
    }
    if has("grievance_contact") {
        text(v, "participant.grievance_contact", &given.grievance_contact, 0, 255);
    }
    if has("languages") {
        let known = |l: &str| LANGUAGES.contains(&l);
        each_once(
            v,
            "participant.languages",
            &given.languages,
            LANGUAGES.len(),
            known,
            "\"en\" or a language of the Eighth Schedule",
        );
    }
    if has("rates") {
        rates(v, given.rates.as_ref());
    }
    let registrations = given
        .registrations
        .iter()
        .map(|r| Registration {
            verified: false,
            ..r.clone()
        })
        .collect();
    Participant {
        name: String::new(),
        registrations,
        state: 0,
        create_time: None,
        update_time: None,
        etag: String::new(),
        ..given.clone()
    }
}

/// Checks what a new participant needs besides.
pub(crate) fn kind(v: &mut Violations, given: &Participant) {
    if Kind::try_from(given.kind).unwrap_or_default() == Kind::Unspecified {
        v.add(
            "participant.kind",
            "required: KIND_FACILITY, KIND_APP, KIND_PROFESSIONAL or KIND_RESEARCH_BODY",
        );
    }
}

/// All fields that can be set.
pub(crate) fn all_fields() -> Vec<String> {
    MUTABLE.map(str::to_owned).to_vec()
}

/// The fields that an update changes: those of the mask, without one those that are set, with `*` all.
pub(crate) fn fields_of(v: &mut Violations, given: &Participant, mask: Option<&[String]>) -> Vec<String> {
    let Some(mask) = mask.filter(|m| !m.is_empty()) else {
        return set_fields(given);
    };
    if mask == ["*"] {
        return all_fields();
    }
    let unknown = mask
        .iter()
        .any(|f| !MUTABLE.contains(&f.as_str()) && !OUTPUT.contains(&f.as_str()));
    if unknown {
        v.add(
            "update_mask",
            format!("must name fields that can be changed: {}", MUTABLE.join(", ")),
        );
    }
    mask.iter().filter(|f| MUTABLE.contains(&f.as_str())).cloned().collect()
}

fn set_fields(given: &Participant) -> Vec<String> {
    let set = [
        !given.display_name.is_empty(),
        !given.roles.is_empty(),
        !given.registrations.is_empty(),
        !given.spiffe_id.is_empty(),
        !given.keys.is_empty(),
        !given.transfer_origins.is_empty(),
        !given.grievance_contact.is_empty(),
        !given.languages.is_empty(),
        given.rates.is_some(),
    ];
    MUTABLE
        .iter()
        .zip(set)
        .filter(|(_, set)| *set)
        .map(|(field, _)| (*field).to_owned())
        .collect()
}

fn registrations(v: &mut Violations, given: &[Registration]) {
    if given.len() > 16 {
        v.add("participant.registrations", "at most 16");
    }
    for registration in given {
        text(v, "participant.registrations.registry", &registration.registry, 1, 64);
        text(v, "participant.registrations.id", &registration.id, 1, 64);
    }
}

fn rates(v: &mut Violations, given: Option<&CallRates>) {
    let given = given.copied().unwrap_or_default();
    for (field, rate) in [
        ("participant.rates.checks_per_second", given.checks_per_second),
        ("participant.rates.requests_per_second", given.requests_per_second),
    ] {
        if !(0..=MOST_CALLS).contains(&rate) {
            v.add(field, "0 to 1000000; 0: as the service is configured");
        }
    }
}

fn keys(v: &mut Violations, given: &[ParticipantKey]) {
    if given.len() > 16 {
        v.add("participant.keys", "at most 16");
    }
    let kids: BTreeSet<&str> = given.iter().map(|key| key.kid.as_str()).collect();
    if kids.len() != given.len() {
        v.add("participant.keys.kid", "must be unique within the participant");
    }
    for key in given {
        text(v, "participant.keys.kid", &key.kid, 1, 64);
        if key.jwk.len() > 1024 || PublicKey::from_jwk(&key.jwk).is_none() {
            v.add(
                "participant.keys.jwk",
                "must be an Ed25519 public key as a JWK, at most 1024 characters",
            );
        }
        let (from, to) = (key.from_time.as_ref().map(micros), key.to_time.as_ref().map(micros));
        if from == Some(None) {
            v.add("participant.keys.from_time", "a time in the years 1 to 9999, or absent");
        }
        if to == Some(None) || matches!((from, to), (Some(from), Some(to)) if from >= to) {
            v.add("participant.keys.to_time", "must be later than from_time");
        }
    }
}

fn each_once(
    v: &mut Violations,
    field: &'static str,
    given: &[String],
    max: usize,
    good: impl Fn(&str) -> bool,
    what: &str,
) {
    let distinct: BTreeSet<_> = given.iter().collect();
    if given.len() > max || distinct.len() != given.len() || !given.iter().all(|g| good(g)) {
        v.add(field, format!("at most {max}, each once, each {what}"));
    }
}

/// `https://host[:port]`, nothing more.
fn is_origin(text: &str) -> bool {
    let Some(authority) = text.strip_prefix("https://") else {
        return false;
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let good_host = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-');
    good_host && port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n > 0 && n.to_string() == p))
}

/// The participant as the contract has it; keys, origins and rates are for parties.
pub(crate) fn participant(row: &ParticipantRow, with_keys: bool) -> Participant {
    let mut shown = row.resource.clone().unwrap_or_default();
    shown.name = row.id().map(|id| id.name()).unwrap_or_default();
    shown.create_time = Some(timestamp(Micros(row.create_time)));
    shown.update_time = Some(timestamp(Micros(row.update_time)));
    shown.etag = etag(row.version);
    if !with_keys {
        shown.keys.clear();
        shown.transfer_origins.clear();
        shown.rates = None;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_host_and_perhaps_a_port() {
        for good in ["https://records.asha.in", "https://10.0.0.1:8443"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "http://a.in",
            "https://",
            "https://a.in/",
            "https://a.in/x",
            "https://u@a.in",
            "https://a.in:0",
            "https://A.in",
            "https://a:08",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn every_violation_is_named_at_once() {
        let mut v = Violations::new();
        let key = ParticipantKey {
            kid: "k1".into(),
            jwk: r#"{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#.into(),
            ..ParticipantKey::default()
        };
        let bad = Participant {
            keys: vec![key.clone(), key],
            roles: vec![1, 1],
            languages: vec!["xx".into()],
            spiffe_id: "x".into(),
            ..Default::default()
        };
        kind(&mut v, &bad);
        resource(&mut v, &bad, &all_fields());
        let fields: Vec<_> = v.iter().map(|v| v.field.to_string()).collect();
        assert_eq!(
            fields,
            ["kind", "display_name", "roles", "spiffe_id", "keys.kid", "languages"].map(|f| format!("participant.{f}"))
        );
    }
}
