//! Permits that can be handed on.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::consent::v1::verify_artefact_response::Finding;
use sammati_api::types::v1 as types;
use sammati_kernel::jws::{self, PublicKey};
use sammati_kernel::{Caller, Clock};
use serde_json::Value;

use crate::deciding::{Asked, question};
use crate::world::{DAY, World, by, everywhere, participant, refused};

const MINUTE: i64 = 60;

fn signed(asked: Asked) -> api::CheckAccessRequest {
    api::CheckAccessRequest {
        signed: true,
        ..asked.check()
    }
}

async fn check(w: &World, who: &Caller, message: api::CheckAccessRequest) -> api::Decision {
    w.rpc().check_access(by(who, message)).await.unwrap().into_inner()
}

async fn authorize(w: &World, who: &Caller, message: api::AuthorizeAccessRequest) -> api::Decision {
    w.rpc().authorize_access(by(who, message)).await.unwrap().into_inner()
}

/// What it says, if a published key signed it.
async fn read(w: &World, jws: &str) -> Value {
    let listed = w.rpc().list_keys(by(&Caller::ANYONE, Default::default())).await;
    let keys = listed.unwrap().into_inner().keys;
    let find = |kid: &str| PublicKey::from_jwk(&keys.iter().find(|key| key.kid == kid)?.jwk);
    jws::verify(jws, "access-decision+jwt", find).unwrap()
}

#[test]
fn a_requester_hands_on_what_was_permitted_and_no_more_for_a_minute_at_most() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let clinic = participant("clinic");
        let asked = question(&w, &consent.name);
        assert_eq!(check(&w, &clinic, asked.clone().check()).await.jws, "");
        let permit = check(&w, &clinic, signed(asked.clone())).await;
        let says = read(&w, &permit.jws).await;
        assert_eq!(
            (&says["aud"], &says["requester"]),
            (&"participants/hospital".into(), &"participants/clinic".into())
        );
        let id = consent.name.trim_start_matches("consents/");
        assert_eq!((&says["consent_id"], &says["version"]), (&id.into(), &1.into()));
        assert_eq!((&says["outcome"], &says["recorded"]), (&"PERMIT".into(), &false.into()));
        assert_eq!(
            (&says["purpose"], &says["access_mode"]),
            (&"CAREMGT".into(), &"VIEW".into())
        );
        assert_eq!(says["hi_types"], serde_json::json!(["Prescription"]));
        assert!(says.get("care_contexts").is_none() && says.get("jti").is_none());
        let now = w.clock.now();
        assert_eq!(says["iat"], now.seconds());
        assert_eq!(says["exp"], now.seconds() + 60);
        // Whose it is, nobody learns on the way.
        assert!(!says.to_string().contains("asha"));
        // It is no artefact, and what proves no consent is not taken for one.
        let message = api::VerifyArtefactRequest {
            jws: permit.jws.clone(),
            ..Default::default()
        };
        let found = w.rpc().verify_artefact(by(&Caller::ANYONE, message)).await.unwrap();
        assert_eq!(found.into_inner().finding(), Finding::Form);
        // Nothing is signed of a refusal.
        w.pause(&she, &consent.name).await.unwrap();
        let denied = check(&w, &clinic, signed(asked)).await;
        assert_eq!(
            (denied.outcome(), denied.jws.as_str()),
            (api::decision::Outcome::Deny, "")
        );
    });
}

#[test]
fn a_signed_permit_ends_with_what_it_rests_on() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let ends = consent.effective_expire_time.unwrap();
        let left = ends.seconds - w.clock.now().seconds();
        let asked = question(&w, &consent.name);
        w.advance(left - MINUTE / 2);
        let permit = check(&w, &participant("hospital"), signed(asked)).await;
        let says = read(&w, &permit.jws).await;
        assert!(says["exp"].as_i64().unwrap() <= ends.seconds, "{says}");
    });
}

#[test]
fn c3_of_a_part_that_is_permitted_only_the_part_is_signed() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        w.linked("asha.rao@sbx", &["visit-1", "visit-2"]).await;
        let she = w.she(w.account("asha.rao@sbx"));
        let context = |reference: &str| types::CareContextRef {
            care_context_reference: reference.to_owned(),
            ..Default::default()
        };
        let mut ask = w.asks("asha.rao@sbx");
        ask.scope.as_mut().unwrap().care_contexts = vec![context("visit-1")];
        let request = w.create(ask).await.unwrap();
        let consent = w.approve(&she, w.approval(&request)).await.unwrap().consents.remove(0);
        let hospital = participant("hospital");
        // Asked about whatever the consent covers: it names what that is.
        let whole = check(&w, &hospital, signed(question(&w, &consent.name))).await;
        assert_eq!(
            read(&w, &whole.jws).await["care_contexts"],
            serde_json::json!(["visit-1"])
        );
        let mut wide = signed(question(&w, &consent.name));
        wide.allow_reduced = true;
        wide.hi_types.push(types::HiType::Invoice.into());
        wide.record_range.as_mut().unwrap().from = w.at(-900 * DAY);
        wide.care_contexts = vec![context("visit-2"), context("visit-1")];
        let reduced = check(&w, &hospital, wide).await;
        let says = read(&w, &reduced.jws).await;
        assert_eq!(says["reason"], "GRANTED_REDUCED");
        assert_eq!(says["hi_types"], serde_json::json!(["Prescription"]));
        assert_eq!(says["care_contexts"], serde_json::json!(["visit-1"]));
        let part = reduced.part.unwrap().record_range.unwrap().from.unwrap();
        let from = says["record_range"]["from"]
            .as_str()
            .unwrap()
            .parse::<chrono::DateTime<chrono::Utc>>();
        assert_eq!(from.unwrap().timestamp(), part.seconds);
    });
}

#[test]
fn a_repeated_authorize_is_signed_as_the_first_was() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 1).await;
        let hospital = participant("hospital");
        let message = Asked::from(signed(question(&w, &consent.name))).authorize(w.request_id());
        let first = authorize(&w, &hospital, message.clone()).await;
        w.advance(10 * MINUTE);
        let again = authorize(&w, &hospital, message).await;
        let says = read(&w, &first.jws).await;
        assert_eq!(
            (&says["jti"], &says["recorded"]),
            (&first.decision_id.clone().into(), &true.into())
        );
        assert_eq!((first.decision_id, first.jws), (again.decision_id, again.jws));
    });
}

#[test]
fn what_may_be_old_and_what_comes_in_numbers_is_not_signed() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let hospital = participant("hospital");
        let check = signed(question(&w, &consent.name));
        let mut old = check.clone();
        let known = self::check(&w, &hospital, check.clone()).await.revision;
        old.consistency = Some(api::check_access_request::Consistency::AtLeast(known));
        let refusal = refused(w.rpc().check_access(by(&hospital, old)).await);
        assert_eq!(refusal.violations.iter().next().unwrap().field, "signed");
        let batch = api::BatchCheckAccessRequest {
            checks: vec![check.clone()],
            consistency: None,
        };
        let refusal = refused(w.rpc().batch_check_access(by(&hospital, batch)).await);
        assert_eq!(refusal.violations.iter().next().unwrap().field, "checks[0].signed");
        let why = api::ExplainAccessRequest {
            check: Some(check),
            ..Default::default()
        };
        let refusal = refused(w.rpc().explain_access(by(&hospital, why)).await);
        assert_eq!(refusal.violations.iter().next().unwrap().field, "check.signed");
    });
}
