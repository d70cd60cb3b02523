use proptest::prelude::*;
use sammati_api::types::v1::{NoticeRef, Requester};
use sammati_kernel::{AccountId, Actor, Peer, RepresentationId, SessionId, Slot, StatusListId};
use serde_json::{Value, json};

use super::*;
use crate::artefact::{canonical, representative};

/// What a copy says, as a tree: `copies` writes the same, member by member.
fn tree(claims: &Claims<'_>, audience: Audience) -> Value {
    let consent = claims.consent;
    let (id, scope) = (consent.id().unwrap(), consent.scope.read().unwrap());
    let made = Micros(consent.made());
    let at = |at: Micros| Value::from(text(at).unwrap());
    let who = consent.requester.identifier.clone().unwrap_or_default();
    let mut requester = json!({ "identifier": { "type": who.r#type, "value": who.value, "system": who.system } });
    let contexts = claims.care_contexts.iter().map(|context| match audience {
        Audience::Hip => json!({
            "patient_reference": context.patient_reference,
            "care_context_reference": context.care_context_reference,
        }),
        Audience::Hiu => json!({ "care_context_reference": context.care_context_reference }),
    });
    let to = match audience {
        Audience::Hip => &consent.hip,
        Audience::Hiu => &consent.hiu,
    };
    if audience == Audience::Hiu {
        requester["name"] = consent.requester.name.clone().into();
    }
    let granted_by = match (claims.origin(), claims.caller.representing()) {
        (Origin::BreakGlass, _) => json!({ "kind": "HIU" }),
        (_, Some(acting)) => json!({ "kind": "REPRESENTATIVE", "representation": acting.representation.name() }),
        (Origin::Policy, None) if claims.caller.account().is_none() && !consent.granted_under.is_empty() => {
            json!({ "kind": "REPRESENTATIVE", "representation": rows::representation(&consent.granted_under) })
        }
        (Origin::Policy, None) => json!({ "kind": "PERSON" }),
        (_, None) if claims.caller.account().is_some() => json!({ "kind": "PERSON" }),
        _ => json!({ "kind": "UNKNOWN" }),
    };
    let mut permission = json!({
        "accessMode": scope.access_mode.as_str(),
        "dateRange": { "from": at(scope.record_range.from), "to": at(scope.record_range.to) },
        "dataEraseAt": at(scope.erase_time),
        "frequency": { "unit": scope.frequency.unit.as_str(), "value": scope.frequency.value, "repeats": scope.frequency.repeats },
        "maxUses": scope.max_uses,
    });
    if scope.bind_requester {
        permission["bindRequester"] = true.into();
    }
    let mut value = json!({
        "iss": claims.manager,
        "iat": made.seconds(),
        "nbf": made.seconds(),
        "exp": Micros(consent.expire).seconds(),
        "schema_version": "v3",
        "consent_id": id.to_string(),
        "version": consent.grant_version,
        "created_at": at(Micros(consent.granted)),
        "last_updated": at(made),
        "patient": { "id": claims.patient },
        "hip": { "id": consent.hip, "name": claims.hip_name, "type": "HIP" },
        "hiu": { "id": consent.hiu, "name": claims.hiu_name, "type": "HIU" },
        "consent_manager": { "id": claims.manager },
        "purpose": { "code": scope.purpose.code(), "text": scope.purpose.text(), "refUri": scope.purpose.ref_uri() },
        "hi_types": scope.hi_types.iter().map(|t| t.as_str()).collect::<Vec<_>>(),
        "permission": permission,
        "granted_by": granted_by,
        "notice": {
            "notice": consent.notice.notice, "version": consent.notice.version,
            "language": consent.notice.language, "sha256": consent.notice.sha256,
        },
        "origin": origin(claims.origin()),
        "event_id": claims.event_id,
        "log_origin": claims.log_origin,
        "jti": format!("{id}.{}.{}", consent.grant_version, audience.as_str()),
        "aud": format!("participants/{to}"),
        "requester": requester,
        "care_contexts": contexts.collect::<Vec<_>>(),
    });
    if let Some((index, list)) = status_list::entry(consent) {
        value["status"] = json!({ "status_list": { "idx": index, "uri": list.name() } });
    }
    if let Some((id, version)) = claims.supersedes {
        value["supersedes"] = format!("{id}.{version}.{}", audience.as_str()).into();
    }
    value
}

fn id(n: u8) -> ConsentId {
    ConsentId::new(Micros(1_764_000_000_000_000), Slot::new(7), [n; 8])
}

fn consent(words: &str, origin: i32, bound: bool, listed: bool, times: i64) -> ConsentRow {
    let mut scope = crate::scope::tests::sample();
    scope.bind_requester = bound;
    ConsentRow {
        id: id(1).to_vec(),
        hip: "hospital".to_owned(),
        hiu: "clinic".to_owned(),
        requester: Requester {
            name: words.to_owned(),
            identifier: (!words.is_empty()).then(|| RequesterIdentifier {
                r#type: "REGNO".to_owned(),
                value: words.to_owned(),
                system: "https://www.nmc.org.in".to_owned(),
            }),
            verified: false,
        },
        scope: (&scope).into(),
        grant_version: 3,
        granted: 1_764_000_000_000_000 + times,
        narrowed: times,
        expire: 1_765_000_000_000_000 + times,
        notice: NoticeRef {
            notice: "notices/builtin-caremgt".to_owned(),
            version: 1,
            language: "hi".to_owned(),
            sha256: "a".repeat(64),
        },
        origin,
        granted_under: RepresentationId::new(Micros(1_000), Slot::new(7), [3; 8])
            .to_vec()
            .into_iter()
            .filter(|_| bound)
            .collect(),
        status_list: StatusListId::new(Micros(1_000), Slot::new(7), [9; 8])
            .to_vec()
            .into_iter()
            .filter(|_| listed)
            .collect(),
        status_index: 131_071,
        ..ConsentRow::default()
    }
}

fn callers() -> [Caller; 3] {
    let person = Actor::Person {
        account: AccountId::new(Micros(1_000), Slot::new(7), [1; 8]),
        session: SessionId::new(Micros(1_000), Slot::new(7), [2; 8]),
        app: None,
        auth_time: 0,
    };
    let person = Caller {
        peer: Peer::Anonymous,
        actor: Some(person),
    };
    [Caller::ANYONE, person, representative()]
}

proptest! {
    #[test]
    fn both_copies_are_canonical_and_say_all(
        words in "[\"\\\\a\u{1}\u{905}]{0,40}",
        origin in 0_i32..5,
        caller in 0_usize..3,
        (bound, listed, renews) in any::<(bool, bool, bool)>(),
        times in 0_i64..2_000,
        contexts in 0_usize..3,
    ) {
        let context = CareContextRef {
            patient_reference: words.clone(),
            care_context_reference: format!("visit {words}"),
            ..CareContextRef::default()
        };
        let claims = Claims {
            manager: "sbx",
            log_origin: "sammati.local/audit",
            consent: &consent(&words, origin, bound, listed, times),
            patient: &words,
            care_contexts: &vec![context; contexts],
            hip_name: &words,
            hiu_name: "The \"clinic\"",
            event_id: "019c0a5e-0a1b-7c2d-8e3f-999941057058",
            supersedes: renews.then(|| (id(2), 7)),
            caller: &callers()[caller],
        };
        for (audience, copy) in Audience::ALL.into_iter().zip(claims.copies().unwrap()) {
            prop_assert_eq!(copy, canonical(&tree(&claims, audience)));
        }
    }
}
