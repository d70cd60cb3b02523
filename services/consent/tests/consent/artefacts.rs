//! The signed form: verified with nothing but the key set, and cut for its reader.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact::Audience;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_api::types::v1 as types;
use sammati_kernel::jws::{self, PublicKey};
use sammati_kernel::{Caller, Reason};
use serde_json::Value;
use tonic::Response;

use crate::world::{World, by, everywhere, participant, reason};

async fn fetch(w: &World, who: &Caller, consent: &str, audience: Audience) -> Result<api::Artefact, tonic::Status> {
    let message = api::GetArtefactRequest {
        consent: consent.to_owned(),
        version: 0,
        audience: audience.into(),
    };
    w.rpc().get_artefact(by(who, message)).await.map(Response::into_inner)
}

async fn claims(w: &World, artefact: &api::Artefact) -> Value {
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
    jws::verify(&artefact.jws, "consent-artefact+jwt", find).unwrap()
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
        assert_eq!(w.count("consent.artefact_fetched").await, 2);
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
