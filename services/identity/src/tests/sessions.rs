//! Sessions rotate, end, and are told to others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::change::Kind;
use sammati_api::identity::v1::watch_changes_response::Item;
use sammati_kernel::{Caller, Peer, Reason, Refusal};
use sammati_server::authn::TokenFacts;
use sammati_server::token;
use sammati_store::SKEW;

use super::fixture::{Fixture, app, fixtures, mobile, operator, participant, person, reason};
use crate::rows::PRUNING;

fn refreshing(fixture: &Fixture, token: &str) -> api::RefreshSessionRequest {
    api::RefreshSessionRequest {
        request_id: fixture.request_id(),
        refresh_token: token.into(),
        audiences: vec!["consent".into()],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_good_once_and_a_stolen_one_ends_the_session() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let request = refreshing(&fixture, &session.refresh_token);
        let second = fixture.inner.refresh_session(&app(), request.clone()).await.unwrap();
        assert_ne!(second.refresh_token, session.refresh_token);
        assert_eq!(
            fixture.inner.refresh_session(&app(), request.clone()).await.unwrap(),
            second,
            "a retry within 30 s"
        );
        assert_eq!(
            reason(
                fixture
                    .inner
                    .refresh_session(&participant("APP-2", &[]), refreshing(&fixture, &second.refresh_token))
                    .await
            ),
            Reason::NotAvailable
        );
        let mut bent = second.refresh_token.clone();
        bent.pop();
        assert_eq!(
            reason(fixture.inner.refresh_session(&app(), refreshing(&fixture, &bent)).await),
            Reason::RefreshExpired
        );
        fixture.pass(31);
        assert_eq!(
            reason(fixture.inner.refresh_session(&app(), request).await),
            Reason::RefreshReused,
            "too late to be a retry"
        );
        assert_eq!(fixture.count_events("identity.session_reuse_detected").await, 1);
        assert_eq!(
            reason(
                fixture
                    .inner
                    .refresh_session(&app(), refreshing(&fixture, &second.refresh_token))
                    .await
            ),
            Reason::RefreshExpired
        );

        let other = fixture.enrol(1).await.session.unwrap();
        fixture
            .inner
            .refresh_session(&app(), refreshing(&fixture, &other.refresh_token))
            .await
            .unwrap();
        assert_eq!(
            reason(
                fixture
                    .inner
                    .refresh_session(&app(), refreshing(&fixture, &other.refresh_token))
                    .await
            ),
            Reason::RefreshReused
        );
        let claims = token::read(&other.access_tokens[0].token, |kid| fixture.inner.keys.find(kid)).unwrap();
        assert!(fixture.inner.facts.ended(&claims), "its access tokens too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_refreshes_with_one_token_one_wins() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (fixture, request) = (fixture.clone(), refreshing(&fixture, &session.refresh_token));
            calls.spawn(async move { fixture.inner.refresh_session(&app(), request).await });
        }
        let results: Vec<Result<_, Refusal>> = calls.join_all().await;
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
        assert_eq!(fixture.count_events("identity.session_refreshed").await, 1);
        assert_eq!(fixture.count_events("identity.session_reuse_detected").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_mobile_chooses_among_its_accounts() {
    for fixture in fixtures().await {
        for n in 0..3 {
            fixture.enrol(n).await;
        }
        let begun = fixture.logging_in(0).await;
        let otp = fixture.inbox.last(&mobile(0)).unwrap();
        let verified = fixture.verify_otp(&app(), &begun.name, &otp).await.unwrap();
        assert_eq!(verified.candidates.len(), 3);
        assert!(
            verified
                .candidates
                .iter()
                .all(|c| c.masked_number.starts_with("xx-xxxx-xxxx-") && c.name == "Asha Rao")
        );
        let login = |index| api::CreateSessionRequest {
            request_id: fixture.request_id(),
            transaction: begun.name.clone(),
            candidate_index: index,
            audiences: vec!["identity".into()],
            representation: String::new(),
        };
        assert_eq!(
            reason(fixture.inner.create_session(&app(), login(None)).await),
            Reason::SelectionRequired
        );
        assert_eq!(
            reason(fixture.inner.create_session(&app(), login(Some(4))).await),
            Reason::FieldInvalid
        );
        let request = login(Some(2));
        let session = fixture.inner.create_session(&app(), request.clone()).await.unwrap();
        assert_eq!(fixture.inner.create_session(&app(), request).await.unwrap(), session);
        assert_eq!(
            reason(fixture.inner.create_session(&app(), login(Some(2))).await),
            Reason::TransactionState
        );
        let her = person(&session);
        let ended = fixture.inner.revoke_sessions(
            &her,
            api::RevokeSessionsRequest {
                request_id: fixture.request_id(),
                names: Vec::new(),
                all_of: session.account.clone(),
            },
        );
        assert_eq!(
            ended.await.unwrap().revoked_count,
            2,
            "this one and that of the enrolment"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_acts_with_a_token_of_its_own() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let consent = Caller {
            peer: Peer::Service("consent".into()),
            actor: None,
        };
        let received = session
            .access_tokens
            .iter()
            .find(|t| t.audience == "consent")
            .unwrap()
            .token
            .clone();
        let exchange = |token: &str| api::ExchangeTokenRequest {
            token: token.into(),
            audience: "audit".into(),
        };
        let made = fixture
            .inner
            .exchange_token(&consent, exchange(&received))
            .await
            .unwrap();
        let claims = token::read(&made.token, |kid| fixture.inner.keys.find(kid)).unwrap();
        assert_eq!(
            (claims.aud.as_str(), claims.act.unwrap().sub.as_str()),
            ("audit", "services/consent")
        );
        assert_eq!(claims.exp - claims.iat, 60);
        let audit = Caller {
            peer: Peer::Service("audit".into()),
            actor: None,
        };
        let onward = api::ExchangeTokenRequest {
            token: made.token,
            audience: "identity".into(),
        };
        let refused = fixture.inner.exchange_token(&audit, onward).await;
        assert_eq!(
            reason(refused),
            Reason::TokenMissing,
            "an actor's token is not handed on"
        );
        for (service, audience) in [("audit", "consent"), ("consent", "consent"), ("sandbox", "identity")] {
            let request = api::ExchangeTokenRequest {
                token: received.clone(),
                audience: audience.into(),
            };
            let caller = Caller {
                peer: Peer::Service(service.into()),
                actor: None,
            };
            let refused = fixture.inner.exchange_token(&caller, request).await;
            assert_eq!(reason(refused), Reason::FieldInvalid, "{service} at {audience}");
        }
        let identitys = session
            .access_tokens
            .iter()
            .find(|t| t.audience == "identity")
            .unwrap()
            .token
            .clone();
        assert_eq!(
            reason(fixture.inner.exchange_token(&consent, exchange(&identitys)).await),
            Reason::TokenMissing
        );
        let revoke = api::RevokeSessionsRequest {
            request_id: fixture.request_id(),
            names: vec![session.name.clone()],
            all_of: String::new(),
        };
        assert_eq!(
            fixture
                .inner
                .revoke_sessions(&operator(), revoke.clone())
                .await
                .unwrap()
                .revoked_count,
            1
        );
        assert_eq!(
            fixture
                .inner
                .revoke_sessions(&operator(), revoke)
                .await
                .unwrap()
                .revoked_count,
            1,
            "the same answer"
        );
        assert_eq!(
            reason(fixture.inner.exchange_token(&consent, exchange(&received)).await),
            Reason::TokenRevoked
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_from_a_snapshot_on_and_from_a_token_on() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let watch = |token: &str| {
            Arc::clone(&fixture.inner).watch_changes(api::WatchChangesRequest {
                resume_token: token.into(),
            })
        };
        let mut stream = Box::pin(watch("").await.unwrap());
        let token = loop {
            let item = stream.next().await.unwrap().unwrap();
            match item.item.unwrap() {
                Item::Heartbeat(_) => break item.resume_token,
                Item::Change(change) => {
                    assert!(matches!(change.kind, Some(Kind::KeySet(_))) && item.resume_token.is_empty())
                }
            }
        };
        let revoke = api::RevokeSessionsRequest {
            request_id: fixture.request_id(),
            names: vec![session.name.clone()],
            all_of: String::new(),
        };
        fixture.inner.revoke_sessions(&person(&session), revoke).await.unwrap();
        let mut later = Box::pin(watch(&token).await.unwrap());
        for stream in [&mut stream, &mut later] {
            let mut ended = HashSet::new();
            while ended.is_empty() {
                if let Some(Item::Change(api::Change {
                    kind: Some(Kind::SessionEnd(end)),
                    ..
                })) = stream.next().await.unwrap().unwrap().item
                {
                    ended.insert(end.session);
                }
            }
            assert!(ended.contains(&session.name));
        }
        assert_eq!(watch("nonsense").await.err().unwrap().reason, Reason::PositionUnknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_actor_token_is_made_for_a_session_that_has_run_out() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let id = sammati_kernel::SessionId::parse_name(&session.name).unwrap();
        let row = fixture.inner.session(id).await.unwrap().unwrap();
        fixture.pass(15 * 24 * 3600 - 100);
        let now = sammati_kernel::Clock::now(&fixture.clock);
        let made = fixture
            .inner
            .mint()
            .access(&row, 1, now, &["consent".to_owned()])
            .unwrap();
        let consent = Caller {
            peer: Peer::Service("consent".into()),
            actor: None,
        };
        let exchange = || api::ExchangeTokenRequest {
            token: made[0].token.clone(),
            audience: "audit".into(),
        };
        fixture.inner.exchange_token(&consent, exchange()).await.unwrap();
        fixture.pass(100);
        assert_eq!(
            reason(fixture.inner.exchange_token(&consent, exchange()).await),
            Reason::TokenRevoked,
            "the token itself lives for 200 s more"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_replica_made_whose_clock_is_ahead_is_taken_for_live() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let consent = Caller {
            peer: Peer::Service("consent".into()),
            actor: None,
        };
        let exchange = || api::ExchangeTokenRequest {
            token: session.access_tokens[1].token.clone(),
            audience: "audit".into(),
        };
        let made = fixture.now();
        fixture.clock.set(made.minus(2 * SKEW));
        fixture.inner.exchange_token(&consent, exchange()).await.unwrap();
        fixture.clock.set(made.minus(2 * SKEW + Duration::from_micros(1)));
        assert_eq!(
            reason(fixture.inner.exchange_token(&consent, exchange()).await),
            Reason::TokenRevoked,
            "further than clocks are allowed to be apart"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_nobody_confirmed_for_half_a_minute_are_not_judged_by() {
    for fixture in fixtures().await {
        let facts = &fixture.inner.facts;
        let later = |seconds| tokio::time::Instant::now() + Duration::from_secs(seconds);
        assert!(facts.fresh().is_ok() && facts.fresh_at(later(20)).is_ok());
        // They were confirmed before now, so then they are older than that; after another confirmation they are not.
        let then = later(30);
        assert_eq!(reason(facts.fresh_at(then)), Reason::IdentityStale);
        facts.catch_up(&fixture.inner.store, &fixture.clock).await.unwrap();
        assert!(facts.fresh_at(then).is_ok(), "confirmed a moment later");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_taken_for_ended_where_its_end_was_not_committed() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let claims = token::read(&session.access_tokens[0].token, |kid| fixture.inner.keys.find(kid)).unwrap();
        let id = claims.session().unwrap();
        for (why, ends) in [(Reason::StorageUnavailable, false), (Reason::RefreshReused, true)] {
            let outcome: Result<(), Refusal> = Err(why.into());
            assert_eq!(reason(fixture.inner.known_if_reused(id, outcome)), why);
            assert_eq!(fixture.inner.facts.ended(&claims), ends);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_lives_five_minutes_and_its_session_fifteen_days() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        assert!(!session.access_tokens.is_empty());
        for told in &session.access_tokens {
            let claims = token::read(&told.token, |kid| fixture.inner.keys.find(kid)).unwrap();
            assert_eq!((claims.iat, claims.exp - claims.iat), (fixture.now().seconds(), 300));
            assert_eq!(told.expire_time.unwrap().seconds, claims.exp);
            assert!(!claims.is_live(fixture.now().plus(Duration::from_secs(300))));
        }
        fixture.pass(15 * 24 * 3600);
        let late = refreshing(&fixture, &session.refresh_token);
        assert_eq!(
            reason(fixture.inner.refresh_session(&app(), late).await),
            Reason::RefreshExpired
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_and_sessions_leave_a_week_after_none_of_them_can_be_good_any_more() {
    for fixture in fixtures().await {
        let week = 7 * 24 * 3600;
        let pruned = async || fixture.inner.store.prune(PRUNING).await.unwrap().rows;
        let session = fixture.enrol(1).await.session.unwrap();
        let refresh = async || {
            let late = refreshing(&fixture, &session.refresh_token);
            reason(fixture.inner.refresh_session(&app(), late).await)
        };
        fixture.pass(week + 15 * 60);
        assert_eq!(pruned().await, 0);
        fixture.pass(1);
        assert_eq!(pruned().await, 1, "the transaction that enrolled her");
        fixture.pass(15 * 24 * 3600 - 1);
        assert_eq!((pruned().await, refresh().await), (0, Reason::RefreshExpired));
        fixture.pass(1);
        assert_eq!(pruned().await, 1, "her session");
        assert_eq!(refresh().await, Reason::RefreshExpired, "as before");
        let get = api::RevokeSessionsRequest {
            request_id: fixture.request_id(),
            names: vec![session.name.clone()],
            all_of: String::new(),
        };
        assert_eq!(
            reason(fixture.inner.revoke_sessions(&person(&session), get).await),
            Reason::NotAvailable
        );
    }
}
