//! Participants, their sessions, and what they may learn of a person.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use sammati_api::identity::v1 as api;
use sammati_api::types::v1::{Demographics, Identifier, ParticipantRole, identifier};
use sammati_kernel::jws::SigningKey;
use sammati_kernel::{Caller, Clock, ParticipantId, Peer, Reason, Role, SessionId, Slot};
use sammati_server::authn::TokenFacts;
use sammati_server::token;

use super::fixture::{Fixture, fixtures, operator, participant, reason};
use crate::rpc::Certificate;

const SPIFFE: &str = "spiffe://sammati.local/participant/IN27001";

fn hospital() -> api::Participant {
    api::Participant {
        display_name: "Asha Hospital".into(),
        roles: vec![ParticipantRole::Hip.into(), ParticipantRole::Hiu.into()],
        kind: api::participant::Kind::Facility.into(),
        registrations: vec![api::Registration {
            registry: "HFR".into(),
            id: "IN2710000001".into(),
            verified: true,
        }],
        spiffe_id: SPIFFE.into(),
        ..Default::default()
    }
}

async fn create(fixture: &Fixture, resource: api::Participant) -> api::Participant {
    let request = api::CreateParticipantRequest {
        request_id: fixture.request_id(),
        participant_id: "IN27001".into(),
        participant: Some(resource),
    };
    fixture.inner.create_participant(&operator(), request).await.unwrap()
}

fn activating(fixture: &Fixture) -> api::ActivateParticipantRequest {
    api::ActivateParticipantRequest {
        request_id: fixture.request_id(),
        name: "participants/IN27001".into(),
        etag: String::new(),
    }
}

fn logging_in(fixture: &Fixture, assertion: &str) -> api::CreateParticipantSessionRequest {
    api::CreateParticipantSessionRequest {
        request_id: fixture.request_id(),
        participant: "participants/IN27001".into(),
        client_assertion: assertion.into(),
        roles: vec![ParticipantRole::Hip.into()],
        audiences: vec!["consent".into()],
    }
}

fn certificate(uri: &str) -> Certificate {
    Certificate {
        spiffe_id: Some(uri.into()),
        x5t_s256: Some("thumbprint".into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hospital_is_registered_activated_logged_in_and_stopped() {
    for fixture in fixtures().await {
        let created = create(&fixture, hospital()).await;
        assert_eq!(created.state(), api::participant::State::Pending);
        assert!(!created.registrations[0].verified, "nobody vouches for oneself");
        let peer = Peer::Anonymous;
        let log_in = |request| {
            fixture
                .inner
                .create_participant_session(&peer, certificate(SPIFFE), request)
        };
        assert_eq!(
            reason(log_in(logging_in(&fixture, "")).await),
            Reason::ParticipantNotActive
        );
        let active = fixture
            .inner
            .activate_participant(&operator(), activating(&fixture))
            .await
            .unwrap();
        assert!(active.registrations[0].verified);
        assert_eq!(
            reason(
                fixture
                    .inner
                    .activate_participant(&operator(), activating(&fixture))
                    .await
            ),
            Reason::StateConflict
        );
        let session = log_in(logging_in(&fixture, "")).await.unwrap();
        let claims = token::read(&session.access_tokens[0].token, |kid| fixture.inner.keys.find(kid)).unwrap();
        assert_eq!(
            (claims.cnf.clone().unwrap().x5t_s256.as_str(), claims.roles.as_slice()),
            ("thumbprint", &["HIP".to_owned()][..])
        );
        assert!(session.refresh_token.is_empty() && !fixture.inner.facts.ended(&claims));
        let other = fixture.inner.create_participant_session(
            &peer,
            certificate("spiffe://sammati.local/participant/IN27002"),
            logging_in(&fixture, ""),
        );
        assert_eq!(reason(other.await), Reason::AssertionInvalid);
        let researcher = api::CreateParticipantSessionRequest {
            roles: vec![ParticipantRole::Researcher.into()],
            ..logging_in(&fixture, "")
        };
        assert_eq!(reason(log_in(researcher).await), Reason::AssertionInvalid);
        let suspend = api::SuspendParticipantRequest {
            request_id: fixture.request_id(),
            name: created.name.clone(),
            etag: active.etag.clone(),
            reason: "audit".into(),
        };
        fixture.inner.suspend_participant(&operator(), suspend).await.unwrap();
        assert!(fixture.inner.facts.ended(&claims));
        assert_eq!(fixture.count_events("identity.session_revoked").await, 1);
        let nobody = api::GetParticipantRequest {
            name: "participants/IN99999".into(),
        };
        assert_eq!(
            reason(fixture.inner.get_participant(&operator(), nobody).await),
            Reason::NotFound
        );
    }
}

/// A replica may have heard that it was created and not yet that it was activated, when its first token is shown there.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_where_its_participant_is_not_known_to_be_activated() {
    for fixture in fixtures().await {
        let (facts, store) = (&fixture.inner.facts, &fixture.inner.store);
        let catch_up = async || while !facts.catch_up(store, &fixture.clock).await.unwrap() {};
        create(&fixture, hospital()).await;
        catch_up().await;
        let active = fixture
            .inner
            .activate_participant(&operator(), activating(&fixture))
            .await
            .unwrap();
        let session = fixture
            .inner
            .create_participant_session(&Peer::Anonymous, certificate(SPIFFE), logging_in(&fixture, ""))
            .await
            .unwrap();
        let claims = token::read(&session.access_tokens[0].token, |kid| fixture.inner.keys.find(kid)).unwrap();
        assert!(!facts.ended(&claims));
        // Of another session than the one whose end is remembered.
        let other = SessionId::new(fixture.now(), Slot::new(0), [7; 8]);
        let claims = token::Claims {
            sid: Some(other.to_string()),
            ..claims
        };
        let suspend = api::SuspendParticipantRequest {
            request_id: fixture.request_id(),
            name: active.name,
            etag: active.etag,
            reason: "audit".into(),
        };
        fixture.inner.suspend_participant(&operator(), suspend).await.unwrap();
        catch_up().await;
        assert!(facts.ended(&claims));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_is_good_once_and_for_a_minute() {
    for fixture in fixtures().await {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = SigningKey::from_pkcs8(der.as_ref()).unwrap();
        let keys = vec![api::ParticipantKey {
            kid: "k1".into(),
            jwk: key.public().to_jwk(),
            ..Default::default()
        }];
        create(
            &fixture,
            api::Participant {
                keys,
                spiffe_id: String::new(),
                ..hospital()
            },
        )
        .await;
        fixture
            .inner
            .activate_participant(&operator(), activating(&fixture))
            .await
            .unwrap();
        let assertion = |jti: &str, iat: i64| {
            let claims = format!(
                r#"{{"iss":"participants/IN27001","sub":"participants/IN27001","aud":"identity","jti":"{jti}","iat":{iat}}}"#
            );
            let header = B64.encode(r#"{"alg":"EdDSA","kid":"k1","typ":"JWT"}"#);
            key.sign_input(&format!("{header}.{}", B64.encode(claims)))
        };
        let peer = Peer::Anonymous;
        let log_in = |assertion: &str| {
            fixture.inner.create_participant_session(
                &peer,
                certificate("spiffe://elsewhere/x"),
                logging_in(&fixture, assertion),
            )
        };
        let now = fixture.clock.now().seconds();
        log_in(&assertion("a", now)).await.unwrap();
        assert_eq!(reason(log_in(&assertion("a", now)).await), Reason::AssertionReplayed);
        assert_eq!(
            reason(log_in(&assertion("b", now - 61)).await),
            Reason::AssertionInvalid
        );
        assert_eq!(reason(log_in("").await), Reason::AssertionInvalid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_updates_itself_where_it_may() {
    for fixture in fixtures().await {
        create(&fixture, hospital()).await;
        let update = |languages: &[&str], mask: &str| api::UpdateParticipantRequest {
            request_id: fixture.request_id(),
            participant: Some(api::Participant {
                name: "participants/IN27001".into(),
                languages: languages.iter().map(|l| (*l).to_owned()).collect(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec![mask.into()],
            }),
            etag: String::new(),
        };
        let itself = participant("IN27001", &[Role::Hip]);
        let updated = fixture
            .inner
            .update_participant(&itself, update(&["en", "hi"], "languages"))
            .await
            .unwrap();
        assert_eq!(
            (updated.languages.len(), updated.display_name.as_str()),
            (2, "Asha Hospital")
        );
        assert_eq!(
            reason(
                fixture
                    .inner
                    .update_participant(&itself, update(&[], "transfer_origins"))
                    .await
            ),
            Reason::NotAvailable
        );
        let other = participant("IN27002", &[Role::Hip]);
        assert_eq!(
            reason(
                fixture
                    .inner
                    .update_participant(&other, update(&["en"], "languages"))
                    .await
            ),
            Reason::NotAvailable
        );
        let shown = fixture
            .inner
            .get_participant(&other, api::GetParticipantRequest { name: updated.name })
            .await
            .unwrap();
        assert!(shown.keys.is_empty() && shown.transfer_origins.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_often_a_participant_may_call_is_an_operators_to_say() {
    for fixture in fixtures().await {
        let created = create(&fixture, hospital()).await;
        let update = |checks: i32, requests: i32| api::UpdateParticipantRequest {
            request_id: fixture.request_id(),
            participant: Some(api::Participant {
                name: created.name.clone(),
                rates: Some(api::CallRates {
                    checks_per_second: checks,
                    requests_per_second: requests,
                }),
                ..Default::default()
            }),
            update_mask: None,
            etag: String::new(),
        };
        let itself = participant("IN27001", &[Role::Hip]);
        let own = fixture.inner.update_participant(&itself, update(9, 9)).await;
        assert_eq!(reason(own), Reason::NotAvailable);
        let wrong = fixture
            .inner
            .update_participant(&operator(), update(-1, 1_000_001))
            .await
            .unwrap_err();
        let fields: Vec<_> = wrong.violations.iter().map(|v| v.field.to_string()).collect();
        assert_eq!(
            fields,
            ["checks", "requests"].map(|rate| format!("participant.rates.{rate}_per_second"))
        );
        let set = fixture.inner.update_participant(&operator(), update(2000, 0)).await;
        assert_eq!(set.unwrap().rates.unwrap().checks_per_second, 2000);
        let (facts, store) = (&fixture.inner.facts, &fixture.inner.store);
        let known = async || {
            while !facts.catch_up(store, &fixture.clock).await.unwrap() {}
            let rates = facts.rates(&ParticipantId::parse("IN27001").unwrap());
            (rates.checks, rates.requests)
        };
        assert_eq!(known().await, (2000, 0));
        for (caller, shown) in [(itself, true), (participant("IN27002", &[Role::Hip]), false)] {
            let name = created.name.clone();
            let read = fixture
                .inner
                .get_participant(&caller, api::GetParticipantRequest { name });
            assert_eq!(read.await.unwrap().rates.is_some(), shown);
        }
        fixture
            .inner
            .update_participant(&operator(), update(0, 0))
            .await
            .unwrap();
        assert_eq!(known().await, (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_facility_learns_only_that_everything_fits() {
    for fixture in fixtures().await {
        let account = fixture.enrol(1).await.account.unwrap();
        let ask = |number: &str, year: i32| api::ResolveSubjectRequest {
            identifier: Some(Identifier {
                identifier: Some(identifier::Identifier::AbhaNumber(number.into())),
            }),
            demographics: Some(Demographics {
                name: "Asha Rao".into(),
                gender: 2,
                year_of_birth: year,
                mobile: None,
            }),
        };
        let hip = participant("IN27001", &[Role::Hip]);
        let found = fixture
            .inner
            .resolve_subject(&hip, ask(&account.abha_number, 1985))
            .await
            .unwrap();
        assert_eq!((found.account.as_str(), found.preferred_address.as_str()), ("", ""));
        assert_eq!(found.state(), api::account::State::Unspecified);
        assert_eq!(found.mobile_match(), api::Match::NotGiven);
        let mut empty = ask(&account.abha_number, 1985);
        empty.demographics.as_mut().unwrap().mobile = Some(String::new());
        let found = fixture.inner.resolve_subject(&hip, empty).await.unwrap();
        assert_eq!(found.mobile_match(), api::Match::NotGiven, "an empty one is none");
        for year in [1899, 2027] {
            let never = fixture
                .inner
                .resolve_subject(&hip, ask(&account.abha_number, year))
                .await;
            assert_eq!(reason(never), Reason::FieldInvalid, "{year}");
        }
        let wrong = fixture
            .inner
            .resolve_subject(&hip, ask(&account.abha_number, 1990))
            .await
            .unwrap_err();
        let nobody = fixture
            .inner
            .resolve_subject(&hip, ask("91-1234-5678-9015", 1985))
            .await
            .unwrap_err();
        assert_eq!((wrong.reason, &wrong), (Reason::NoMatch, &nobody));
        let bare = api::ResolveSubjectRequest {
            demographics: None,
            ..ask(&account.abha_number, 0)
        };
        assert_eq!(
            reason(fixture.inner.resolve_subject(&hip, bare.clone()).await),
            Reason::FieldInvalid
        );
        let consent = Caller {
            peer: Peer::Service("consent".into()),
            actor: None,
        };
        let told = fixture.inner.resolve_subject(&consent, bare).await.unwrap();
        assert_eq!(told.preferred_address, account.addresses[0].address);
        assert_eq!((told.account, told.state), (account.name.clone(), account.state));
        let told = fixture
            .inner
            .resolve_subject(&consent, ask(&account.abha_number, 1990))
            .await
            .unwrap();
        assert_eq!(
            (told.year_of_birth_match(), told.name_match()),
            (api::Match::Mismatch, api::Match::Match)
        );
        assert_eq!(fixture.count_events("identity.lookup_refused").await, 3);
        // 31 December 2026, 18:30 UTC: in India it is the new year, in which somebody may have been born.
        let midnight = sammati_kernel::Micros::from_seconds(1_798_741_800);
        for (now, expected) in [(midnight.0 - 1, Reason::FieldInvalid), (midnight.0, Reason::NoMatch)] {
            fixture.clock.set(sammati_kernel::Micros(now));
            let newborn = ask(&account.abha_number, 2027);
            assert_eq!(reason(fixture.inner.resolve_subject(&hip, newborn).await), expected);
        }
    }
}
