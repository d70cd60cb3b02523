//! Answers that never come over connections that stay open, as behind a firewall that forgot them: nothing tells but the time
//! that passes. Whoever waits is told in time, and what was done is found out, and done once.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use sammati_kernel::{ManualClock, Reason};
use sammati_store::{Location, Outcome};
use sammati_testkit::{Database, Line};
use tokio::time::Instant;

use crate::away::is_away;
use crate::world::{Count, Counter, START, World, account, open, open_with, options, request_id};

/// When whoever waits is told at the latest: what a call may take in all, which the store's patience leaves room for, and as
/// much again for a busy machine.
const TOLD: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn i1_o1_a_commit_whose_answer_is_swallowed_is_found_out_in_time_and_has_one_effect() {
    let Some(database) = Database::postgres() else { return };
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let (line, clock) = (Line::to(server), ManualClock::at(START));
    let mut one_lane = options(Location::parse(&line.url(name)).unwrap());
    one_lane.lanes = 1;
    let store = open_with(&one_lane, &clock).unwrap();
    let (id, other) = (account(1, 1), account(2, 2));
    line.swallow_next_commit();
    let began = Instant::now();
    let runs = (0..20).map(|n| {
        let request = request_id(&clock);
        let key = store.request("participants/clinic", "test.count", &request, &n.to_string());
        store.run(Count::up(id), Some(key.unwrap()))
    });
    // The first to come is in the batch whose answer is lost; what it answered is lost with it.
    let (once, runs) = tokio::join!(store.once(Count::up(other)), join_all(runs));
    let took = began.elapsed();
    assert!(!line.is_whole(), "no COMMIT was swallowed");
    assert!(took > Duration::from_secs(20) && took < TOLD, "{took:?}");
    assert_eq!(once.unwrap_err().reason, Reason::CommitUnknown);
    let counts = runs.into_iter().map(|run| match run.unwrap() {
        Outcome::Fresh(count) => count,
        Outcome::Known(bytes) => i64::from_be_bytes(bytes.try_into().unwrap()),
    });
    assert_eq!(counts.collect::<BTreeSet<_>>(), (1..=20).collect(), "each once");
    let world = World {
        replicas: vec![store],
        clock,
        database,
    };
    assert_eq!((world.count(0, &id).await, world.count(0, &other).await), (20, 1));
    assert_eq!(world.check_feed().await, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_connections_that_fall_silent_confirm_nothing_and_are_given_up_in_time() {
    let Some(database) = Database::postgres() else { return };
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let line = Line::to(server);
    let (store, id) = (open(&line.url(name), &ManualClock::at(START)), account(1, 1));
    let read = || store.read(move |r| r.get::<Counter>(id.slot(), &id.to_vec()));
    store.apply(Count::up(id)).await.unwrap();
    store.confirm().await.unwrap();
    assert!(read().await.unwrap().is_some());
    line.swallow_all();
    let began = Instant::now();
    let confirmed = async {
        let first = store.confirm().await;
        let told = began.elapsed();
        (first, told, store.confirm().await)
    };
    let (confirmed, found, written) = tokio::join!(confirmed, read(), store.apply(Count::up(id)));
    let took = began.elapsed();
    let (first, told, second) = confirmed;
    // Sooner than a statement of work is given up.
    assert!(
        is_away(&first) && told < Duration::from_secs(20),
        "{first:?} after {told:?}"
    );
    second.unwrap();
    // Either may see the other's effect or not; both were done over connections that are new.
    assert!(found.unwrap().is_some());
    assert_eq!(written.unwrap(), 2, "what was not committed is done once");
    assert!(took > Duration::from_secs(20) && took < TOLD, "{took:?}");
    assert_eq!(*store.readiness().borrow(), Ok(()));
}
