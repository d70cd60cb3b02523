//! What a deleted account leaves in files: nothing, and nobody is kept waiting for that.

use sammati_kernel::AccountId;
use sammati_store::Reader;
use sammati_testkit::databases::psql;
use sammati_testkit::disk::holds;
use sammati_testkit::{Database, Postgres, Setup, pause};

use super::deletion::{Asked, DAY, deleting, proved, tidy};
use super::fixture::{Fixture, fixtures};
use crate::rows::{AccountRow, DataKeyRow};

/// A file of Postgres keeps what was overwritten until its room is used again, and a sample of it for longer.
#[tokio::test(flavor = "multi_thread")]
async fn a3_her_wrapped_key_is_in_no_file_of_a_table_on_postgres() {
    let setup = Setup {
        settings: &["autovacuum=off"],
        ..Setup::default()
    };
    let Some(server) = tokio::task::block_in_place(|| Postgres::start_with(&setup)) else {
        return;
    };
    let database = tokio::task::block_in_place(|| Database::on(&server, "identity"));
    let fixture = Fixture::on(database).await;
    let session = fixture.enrol(1).await.session.unwrap();
    let account = AccountId::parse_name(&session.account).unwrap();
    for n in 2..5 {
        fixture.enrol(n).await;
    }
    let wrapped = fixture.inner.store.read(move |r| {
        let slot = account.slot();
        let key = r.get::<AccountRow>(slot, account.as_bytes())?.unwrap().record.key;
        Ok(r.get::<DataKeyRow>(slot, &key)?.unwrap().record.wrapped)
    });
    let wrapped = wrapped.await.unwrap();
    let is_there = || {
        tokio::task::block_in_place(|| {
            psql(server.url(), "identity", "CHECKPOINT");
            holds(&server.bytes("base"), &wrapped)
        })
    };
    // As the server does by itself, when many rows have changed.
    tokio::task::block_in_place(|| psql(server.url(), "identity", "ANALYZE"));
    assert!(is_there());
    fixture
        .inner
        .delete_account(&proved(&fixture, &session), deleting(&fixture, &session.account))
        .await
        .unwrap();
    fixture.pass(30 * DAY);
    tidy(&fixture, &Asked::default()).await.unwrap();
    assert_eq!(fixture.count_events("identity.purged").await, 1);
    assert!(!is_there(), "the key of a purged account is in a file");
}

/// On SQLite the log is emptied before audit is asked, and not again and again while audit is away: whoever reads would be in its
/// way, and it in theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a3_while_audit_is_away_nothing_is_scrubbed_again() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let she = proved(&fixture, &session);
        let deleted = deleting(&fixture, &session.account);
        fixture.inner.delete_account(&she, deleted).await.unwrap();
        fixture.pass(30 * DAY);
        let audit = Asked::default();
        *audit.away.lock().unwrap() = true;
        assert!(tidy(&fixture, &audit).await.is_err());
        *audit.away.lock().unwrap() = false;
        fixture.pass(10);
        let ((pause, paused), store) = (pause(), fixture.inner.store.clone());
        let reader = tokio::spawn(async move {
            let read = move |r: &mut Reader<'_>| r.head(0).map(|_| paused.here());
            store.snapshot(read).await
        });
        tokio::task::block_in_place(|| pause.until_reached());
        tidy(&fixture, &audit).await.unwrap();
        assert_eq!(audit.of.lock().unwrap().len(), 1);
        drop(pause);
        reader.await.unwrap().unwrap();
    }
}
