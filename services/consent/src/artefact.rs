//! The signed form of a consent: claims as RFC 8785 JSON, one copy for each audience.

pub mod issue;
mod keys;
pub mod verify;

pub use keys::{ArtefactKey, ArtefactKeys};

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat};
use ring::digest::{SHA256, digest};
use sammati_api::consent::v1::consent::Origin;
use sammati_api::types::v1::CareContextRef;
use sammati_kernel::jws::{MAX_TOKEN, signing_input};
use sammati_kernel::{
    AccountId, Actor, Caller, ConsentId, Micros, ParticipantId, Refusal, RepresentationId, RepresentationKind,
    Representing, SessionId, Slot,
};
use serde_json::{Map, Value, json};

use crate::consent::State;
use crate::request::ask::Ask;
use crate::rows::{self, ConsentRow, broken};
use crate::scope::Scope;
use crate::status_list::{self, ENTRIES};

/// The `typ` of an artefact.
pub const TYP: &str = "consent-artefact+jwt";

/// How long a base64url Ed25519 signature and its dot are.
const SIGNATURE: usize = 87;

/// How long a thumbprint is, in base64url.
const KID: usize = 43;

/// Whose copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// The giver's: without the professional's name.
    Hip,
    /// The receiver's: without the giver's patient reference.
    Hiu,
}

impl Audience {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hip, Self::Hiu];

    /// Its number in the contract and in keys.
    pub const fn number(self) -> u8 {
        match self {
            Self::Hip => 1,
            Self::Hiu => 2,
        }
    }

    /// As in resource names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hip => "hip",
            Self::Hiu => "hiu",
        }
    }
}

/// What both copies are made of.
pub struct Claims<'a> {
    /// The consent manager, as `sbx`.
    pub manager: &'a str,
    /// The log that holds the grant's event.
    pub log_origin: &'a str,
    /// The consent.
    pub consent: &'a ConsentRow,
    /// Her address; in a study her pseudonym.
    pub patient: &'a str,
    /// Care contexts that are named.
    pub care_contexts: &'a [CareContextRef],
    /// What people read for the HIP.
    pub hip_name: &'a str,
    /// What people read for the HIU.
    pub hiu_name: &'a str,
    /// The event of the grant.
    pub event_id: &'a str,
    /// The version whose place it takes: of this consent, or of the one it renews.
    pub supersedes: Option<(ConsentId, i32)>,
    /// Who granted.
    pub caller: &'a Caller,
}

/// The signing inputs of both copies under the key `kid`, in the order of [`Audience::ALL`].
///
/// # Errors
/// FIELD_INVALID when so many care contexts are named that the artefact would be longer than anybody accepts.
pub fn inputs(kid: &str, claims: &Claims<'_>) -> Result<[String; 2], Refusal> {
    let mut value = claims.common()?;
    let mut one = |audience| {
        claims.address(&mut value, audience)?;
        let input = signing_input(kid, TYP, canonical(&value).as_bytes());
        if input.len() + SIGNATURE > MAX_TOKEN {
            // Of a grant there may be several; a narrowing is one scope.
            let field = match claims.consent.grant_version {
                1 => "grants.scope.care_contexts",
                _ => "scope.care_contexts",
            };
            return Err(Refusal::field(
                field,
                "too many for one artefact of 16 KiB; name fewer, or none for all",
            ));
        }
        Ok(input)
    };
    Ok([one(Audience::Hip)?, one(Audience::Hiu)?])
}

/// SHA-256 of a signed artefact, as events carry it.
pub fn sha256(jws: &str) -> Vec<u8> {
    digest(&SHA256, jws.as_bytes()).as_ref().to_vec()
}

/// Whether all that is asked can be granted in one artefact, whatever the parties are called, and under whatever
/// reference the provider keeps her if the asker does not say.
pub fn fits(ask: &Ask) -> bool {
    let [hip] = ask.hips.as_slice() else { return true };
    is_short(ask) || fits_at_the_longest(ask, hip)
}

/// Whether what is asked is so short that it fits however it is spelled: most are. A byte takes at most six in JSON, and
/// three of those four in base64.
fn is_short(ask: &Ask) -> bool {
    /// All that is of a known length, names of 255 letters of three bytes each included.
    const REST: usize = 7 * 1024;
    let who = ask.requester.identifier.as_ref();
    let who = who.map_or(0, |who| who.r#type.len() + who.value.len() + who.system.len());
    let purpose = &ask.scope.purpose;
    let contexts = ask.care_contexts.iter().map(|context| {
        let reference = context.patient_reference.len().max(255);
        reference + context.care_context_reference.len() + 16
    });
    let texts = [
        ask.patient.len(),
        ask.requester.name.len(),
        who,
        purpose.text().len() + purpose.ref_uri().len(),
        ask.notice.notice.len() + ask.notice.language.len() + ask.notice.sha256.len(),
        contexts.sum(),
    ];
    (REST + 6 * texts.iter().sum::<usize>()) * 4 / 3 + SIGNATURE <= MAX_TOKEN
}

fn fits_at_the_longest(ask: &Ask, hip: &ParticipantId) -> bool {
    let (name, reference) = ("\u{905}".repeat(255), "x".repeat(255));
    let mut care_contexts = ask.care_contexts.clone();
    for context in &mut care_contexts {
        if context.patient_reference.is_empty() {
            context.patient_reference.clone_from(&reference);
        }
    }
    let consent = ConsentRow {
        id: ConsentId::new(Micros(0), Slot::new(0), [0; 8]).to_vec(),
        hip: hip.as_str().to_owned(),
        hiu: ask.hiu.as_str().to_owned(),
        requester: ask.requester.clone(),
        scope: (&ask.scope).into(),
        grant_version: i32::MAX,
        granted: ask.scope.erase_time.0,
        expire: ask.scope.erase_time.0,
        notice: ask.notice.clone(),
        status_list: ConsentId::new(Micros(0), Slot::new(0), [0; 8]).to_vec(),
        status_index: ENTRIES,
        ..ConsentRow::default()
    };
    let claims = Claims {
        manager: &reference,
        log_origin: &reference,
        consent: &consent,
        patient: &ask.patient,
        care_contexts: &care_contexts,
        hip_name: &name,
        hiu_name: &name,
        event_id: &reference,
        supersedes: Some((ConsentId::new(Micros(0), Slot::new(0), [0; 8]), i32::MAX)),
        caller: &representative(),
    };
    inputs(&"x".repeat(KID), &claims).is_ok()
}

/// Whoever takes most words to name: one who acts for her.
fn representative() -> Caller {
    let account = AccountId::new(Micros(0), Slot::new(0), [0; 8]);
    let acting = Representing {
        representation: RepresentationId::new(Micros(0), Slot::new(0), [0; 8]),
        principal: account,
        representative: account,
        kind: RepresentationKind::Delegate,
        powers: BTreeSet::new(),
        purposes: BTreeSet::new(),
        participants: BTreeSet::new(),
        ends: None,
        session: SessionId::new(Micros(0), Slot::new(0), [0; 8]),
        app: None,
        auth_time: 0,
    };
    Caller {
        actor: Some(Actor::Representative(Box::new(acting))),
        ..Caller::ANYONE
    }
}

impl Claims<'_> {
    /// What is the same in both copies.
    fn common(&self) -> Result<Value, Refusal> {
        let consent = self.consent;
        let id: ConsentId = consent.id()?;
        let scope = consent.scope.read()?;
        let (granted, made) = (Micros(consent.granted), Micros(consent.made()));
        let origin = Origin::try_from(consent.origin).unwrap_or_default();
        let under = rows::representation(&consent.granted_under);
        // A policy is her own word, or that of who acted for her, given beforehand; an emergency is nobody's of hers, whoever
        // narrows it later.
        let granted_by = match (self.caller.representing(), self.caller.account()) {
            _ if origin == Origin::BreakGlass => json!({ "kind": "HIU" }),
            (Some(acting), _) => json!({ "kind": "REPRESENTATIVE", "representation": acting.representation.name() }),
            (None, None) if origin != Origin::Policy => json!({ "kind": "UNKNOWN" }),
            (None, None) if !under.is_empty() => json!({ "kind": "REPRESENTATIVE", "representation": under }),
            (None, _) => json!({ "kind": "PERSON" }),
        };
        let mut claims = json!({
            "iss": self.manager,
            "iat": made.seconds(),
            "nbf": made.seconds(),
            "exp": Micros(consent.expire).seconds(),
            "schema_version": "v3",
            "consent_id": id.to_string(),
            "version": consent.grant_version,
            "created_at": text(granted)?,
            "last_updated": text(made)?,
            "patient": { "id": self.patient },
            "hip": { "id": consent.hip, "name": self.hip_name, "type": "HIP" },
            "hiu": { "id": consent.hiu, "name": self.hiu_name, "type": "HIU" },
            "consent_manager": { "id": self.manager },
            "purpose": { "code": scope.purpose.code(), "text": scope.purpose.text(), "refUri": scope.purpose.ref_uri() },
            "hi_types": scope.hi_types.iter().map(|t| t.as_str()).collect::<Vec<_>>(),
            "permission": permission(&scope)?,
            "granted_by": granted_by,
            "notice": { "notice": consent.notice.notice, "version": consent.notice.version, "language": consent.notice.language, "sha256": consent.notice.sha256 },
            "origin": match origin {
                Origin::Policy => "POLICY",
                Origin::BreakGlass => "BREAK_GLASS",
                Origin::Study => "STUDY",
                Origin::Request | Origin::Unspecified => "REQUEST",
            },
            "event_id": self.event_id,
            "log_origin": self.log_origin,
        });
        if let Some(status) = status_list::claim(consent) {
            claims["status"] = status;
        }
        Ok(claims)
    }

    /// Puts in what is of one audience alone.
    fn address(&self, value: &mut Value, audience: Audience) -> Result<(), Refusal> {
        let (consent, id) = (self.consent, self.consent.id()?);
        let to = match audience {
            Audience::Hip => &consent.hip,
            Audience::Hiu => &consent.hiu,
        };
        let contexts = self.care_contexts.iter().map(|c| context(c, audience)).collect();
        value["jti"] = format!("{id}.{}.{}", consent.grant_version, audience.as_str()).into();
        value["aud"] = format!("participants/{to}").into();
        value["requester"] = self.requester(audience);
        value["care_contexts"] = Value::Array(contexts);
        if let Some((id, version)) = self.supersedes {
            value["supersedes"] = format!("{id}.{version}.{}", audience.as_str()).into();
        }
        Ok(())
    }

    fn requester(&self, audience: Audience) -> Value {
        let requester = &self.consent.requester;
        let who = requester.identifier.clone().unwrap_or_default();
        let identifier = json!({ "type": who.r#type, "value": who.value, "system": who.system });
        match audience {
            Audience::Hip => json!({ "identifier": identifier }),
            Audience::Hiu => json!({ "name": requester.name, "identifier": identifier }),
        }
    }
}

fn context(context: &CareContextRef, audience: Audience) -> Value {
    match audience {
        Audience::Hip => json!({
            "patient_reference": context.patient_reference,
            "care_context_reference": context.care_context_reference,
        }),
        Audience::Hiu => json!({ "care_context_reference": context.care_context_reference }),
    }
}

fn permission(scope: &Scope) -> Result<Value, Refusal> {
    let mut permission = json!({
        "accessMode": scope.access_mode.as_str(),
        "dateRange": { "from": text(scope.record_range.from)?, "to": text(scope.record_range.to)? },
        "dataEraseAt": text(scope.erase_time)?,
        "frequency": { "unit": scope.frequency.unit.as_str(), "value": scope.frequency.value, "repeats": scope.frequency.repeats },
        "maxUses": scope.max_uses,
    });
    if scope.bind_requester
        && let Value::Object(members) = &mut permission
    {
        members.insert("bindRequester".to_owned(), Value::Bool(true));
    }
    Ok(permission)
}

/// A time as artefacts and receipts write it.
///
/// # Errors
/// INTERNAL for a time that no calendar has.
pub fn iso(at: Micros) -> Result<String, Refusal> {
    text(at)
}

/// RFC 3339 in UTC, to the millisecond or, where that would widen an interval, to the microsecond.
fn text(at: Micros) -> Result<String, Refusal> {
    let time = DateTime::from_timestamp_micros(at.0).ok_or_else(|| broken("a time"))?;
    let form = if at.0 % 1000 == 0 {
        SecondsFormat::Millis
    } else {
        SecondsFormat::Micros
    };
    Ok(time.to_rfc3339_opts(form, true))
}

/// JSON in the form of RFC 8785: members in the order of their UTF-16 names, no blanks. Numbers here are integers, for
/// which its form is the usual one.
pub fn canonical(value: &Value) -> String {
    let mut out = String::with_capacity(2048);
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => write_object(members, out),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, out),
        plain => out.push_str(&plain.to_string()),
    }
}

fn write_object(members: &Map<String, Value>, out: &mut String) {
    let mut names: Vec<_> = members.keys().collect();
    // The order of bytes is that of UTF-16 but for what lies beyond the basic plane.
    if names.iter().all(|name| name.is_ascii()) {
        names.sort_unstable();
    } else {
        names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    }
    out.push('{');
    for (n, name) in names.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        write(&members[name], out);
    }
    out.push('}');
}

fn write_text(text: &str, out: &mut String) {
    let is_plain = |b: u8| b >= 0x20 && b != b'"' && b != b'\\';
    if text.bytes().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// Whether a party may still read the JWS: only while the consent lives.
pub const fn is_shown_to_parties(state: State) -> bool {
    matches!(state, State::Granted | State::Paused)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sammati_api::types::v1::{NoticeRef, Requester, RequesterIdentifier};

    use super::*;

    fn ask(name: String, text: String, contexts: usize, reference: String) -> Ask {
        Ask {
            hiu: ParticipantId::parse("clinic").unwrap(),
            patient: text.clone(),
            hips: vec![ParticipantId::parse("hospital").unwrap()],
            requester: Requester {
                name,
                identifier: Some(RequesterIdentifier {
                    r#type: text.clone(),
                    value: text.clone(),
                    system: text,
                }),
                verified: false,
            },
            scope: crate::scope::tests::sample(),
            care_contexts: vec![
                CareContextRef {
                    patient_reference: reference.clone(),
                    care_context_reference: reference,
                    ..CareContextRef::default()
                };
                contexts
            ],
            renews: None,
            notice: NoticeRef {
                notice: "notices/n".to_owned(),
                version: 1,
                language: "hi".to_owned(),
                sha256: "a".repeat(64),
            },
            expire: None,
        }
    }

    proptest! {
        /// What is taken for short without being spelled fits when it is.
        #[test]
        fn what_is_short_fits(
            name in "[\"\\\\a\u{1}]{0,255}",
            text in "[\"\u{1}b]{0,80}",
            contexts in 0_usize..6,
            reference in "[\"c]{0,60}",
        ) {
            let ask = ask(name, text, contexts, reference);
            if is_short(&ask) {
                prop_assert!(fits_at_the_longest(&ask, &ask.hips[0]));
            }
        }
    }

    #[test]
    fn nobody_takes_more_words_to_name_than_a_representative() {
        let ask = ask("Dr Asha".to_owned(), "MH1001".to_owned(), 0, String::new());
        let consent = ConsentRow {
            id: ConsentId::new(Micros(0), Slot::new(0), [0; 8]).to_vec(),
            scope: (&ask.scope).into(),
            ..ConsentRow::default()
        };
        let spelled = |caller: &Caller| {
            let claims = Claims {
                manager: "sbx",
                log_origin: "log",
                consent: &consent,
                patient: &ask.patient,
                care_contexts: &[],
                hip_name: "The hospital",
                hiu_name: "The clinic",
                event_id: "event",
                supersedes: None,
                caller,
            };
            canonical(&claims.common().unwrap())
        };
        let (longest, other) = (spelled(&representative()), spelled(&Caller::ANYONE));
        assert!(longest.contains("REPRESENTATIVE") && longest.len() > other.len());
    }

    #[test]
    fn most_that_is_asked_is_short_and_what_is_long_is_spelled() {
        let short = ask("Dr Asha".to_owned(), "MH1001".to_owned(), 0, String::new());
        assert!(is_short(&short) && fits(&short));
        let long = ask("Dr Asha".to_owned(), "MH1001".to_owned(), 8, "x".repeat(255));
        assert!(!is_short(&long) && fits(&long));
        assert!(!fits(&ask(
            "Dr Asha".to_owned(),
            "MH1001".to_owned(),
            40,
            "x".repeat(255)
        )));
    }

    #[test]
    fn canonical_json_sorts_by_utf16_and_escapes_as_rfc_8785_says() {
        let value = json!({ "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew", "1": "One", "\u{1f600}": "Emoji", "\u{80}": "Control", "\u{f6}": "o" });
        let expected = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"\u{f6}\":\"o\",\"\u{20ac}\":\"Euro Sign\",\"\u{1f600}\":\"Emoji\",\"\u{fb33}\":\"Hebrew\"}";
        assert_eq!(canonical(&value), expected);
        assert_eq!(
            canonical(&json!({"b": [1, true, null, "\u{8}\u{1f}\""], "a": {}})),
            r#"{"a":{},"b":[1,true,null,"\b\u001f\""]}"#
        );
    }
}
