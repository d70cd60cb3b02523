//! A command that takes longer than a statement may: it is found, and keeps nobody else for long.

use sammati_kernel::Reason;
use sammati_store::Location;
use sammati_testkit::Database;

use crate::flood::Told;
use crate::verbs::{aside, execute, hex};
use crate::world::{Count, World, account};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_always_too_slow_is_refused_alone_and_soon() {
    let world = World::on(Database::sqlite());
    let (store, slow) = (world.replica(0), account(2, 3));
    let location = Location::parse(&world.database.url).unwrap();
    // What Postgres says of it; here at once, for each time would take 20 s there.
    let trigger = format!(
        "CREATE TRIGGER slow BEFORE INSERT ON counter WHEN NEW.id={{{}}} BEGIN \
         SELECT RAISE(ABORT,'canceling statement due to statement timeout'); END",
        hex(&slow.to_vec())
    );
    aside(|| execute(&location, &trigger));
    let told = Told::by(store);
    let all = (0..8).map(|n| store.apply(Count::up(account(2, n))));
    let all = futures::future::join_all(all).await;
    for (n, counted) in all.iter().enumerate() {
        match n {
            3 => assert_eq!(counted.as_ref().unwrap_err().reason, Reason::StorageUnavailable),
            _ => assert_eq!(*counted.as_ref().unwrap(), 1),
        }
    }
    // Eight, four, two and it alone: each at most twice again.
    let reruns = told.of("store_reruns_total");
    assert!(reruns <= 8.0, "{reruns}");
    assert_eq!(world.check_feed().await, 7);
}

/// Postgres itself ends what takes too long, whatever becomes of us.
#[test]
fn every_connection_to_postgres_bounds_statements_locks_and_idle_transactions() {
    let Some(database) = Database::postgres() else { return };
    let location = Location::parse(&database.url).unwrap();
    let expected = [
        ("statement_timeout", "20s"),
        ("lock_timeout", "15s"),
        ("idle_in_transaction_session_timeout", "30s"),
        ("synchronous_commit", "on"),
        ("lc_messages", "C"),
    ];
    for (name, value) in expected {
        let check = format!(
            "DO $$ BEGIN IF current_setting('{name}')<>'{value}' THEN RAISE EXCEPTION '{name} is %', current_setting('{name}'); \
             END IF; END $$"
        );
        execute(&location, &check);
    }
}
