//! What is left of a destroyed key in the files of Postgres.

use std::time::Duration;

use diesel::Connection;
use sammati_api::audit::v1::class_erasure::State;
use sammati_api::types::v1::RetentionClass::{Consent, General};
use sammati_store::AnyConn;
use sammati_testkit::databases::psql;
use sammati_testkit::{Postgres, Setup};

use crate::erasing::{YEAR, classed, clear, states};
use crate::fixture::Audit;
use crate::kept::{bodies, everything, execute, holds, sealed, wrapped};

/// Nothing but what the service does frees anything; what is in no segment of use goes with the next checkpoint.
const SETTINGS: [&str; 3] = ["autovacuum=off", "wal_recycle=off", "min_wal_size=32MB"];

fn server() -> Option<Postgres> {
    Postgres::start_with(&Setup {
        settings: &SETTINGS,
        ..Setup::default()
    })
}

/// The wrapped key of the last person whom the log knows, who has the last row of its page.
async fn newest_key(audit: &Audit) -> Vec<u8> {
    for who in 2..8 {
        audit.append(vec![classed(who, General, audit)]).await.unwrap();
    }
    let before = wrapped(&bodies(&audit.key_location(), "payload_key"));
    audit.append(vec![classed(1, General, audit)]).await.unwrap();
    let mut keys = wrapped(&bodies(&audit.key_location(), "payload_key"));
    keys.retain(|key| !before.contains(key));
    assert_eq!(keys.len(), 1, "one subject, one key");
    keys.remove(0)
}

/// Everything that was written is in another segment of the log than what is written from now on, and the old ones are gone.
fn turn(server: &Postgres) {
    for _ in 0..3 {
        psql(server.url(), "postgres", "SELECT pg_switch_wal()");
        psql(server.url(), "postgres", "CHECKPOINT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_a_destroyed_key_is_in_no_file_of_its_table_and_goes_with_the_log_of_postgres() {
    let Some(server) = tokio::task::block_in_place(server) else {
        return;
    };
    let audit = Audit::on_server(&server).await;
    let key = newest_key(&audit).await;
    let files = |folder: &str| tokio::task::block_in_place(|| server.bytes(folder));
    assert!(holds(&files("base"), &key) && holds(&files("pg_wal"), &key));
    audit.clock.advance(YEAR);
    let erased = audit.erase(1, &[General]).await.unwrap();
    assert_eq!(states(&erased), [(General, State::Erased)]);
    assert!(!holds(&files("base"), &key), "the key is still in a file");
    tokio::task::block_in_place(|| turn(&server));
    assert!(!holds(&files("pg_wal"), &key), "it outlives its segment");
    assert_eq!(audit.metric("audit_key_remains_total"), "0");
}

/// All files of the server: its tables, its indexes, what it knows of how values are spread, and its log. In clear there is
/// nothing of her before, and of what was destroyed nothing after. Ciphertexts of hers may still be there: in dead rows of
/// the leaves and in samples of their values, until the server uses the room again. Nobody reads them without the key.
#[tokio::test(flavor = "multi_thread")]
async fn a3_no_file_of_postgres_has_her_in_clear_or_keeps_a_destroyed_key() {
    let Some(server) = tokio::task::block_in_place(server) else {
        return;
    };
    let audit = Audit::on_server(&server).await;
    let (log, keys) = (audit.location(), audit.key_location());
    audit.append(vec![classed(1, Consent, &audit)]).await.unwrap();
    let kept = wrapped(&bodies(&keys, "payload_key"));
    let key = newest_key(&audit).await;
    // As the server does by itself, when many rows have changed.
    for location in [&log, &keys] {
        execute(location, "ANALYZE");
    }
    let files = || tokio::task::block_in_place(|| server.bytes(""));
    let is_clear = |found: &[u8]| clear().into_iter().find(|text| holds(found, text.as_bytes()));
    let before = files();
    let ciphertext = sealed(&bodies(&log, "leaf")).pop().unwrap();
    assert!(holds(&before, &ciphertext) && holds(&before, &key));
    assert!(holds(&before, b"consent.requested"), "headers are for everybody");
    assert_eq!(is_clear(&before), None);
    assert_eq!(count(&everything(&keys), &key), 2, "its row, and a sample of it");

    audit.clock.advance(YEAR);
    let erased = audit.erase(1, &[General]).await.unwrap();
    assert_eq!(states(&erased), [(General, State::Erased)]);
    // Of the live rows not even the ciphertext is left; samples are of before.
    let rows = bodies(&log, "leaf").concat();
    assert!(!holds(&rows, &ciphertext) && holds(&rows, b"consent.requested"));
    assert!(!holds(&everything(&keys), &key), "a destroyed key is in a table");
    tokio::task::block_in_place(|| turn(&server));
    let after = files();
    assert!(!holds(&after, &key), "a destroyed key is in a file");
    assert_eq!(is_clear(&after), None);
    assert!(kept.iter().all(|key| holds(&after, key)), "what the law keeps is there");
    // The next samples have no ciphertext of hers, and of keys none are taken.
    execute(&log, "ANALYZE");
    assert!(!holds(&everything(&log), &ciphertext));
    let next = newest_key(&audit).await;
    execute(&keys, "ANALYZE");
    let rows = bodies(&keys, "payload_key").concat();
    let all = everything(&keys);
    assert_eq!((count(&rows, &next), count(&all, &next)), (1, 1));
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).filter(|part| *part == needle).count()
}

/// Why a VACUUM alone does not do: should this fail one day, it would.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_vacuum_alone_leaves_the_bytes_of_the_last_row_in_their_page() {
    let Some(server) = tokio::task::block_in_place(server) else {
        return;
    };
    let audit = Audit::on_server(&server).await;
    let key = newest_key(&audit).await;
    let keys = audit.key_location();
    execute(
        &keys,
        "DELETE FROM payload_key WHERE ctid = (SELECT max(ctid) FROM payload_key)",
    );
    execute(&keys, "VACUUM payload_key");
    let files = || tokio::task::block_in_place(|| server.bytes("base"));
    assert!(holds(&files(), &key));
    execute(&keys, "VACUUM FULL payload_key");
    assert!(!holds(&files(), &key));
}

/// Whoever holds the table delays no erasure; once he lets go, a sweep a minute later does what is left.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_table_that_somebody_holds_is_written_anew_a_minute_later() {
    let Some(server) = tokio::task::block_in_place(server) else {
        return;
    };
    let audit = Audit::on_server(&server).await;
    let key = newest_key(&audit).await;
    let keys = audit.key_location();
    let (held, holding) = std::sync::mpsc::channel();
    let (let_go, wait) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let AnyConn::Pg(mut pg) = keys.connect().unwrap() else {
            unreachable!("it is Postgres")
        };
        let hold = |conn: &mut _| {
            diesel::RunQueryDsl::execute(diesel::sql_query("LOCK TABLE payload_key IN ACCESS SHARE MODE"), conn)?;
            held.send(()).unwrap();
            wait.recv().unwrap();
            Ok::<_, diesel::result::Error>(())
        };
        pg.diesel().transaction(hold).unwrap();
    });
    holding.recv().unwrap();
    audit.clock.advance(YEAR);
    let erased = audit.erase(1, &[General]).await.unwrap();
    assert_eq!(states(&erased), [(General, State::Erased)]);
    assert_eq!(audit.metric("audit_key_remains_total"), "1");
    let files = || tokio::task::block_in_place(|| server.bytes("base"));
    assert!(holds(&files(), &key), "a dump that runs has it in its view");
    let_go.send(()).unwrap();
    tokio::task::spawn_blocking(move || holder.join())
        .await
        .unwrap()
        .unwrap();
    audit.log.sweep().await.unwrap();
    assert!(holds(&files(), &key), "whoever waits for the table holds up all others");
    audit.clock.advance(Duration::from_secs(60));
    audit.log.sweep().await.unwrap();
    assert!(!holds(&files(), &key));
    assert_eq!(audit.metric("audit_key_remains_total"), "1");
}
