//! The projection of identity's facts: snapshot, changes, breaks, staleness.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::change::Kind;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::identity::v1::session_service_server::SessionServiceServer;
use sammati_api::identity::v1::watch_changes_response::Item;
use sammati_kernel::jws::SigningKey;
use sammati_kernel::{AccountId, Micros, ParticipantId, Role, Slot};
use sammati_server::authn::TokenFacts;
use sammati_server::token::{self, Claims};
use sammati_server::{Built, Config, IdentityFacts, Readiness, Running, Served, Service, Start, StartError, serve_on};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use crate::host::{Controls, Fake, Host, bearing, config, keys, port, reason, signing_key};

/// A service that follows identity, hands its facts to the test, and judges tokens by them.
struct Follower;

#[derive(Deserialize)]
struct FollowerSettings {
    #[serde(skip)]
    out: Option<oneshot::Sender<IdentityFacts>>,
}

impl Service for Follower {
    const NAME: &'static str = "consent";
    const PEERS: &'static [&'static str] = &["identity"];
    type Settings = FollowerSettings;

    async fn build(mut start: Start<FollowerSettings>) -> Result<Built, StartError> {
        let facts = IdentityFacts::follow(&start)?;
        let ready = facts.ready();
        let served = Served::new().add(SessionServiceServer::new(Fake(Controls::default())));
        let _ = start.config.service.out.take().map(|out| out.send(facts.clone()));
        Ok(Built::new(served, Arc::new(facts)).ready(ready))
    }
}

async fn follower(host: &Host) -> (Running, IdentityFacts) {
    host.authority
        .issue("service/consent", &["127.0.0.1"])
        .unwrap()
        .write(host.directory.path(), "c")
        .unwrap();
    let more = format!(
        "[server.tls]\ncertificate = \"c.pem\"\nkey = \"c-key.pem\"\nclient_ca = \"ca.pem\"\n[peers]\nidentity = \"https://{}\"",
        host.running.address
    );
    let mut config: Config<FollowerSettings> = config(&more, host.directory.path());
    let (sender, receiver) = oneshot::channel();
    config.service.out = Some(sender);
    let running = serve_on::<Follower>(config, port().await, port().await, Arc::new(host.clock.clone()))
        .await
        .unwrap();
    (running, receiver.await.unwrap())
}

fn item(token: &str, item: Item) -> Result<api::WatchChangesResponse, tonic::Status> {
    Ok(api::WatchChangesResponse {
        resume_token: token.to_owned(),
        item: Some(item),
    })
}

fn change(token: &str, kind: Kind) -> Result<api::WatchChangesResponse, tonic::Status> {
    item(
        token,
        Item::Change(api::Change {
            occur_time: None,
            kind: Some(kind),
        }),
    )
}

fn heartbeat(token: &str, seconds: i64) -> Result<api::WatchChangesResponse, tonic::Status> {
    let as_of_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
    item(token, Item::Heartbeat(api::Heartbeat { as_of_time }))
}

fn hospital(state: api::participant::State, etag: &str) -> Kind {
    let participant = api::Participant {
        name: "participants/IN27001".into(),
        roles: vec![1],
        state: state.into(),
        etag: etag.into(),
        rates: Some(api::CallRates {
            checks_per_second: 7,
            requests_per_second: 0,
        }),
        ..Default::default()
    };
    Kind::Participant(api::ParticipantState {
        participant: Some(participant),
    })
}

/// Waits until the facts are as of `seconds`.
async fn as_of(facts: &IdentityFacts, seconds: i64) {
    while facts.as_of() != Some(Micros::from_seconds(seconds)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn facts_follow_the_feed_and_resume_where_it_broke() {
    let host = Host::tls("").await;
    let (second, second_receiver) = mpsc::unbounded_channel();
    let (first, first_receiver) = mpsc::unbounded_channel();
    *host.controls.feeds.lock().unwrap() = vec![second_receiver, first_receiver];
    let (running, facts) = follower(&host).await;
    let id = ParticipantId::parse("IN27001").unwrap();
    let mut ready = facts.ready();
    assert!(facts.fresh(Duration::MAX).is_err());

    let public = signing_key().public();
    let keys = vec![api::SigningKey {
        kid: public.kid.clone(),
        jwk: public.to_jwk(),
        state: 1,
        ..Default::default()
    }];
    first.send(change("1", Kind::KeySet(api::KeySet { keys }))).unwrap();
    first
        .send(change("2", hospital(api::participant::State::Pending, "\"2\"")))
        .unwrap();
    assert!(matches!(&*ready.borrow(), Readiness::NotReady(_)));
    first.send(heartbeat("2", 999_999)).unwrap();
    ready.wait_for(|ready| *ready == Readiness::Ready).await.unwrap();
    assert!(!facts.participant(&id).unwrap().is_active());
    assert!(!facts.ended(&host.claims()), "it has a token: it was activated since");
    first
        .send(change("3", hospital(api::participant::State::Active, "\"3\"")))
        .unwrap();
    first.send(heartbeat("3", 1_000_000)).unwrap();
    as_of(&facts, 1_000_000).await;
    assert!(facts.participant(&id).unwrap().acts_as(Role::Hip));
    let rates = facts.rates(&id);
    assert_eq!((rates.checks, rates.requests), (7, 0));
    assert_eq!(facts.key(&public.kid), Some(public));
    assert!(facts.fresh(Duration::from_secs(30)).is_ok());
    assert!(!facts.ended(&host.claims()));

    // An older version that comes late changes nothing.
    first
        .send(change("4", hospital(api::participant::State::Pending, "\"2\"")))
        .unwrap();
    first
        .send(change("5", hospital(api::participant::State::Suspended, "\"4\"")))
        .unwrap();
    first.send(heartbeat("6", 1_000_001)).unwrap();
    as_of(&facts, 1_000_001).await;
    assert!(!facts.participant(&id).unwrap().is_active());
    assert!(facts.ended(&host.claims()));

    drop(first);
    let end = api::SessionEnd {
        session: format!("sessions/{}", host.claims().sid.unwrap()),
        forget_time: Some(prost_types::Timestamp {
            seconds: 1_000_300,
            nanos: 0,
        }),
    };
    second
        .send(change("7", hospital(api::participant::State::Active, "\"5\"")))
        .unwrap();
    second.send(change("8", Kind::SessionEnd(end))).unwrap();
    second.send(heartbeat("9", 1_000_002)).unwrap();
    as_of(&facts, 1_000_002).await;
    assert_eq!(*host.controls.resumed.lock().unwrap(), ["", "6"]);
    assert!(facts.participant(&id).unwrap().is_active());
    assert!(facts.ended(&host.claims()));
    second.send(heartbeat("10", 1_000_300)).unwrap();
    as_of(&facts, 1_000_300).await;
    assert!(!facts.ended(&host.claims()));
    running.shutdown().await;
}

fn professional(id: &str, state: api::participant::State, verified: bool) -> Kind {
    let registration = api::Registration {
        registry: "https://www.nmc.org.in".into(),
        id: "MH1001".into(),
        verified,
    };
    let participant = api::Participant {
        name: format!("participants/{id}"),
        kind: api::participant::Kind::Professional.into(),
        registrations: vec![registration],
        state: state.into(),
        etag: "\"1\"".into(),
        ..Default::default()
    };
    Kind::Participant(api::ParticipantState {
        participant: Some(participant),
    })
}

/// A number is one only at its registry, verified, of somebody who takes part.
#[tokio::test]
async fn a_professional_is_found_by_registry_and_number() {
    use api::participant::State::{Active, Suspended};
    let host = Host::tls("").await;
    let (feed, receiver) = mpsc::unbounded_channel();
    host.controls.feeds.lock().unwrap().push(receiver);
    let (running, facts) = follower(&host).await;
    let found = |registry: &str| facts.professional(registry, "MH1001").map(|found| found.id.to_string());
    feed.send(change("1", professional("dr-a", Suspended, true))).unwrap();
    feed.send(change("2", professional("dr-b", Active, false))).unwrap();
    feed.send(heartbeat("3", 1_000_000)).unwrap();
    as_of(&facts, 1_000_000).await;
    assert_eq!(found("https://www.nmc.org.in"), None);
    feed.send(change("4", professional("dr-d", Active, true))).unwrap();
    feed.send(change("5", professional("dr-c", Active, true))).unwrap();
    feed.send(heartbeat("6", 1_000_001)).unwrap();
    as_of(&facts, 1_000_001).await;
    assert_eq!(found("https://www.nmc.org.in").as_deref(), Some("dr-c"));
    assert_eq!(found("https://other.example"), None);
    running.shutdown().await;
}

/// A suspended app acts for nobody, though the sessions that persons opened in it go on.
#[tokio::test]
async fn a_persons_token_ends_with_the_app_it_was_opened_in() {
    let host = Host::tls("").await;
    let (feed, receiver) = mpsc::unbounded_channel();
    host.controls.feeds.lock().unwrap().push(receiver);
    let (running, facts) = follower(&host).await;
    let mut claims = host.claims();
    let account = AccountId::new(Micros::from_seconds(1_000_000), Slot::new(3), [1; 8]);
    claims.sub = account.name();
    claims.app = Some("participants/IN27001".to_owned());
    feed.send(heartbeat("1", 1_000_000)).unwrap();
    as_of(&facts, 1_000_000).await;
    assert!(!facts.ended(&claims), "not told of yet");
    for (seconds, state, etag, ended) in [
        (1_000_001, api::participant::State::Active, "\"1\"", false),
        (1_000_002, api::participant::State::Suspended, "\"2\"", true),
        (1_000_003, api::participant::State::Active, "\"3\"", false),
    ] {
        feed.send(change("2", hospital(state, etag))).unwrap();
        feed.send(heartbeat("3", seconds)).unwrap();
        as_of(&facts, seconds).await;
        assert_eq!(facts.ended(&claims), ended, "{state:?}");
    }
    feed.send(change("4", hospital(api::participant::State::Suspended, "\"4\"")))
        .unwrap();
    feed.send(heartbeat("5", 1_000_100)).unwrap();
    as_of(&facts, 1_000_100).await;
    claims.app = Some("participants/other".to_owned());
    assert!(!facts.ended(&claims), "another app");
    claims.app = None;
    assert!(!facts.ended(&claims), "no app");
    running.shutdown().await;
}

#[tokio::test]
async fn facts_that_come_late_are_stale() {
    let host = Host::tls("").await;
    let (feed, receiver) = mpsc::unbounded_channel();
    host.controls.feeds.lock().unwrap().push(receiver);
    let (running, facts) = follower(&host).await;
    feed.send(heartbeat("1", 1_000_000 - 31)).unwrap();
    as_of(&facts, 1_000_000 - 31).await;
    assert!(facts.fresh(Duration::from_secs(30)).is_err());
    assert!(TokenFacts::fresh(&facts).is_err());
    feed.send(heartbeat("2", 1_000_000)).unwrap();
    as_of(&facts, 1_000_000).await;
    assert!(TokenFacts::fresh(&facts).is_ok());
    running.shutdown().await;
}

fn key_set(keys: &[(&SigningKey, api::signing_key::State)]) -> Kind {
    let told = |(key, state): &(&SigningKey, api::signing_key::State)| api::SigningKey {
        kid: key.kid().to_owned(),
        jwk: key.public().to_jwk(),
        state: (*state).into(),
        ..Default::default()
    };
    Kind::KeySet(api::KeySet {
        keys: keys.iter().map(told).collect(),
    })
}

/// Identity gets a new key, and later the old one is found out: what is signed with the new one is taken from then on, and with
/// the old one no more, by a process that has run all the while.
#[tokio::test]
async fn tokens_follow_the_keys_of_identity_without_a_restart() {
    use api::signing_key::State::{Active, Compromised, Retired};
    let host = Host::tls("").await;
    let (feed, receiver) = mpsc::unbounded_channel();
    host.controls.feeds.lock().unwrap().push(receiver);
    let (running, facts) = follower(&host).await;
    let (old, new) = (signing_key(), signing_key());
    let claims = Claims {
        aud: "consent".into(),
        ..host.claims()
    };
    let [by_old, by_new] = [&old, &new].map(|key| token::issue(key, &claims).unwrap());
    let mut client = SessionServiceClient::new(host.channel_to(running.address, None).await);
    let rotations = [
        (key_set(&[(&old, Active)]), [true, false]),
        (key_set(&[(&old, Retired), (&new, Active)]), [true, true]),
        (key_set(&[(&old, Compromised), (&new, Active)]), [false, true]),
        (key_set(&[(&new, Active)]), [false, true]),
    ];
    for (seconds, (set, taken)) in (1_000_000..).zip(rotations) {
        feed.send(change("1", set)).unwrap();
        feed.send(heartbeat("2", seconds)).unwrap();
        as_of(&facts, seconds).await;
        for (token, taken) in [&by_old, &by_new].into_iter().zip(taken) {
            let answer = client.list_keys(bearing(keys(0), token)).await;
            if taken {
                assert_eq!(answer.unwrap().into_inner().next_page_token, "participants/IN27001");
            } else {
                assert_eq!(reason(answer), (tonic::Code::Unauthenticated, "TOKEN_MISSING"));
            }
        }
    }
    running.shutdown().await;
}
