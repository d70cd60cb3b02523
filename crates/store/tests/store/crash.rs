//! Postgres dies under load and comes back: nothing acknowledged is lost, nothing is done twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use sammati_kernel::{ManualClock, Reason};
use sammati_store::{Outcome, Store};
use sammati_testkit::Postgres;
use sammati_testkit::databases::psql;

use crate::world::{Count, START, account, open, request_id};

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
    let world = crate::world::World {
        replicas: replicas.to_vec(),
        clock,
        database: sammati_testkit::Database::sqlite(),
    };
    assert_eq!(world.check_feed().await, 16 * 150);
    for n in 0..4 {
        assert_eq!(world.count(0, &account(u16::try_from(n).unwrap(), n)).await, 600);
    }
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
