//! The signed form: verified with nothing but the key set, and cut for its reader.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact::Audience;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::types::v1 as types;
use sammati_kernel::hex;
use sammati_kernel::jws::{self, PublicKey};
use sammati_kernel::{Caller, Reason};
use serde_json::Value;
use tonic::Response;

use crate::world::{World, by, everywhere, participant, reason, refused};

pub(crate) async fn fetch(
    w: &World,
    who: &Caller,
    consent: &str,
    audience: Audience,
) -> Result<api::Artefact, tonic::Status> {
    let message = api::GetArtefactRequest {
        consent: consent.to_owned(),
        version: 0,
        audience: audience.into(),
    };
    w.rpc().get_artefact(by(who, message)).await.map(Response::into_inner)
}

pub(crate) async fn claims(w: &World, artefact: &api::Artefact) -> Value {
    verified(w, &artefact.jws, "consent-artefact+jwt").await
}

/// The claims of a JWS, verified with the key set.
pub(crate) async fn verified(w: &World, jws: &str, typ: &str) -> Value {
    let keys = w
        .rpc()
        .list_keys(by(&Caller::ANYONE, Default::default()))
        .await
        .unwrap()
        .into_inner();
    let set: Value = serde_json::from_str(&keys.jwks).unwrap();
    let find = |kid: &str| {
        let jwk = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid)?;
        PublicKey::from_jwk(&jwk.to_string())
    };
    jws::verify(jws, typ, find).unwrap()
}

#[test]
fn both_copies_verify_offline_and_differ_as_they_must() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let she = w.she(account);
        let token = w.link_token("asha.rao@sbx", 1990).await.unwrap().link_token;
        w.link(&token, &["visit-1"]).await.unwrap();
        let mut ask = w.asks("asha.rao@sbx");
        let context = types::CareContextRef {
            patient_reference: "MRN-17".into(),
            care_context_reference: "visit-1".into(),
            ..Default::default()
        };
        ask.scope.as_mut().unwrap().care_contexts = vec![context];
        let request = w.create(ask).await.unwrap();
        let consent = w.approve(&she, w.approval(&request)).await.unwrap().consents.remove(0);
        let hip = fetch(&w, &participant("hospital"), &consent.name, Audience::Unspecified)
            .await
            .unwrap();
        let hiu = fetch(&w, &participant("clinic"), &consent.name, Audience::Unspecified)
            .await
            .unwrap();
        assert_eq!((hip.audience(), hiu.audience()), (Audience::Hip, Audience::Hiu));
        let (mut of_hip, mut of_hiu) = (claims(&w, &hip).await, claims(&w, &hiu).await);
        assert_eq!(
            (&of_hip["aud"], &of_hiu["aud"]),
            (&"participants/hospital".into(), &"participants/clinic".into())
        );
        assert!(of_hip["requester"]["name"].is_null() && of_hiu["requester"]["name"] == "Dr Manju");
        assert_eq!(of_hip["care_contexts"][0]["patient_reference"], "MRN-17");
        assert!(of_hiu["care_contexts"][0]["patient_reference"].is_null());
        assert_eq!(of_hiu["care_contexts"][0]["care_context_reference"], "visit-1");
        assert_eq!(
            (&of_hip["iss"], &of_hip["patient"]["id"]),
            (&"sbx".into(), &"asha.rao@sbx".into())
        );
        for claims in [&mut of_hip, &mut of_hiu] {
            for differs in ["aud", "jti", "requester", "care_contexts"] {
                claims.as_object_mut().unwrap().remove(differs);
            }
        }
        assert_eq!(of_hip, of_hiu);
        // The grant's event is the one that the artefact leads to, and no account stands in either copy.
        let granted = w
            .events()
            .await
            .into_iter()
            .find(|e| e.event_type == "consent.granted")
            .unwrap();
        assert_eq!(of_hip["event_id"], granted.event_id);
        assert!(!of_hip.to_string().contains(&account.to_string()));
        // What was issued and fetched is told by its digest.
        let digests = [&hip, &hiu].map(|artefact| artefact.sha256.clone());
        for kind in ["consent.artefact_issued", "consent.artefact_fetched"] {
            let told: Vec<_> = w.events().await.into_iter().filter(|e| e.event_type == kind).collect();
            let told = told.iter().map(|e| hex(&e.payload.as_ref().unwrap().artefact_sha256));
            assert_eq!(told.collect::<Vec<_>>(), digests, "{kind}");
        }
    });
}

#[test]
fn once_it_ended_a_party_gets_the_state_and_she_still_the_artefact() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        assert_eq!(
            reason(fetch(&w, &participant("hospital"), &consent.name, Audience::Hiu).await),
            Reason::NotAvailable
        );
        assert_eq!(
            reason(fetch(&w, &participant("lab"), &consent.name, Audience::Unspecified).await),
            Reason::NotAvailable
        );
        assert_eq!(
            reason(fetch(&w, &she, &consent.name, Audience::Unspecified).await),
            Reason::FieldInvalid
        );
        let before = fetch(&w, &participant("hospital"), &consent.name, Audience::Hip)
            .await
            .unwrap();
        w.revoke(&she, &[&consent.name]).await.unwrap();
        let after = fetch(&w, &participant("hospital"), &consent.name, Audience::Hip)
            .await
            .unwrap();
        assert_eq!(
            (after.jws.as_str(), after.state(), &after.sha256),
            ("", api::consent::State::Revoked, &before.sha256)
        );
        assert_eq!(
            fetch(&w, &she, &consent.name, Audience::Hip).await.unwrap().jws,
            before.jws
        );
    });
}

#[test]
fn c3_an_artefact_says_of_a_care_context_what_its_provider_linked() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        let named = |patient_reference: &str| types::CareContextRef {
            patient_reference: patient_reference.into(),
            care_context_reference: "visit-1".into(),
            hi_type: types::HiType::Invoice.into(),
            display: "Nothing that matters".into(),
        };
        let asks = |context: types::CareContextRef| {
            let mut ask = w.asks("asha.rao@sbx");
            ask.scope.as_mut().unwrap().care_contexts = vec![context];
            ask
        };
        let read = async |who: &Caller, name: &str| {
            let name = name.to_owned();
            let read = w
                .rpc()
                .get_consent_request(by(who, api::GetConsentRequestRequest { name }));
            read.await.unwrap().into_inner().scope.unwrap().care_contexts.remove(0)
        };
        // Another's reference: neither as asked nor by a grant that names the right one, and she is shown none.
        let request = w.create(asks(named("MRN-99"))).await.unwrap();
        let shown = read(&she, &request.name).await;
        assert_eq!((shown.patient_reference.as_str(), shown.display.as_str()), ("", ""));
        assert_eq!(
            reason(w.approve(&she, w.approval(&request)).await),
            Reason::CareContextNotLinked
        );
        let grant = |context: types::CareContextRef| {
            let mut scope = w.scope();
            scope.care_contexts = vec![context];
            vec![api::approve_consent_request_request::Grant {
                hip: "participants/hospital".into(),
                scope: Some(scope),
            }]
        };
        let mut approval = w.approval(&request);
        approval.grants = grant(named("MRN-17"));
        assert_eq!(reason(w.approve(&she, approval).await), Reason::CareContextNotLinked);
        // Not named at all: what the provider linked is shown, given and signed.
        let request = w.create(asks(named(""))).await.unwrap();
        let linked = types::CareContextRef {
            patient_reference: "MRN-17".into(),
            care_context_reference: "visit-1".into(),
            hi_type: types::HiType::Prescription.into(),
            display: "OPD visit".into(),
        };
        assert_eq!(read(&she, &request.name).await, linked);
        let of_clinic = read(&participant("clinic"), &request.name).await;
        assert_eq!(
            (of_clinic.patient_reference.as_str(), of_clinic.hi_type()),
            ("", types::HiType::Invoice)
        );
        let mut wrong = w.approval(&request);
        wrong.grants = grant(named("MRN-99"));
        assert_eq!(reason(w.approve(&she, wrong).await), Reason::CareContextNotLinked);
        let approved = w.approve(&she, w.approval(&request)).await.unwrap();
        for scope in [
            approved.consent_request.unwrap().scope,
            approved.consents[0].scope.clone(),
        ] {
            assert_eq!(scope.unwrap().care_contexts, std::slice::from_ref(&linked));
        }
        let hospital = participant("hospital");
        let hip = fetch(&w, &hospital, &approved.consents[0].name, Audience::Hip);
        let signed = claims(&w, &hip.await.unwrap()).await;
        assert_eq!(signed["care_contexts"][0]["patient_reference"], "MRN-17");
    });
}

#[test]
fn what_can_be_asked_fits_an_artefact_and_what_is_wrong_is_told_at_once() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let long = "v".repeat(240);
        let references: Vec<_> = (0..20).map(|n| format!("{long}-{n}")).collect();
        let references: Vec<_> = references.iter().map(String::as_str).collect();
        let asks = |count: usize| {
            let mut ask = w.asks("asha.rao@sbx");
            ask.scope.as_mut().unwrap().care_contexts = references[..count]
                .iter()
                .map(|reference| types::CareContextRef {
                    care_context_reference: (*reference).to_owned(),
                    ..Default::default()
                })
                .collect();
            ask
        };
        let refusal = refused(w.create(asks(20)).await);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(
            (refusal.reason, fields),
            (Reason::ScopeInvalid, vec!["scope.care_contexts"])
        );
        // The most that may be asked is granted, though the provider's references are as long as they may be.
        let token = w.link_token("asha.rao@sbx", 1990).await.unwrap().link_token;
        let mut links = w.links(&token, &references);
        links.patient_reference = "x".repeat(255);
        for context in &mut links.care_contexts {
            context.patient_reference.clone_from(&links.patient_reference);
        }
        w.link_of("hospital", links).await.unwrap();
        let request = w.create(asks(10)).await.unwrap();
        w.approve(&she, w.approval(&request)).await.unwrap();
        let nothing = api::GetArtefactRequest {
            consent: "consents/1".into(),
            version: -1,
            ..Default::default()
        };
        let refusal = refused(w.rpc().get_artefact(by(&she, nothing)).await.map(Response::into_inner));
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(fields, ["consent", "audience", "version"]);
    });
}
