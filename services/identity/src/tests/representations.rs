//! Others who act: proposed, accepted, held to their powers and their time, and gone when it ends.

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

use super::deletion::is_history;
use super::fixture::{CHILD, Fixture, app, fixtures, mobile, operator, person, reason};
use crate::account::purge;

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
        assert_eq!(majority, super::fixture::majority_of_child());

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

#[tokio::test(flavor = "multi_thread")]
async fn z1_a_proposal_tells_nobody_who_has_an_account() {
    for fixture in fixtures().await {
        let (she, _, his) = two(&fixture).await;
        let stranger = person(&fixture.enrol(300).await.session.unwrap());
        let nobody = his.replace(&his[his.len() - 6..], "abcdef");
        let child = fixture.enrol(CHILD).await.session.unwrap();
        let mut faces = Vec::new();
        for account in [&his, &nobody, &child.account] {
            let proposed = fixture
                .inner
                .create_representation(&she, delegate(&fixture, account))
                .await
                .unwrap();
            faces.push(api::Representation {
                name: String::new(),
                ..proposed.clone()
            });
            assert_eq!(
                reason(end(&fixture, &stranger, &proposed.name).await),
                Reason::NotAvailable
            );
        }
        assert!(faces.iter().all(|face| *face == faces[0]), "{faces:?}");
        // A child may be named, and is not eligible.
        let childs = &list(&fixture, &person(&child)).await[0].name;
        assert_eq!(
            reason(accept(&fixture, &person(&child), childs).await),
            Reason::RepresentativeNotEligible
        );
        // What nobody accepts ends by itself.
        fixture.pass(7 * 24 * 3600);
        assert!(
            list(&fixture, &she)
                .await
                .iter()
                .all(|r| r.end_reason() == EndReason::Time)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_gets_neither_account_nor_rights_and_ten_are_enough() {
    for fixture in fixtures().await {
        let (she, _, his) = two(&fixture).await;
        for power in [Power::ManageAccount, Power::Rights] {
            let request = api::CreateRepresentationRequest {
                powers: vec![power.into()],
                ..delegate(&fixture, &his)
            };
            assert_eq!(
                reason(fixture.inner.create_representation(&she, request).await),
                Reason::PowerNotDelegable
            );
        }
        let too_long = api::CreateRepresentationRequest {
            period: Some(prost_types::Duration {
                seconds: 366 * 24 * 3600,
                nanos: 0,
            }),
            ..delegate(&fixture, &his)
        };
        assert_eq!(
            reason(fixture.inner.create_representation(&she, too_long).await),
            Reason::FieldInvalid
        );
        for _ in 0..10 {
            fixture
                .inner
                .create_representation(&she, nominee(&fixture, &his))
                .await
                .unwrap();
        }
        assert_eq!(
            reason(fixture.inner.create_representation(&she, nominee(&fixture, &his)).await),
            Reason::OpenLimit
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_accepting_and_ending_at_once_the_end_stays() {
    for fixture in fixtures().await {
        let (she, he, his) = two(&fixture).await;
        let other = fixture.replica().await.unwrap_or_else(|| fixture.clone());
        for _ in 0..5 {
            let proposed = fixture
                .inner
                .create_representation(&she, delegate(&fixture, &his))
                .await
                .unwrap();
            let name = Arc::new(proposed.name);
            let (accepted, ended) = tokio::join!(accept(&fixture, &he, &name), end(&other, &she, &name));
            ended.unwrap();
            if let Err(refusal) = accepted {
                assert_eq!(refusal.reason, Reason::StateConflict);
            }
            assert_eq!(list(&fixture, &she).await[0].state(), State::Ended);
            assert_eq!(reason(act(&fixture, HIM, &name).await), Reason::RepresentationNotActive);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_a_restore_lost_is_done_again() {
    for fixture in fixtures().await {
        let (she, he, his) = two(&fixture).await;
        let proposed = fixture
            .inner
            .create_representation(&she, delegate(&fixture, &his))
            .await
            .unwrap();
        accept(&fixture, &he, &proposed.name).await.unwrap();
        let session = act(&fixture, HIM, &proposed.name).await.unwrap();
        let her = Some(actor(types::CallerKind::Person, &proposed.principal));
        let lost = lost_end(&fixture, &proposed.name, her, "");
        for lines in [1, 0] {
            let again = sammati_server::Again {
                store: fixture.inner.store.clone(),
                lost: vec![lost.clone()],
            };
            assert_eq!(crate::again::again(again).await.unwrap().len(), lines);
        }
        assert_eq!(list(&fixture, &she).await[0].state(), State::Ended);
        assert_eq!(reason(refresh(&fixture, &session).await), Reason::RefreshExpired);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_done_again_says_who_had_ended_it() {
    use types::CallerKind::{Operator, Person, Service};
    for fixture in fixtures().await {
        let (she, he, his) = two(&fixture).await;
        let hers = she.account().unwrap().name();
        let before = fixture.request_id();
        let cases = [
            (Some(actor(Person, &hers)), "", EndReason::Principal),
            (Some(actor(Person, &his)), "", EndReason::Representative),
            (Some(actor(Operator, "operators/asha")), "", EndReason::Operator),
            (Some(actor(Service, "services/identity")), "", EndReason::Account),
            (Some(actor(Service, "services/identity")), LATE, EndReason::Time),
            // What an earlier recovery did: who had wanted it is not known any more.
            (
                Some(actor(Service, "services/identity")),
                before.as_str(),
                EndReason::Unspecified,
            ),
            (None, "", EndReason::Unspecified),
        ];
        for (by, cause, ended) in cases {
            let request = delegate(&fixture, &his);
            let proposed = fixture.inner.create_representation(&she, request).await.unwrap();
            accept(&fixture, &he, &proposed.name).await.unwrap();
            let again = sammati_server::Again {
                store: fixture.inner.store.clone(),
                lost: vec![lost_end(&fixture, &proposed.name, by.clone(), cause)],
            };
            crate::again::again(again).await.unwrap();
            let listed = list(&fixture, &she).await;
            let shown = listed.iter().find(|r| r.name == proposed.name).unwrap();
            assert_eq!((shown.state(), shown.end_reason()), (State::Ended, ended), "{by:?}");
        }
    }
}

/// For a cause: none, and it happened when the period was over.
const LATE: &str = "late";

fn actor(kind: types::CallerKind, id: &str) -> audit::Actor {
    audit::Actor {
        kind: kind.into(),
        id: id.into(),
        ..Default::default()
    }
}

/// The event of an end that only the log knows of.
fn lost_end(fixture: &Fixture, name: &str, actor: Option<audit::Actor>, cause: &str) -> audit::LogEvent {
    audit::LogEvent {
        header: Some(audit::Leaf {
            event_id: fixture.request_id(),
            event_type: "identity.representation_ended".into(),
            causation_event_id: if cause == LATE { String::new() } else { cause.into() },
            occurred_time: (cause == LATE).then_some(prost_types::Timestamp {
                seconds: 4_000_000_000,
                nanos: 0,
            }),
            ..Default::default()
        }),
        payload: Some(audit::Payload {
            actor,
            resource: name.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_repeated_proposal_is_answered_though_she_took_the_address_that_it_names() {
    for fixture in fixtures().await {
        let enrolled = fixture.enrol(HER).await;
        let (account, she) = (enrolled.account.unwrap(), person(&enrolled.session.unwrap()));
        let address = "asha.later@sbx".to_owned();
        let request = api::CreateRepresentationRequest {
            representative: Some(types::Identifier {
                identifier: Some(types::identifier::Identifier::AbhaAddress(address)),
            }),
            ..delegate(&fixture, "")
        };
        let create = |request: &api::CreateRepresentationRequest| {
            let (inner, she, request) = (fixture.inner.clone(), she.clone(), request.clone());
            async move { inner.create_representation(&she, request).await }
        };
        let proposed = create(&request).await.unwrap();
        let taking = api::CreateAddressRequest {
            request_id: fixture.request_id(),
            account: account.name,
            local_part: "asha.later".into(),
            ..Default::default()
        };
        fixture.inner.create_address(&she, taking).await.unwrap();
        assert_eq!(create(&request).await.unwrap(), proposed);
        let anew = api::CreateRepresentationRequest {
            request_id: fixture.request_id(),
            ..request
        };
        assert_eq!(
            reason(create(&anew).await),
            Reason::FieldInvalid,
            "nobody represents herself"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_evidence_is_told_of_that_and_of_all_else() {
    for fixture in fixtures().await {
        let child = fixture.enrol(CHILD).await.session.unwrap();
        let his = fixture.enrol(HIM).await.session.unwrap();
        let without = api::CreateRepresentationRequest {
            evidence: None,
            ..guardian(&fixture, &child.account, &his.account)
        };
        let wrong = api::CreateRepresentationRequest {
            powers: Vec::new(),
            ..without.clone()
        };
        let staff = operator();
        let fields = async |request| {
            let refusal = fixture.inner.create_representation(&staff, request).await.unwrap_err();
            let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.to_string()).collect();
            (refusal.reason, fields)
        };
        let evidence = || "evidence".to_owned();
        assert_eq!(fields(without).await, (Reason::EvidenceRequired, vec![evidence()]));
        let both = vec!["powers".to_owned(), evidence()];
        assert_eq!(fields(wrong).await, (Reason::FieldInvalid, both));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ward_does_not_dismiss_her_guardian_but_he_and_an_operator_may_end_it() {
    for fixture in fixtures().await {
        let child = fixture.enrol(CHILD).await.session.unwrap();
        let his = fixture.enrol(HIM).await.session.unwrap();
        let (ward, he, staff) = (person(&child), person(&his), operator());
        for kind in [Kind::Guardian, Kind::DisabilityGuardian] {
            for by in [&he, &staff] {
                let request = api::CreateRepresentationRequest {
                    kind: kind.into(),
                    ..guardian(&fixture, &child.account, &his.account)
                };
                let proposed = fixture.inner.create_representation(&staff, request).await.unwrap();
                assert_eq!(
                    reason(end(&fixture, &ward, &proposed.name).await),
                    Reason::NotAvailable,
                    "{kind:?}, proposed"
                );
                accept(&fixture, &he, &proposed.name).await.unwrap();
                assert_eq!(
                    reason(end(&fixture, &ward, &proposed.name).await),
                    Reason::NotAvailable,
                    "{kind:?}, active"
                );
                let ended = end(&fixture, by, &proposed.name).await.unwrap();
                assert_eq!(ended.state(), State::Ended);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_for_a_deleted_account_nor_by_one() {
    for of_her in [true, false] {
        for fixture in fixtures().await {
            let (she, he, his) = two(&fixture).await;
            let proposed = fixture
                .inner
                .create_representation(&she, delegate(&fixture, &his))
                .await
                .unwrap();
            accept(&fixture, &he, &proposed.name).await.unwrap();
            let session = act(&fixture, HIM, &proposed.name).await.unwrap();
            purge(&fixture.inner.store).await.unwrap();
            assert_eq!(fixture.count_events("identity.representation_ended").await, 0);
            let deleted = if of_her { &she } else { &he };
            let delete = api::DeleteAccountRequest {
                request_id: fixture.request_id(),
                name: deleted.account().unwrap().name(),
                legal_basis: "her letter".into(),
                ..Default::default()
            };
            fixture.inner.delete_account(&operator(), delete).await.unwrap();
            for _ in 0..2 {
                purge(&fixture.inner.store).await.unwrap();
            }
            let other = if of_her { &he } else { &she };
            let ended = &list(&fixture, other).await[0];
            assert_eq!((ended.state(), ended.end_reason()), (State::Ended, EndReason::Account));
            assert!(refresh(&fixture, &session).await.is_err());
            assert_eq!(fixture.count_events("identity.representation_ended").await, 1);
            let n = if of_her { HER } else { HIM };
            is_history(&fixture, deleted.account().unwrap(), n).await;
        }
    }
}
