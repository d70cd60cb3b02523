//! A log ends, and the next goes on: nothing is twice in them and nothing in none; and what ended is checked from files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::log::State;
use sammati_api::audit::v1::log_service_server::LogService;
use sammati_api::audit::v1::{self as audit};
use sammati_audit::archive::archive;
use sammati_audit::log::Log;
use sammati_audit::rows::{KEY_MIGRATIONS, MIGRATIONS};
use sammati_audit::{Beside, Parts, Rpc, open_with};
use sammati_kernel::{Caller, Key, Reason, Refusal};
use sammati_log::checkpoint;
use sammati_log::edge::RightEdge;
use sammati_log::entries::{all, decode};
use sammati_log::hash::leaf_hash;
use sammati_log::tile::{Tile, changed};
use sammati_store::{EmbeddedMigrations, Location, Options, Store};
use sammati_testkit::databases::Database;

use crate::fixture::{Audit, Feed, account, everywhere, of, operator, person, said, service, some_event};

/// A log that goes on from another one, on databases of its own.
pub(crate) struct Next {
    pub(crate) rpc: Rpc,
    pub(crate) log: Arc<Log>,
    pub(crate) databases: [Database; 2],
}

/// What the next log is made of.
pub(crate) fn parts(before: &Audit, databases: &[Database; 2], origin: &str) -> Parts {
    let store = |database: &Database, migrations: fn() -> EmbeddedMigrations| {
        let options = Options {
            lanes: 1,
            partitions: Some(1),
            time_only_orders: true,
            ..Options::new(Location::parse(&database.url).unwrap(), Key::from_bytes([3; 32]))
        };
        loop {
            // A lane that is ending still holds the file for a moment.
            match Store::open(&options, Arc::new(before.clock.clone()), migrations()) {
                Ok(store) => return store,
                Err(error) if error.to_string().contains("held by another") => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    };
    Parts {
        store: store(&databases[0], || MIGRATIONS),
        keys: store(&databases[1], || KEY_MIGRATIONS),
        origin: origin.to_owned(),
        log_key: before.log_key().into(),
        kek: Key::from_bytes([4; 32]),
        lookup: Key::from_bytes([8; 32]),
    }
}

pub(crate) async fn start(
    before: &Audit,
    databases: [Database; 2],
    origin: &str,
    follows: bool,
) -> Result<Next, String> {
    let parts = parts(before, &databases, origin);
    let beside = Beside {
        follows: follows.then(|| before.location()),
        ..Beside::default()
    };
    let log = open_with(&parts, beside).await.map_err(|error| error.to_string())?;
    let rpc = Rpc::new(Arc::clone(&log), &parts.lookup);
    Ok(Next { rpc, log, databases })
}

pub(crate) fn empty(before: &Audit) -> [Database; 2] {
    let one = || match before.is_postgres() {
        true => Database::postgres().unwrap(),
        false => Database::sqlite(),
    };
    [one(), one()]
}

pub(crate) async fn relay(rpc: &Rpc, stretch: audit::RelayedEvents) -> Result<i64, Refusal> {
    let request = audit::AppendEventsRequest {
        batch: Some(Batch::Relayed(stretch)),
        ..Default::default()
    };
    let answer = said(rpc.append_events(of(service("consent"), request)).await)?;
    Ok(answer.next_position)
}

pub(crate) async fn seal(audit: &Audit, successor: &str) -> Result<audit::Log, Refusal> {
    let request = audit::SealLogRequest {
        log: audit.log.name(),
        successor: successor.to_owned(),
    };
    said(audit.rpc.seal_log(of(operator(), request)).await)
}

pub(crate) async fn listed(rpc: &Rpc) -> audit::Log {
    let request = audit::ListLogsRequest::default();
    let mut logs = said(rpc.list_logs(of(Caller::ANYONE, request)).await).unwrap().logs;
    logs.pop().unwrap()
}

/// A sealed log takes no event that it has not, is read as before, and every reading is in it.
#[tokio::test(flavor = "multi_thread")]
async fn a1_a_sealed_log_takes_no_more_events_and_is_read() {
    for audit in everywhere().await {
        let feed = Feed::of(20);
        relay(&audit.rpc, feed.stretch(0, 10)).await.unwrap();
        let direct = some_event(1);
        audit.append(vec![direct.clone()]).await.unwrap();
        let log = seal(&audit, "logs/next").await.unwrap();
        assert_eq!((log.state(), log.successor.as_str()), (State::Sealed, "logs/next"));
        let end = audit.log.leaf(11).await.unwrap().unwrap();
        assert_eq!(end.header().event_type, "audit.sealed");

        for _ in 0..2 {
            let refused = relay(&audit.rpc, feed.stretch(5, 15)).await.unwrap_err();
            assert_eq!(refused.reason, Reason::LogSealed);
            let refused = audit.append(vec![some_event(2)]).await.unwrap_err();
            assert_eq!(refused.reason, Reason::LogSealed);
        }
        // What it has is answered as ever, and where it stands.
        assert_eq!(relay(&audit.rpc, feed.stretch(5, 10)).await, Ok(10));
        assert_eq!(relay(&audit.rpc, feed.stretch(10, 10)).await, Ok(10));
        assert_eq!(audit.append(vec![direct]).await.unwrap().events[0].index, 10);
        assert!(audit.log.leaf(12).await.unwrap().is_none());

        let hers = audit.list(person(account(1)), Default::default()).await.unwrap();
        assert!(!hers.events.is_empty());
        let read = audit.log.leaf(12).await.unwrap().unwrap();
        assert_eq!(read.header().event_type, "audit.queried");
        assert_eq!(audit.log.newest().await.unwrap().size, 13);

        let again = seal(&audit, "logs/next").await.unwrap();
        assert_eq!(again, log);
        assert!(audit.log.leaf(13).await.unwrap().is_none(), "told once");
        let refused = seal(&audit, "logs/other").await.unwrap_err();
        assert_eq!(refused.reason, Reason::StateConflict);
        let refused = seal(&audit, &audit.log.name()).await.unwrap_err();
        assert_eq!(refused.reason, Reason::FieldInvalid);
        // Over a restart too.
        let audit = audit.restart().await;
        let refused = audit.append(vec![some_event(2)]).await.unwrap_err();
        assert_eq!(refused.reason, Reason::LogSealed);
    }
}

/// The log that follows takes each feed from where the one before ended, whatever was pruned of it.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_log_goes_on_where_the_one_before_ended() {
    for frozen in [false, true] {
        for audit in everywhere().await {
            let feed = Feed::of(20);
            relay(&audit.rpc, feed.stretch(0, 10)).await.unwrap();
            let signed = audit.log.newest().await.unwrap();
            let refused = start(&audit, empty(&audit), "sammati.test/next", true).await;
            let refused = refused.err().unwrap();
            assert!(refused.contains("neither sealed nor frozen"), "{refused}");
            if frozen {
                audit.log.freeze("for the test".to_owned()).await;
            } else {
                seal(&audit, "logs/next").await.unwrap();
            }
            let refused = start(&audit, empty(&audit), "sammati.test/audit", true).await;
            let refused = refused.err().unwrap();
            assert!(refused.contains("service.origin"), "{refused}");

            // Without it the log begins with the first event of the feed.
            let anew = start(&audit, empty(&audit), "sammati.test/next", false).await.unwrap();
            let refused = relay(&anew.rpc, feed.stretch(10, 15)).await.unwrap_err();
            assert_eq!(refused.reason, Reason::FeedGap);
            let Next { rpc, log, databases } = anew;
            drop((rpc, log));
            let refused = start(&audit, databases, "sammati.test/next", true).await;
            let refused = refused.err().unwrap();
            assert!(refused.contains("begun without it"), "{refused}");

            let next = start(&audit, empty(&audit), "sammati.test/next", true).await.unwrap();
            let location = Location::parse(&next.databases[0].url).unwrap();
            let found = std::thread::spawn(move || crate::fsck::check(&location))
                .join()
                .unwrap();
            assert_eq!(found, Vec::<String>::new());
            let refused = relay(&next.rpc, feed.stretch(11, 15)).await.unwrap_err();
            assert_eq!(refused.reason, Reason::FeedGap);
            assert_eq!(relay(&next.rpc, feed.stretch(10, 15)).await, Ok(15));
            let log = listed(&next.rpc).await;
            assert_eq!(
                (log.state(), log.predecessor.as_str()),
                (State::Active, audit.log.origin())
            );
            assert_eq!(listed(&audit.rpc).await.predecessor, "");
            // Its first leaf says so, with what the one before signed last.
            let first = next.log.leaf(0).await.unwrap().unwrap();
            assert_eq!(first.header().event_type, "audit.begun");
            let (_, opened) = next.log.payloads(&[first]).await.unwrap().pop().unwrap();
            let text = format!("{opened:?}");
            let named = |size: u64| text.contains(&format!("{}/checkpoints/{size}", audit.log.name()));
            assert!(named(signed.size) || named(signed.size + 1), "{text}");

            // A start later finds it begun, and reads nothing more of the one before.
            let Next { rpc, log, databases } = next;
            drop((rpc, log));
            let next = start(&audit, databases, "sammati.test/next", true).await.unwrap();
            assert_eq!(relay(&next.rpc, feed.stretch(15, 20)).await, Ok(20));
            assert_eq!(next.log.newest().await.unwrap().size, 11);
        }
    }
}

/// What `sammati-verify archive` does with the files.
fn check(folder: &Path, audit: &Audit) -> u64 {
    let read = |path: &str| fs::read(folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let note = String::from_utf8(read("checkpoint")).unwrap();
    let signed = checkpoint::open(&note, &[audit.verifier()]).unwrap();
    let mut edge = RightEdge::empty();
    let mut hashes = Vec::new();
    for id in all(signed.size()) {
        let bundle = read(&id.path());
        hashes.extend(decode(id, &bundle).unwrap().into_iter().map(leaf_hash));
    }
    edge.extend(hashes.iter().copied());
    assert_eq!(edge.root(), signed.root());
    for id in changed(0, signed.size()).unwrap() {
        let tile = Tile::decode(id, &read(&id.path())).unwrap();
        if id.level() == 0 {
            let first = id.index() as usize * 256;
            let own: Vec<_> = hashes[first..first + usize::from(id.width())].to_vec();
            assert_eq!(tile, Tile::new(0, id.index(), own).unwrap());
        }
    }
    let vkeys = String::from_utf8(read("vkeys")).unwrap();
    assert_eq!(vkeys, format!("{}\n", audit.log.vkey()));
    signed.size()
}

/// Of an active log, a sealed one and a frozen one; not of one whose leaves were changed.
#[tokio::test(flavor = "multi_thread")]
async fn a2_an_archive_is_checked_without_the_log() {
    for audit in everywhere().await {
        let work = tempfile::tempdir().unwrap();
        let into = |name: &str| {
            let (location, folder) = (audit.location(), work.path().join(name));
            let written = std::thread::spawn(move || archive(&location, &folder).map_err(|error| error.to_string()));
            written.join().unwrap()
        };
        let refused = into("early").unwrap_err();
        assert!(refused.contains("nothing of this log was signed"), "{refused}");
        for _ in 0..3 {
            audit
                .append_unsigned((0..200).map(|n| some_event(n % 7)).collect())
                .await
                .unwrap();
        }
        audit.log.newest().await.unwrap();
        // What is not signed is not in it.
        audit.append_unsigned(vec![some_event(1)]).await.unwrap();
        let said = into("active").unwrap();
        assert!(said.starts_with("600 leaves of sammati.test/audit/"), "{said}");
        assert_eq!(check(&work.path().join("active"), &audit), 600);
        let refused = into("active").unwrap_err();
        assert!(refused.contains("is not empty"), "{refused}");

        seal(&audit, "logs/next").await.unwrap();
        audit.log.newest().await.unwrap();
        into("sealed").unwrap();
        assert_eq!(check(&work.path().join("sealed"), &audit), 602);
        audit.log.freeze("for the test".to_owned()).await;
        into("frozen").unwrap();
        assert_eq!(check(&work.path().join("frozen"), &audit), 602);
        let location = audit.location();
        std::thread::spawn(move || crate::fsck::execute(&location, "DELETE FROM leaf WHERE id={0000000000000105}"))
            .join()
            .unwrap();
        let refused = into("damaged").unwrap_err();
        assert!(refused.contains("leaf 261 is missing"), "{refused}");
        assert!(!work.path().join("damaged/checkpoint").exists());
    }
}
