//! Others who act: held to their powers and their time.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1 as audit;
use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::representation::{EndReason, Kind, State};
use sammati_api::types::v1 as types;
use sammati_api::types::v1::Power;
use sammati_kernel::{Actor, Caller, Micros, Reason, Refusal};
use sammati_server::authn::TokenFacts;
use sammati_server::token;

use crate::account::purge;
use crate::tests::deletion::is_history;
use crate::tests::fixture::{CHILD, Fixture, app, fixtures, mobile, operator, person, reason};

mod ending;
mod proposing;

/// She, and who acts for her; they share no mobile.
const HER: u64 = 100;
const HIM: u64 = 200;

fn named(account: &str) -> Option<types::Identifier> {
    Some(types::Identifier {
        identifier: Some(types::identifier::Identifier::Account(account.into())),
    })
}

fn delegate(fixture: &Fixture, representative: &str) -> api::CreateRepresentationRequest {
    api::CreateRepresentationRequest {
        request_id: fixture.request_id(),
        kind: Kind::Delegate.into(),
        representative: named(representative),
        powers: vec![Power::Decide.into()],
        period: Some(prost_types::Duration {
            seconds: 30 * 24 * 3600,
            nanos: 0,
        }),
        limits: Some(api::Limits {
            purposes: vec![types::PurposeCode::Caremgt.into()],
            participants: vec!["participants/HOSP-1".into()],
        }),
        ..Default::default()
    }
}

fn nominee(fixture: &Fixture, representative: &str) -> api::CreateRepresentationRequest {
    api::CreateRepresentationRequest {
        kind: Kind::Nominee.into(),
        period: None,
        limits: None,
        ..delegate(fixture, representative)
    }
}

fn evidence() -> Option<api::Evidence> {
    Some(api::Evidence {
        r#type: "BIRTH_CERTIFICATE".into(),
        sha256: vec![7; 32],
        checked_by: String::new(),
    })
}

fn guardian(fixture: &Fixture, child: &str, representative: &str) -> api::CreateRepresentationRequest {
    api::CreateRepresentationRequest {
        principal: child.into(),
        kind: Kind::Guardian.into(),
        powers: vec![Power::Decide.into(), Power::ManageAccount.into()],
        evidence: evidence(),
        ..nominee(fixture, representative)
    }
}

async fn accept(fixture: &Fixture, caller: &Caller, name: &str) -> Result<api::Representation, Refusal> {
    let request = api::AcceptRepresentationRequest {
        request_id: fixture.request_id(),
        name: name.into(),
        etag: String::new(),
    };
    fixture.inner.accept_representation(caller, request).await
}

async fn end(fixture: &Fixture, caller: &Caller, name: &str) -> Result<api::Representation, Refusal> {
    let request = api::EndRepresentationRequest {
        request_id: fixture.request_id(),
        name: name.into(),
        etag: String::new(),
    };
    fixture.inner.end_representation(caller, request).await
}

async fn activate(fixture: &Fixture, name: &str) -> Result<api::Representation, Refusal> {
    let request = api::ActivateRepresentationRequest {
        request_id: fixture.request_id(),
        name: name.into(),
        etag: String::new(),
        evidence: evidence(),
    };
    fixture.inner.activate_representation(&operator(), request).await
}

async fn list(fixture: &Fixture, caller: &Caller) -> Vec<api::Representation> {
    let request = api::ListRepresentationsRequest::default();
    let listed = fixture.inner.list_representations(caller, request).await.unwrap();
    listed.representations
}

/// Logs in whoever has the `n`th mobile, to act under a representation.
async fn act(fixture: &Fixture, n: u64, representation: &str) -> Result<api::Session, Refusal> {
    fixture.pass(61);
    let begun = fixture.logging_in(n).await;
    let otp = fixture.inbox.last(&mobile(n)).unwrap();
    fixture.verify_otp(&app(), &begun.name, &otp).await.unwrap();
    let request = api::CreateSessionRequest {
        request_id: fixture.request_id(),
        transaction: begun.name,
        audiences: vec!["consent".into()],
        representation: representation.into(),
        ..Default::default()
    };
    fixture.inner.create_session(&app(), request).await
}

async fn refresh(fixture: &Fixture, session: &api::Session) -> Result<api::Session, Refusal> {
    let request = api::RefreshSessionRequest {
        request_id: fixture.request_id(),
        refresh_token: session.refresh_token.clone(),
        audiences: vec!["consent".into()],
    };
    fixture.inner.refresh_session(&app(), request).await
}

fn claims(fixture: &Fixture, session: &api::Session) -> token::Claims {
    token::read(&session.access_tokens[0].token, |kid| fixture.inner.keys.find(kid)).unwrap()
}

/// She and he, enrolled and logged in.
async fn two(fixture: &Fixture) -> (Caller, Caller, String) {
    let hers = fixture.enrol(HER).await.session.unwrap();
    let his = fixture.enrol(HIM).await.session.unwrap();
    (person(&hers), person(&his), his.account)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_acts_in_a_session_that_names_both_until_she_ends_it() {
    for fixture in fixtures().await {
        let (she, he, his) = two(&fixture).await;
        let request = delegate(&fixture, &his);
        let proposed = fixture
            .inner
            .create_representation(&she, request.clone())
            .await
            .unwrap();
        assert_eq!(proposed.state(), State::Proposed);
        assert_eq!(proposed.representative, "", "she learns from who accepts");
        assert_eq!(proposed.powers, [Power::Read, Power::Decide].map(i32::from));
        assert_eq!(
            fixture.inner.create_representation(&she, request).await.unwrap(),
            proposed
        );
        assert_eq!(list(&fixture, &he).await[0].representative, his);
        assert_eq!(
            reason(act(&fixture, HIM, &proposed.name).await),
            Reason::RepresentationNotActive
        );
        assert_eq!(
            reason(accept(&fixture, &she, &proposed.name).await),
            Reason::NotAvailable
        );
        let active = accept(&fixture, &he, &proposed.name).await.unwrap();
        assert_eq!((active.state(), &active.representative), (State::Active, &his));

        let session = act(&fixture, HIM, &proposed.name).await.unwrap();
        assert_eq!(session.kinds, [types::CallerKind::Representative as i32]);
        assert_eq!(
            (session.account.as_str(), &session.representation),
            ("", &proposed.name)
        );
        let Some(Actor::Representative(acting)) = claims(&fixture, &session).actor() else {
            panic!("a representative")
        };
        assert_eq!(Some(acting.principal), she.account());
        assert_eq!(Some(acting.representative), he.account());
        assert_eq!(acting.purposes.len() + acting.participants.len(), 2);
        let session = refresh(&fixture, &session).await.unwrap();
        assert!(!fixture.inner.facts.ended(&claims(&fixture, &session)));
        // Nobody else logs in with it: to her it is absent, as to a stranger.
        assert_eq!(reason(act(&fixture, HER, &proposed.name).await), Reason::NotAvailable);

        let ended = end(&fixture, &she, &proposed.name).await.unwrap();
        assert_eq!(
            (ended.state(), ended.end_reason()),
            (State::Ended, EndReason::Principal)
        );
        assert!(
            fixture.inner.facts.ended(&claims(&fixture, &session)),
            "its tokens at once"
        );
        assert_eq!(reason(refresh(&fixture, &session).await), Reason::RefreshExpired);
        assert_eq!(reason(end(&fixture, &he, &proposed.name).await), Reason::StateConflict);
        assert_eq!(fixture.count_events("identity.session_revoked").await, 1);
        for event in ["proposed", "accepted", "ended"] {
            let event = format!("identity.representation_{event}");
            assert_eq!(fixture.count_events(&event).await, 1, "{event}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_knows_at_once_that_a_representation_ended() {
    for fixture in fixtures().await {
        let Some(other) = fixture.replica().await else { continue };
        let (she, he, his) = two(&fixture).await;
        let proposed = fixture
            .inner
            .create_representation(&she, delegate(&fixture, &his))
            .await
            .unwrap();
        accept(&other, &he, &proposed.name).await.unwrap();
        let session = act(&other, HIM, &proposed.name).await.unwrap();
        end(&fixture, &she, &proposed.name).await.unwrap();
        while !other
            .inner
            .facts
            .catch_up(&other.inner.store, &other.clock)
            .await
            .unwrap()
        {}
        assert!(other.inner.facts.ended(&claims(&other, &session)));
        assert_eq!(reason(refresh(&other, &session).await), Reason::RefreshExpired);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nominee_waits_for_evidence_and_for_her_objection() {
    for fixture in fixtures().await {
        let (she, he, his) = two(&fixture).await;
        let mut names = Vec::new();
        for _ in 0..2 {
            let proposed = fixture
                .inner
                .create_representation(&she, nominee(&fixture, &his))
                .await
                .unwrap();
            assert_eq!(reason(activate(&fixture, &proposed.name).await), Reason::StateConflict);
            let waiting = accept(&fixture, &he, &proposed.name).await.unwrap();
            assert_eq!(waiting.state(), State::Standby);
            names.push(proposed.name);
        }
        let told = fixture.inbox.count();
        let active = activate(&fixture, &names[0]).await.unwrap();
        assert_eq!(active.state(), State::Active);
        assert_eq!(fixture.inbox.count(), told + 1);
        assert_eq!(
            fixture.inbox.last(&mobile(HER)).as_deref(),
            Some("representation-activated")
        );
        assert_eq!(
            reason(act(&fixture, HIM, &names[0]).await),
            Reason::RepresentationNotActive
        );
        activate(&fixture, &names[1]).await.unwrap();
        // She objects to one of them in time.
        end(&fixture, &she, &names[1]).await.unwrap();
        fixture.pass(72 * 3600);
        act(&fixture, HIM, &names[0]).await.unwrap();
        assert_eq!(
            reason(act(&fixture, HIM, &names[1]).await),
            Reason::RepresentationNotActive
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_guardian_is_over_when_the_child_comes_of_age() {
    for fixture in fixtures().await {
        let child = fixture.enrol(CHILD).await.session.unwrap();
        let his = fixture.enrol(HIM).await.session.unwrap();
        let staff = operator();
        let create = |request| fixture.inner.create_representation(&staff, request);
        let without = api::CreateRepresentationRequest {
            evidence: None,
            ..guardian(&fixture, &child.account, &his.account)
        };
        assert_eq!(reason(create(without).await), Reason::EvidenceRequired);
        assert_eq!(
            reason(create(guardian(&fixture, &his.account, &child.account)).await),
            Reason::RepresentativeNotEligible,
            "of an adult, by a child"
        );
        let proposed = create(guardian(&fixture, &child.account, &his.account)).await.unwrap();
        accept(&fixture, &person(&his), &proposed.name).await.unwrap();
        let majority = Micros::from_seconds(proposed.end_time.unwrap().seconds);
        assert_eq!(majority, crate::tests::fixture::majority_of_child());

        let last =
            Duration::from_micros(u64::try_from(majority.0 - fixture.now().0).unwrap()) - Duration::from_secs(150);
        fixture.clock.advance(last);
        let session = act(&fixture, HIM, &proposed.name).await.unwrap();
        let claims = claims(&fixture, &session);
        assert!(claims.is_live(Micros(majority.0 - 1)));
        assert!(!claims.is_live(majority), "no token outlives it");
        fixture.clock.advance(Duration::from_micros(
            u64::try_from(majority.0 - fixture.now().0).unwrap(),
        ));
        // By the clock, before anything is written.
        let listed = &list(&fixture, &person(&his)).await[0];
        assert_eq!((listed.state(), listed.end_reason()), (State::Ended, EndReason::Time));
        assert_eq!(reason(refresh(&fixture, &session).await), Reason::RefreshExpired);
        assert_eq!(
            reason(end(&fixture, &person(&his), &proposed.name).await),
            Reason::StateConflict
        );
        assert_eq!(fixture.count_events("identity.representation_ended").await, 0);
        for _ in 0..2 {
            crate::representation::expire(&fixture.inner.store).await.unwrap();
        }
        assert_eq!(fixture.count_events("identity.representation_ended").await, 1);
        assert_eq!(fixture.count_events("identity.session_revoked").await, 1);
    }
}
