//! Replication: what would be lost in a failover is told, and a server that was deposed confirms nothing.

use std::time::Duration;

use sammati_kernel::ManualClock;
use sammati_store::{Location, Store};
use sammati_testkit::Postgres;
use sammati_testkit::databases::psql;
use tokio::time::{Instant, timeout};

use crate::away::{is_away, until_back};
use crate::world::{Count, START, account, open, open_with, options};

fn database(server: &Postgres) -> String {
    psql(server.url(), "postgres", "CREATE DATABASE replicated");
    format!("{}/replicated", server.url())
}

/// Waits until the primary says so of its standbys, for ten seconds at most.
fn until_seen(server: &Postgres, sql: &str, answer: &str) {
    let mut said = String::new();
    for _ in 0..500 {
        said = psql(server.url(), "postgres", sql);
        if said == answer {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{sql}: {said}, not {answer}");
}

const STATES: &str = "SELECT coalesce(string_agg(state||' '||sync_state,','),'none') FROM pg_stat_replication";

async fn readiness(store: &Store) -> Result<(), String> {
    store.confirm().await.unwrap();
    store.readiness().borrow().clone()
}

/// Each store looks at the standbys with its first confirmation.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_when_a_failover_would_lose_what_was_acknowledged() {
    let Some(primary) = Postgres::start() else { return };
    let url = database(&primary);
    let clock = ManualClock::at(START);
    let mut lax = options(Location::parse(&url).unwrap());
    lax.allow_asynchronous_standby = true;
    let [alone, lossy, safe, stuck] = [(); 4].map(|()| open(&url, &clock));
    let accepted = open_with(&lax, &clock).unwrap();
    assert_eq!(readiness(&alone).await, Ok(()));
    let mut standby = primary.standby("follower");
    until_seen(&primary, STATES, "streaming async");
    let told = readiness(&lossy).await.unwrap_err();
    assert!(
        told.contains("none is synchronous") && told.contains("synchronous_standby_names"),
        "{told}"
    );
    assert_eq!(readiness(&accepted).await, Ok(()));
    primary.set("synchronous_standby_names", "'ANY 1 (follower)'");
    until_seen(&primary, STATES, "streaming quorum");
    assert_eq!(readiness(&safe).await, Ok(()));
    safe.apply(Count::up(account(1, 1))).await.unwrap();
    standby.kill();
    until_seen(&primary, STATES, "none");
    let told = readiness(&stuck).await.unwrap_err();
    assert!(told.contains("every commit waits"), "{told}");
}

/// A primary that lost its synchronous standby may have been deposed. Asked, it still answers; made to commit, it does not.
#[tokio::test(flavor = "multi_thread")]
async fn c4_a_confirmation_that_writes_waits_for_the_synchronous_standby() {
    let Some(primary) = Postgres::start() else { return };
    let url = database(&primary);
    let clock = ManualClock::at(START);
    let mut writing = options(Location::parse(&url).unwrap());
    writing.confirm_by_write = true;
    let (asks, writes) = (open(&url, &clock), open_with(&writing, &clock).unwrap());
    let told = readiness(&writes).await.unwrap_err();
    assert!(told.contains("confirm_by_write proves nothing"), "{told}");
    let mut standby = primary.standby("follower");
    primary.set("synchronous_standby_names", "'ANY 1 (follower)'");
    until_seen(&primary, STATES, "streaming quorum");
    writes.confirm().await.unwrap();
    asks.confirm().await.unwrap();
    standby.kill();
    until_seen(&primary, STATES, "none");
    let began = Instant::now();
    assert!(is_away(&writes.confirm().await));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    asks.confirm().await.unwrap();
    // Nobody is left at the server who waits for ever.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event='SyncRep'";
    until_seen(&primary, waiting, "0");
    standby.restart();
    until_seen(&primary, STATES, "streaming quorum");
    until_back(|| writes.confirm()).await;
}

/// As its operator makes it, or a failover manager does before it promotes another.
#[tokio::test(flavor = "multi_thread")]
async fn c4_a_primary_that_only_reads_confirms_nothing_and_writes_nothing() {
    let Some(server) = Postgres::start() else { return };
    let url = database(&server);
    let store = open(&url, &ManualClock::at(START));
    store.apply(Count::up(account(1, 1))).await.unwrap();
    store.confirm().await.unwrap();
    server.set("default_transaction_read_only", "on");
    until_seen(&server, "SHOW transaction_read_only", "on");
    assert!(is_away(&store.confirm().await));
    let told = store.readiness().borrow().clone().unwrap_err();
    assert!(
        told.contains("only reads") || told.contains("does not allow writes"),
        "{told}"
    );
    let written = timeout(Duration::from_secs(25), store.apply(Count::up(account(1, 1)))).await;
    assert!(is_away(&written.expect("an answer")));
    server.set("default_transaction_read_only", "off");
    until_back(|| store.confirm()).await;
    assert_eq!(until_back(|| store.apply(Count::up(account(1, 1)))).await, 2);
}

/// A store that knows both addresses goes to whichever is the primary, by itself, and not before it is.
#[tokio::test(flavor = "multi_thread")]
async fn c4_a_standby_confirms_nothing_until_it_is_promoted() {
    let Some(mut primary) = Postgres::start() else { return };
    database(&primary);
    let standby = primary.standby("follower");
    until_seen(&primary, STATES, "streaming async");
    primary.set("synchronous_standby_names", "'ANY 1 (follower)'");
    until_seen(&primary, STATES, "streaming quorum");
    let host = |server: &Postgres| server.folder().display().to_string().replace('/', "%2F");
    let url = format!("postgres://postgres@{},{}/replicated", host(&primary), host(&standby));
    let store = open(&url, &ManualClock::at(START));
    for _ in 0..20 {
        store.apply(Count::up(account(1, 1))).await.unwrap();
    }
    store.confirm().await.unwrap();
    primary.kill();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        assert!(is_away(&store.confirm().await));
    }
    psql(standby.url(), "postgres", "SELECT pg_promote()");
    psql(
        standby.url(),
        "postgres",
        "ALTER SYSTEM RESET synchronous_standby_names",
    );
    psql(standby.url(), "postgres", "SELECT pg_reload_conf()");
    until_back(|| store.confirm()).await;
    assert_eq!(
        until_back(|| store.apply(Count::up(account(1, 1)))).await,
        21,
        "nothing was lost"
    );
}
