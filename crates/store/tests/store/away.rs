//! Postgres away, or there and silent: everybody is told in time, nobody is permitted, and it ends by itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sammati_kernel::{ManualClock, Reason, Refusal};
use sammati_store::{Location, Store};
use sammati_testkit::databases::psql;
use sammati_testkit::{Database, Line, Postgres};
use tokio::time::{Instant, timeout};

use crate::world::{Count, Counter, START, World, account, open, open_with, options};

pub(crate) fn is_away<T: std::fmt::Debug>(result: &Result<T, Refusal>) -> bool {
    matches!(result, Err(refusal) if refusal.reason == Reason::StorageUnavailable)
}

/// Asks until there is an answer, for half a minute at most: nobody is told that a server is back.
pub(crate) async fn until_back<T, F: Future<Output = Result<T, Refusal>>>(ask: impl Fn() -> F) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(refusal) => assert!(began.elapsed() < Duration::from_secs(30), "still {refusal:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn read(store: &Store) -> Result<i64, Refusal> {
    let id = account(1, 1);
    let found = store.read(move |r| r.get::<Counter>(id.slot(), &id.to_vec())).await?;
    Ok(found.map_or(0, |stored| stored.record.count))
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_while_postgres_is_away_everybody_is_told_so_and_it_is_not_dialled_in_a_hot_loop() {
    let Some(mut server) = Postgres::start() else { return };
    psql(server.url(), "postgres", "CREATE DATABASE away");
    let line = Line::to(server.url());
    let store = open(&line.url("away"), &ManualClock::at(START));
    store.apply(Count::up(account(1, 1))).await.unwrap();
    assert_eq!(read(&store).await.unwrap(), 1);
    store.confirm().await.unwrap();
    server.kill();
    let before = line.calls();
    let (began, asked) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let everybody: Vec<_> = (0..16_u64)
        .map(|n| {
            let (store, asked) = (store.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                while began.elapsed() < Duration::from_secs(2) {
                    if n % 2 == 0 {
                        assert!(is_away(&store.confirm().await));
                    } else {
                        assert!(is_away(&read(&store).await));
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let written = store.apply(Count::up(account(1, 1)));
    let written = timeout(Duration::from_secs(25), written)
        .await
        .expect("a write is told so too");
    assert!(is_away(&written), "{written:?}");
    for one in everybody {
        one.await.unwrap();
    }
    let (calls, asked) = (line.calls() - before, asked.load(Ordering::SeqCst));
    // Each idle connection finds out for itself; then one tries at a time, twice a second.
    assert!(asked > 100 && calls < 60, "{asked} questions, {calls} calls");
    assert!(store.readiness().borrow().is_err());
    server.restart();
    until_back(|| store.confirm()).await;
    assert_eq!(*store.readiness().borrow(), Ok(()));
    assert_eq!(read(&store).await.unwrap(), 1, "what was refused was not done");
    assert_eq!(until_back(|| store.apply(Count::up(account(1, 1)))).await, 2);
}

/// A server that hangs keeps its connections: nothing tells that it is not at work but the time that passes.
#[tokio::test(flavor = "multi_thread")]
async fn c4_a_server_that_hangs_confirms_nothing_and_the_queue_sheds_what_it_cannot_hold() {
    let Some(mut server) = Postgres::start() else { return };
    psql(server.url(), "postgres", "CREATE DATABASE slow");
    let clock = ManualClock::at(START);
    let mut small = options(Location::parse(&format!("{}/slow", server.url())).unwrap());
    (small.queue, small.lanes, small.max_batch) = (16, 1, 4);
    let store = open_with(&small, &clock).unwrap();
    store.confirm().await.unwrap();
    assert_eq!(store.apply(Count::up(account(1, 1))).await.unwrap(), 1);
    server.pause();
    let began = Instant::now();
    let writes: Vec<_> = (0..64)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.apply(Count::up(account(n, 2))).await })
        })
        .collect();
    let checks = futures::future::join_all((0..100).map(|_| store.confirm())).await;
    assert!(checks.iter().all(is_away), "{checks:?}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert!(store.readiness().borrow().is_err());
    // While it still hangs a new question is not made to wait as long again.
    let again = timeout(Duration::from_secs(12), store.confirm()).await;
    assert!(is_away(&again.expect("an answer")));
    server.resume();
    let (mut done, mut shed) = (0, 0);
    for write in writes {
        match write.await.unwrap() {
            Ok(_) => done += 1,
            Err(refusal) if refusal.reason == Reason::Overloaded => shed += 1,
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
    assert!(shed >= 40 && done >= 16, "{done} done, {shed} shed");
    until_back(|| store.confirm()).await;
    assert_eq!(*store.readiness().borrow(), Ok(()));
    let world = World {
        replicas: vec![store],
        clock,
        database: Database::sqlite(),
    };
    assert_eq!(
        world.check_feed().await,
        done + 1,
        "one event for each that was answered"
    );
}
