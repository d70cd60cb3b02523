//! A pooler between us and Postgres: sessions must be our own.

use sammati_kernel::ManualClock;
use sammati_store::Location;
use sammati_store::verbs::{self, Health};
use sammati_testkit::databases::psql;
use sammati_testkit::{PgBouncer, Postgres};

use crate::world::{Count, MIGRATIONS, START, World, account, open_with, options};

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_is_refused_with_what_to_do() {
    let Some(server) = Postgres::start() else { return };
    psql(server.url(), "postgres", "CREATE DATABASE pooled");
    for mode in ["transaction", "statement"] {
        let Some(pooler) = PgBouncer::before(&server, mode) else {
            return;
        };
        let location = Location::parse(&pooler.url("pooled")).unwrap();
        // Others are at work through it, as there would be.
        for _ in 0..5 {
            let refusal = open_with(&options(location.clone()), &ManualClock::at(START)).map(drop);
            let refusal = refusal.unwrap_err().to_string();
            assert!(refusal.contains("pool_mode = session"), "{mode}: {refusal}");
        }
        let seen = std::thread::spawn(move || verbs::look(&location, &MIGRATIONS, || START))
            .join()
            .unwrap();
        let told = seen.iter().find(|remark| remark.what.contains("pool_mode = session"));
        assert_eq!(told.map(|remark| remark.health), Some(Health::Fail), "{seen:?}");
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname='public'";
    assert_eq!(
        psql(server.url(), "pooled", tables),
        "0",
        "nothing was made before the refusal"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_session_mode_is_as_good_as_none() {
    let Some(server) = Postgres::start() else { return };
    let Some(pooler) = PgBouncer::before(&server, "session") else {
        return;
    };
    psql(server.url(), "postgres", "CREATE DATABASE pooled");
    let clock = ManualClock::at(START);
    let location = Location::parse(&pooler.url("pooled")).unwrap();
    let replicas = (0..2)
        .map(|_| open_with(&options(location.clone()), &clock).unwrap())
        .collect();
    let world = World {
        replicas,
        clock,
        database: sammati_testkit::Database::sqlite(),
    };
    for n in 0..200 {
        let round = (0..8).map(|slot| world.replica(n).apply(Count::up(account(slot, 1))));
        for done in futures::future::join_all(round).await {
            done.unwrap();
        }
        world.replica(n + 1).confirm().await.unwrap();
    }
    assert_eq!(world.check_feed().await, 1600);
}
