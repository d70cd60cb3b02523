//! Receipts, and artefacts that anybody checks.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact::Audience;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_api::consent::v1::consent::State;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::verify_artefact_response::Finding;
use sammati_consent::rows::ArtefactRow;
use sammati_kernel::jws::{self, PublicKey};
use sammati_kernel::{Caller, ConsentId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};
use serde_json::{Value, json};

use crate::artefacts::fetch;
use crate::verbs::less;
use crate::world::{DAY, World, by, everywhere, participant, reason};

async fn artefact(w: &World, who: &Caller, consent: &str, version: i32) -> String {
    let message = api::GetArtefactRequest {
        consent: consent.to_owned(),
        version,
        audience: Audience::Hip.into(),
    };
    w.rpc().get_artefact(by(who, message)).await.unwrap().into_inner().jws
}

async fn verify(w: &World, jws: &str, audience: &str) -> api::VerifyArtefactResponse {
    let message = api::VerifyArtefactRequest {
        jws: jws.to_owned(),
        audience: audience.to_owned(),
    };
    let found = w.rpc().verify_artefact(by(&Caller::ANYONE, message)).await;
    found.unwrap().into_inner()
}

#[test]
fn an_artefact_is_good_while_it_is_the_newest_of_a_consent_in_force() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let first = artefact(&w, &she, &consent.name, 1).await;
        let good = verify(&w, &first, "participants/hospital").await;
        assert_eq!(
            (good.finding(), good.state(), good.version),
            (Finding::Good, State::Granted, 1)
        );
        assert_eq!((&good.consent, good.kid.is_empty()), (&consent.name, false));
        assert_eq!(
            verify(&w, &first, "participants/clinic").await.finding(),
            Finding::Audience
        );
        w.pause(&she, &consent.name).await.unwrap();
        let paused = verify(&w, &first, "").await;
        assert_eq!((paused.finding(), paused.state()), (Finding::State, State::Paused));
        w.resume(&she, &consent.name).await.unwrap();
        w.narrow(&she, &consent.name, less(consent.scope.as_ref().unwrap()))
            .await
            .unwrap();
        assert_eq!(verify(&w, &first, "").await.finding(), Finding::Superseded);
        let second = artefact(&w, &she, &consent.name, 2).await;
        assert_eq!(verify(&w, &second, "").await.finding(), Finding::Good);
        w.revoke(&she, &[&consent.name]).await.unwrap();
        assert_eq!(verify(&w, &second, "").await.state(), State::Revoked);
        w.advance(31 * DAY);
        assert_eq!(verify(&w, &second, "").await.finding(), Finding::Time);
    });
}

/// Another artefact of the same version, as after a restore.
struct Reissue(ConsentId);

impl Command for Reissue {
    type Answer = ();

    const NAME: &'static str = "test.reissue";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ArtefactRow>(ArtefactRow::key_of(self.0.as_bytes(), 1, 1));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let key = ArtefactRow::key_of(self.0.as_bytes(), 1, 1);
        let mut row = view.get::<ArtefactRow>(&key).unwrap();
        row.sha256 = vec![7; 32];
        view.put(&row);
        Ok(())
    }
}

#[test]
fn an_artefact_whose_version_was_issued_anew_is_none() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let jws = artefact(&w, &she, &consent.name, 1).await;
        assert_eq!(verify(&w, &jws, "").await.finding(), Finding::Good);
        let id = ConsentId::parse_name(&consent.name).unwrap();
        w.store().apply(Reissue(id)).await.unwrap();
        let found = verify(&w, &jws, "").await;
        assert_eq!((found.finding(), found.consent.as_str()), (Finding::Form, ""));
    });
}

#[test]
fn of_what_does_not_verify_nothing_is_told_but_that() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let jws = artefact(&w, &she, &consent.name, 1).await;
        let (input, signature) = jws.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { "B" } else { "A" };
        let receipt = receipt(&w, &she, &consent.name).await.unwrap().jws;
        let bent = [
            (format!("{input}.{other}{}", &signature[1..]), Finding::Signature),
            ("no.artefact.atall".to_owned(), Finding::Form),
            // Another kind of token, however well signed.
            (receipt, Finding::Form),
        ];
        for (jws, expected) in bent {
            let found = verify(&w, &jws, "").await;
            let nothing = api::VerifyArtefactResponse {
                finding: expected.into(),
                ..Default::default()
            };
            assert_eq!(found, nothing, "{expected:?}");
        }
    });
}

pub(crate) async fn receipt(w: &World, who: &Caller, consent: &str) -> Result<api::Receipt, tonic::Status> {
    let message = api::GetReceiptRequest {
        consent: consent.to_owned(),
    };
    w.rpc()
        .get_receipt(by(who, message))
        .await
        .map(tonic::Response::into_inner)
}

#[test]
fn a_receipt_is_the_record_of_the_consent_as_it_is_signed_and_in_the_log() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        w.narrow(&she, &consent.name, less(consent.scope.as_ref().unwrap()))
            .await
            .unwrap();
        let copy = |who: &'static str| {
            let (w, consent) = (&w, &consent.name);
            async move {
                fetch(w, &participant(who), consent, Audience::Unspecified)
                    .await
                    .unwrap()
            }
        };
        let copies = [copy("hospital").await, copy("clinic").await];
        w.revoke(&she, &[&consent.name]).await.unwrap();
        let given = receipt(&w, &she, &consent.name).await.unwrap();
        let keys = w
            .rpc()
            .list_keys(by(&Caller::ANYONE, Default::default()))
            .await
            .unwrap()
            .into_inner();
        let find = |kid: &str| {
            let key = keys.keys.iter().find(|key| key.kid == kid)?;
            PublicKey::from_jwk(&key.jwk)
        };
        let signed: Value = jws::verify(&given.jws, "consent-receipt+jwt", find).unwrap();
        let record: Value = serde_json::from_str(&given.json).unwrap();
        assert_eq!(signed, record);
        assert_eq!(
            (&record["record_id"], &record["state"]),
            (&Value::from(consent.name.clone()), &"REVOKED".into())
        );
        assert_eq!(record["pii_principal_id"], "asha.rao@sbx");
        assert_eq!(record["privacy_notice"]["sha256"], consent.notice.unwrap().sha256);
        assert_eq!(record["purposes"][0]["pii_information"].as_array().unwrap().len(), 1);
        let kinds: Vec<_> = record["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["event_type"].clone())
            .collect();
        assert_eq!(kinds, ["consent-given", "consent-narrowed", "consent-revoked"]);
        // It names what the two hold, the copies of the version that stands.
        let named = copies.map(|copy| json!({ "name": copy.name, "sha256": copy.sha256 }));
        assert_eq!(record["artefacts"], json!(named));
        let events = w.events().await;
        let told = events.iter().find(|e| e.event_id == given.event_id).unwrap();
        assert_eq!(told.event_type, "consent.receipt_issued");
        let other = w.she(w.person("ravi.kumar@sbx"));
        for who in [other, participant("hospital"), participant("clinic")] {
            assert_eq!(reason(receipt(&w, &who, &consent.name).await), Reason::NotAvailable);
        }
    });
}

/// The record of a receipt, its kinds of events.
fn kinds(record: &Value) -> Vec<&str> {
    let events = record["events"].as_array().unwrap().iter();
    events.map(|event| event["event_type"].as_str().unwrap()).collect()
}

#[test]
fn a_receipt_says_when_the_clock_ended_it() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        w.advance(31 * DAY);
        let record: Value = serde_json::from_str(&receipt(&w, &she, &consent.name).await.unwrap().json).unwrap();
        assert_eq!(kinds(&record), ["consent-given", "consent-expired"]);
        assert_eq!(record["events"][1]["event_time"], record["valid_until"]);
        assert_eq!(
            (&record["purposes"][0]["lawful_basis"], &record["given_by"]["kind"]),
            (&"consent".into(), &"PERSON".into())
        );
    });
}
