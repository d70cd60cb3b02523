//! How it ends, and ends again after a restore.

use super::*;

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
