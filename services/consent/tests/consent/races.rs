//! Everybody at once: exactly one legal history (C1), exactly the uses there are (C2), nothing after a revoke (C4).

use std::sync::Arc;

use futures::future::join_all;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent::State as Ended;
use sammati_api::consent::v1::consent_request::State;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::decision::{Outcome, Reason as Why};
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_api::types::v1 as types;
use sammati_consent::sweep;
use sammati_kernel::{Caller, Reason};

use crate::deciding::question;
use crate::world::{DAY, HOUR, World, by, everywhere, participant, refused};

/// What one of the racers did.
enum Did {
    Approve,
    Deny,
}

async fn race(
    w: &Arc<World>,
    she: &Caller,
    request: &api::ConsentRequest,
    sweeping: bool,
) -> Vec<(Did, Result<(), sammati_kernel::Refusal>)> {
    let racers = (0..64).map(|n| {
        let (w, she, request) = (Arc::clone(w), she.clone(), request.clone());
        tokio::spawn(async move {
            if sweeping && n % 4 == 3 {
                sweep::sweep(w.store()).await.unwrap();
            }
            if n % 2 == 0 {
                let done = w.approve(&she, w.approval(&request)).await.map(drop);
                (Did::Approve, done.map_err(|s| refused::<()>(Err(s))))
            } else {
                let message = api::DenyConsentRequestRequest {
                    name: request.name.clone(),
                    request_id: w.request_id(),
                    ..Default::default()
                };
                let done = w.rpc().deny_consent_request(by(&she, message)).await.map(drop);
                (Did::Deny, done.map_err(|s| refused::<()>(Err(s))))
            }
        })
    });
    join_all(racers).await.into_iter().map(Result::unwrap).collect()
}

#[test]
fn c1_of_64_racing_decisions_exactly_one_wins() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let done = race(&w, &she, &request, true).await;
        let winners: Vec<_> = done.iter().filter(|(_, r)| r.is_ok()).collect();
        assert_eq!(winners.len(), 1);
        assert!(
            done.iter()
                .filter_map(|(_, r)| r.as_ref().err())
                .all(|r| r.reason == Reason::StateConflict)
        );
        let name = request.name.clone();
        let read = w
            .rpc()
            .get_consent_request(by(&she, api::GetConsentRequestRequest { name }))
            .await
            .unwrap()
            .into_inner();
        let (granted, artefacts, denied) = (
            w.count("consent.granted").await,
            w.count("consent.artefact_issued").await,
            w.count("consent.denied").await,
        );
        match winners[0].0 {
            Did::Approve => assert_eq!(
                (read.state(), granted, artefacts, denied, read.consents.len()),
                (State::Granted, 1, 2, 0, 1)
            ),
            Did::Deny => assert_eq!(
                (read.state(), granted, artefacts, denied, read.consents.len()),
                (State::Denied, 0, 0, 1, 0)
            ),
        }
    });
}

/// One request is sent 32 times at once under one id, on all replicas, and so is another under the same: one of them is made,
/// once, whoever sent it gets that, and the other is told that the id is used.
#[test]
fn i1_of_64_racing_creates_with_one_request_id_one_makes_a_request() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        let asks = w.asks("asha.rao@sbx");
        let other = api::CreateConsentRequestRequest {
            hips: vec!["participants/lab".into()],
            ..asks.clone()
        };
        let racers = (0..64).map(|n| {
            let (w, message) = (Arc::clone(&w), if n % 2 == 0 { asks.clone() } else { other.clone() });
            tokio::spawn(async move { (n % 2, w.create(message).await) })
        });
        let done: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        let (made, not_made): (Vec<_>, Vec<_>) = done.into_iter().partition(|(_, done)| done.is_ok());
        // Where in the feed each answer was read is no part of it.
        let told = |(body, done): (i32, Result<api::ConsentRequest, _>)| {
            let mut made = done.unwrap();
            made.revision.clear();
            (body, made)
        };
        let made: Vec<_> = made.into_iter().map(told).collect();
        assert_eq!((made.len(), not_made.len()), (32, 32));
        assert!(
            made.iter().all(|one| *one == made[0]),
            "every repeat gets the first answer"
        );
        for (body, refusal) in not_made {
            assert_ne!(body, made[0].0);
            assert_eq!(refused(refusal).reason, Reason::RequestIdReused);
        }
        assert_eq!(w.count("consent.requested").await, 1);
        let all = api::ListConsentRequestsRequest::default();
        let listed = w.rpc().list_consent_requests(by(&participant("clinic"), all)).await;
        let listed = listed.unwrap().into_inner().consent_requests;
        assert_eq!((listed.len(), &listed[0].name), (1, &made[0].1.name));
    });
}

#[test]
fn c1_at_the_end_of_the_window_nobody_wins_but_the_clock() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        w.advance(7 * DAY);
        let done = race(&w, &w.she(account), &request, true).await;
        assert!(
            done.iter()
                .all(|(_, r)| r.as_ref().is_err_and(|r| r.reason == Reason::RequestExpired))
        );
        assert_eq!(
            (
                w.count("consent.request_expired").await,
                w.count("consent.granted").await,
                w.count("consent.denied").await
            ),
            (1, 0, 0)
        );
    });
}

#[test]
fn c1_racing_revokes_and_the_clock_end_a_consent_once() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let racers = (0..64).map(|_| {
            let (w, she, name) = (Arc::clone(&w), she.clone(), consent.name.clone());
            tokio::spawn(async move { w.revoke(&she, &[&name]).await.unwrap().changed_count })
        });
        let changed: i32 = join_all(racers).await.into_iter().map(Result::unwrap).sum();
        w.advance(60 * DAY);
        sweep::sweep(w.store()).await.unwrap();
        assert_eq!(
            (
                changed,
                w.count("consent.withdrawn").await,
                w.count("consent.expired").await
            ),
            (1, 1, 0)
        );
    });
}

/// Her revokes come while its last second ends and sweeps write the expiry: it ends once, and as everybody was told.
#[test]
fn c1_c2_an_expiry_racing_a_revoke_ends_a_consent_once() {
    everywhere(|w| async move {
        let (mut revoked, mut expired) = (0, 0);
        for round in 0..8 {
            let (she, consent) = w.granted("asha.rao@sbx", |scope| scope.erase_time = w.at(DAY)).await;
            w.advance(DAY - 1);
            let racers = (0..32).map(|n| {
                let (w, she, name) = (Arc::clone(&w), she.clone(), consent.name.clone());
                tokio::spawn(async move {
                    match n % 4 {
                        // In each round time comes a little earlier.
                        _ if n == 21 - 3 * round => w.advance(1),
                        3 => drop(sweep::sweep(w.store()).await.unwrap()),
                        _ => return w.revoke(&she, &[&name]).await.unwrap().changed_count,
                    }
                    0
                })
            });
            let changed: i32 = join_all(racers).await.into_iter().map(Result::unwrap).sum();
            sweep::sweep(w.store()).await.unwrap();
            let ends = (w.count("consent.withdrawn").await, w.count("consent.expired").await);
            revoked += usize::try_from(changed).unwrap();
            expired += usize::from(changed == 0);
            assert_eq!(ends, (revoked, expired), "round {round}: {changed}");
            let request = api::GetConsentRequest { name: consent.name };
            let read = w.rpc().get_consent(by(&she, request)).await.unwrap().into_inner();
            let state = if changed == 1 { Ended::Revoked } else { Ended::Expired };
            assert_eq!(read.state(), state, "round {round}");
        }
    });
}

#[test]
fn c2_of_1000_authorizes_against_10_uses_exactly_10_permit() {
    everywhere(|w| async move {
        let (_, consent) = w.granted("asha.rao@sbx", |scope| scope.max_uses = 10).await;
        let racers = (0..1000).map(|_| {
            let (w, name) = (Arc::clone(&w), consent.name.clone());
            tokio::spawn(async move {
                let message = question(&w, &name).authorize(w.request_id());
                w.rpc()
                    .authorize_access(by(&participant("hospital"), message))
                    .await
                    .unwrap()
                    .into_inner()
            })
        });
        let decisions: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        let mut uses: Vec<_> = decisions.iter().filter_map(|d| d.r#use).collect();
        uses.sort_unstable();
        assert_eq!(uses, (1..=10).collect::<Vec<_>>());
        let denied = decisions.iter().filter(|d| d.outcome() == Outcome::Deny);
        assert!(denied.clone().count() == 990 && denied.clone().all(|d| d.reason() == Why::UseLimitReached));
        let events = (
            w.count("access.authorized").await,
            w.count("data.use_consumed").await,
            w.count("access.denied").await,
        );
        assert_eq!(events, (10, 10, 990));
    });
}

/// Three uses an hour, asked for by many at once, in each of three hours.
#[test]
fn c2_of_racing_authorizes_each_window_permits_exactly_its_uses() {
    everywhere(|w| async move {
        let hourly = |scope: &mut types::Scope| {
            let frequency = scope.frequency.as_mut().unwrap();
            (frequency.value, frequency.repeats) = (3, 2);
        };
        let (_, consent) = w.granted("asha.rao@sbx", hourly).await;
        for (hour, uses) in [(0, 3), (1, 3), (2, 3), (3, 0)] {
            let racers = (0..60).map(|_| {
                let (w, name) = (Arc::clone(&w), consent.name.clone());
                tokio::spawn(async move {
                    let message = question(&w, &name).authorize(w.request_id());
                    let done = w.rpc().authorize_access(by(&participant("hospital"), message)).await;
                    done.unwrap().into_inner().outcome() == Outcome::Permit
                })
            });
            let permits = join_all(racers)
                .await
                .into_iter()
                .filter(|done| *done.as_ref().unwrap());
            assert_eq!(permits.count(), uses, "hour {hour}");
            w.advance(HOUR);
        }
    });
}

#[test]
fn c4_after_a_revoke_returned_nothing_permits_on_any_replica() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let check = async || {
            let message = question(&w, &consent.name).check();
            w.rpc()
                .check_access(by(&participant("hospital"), message))
                .await
                .unwrap()
                .into_inner()
        };
        for _ in 0..4 {
            assert_eq!(check().await.outcome(), Outcome::Permit);
        }
        w.revoke(&she, &[&consent.name]).await.unwrap();
        for _ in 0..200 {
            let denied = check().await;
            assert_eq!(
                (denied.outcome(), denied.reason()),
                (Outcome::Deny, Why::ConsentRevoked)
            );
        }
        let message = question(&w, &consent.name).authorize(w.request_id());
        let denied = w
            .rpc()
            .authorize_access(by(&participant("hospital"), message))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(denied.reason(), Why::ConsentRevoked);
    });
}
