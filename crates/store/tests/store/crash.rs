//! Postgres dies under load and comes back: nothing acknowledged is lost, nothing is done twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::{ManualClock, Reason};
use sammati_store::{Outcome, Store};
use sammati_testkit::databases::psql;
use sammati_testkit::{Cut, Database, Line, Postgres};
use tokio::time::timeout;

use crate::away::until_back;
use crate::world::{Count, START, World, account, open, request_id};

#[tokio::test(flavor = "multi_thread")]
async fn i1_a1_nothing_is_lost_or_done_twice_when_postgres_is_killed_under_load() {
    let Some(mut server) = Postgres::start() else { return };
    psql(server.url(), "postgres", "CREATE DATABASE crash");
    let url = format!("{}/crash", server.url());
    let clock = ManualClock::at(START);
    let replicas = Arc::new([open(&url, &clock), open(&url, &clock)]);
    let (progress, mut counted) = tokio::sync::watch::channel(0_usize);
    let workers: Vec<_> = (0..16_u64)
        .map(|n| {
            let (replicas, clock, progress) = (Arc::clone(&replicas), clock.clone(), progress.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for _ in 0..150_usize {
                    seen.push(until_done(&replicas[usize::try_from(n).unwrap() % 2], &clock, n).await);
                    progress.send_modify(|done| *done += 1);
                }
                (n % 4, seen)
            })
        })
        .collect();
    for cut in 1..=4_usize {
        counted.wait_for(|done| *done >= cut * 400).await.unwrap();
        server.kill();
        server.restart();
    }
    let mut all = BTreeSet::new();
    for worker in workers {
        let (counter, seen) = worker.await.unwrap();
        for count in seen {
            assert!(
                all.insert((counter, count)),
                "count {count} of {counter} was given twice"
            );
        }
    }
    let world = World {
        replicas: replicas.to_vec(),
        clock,
        database: Database::sqlite(),
    };
    assert_eq!(world.check_feed().await, 16 * 150);
    for n in 0..4 {
        assert_eq!(world.count(0, &account(u16::try_from(n).unwrap(), n)).await, 600);
    }
}

/// The connection ends around a COMMIT, once before the server saw it and once after it was done: the store finds out which
/// it was, and nobody's work is lost or done twice.
#[tokio::test(flavor = "multi_thread")]
async fn i1_o1_a_commit_whose_answer_is_lost_has_one_effect() {
    let Some(database) = Database::postgres() else { return };
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let (line, clock) = (Line::to(server), ManualClock::at(START));
    let store = open(&line.url(name), &clock);
    let mut expected = 0;
    for round in 0..10 {
        for cut in [Cut::Before, Cut::After] {
            line.cut_next_commit(cut);
            let id = account(1, 1);
            let runs = (0..20).map(|n| {
                let request = request_id(&clock);
                let key = store.request("participants/clinic", "test.count", &request, &n.to_string());
                store.run(Count::up(id), Some(key.unwrap()))
            });
            for result in futures::future::join_all(runs).await {
                result.unwrap();
            }
            expected += 20;
            assert!(!line.is_whole(), "no COMMIT was cut");
            line.cut_next_commit(cut);
            let once = store.once(Count::up(id)).await;
            expected += 1;
            match cut {
                Cut::Before => assert_eq!(once.unwrap(), expected),
                // It was done; what it answered then is gone with the connection.
                Cut::After => assert_eq!(once.unwrap_err().reason, Reason::CommitUnknown, "round {round}"),
            }
        }
    }
    let world = World {
        replicas: vec![store],
        clock,
        database,
    };
    assert_eq!(world.count(0, &account(1, 1)).await, expected);
    assert_eq!(i64::try_from(world.check_feed().await).unwrap(), expected);
}

/// A check that cannot be confirmed is refused, never guessed; and whoever asks for readiness learns why, until it is over.
#[tokio::test(flavor = "multi_thread")]
async fn c4_a_server_that_is_away_confirms_nothing_and_is_told_of() {
    let Some(mut server) = Postgres::start() else { return };
    psql(server.url(), "postgres", "CREATE DATABASE away");
    let store = open(&format!("{}/away", server.url()), &ManualClock::at(START));
    let mut readiness = store.readiness();
    store.confirm().await.unwrap();
    assert_eq!(*readiness.borrow_and_update(), Ok(()));
    server.kill();
    assert_eq!(store.confirm().await.unwrap_err().reason, Reason::StorageUnavailable);
    assert!(readiness.borrow_and_update().is_err());
    server.restart();
    until_back(|| store.confirm()).await;
    assert_eq!(*readiness.borrow_and_update(), Ok(()));
}

/// Who only asks whether it serves is told when that changes, though nobody checks, writes or waits for commits.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_readiness_alone_learns_that_a_server_is_away_and_back() {
    let Some(mut server) = Postgres::start() else { return };
    psql(server.url(), "postgres", "CREATE DATABASE away");
    let store = open(&format!("{}/away", server.url()), &ManualClock::at(START));
    let mut readiness = store.readiness();
    server.kill();
    let wait = Duration::from_secs(30);
    let away = timeout(wait, readiness.wait_for(Result::is_err)).await;
    assert!(away.unwrap().unwrap().as_ref().unwrap_err().contains("database"));
    server.restart();
    timeout(wait, readiness.wait_for(Result::is_ok)).await.unwrap().unwrap();
}

/// Repeats with the same request id, as a client is told to, until there is an answer.
async fn until_done(store: &Store, clock: &ManualClock, n: u64) -> i64 {
    let id = account(u16::try_from(n % 4).unwrap(), n % 4);
    let request = request_id(clock);
    loop {
        let key = store
            .request("participants/clinic", "test.count", &request, &n.to_string())
            .unwrap();
        match store.run(Count::up(id), Some(key)).await {
            Ok(Outcome::Fresh(count)) => return count,
            Ok(Outcome::Known(bytes)) => return i64::from_be_bytes(bytes.try_into().unwrap()),
            Err(refusal) => assert!(
                matches!(refusal.reason, Reason::StorageUnavailable | Reason::CommitUnknown),
                "{refusal:?}"
            ),
        }
    }
}
