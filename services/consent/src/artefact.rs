//! The signed form of a consent: claims as RFC 8785 JSON, one copy for each audience.

mod claims;
pub mod issue;
mod keys;
pub mod verify;

pub use claims::Claims;
pub use keys::{ArtefactKey, ArtefactKeys};

use std::collections::BTreeSet;

use ring::digest::{SHA256, digest};
use sammati_kernel::jws::{MAX_TOKEN, signing_input};
use sammati_kernel::{
    AccountId, Actor, Caller, ConsentId, Micros, ParticipantId, Refusal, RepresentationId, RepresentationKind,
    Representing, SessionId, Slot,
};
use serde_json::{Map, Value};

use crate::consent::State;
use crate::request::ask::Ask;
use crate::rows::ConsentRow;
use crate::status_list::ENTRIES;

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

/// The signing inputs of both copies under the key `kid`, in the order of [`Audience::ALL`].
///
/// # Errors
/// FIELD_INVALID when so many care contexts are named that the artefact would be longer than anybody accepts.
pub fn inputs(kid: &str, claims: &Claims<'_>) -> Result<[String; 2], Refusal> {
    let one = |claims_of_it: &String| {
        let input = signing_input(kid, TYP, claims_of_it.as_bytes());
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
    let [hip, hiu] = &claims.copies()?;
    Ok([one(hip)?, one(hiu)?])
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

/// A time as artefacts and receipts write it.
///
/// # Errors
/// INTERNAL for a time that no calendar has.
pub fn iso(at: Micros) -> Result<String, Refusal> {
    claims::text(at)
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
    use sammati_api::types::v1::{CareContextRef, NoticeRef, Requester, RequesterIdentifier};
    use serde_json::json;

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
            claims.copies().unwrap().concat()
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
