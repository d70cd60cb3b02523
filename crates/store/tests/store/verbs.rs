//! The operator's verbs: fsck finds what was changed beside the store, backups are whole, restores are careful.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use diesel::connection::SimpleConnection;
use sammati_kernel::{ManualClock, Micros};
use sammati_store::verbs::{self, Disagreement, Health, Indexes, Known, Summary};
use sammati_store::{AnyConn, EmbeddedMigrations, Location, on_conn};
use sammati_testkit::{Database, databases};

use crate::world::{Count, Counter, MIGRATIONS, START, World, account, open, request_id};

/// Verbs are for a process without a runtime.
pub(crate) fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

pub(crate) fn fsck(location: &Location) -> (Summary, Vec<Disagreement>) {
    let mut found = Vec::new();
    let tell = &mut |one: &Disagreement| found.push(one.clone());
    let summary = verbs::fsck(location, &MIGRATIONS, &[Known::of::<Counter>()], None, tell).unwrap();
    assert_eq!(summary.disagreements, found.len() as u64);
    (summary, found)
}

/// Runs statements beside the store, with `{…}` as a literal of those hexadecimal digits.
pub(crate) fn execute(location: &Location, sql: &str) {
    let mut conn = location.connect().unwrap();
    let literal = if matches!(conn, AnyConn::Pg(_)) { r"'\x" } else { "X'" };
    let sql = sql.replace('{', literal).replace('}', "'");
    on_conn!(&mut conn, |c| c.batch_execute(&sql)).unwrap();
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fsck_finds_whatever_was_changed_beside_the_store() {
    for world in World::all() {
        let store = world.replica(0);
        for _ in 0..5 {
            store.apply(Count::up(account(1, 0))).await.unwrap();
        }
        let claimed = Count {
            claim: Some([9; 32]),
            ..Count::up(account(1, 1))
        };
        let id = request_id(&world.clock);
        let request = store.request("asha", "test.count", &id, &Counter::default()).unwrap();
        store.run(claimed, Some(request)).await.unwrap();
        let (head, feed) = store.snapshot(|r| Ok((r.head(1)?, r.feed(1, 0, 100)?))).await.unwrap();
        let (body, mut flipped) = (feed[3].body.clone(), feed[3].body.clone());
        flipped[0] ^= 1;
        let (body, flipped, chain) = (hex(&body), hex(&flipped), hex(&head.chain));
        let zero = "00".repeat(32);
        // What was done, how it is undone, and what fsck says of it.
        let damages: Vec<(String, String, Vec<&str>)> = vec![
            (
                format!("UPDATE feed SET body={{{flipped}}} WHERE partition=1 AND position=3"),
                format!("UPDATE feed SET body={{{body}}} WHERE partition=1 AND position=3"),
                vec!["partition 1, feed position 3: its chain hash"],
            ),
            (
                "UPDATE feed SET partition=100 WHERE partition=1 AND position=2".into(),
                "UPDATE feed SET partition=1 WHERE partition=100".into(),
                vec!["partition 1, feed position 2: missing", "feed: 1 rows in partitions"],
            ),
            (
                "UPDATE feed SET partition=100 WHERE partition=1 AND position=5".into(),
                "UPDATE feed SET partition=1 WHERE partition=100".into(),
                vec![
                    "partition 1, head: says that the next position is 6",
                    "head: its chain hash",
                    "feed: 1 rows",
                ],
            ),
            (
                format!("UPDATE head SET chain={{{zero}}} WHERE partition=1"),
                format!("UPDATE head SET chain={{{chain}}} WHERE partition=1"),
                vec!["partition 1, head: its chain hash"],
            ),
            (
                "UPDATE head SET time=time-1 WHERE partition=1".into(),
                "UPDATE head SET time=time+1 WHERE partition=1".into(),
                vec!["partition 1, head: its time"],
            ),
            (
                "UPDATE feed SET epoch=2 WHERE partition=1 AND position=1".into(),
                "UPDATE feed SET epoch=1".into(),
                vec!["feed position 1: its epoch 2"; 1]
                    .into_iter()
                    .chain(vec!["its epoch 1"; 4])
                    .collect(),
            ),
            (
                "UPDATE request SET partition=(partition+1)%8".into(),
                "UPDATE request SET partition=(partition+7)%8".into(),
                vec!["belongs into partition"],
            ),
            (
                "UPDATE claim SET partition=(partition+1)%8".into(),
                "UPDATE claim SET partition=(partition+7)%8".into(),
                vec!["belongs into partition"],
            ),
            (
                "UPDATE counter SET version=version-10".into(),
                "UPDATE counter SET version=version+10".into(),
                vec!["partition 1, counter "; 2],
            ),
            (
                "INSERT INTO cursor(partition,consumer,next) VALUES (1,{6175646974},100)".into(),
                "DELETE FROM cursor".into(),
                vec!["consumer audit: has got all before 100"],
            ),
            (
                "UPDATE counter SET version=version+1".into(),
                "UPDATE counter SET version=version-1".into(),
                vec!["its check value is another"; 2],
            ),
            (
                "UPDATE counter SET due=9".into(),
                "UPDATE counter SET due=NULL".into(),
                vec!["its look-up columns"; 2],
            ),
            (
                "UPDATE request SET format=2".into(),
                "UPDATE request SET format=1".into(),
                vec!["its check value is another"],
            ),
            (
                "UPDATE counter SET body={ff} WHERE version=5".into(),
                String::new(),
                vec!["its body cannot be read"],
            ),
        ];
        let location = Location::parse(&world.database.url).unwrap();
        aside(|| {
            let (clean, _) = fsck(&location);
            assert_eq!(
                (clean.partitions, clean.events, clean.rows, clean.disagreements),
                (8, 6, 4, 0)
            );
            for (damage, repair, said) in damages {
                execute(&location, &damage);
                let (_, found) = fsck(&location);
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                assert_eq!(found.len(), said.len(), "{damage}: {found:#?}");
                for (found, said) in found.iter().zip(said) {
                    assert!(found.contains(said), "{damage}: {found}");
                }
                if !repair.is_empty() {
                    execute(&location, &repair);
                    assert_eq!(fsck(&location).0.disagreements, 0, "{repair}");
                }
            }
        });
    }
}

/// What an index has not nobody finds who looks by it, and whoever reads the whole table does.
#[tokio::test(flavor = "multi_thread")]
async fn fsck_finds_an_index_that_is_not_what_its_table_is() {
    for world in World::all() {
        let store = world.replica(0);
        for n in 0..3 {
            store.apply(Count::up(account(1, n))).await.unwrap();
        }
        let location = Location::parse(&world.database.url).unwrap();
        if location.is_embedded() {
            assert_eq!(aside(|| fsck(&location)).0.indexes, Indexes::Compared);
            continue;
        }
        assert_eq!(aside(|| fsck(&location)).0.indexes, Indexes::Not);
        let has_extension = aside(|| {
            let mut conn = location.connect().unwrap();
            on_conn!(&mut conn, |c| c.batch_execute("CREATE EXTENSION amcheck")).is_ok()
        });
        if !has_extension {
            eprintln!("SKIPPED: the check of indexes: this server was installed without amcheck");
            continue;
        }
        let whole = aside(|| fsck(&location));
        assert_eq!((whole.0.indexes, whole.1), (Indexes::Compared, Vec::new()));
        // The rows are written anew while that index takes none: as after a change of the order that texts have, or a bug.
        let rest = "UPDATE pg_index SET indisready={}, indislive={} WHERE indexrelid='counter_by_owner'::regclass";
        let damage = [
            &rest.replace("{}", "false"),
            "CREATE TABLE aside AS SELECT * FROM counter",
            "DELETE FROM counter",
            "INSERT INTO counter SELECT * FROM aside",
            "DROP TABLE aside",
            &rest.replace("{}", "true"),
        ];
        aside(|| damage.iter().for_each(|sql| execute(&location, sql)));
        let (summary, found) = aside(|| fsck(&location));
        assert_eq!((summary.indexes, found.len()), (Indexes::Compared, 1), "{found:?}");
        assert_eq!(found[0].place, "index counter_by_owner");
        assert!(found[0].what.contains("lacks matching index tuple"), "{found:?}");
        aside(|| execute(&location, "REINDEX INDEX counter_by_owner"));
        assert_eq!(aside(|| fsck(&location)).1, []);
    }
}

/// What a release wrote that knew of no check values is no damage, and has one once it is written anew.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_before_have_no_check_value_and_are_counted() {
    for world in World::all() {
        let store = world.replica(0);
        for n in 0..3 {
            store.apply(Count::up(account(1, n))).await.unwrap();
        }
        let location = Location::parse(&world.database.url).unwrap();
        let unchecked = || {
            aside(|| {
                let (summary, found) = fsck(&location);
                assert_eq!(found, []);
                summary.unchecked
            })
        };
        assert_eq!(unchecked(), 0);
        aside(|| execute(&location, "UPDATE counter SET body=substr(body,1,length(body)-8)"));
        assert_eq!(unchecked(), 3);
        store.apply(Count::up(account(1, 1))).await.unwrap();
        assert_eq!(unchecked(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_while_64_callers_write_is_whole_and_has_every_earlier_answer() {
    let world = World::on(Database::sqlite());
    let store = world.replica(0).clone();
    let stop = Arc::new(AtomicBool::new(false));
    let (answers, mut answered) = tokio::sync::watch::channel(vec![0_i64; 64]);
    let callers = (0..64_u16).map(|n| {
        let (store, stop, answers) = (store.clone(), Arc::clone(&stop), answers.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let count = store.apply(Count::up(account(n, 0))).await.unwrap();
                answers.send_modify(|all| all[usize::from(n)] = count);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let before = answered.wait_for(|all| all.iter().all(|count| *count >= 5)).await;
    let before = before.unwrap().clone();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("copy of it?.db");
    let location = Location::parse(&world.database.url).unwrap();
    aside(|| verbs::backup(&location, &to).unwrap());
    let went_on = |all: &Vec<i64>| all.iter().zip(&before).all(|(now, before)| now > before);
    answered.wait_for(went_on).await.unwrap();
    let again = aside(|| verbs::backup(&location, &to)).unwrap_err().to_string();
    assert!(again.contains("nothing is overwritten"), "{again}");
    stop.store(true, Ordering::SeqCst);
    futures::future::join_all(callers).await;
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["copy of it?.db"], "nothing half is left beside it");
    let (copied, _) = aside(|| fsck(&Location::Sqlite(to.clone())));
    assert_eq!(copied.disagreements, 0);
    assert!(copied.events >= before.iter().sum::<i64>().unsigned_abs());
    let copy = open(&format!("sqlite:{}", to.display()), &world.clock);
    for (n, before) in (0..).zip(before) {
        let id = account(n, 0);
        let found = copy
            .read(move |r| r.get::<Counter>(id.slot(), &id.to_vec()))
            .await
            .unwrap();
        assert!(found.unwrap().record.count >= before, "caller {n}");
    }
}

async fn count(url: &str, clock: &ManualClock, times: usize) -> i64 {
    let store = open(url, clock);
    let mut last = 0;
    for _ in 0..times {
        last = store.apply(Count::up(account(1, 0))).await.unwrap();
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_refuses_what_it_should_and_keeps_what_it_replaces() {
    let (database, clock) = (Database::sqlite(), ManualClock::at(START));
    let location = Location::parse(&database.url).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved.db");
    assert_eq!(count(&database.url, &clock, 3).await, 3);
    aside(|| verbs::backup(&location, &saved).unwrap());
    let restore = |from: &Path, to: &Location, replace| {
        aside(|| verbs::restore(to, from, &MIGRATIONS, replace, false, Micros::from_seconds(7)))
            .map_err(|e| e.to_string())
    };
    let served = open(&database.url, &clock);
    assert!(
        restore(&saved, &location, true)
            .unwrap_err()
            .contains("held by another process")
    );
    drop(served);
    assert!(restore(&saved, &location, false).unwrap_err().contains("--replace"));
    let other = folder.path().join("other.db");
    aside(|| verbs::migrate(&Location::Sqlite(other.clone()), None, EmbeddedMigrations::new(&[])).unwrap());
    assert!(
        restore(&other, &location, true)
            .unwrap_err()
            .contains("no table of this service")
    );
    let newer = folder.path().join("newer.db");
    std::fs::copy(&saved, &newer).unwrap();
    let at_newer = Location::Sqlite(newer.clone());
    execute(
        &at_newer,
        "INSERT INTO __diesel_schema_migrations(version) VALUES ('20991231000001'); \
         INSERT INTO needed(version) VALUES ('20991231000001')",
    );
    assert!(
        restore(&newer, &location, true)
            .unwrap_err()
            .contains("knows the migration 20991231000001")
    );
    let damaged = folder.path().join("damaged.db");
    let mut bytes = std::fs::read(&saved).unwrap();
    bytes[3 * 4096..][..100].fill(0x5a);
    std::fs::write(&damaged, bytes).unwrap();
    assert!(
        restore(&damaged, &location, true)
            .unwrap_err()
            .contains("cannot be restored")
    );
    assert_eq!(
        count(&database.url, &clock, 1).await,
        4,
        "what was refused changed nothing"
    );
    let done = restore(&saved, &location, true).unwrap();
    assert_eq!(count(&database.url, &clock, 1).await, 4, "3 were in the backup");
    let old = done.aside.unwrap();
    assert!(old.display().to_string().ends_with(".replaced-7"));
    assert_eq!(
        count(&format!("sqlite:{}", old.display()), &clock, 1).await,
        5,
        "4 were before it"
    );
    let fresh = Location::Sqlite(folder.path().join("fresh.db"));
    assert_eq!(restore(&saved, &fresh, false).unwrap().aside, None);
}

#[test]
fn migrate_says_what_it_did() {
    for database in databases() {
        let location = Location::parse(&database.url).unwrap();
        let before = verbs::look(&location, &MIGRATIONS, || START);
        assert!(
            before
                .iter()
                .any(|r| r.health == Health::Warn && r.advice.contains("first start")),
            "{before:#?}"
        );
        let applied = verbs::migrate(&location, Some(8), MIGRATIONS).unwrap();
        assert!(applied.contains(&"20261122000001".to_owned()) && applied.contains(&"20261122900001".to_owned()));
        assert!(verbs::migrate(&location, Some(8), MIGRATIONS).unwrap().is_empty());
        assert_eq!(fsck(&location).0.disagreements, 0);
    }
}

#[test]
fn postgres_is_saved_by_its_own_tools() {
    let location = Location::parse("postgres://127.0.0.1/x").unwrap();
    let refused = verbs::backup(&location, Path::new("x")).unwrap_err().to_string();
    assert!(
        refused.contains("pg_basebackup") && refused.contains("pg_dump"),
        "{refused}"
    );
    let refused = verbs::restore(&location, Path::new("x"), &MIGRATIONS, true, false, START)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("pg_restore"), "{refused}");
}

#[test]
fn a_look_tells_a_good_database_from_one_that_is_away_or_ahead() {
    for database in databases() {
        let location = Location::parse(&database.url).unwrap();
        verbs::migrate(&location, None, MIGRATIONS).unwrap();
        let now = || sammati_kernel::Clock::now(&sammati_kernel::SystemClock);
        let good = verbs::look(&location, &MIGRATIONS, now);
        assert!(
            good.len() > 3 && good.iter().all(|remark| remark.health < Health::Fail),
            "{good:#?}"
        );
        let late = verbs::look(&location, &MIGRATIONS, || Micros(now().0 - 5_000_000));
        let skewed = late
            .iter()
            .any(|r| r.health == Health::Fail && r.advice.contains("NTP"));
        assert_eq!(skewed, !location.is_embedded(), "{late:#?}");
        let health = |sql: &str| {
            execute(&location, sql);
            let seen = verbs::look(&location, &MIGRATIONS, now);
            let about = seen.into_iter().find(|r| r.what.contains("20991231000001"));
            about.expect("a remark about what is ahead").health
        };
        let ahead = "INSERT INTO __diesel_schema_migrations(version) VALUES ('20991231000001')";
        assert_eq!(health(ahead), Health::Warn);
        let needed = "INSERT INTO needed(version) VALUES ('20991231000001')";
        assert_eq!(health(needed), Health::Fail);
    }
    for away in ["postgres://127.0.0.1:1/x", "sqlite:/nowhere/at/all/x.db"] {
        let seen = verbs::look(&Location::parse(away).unwrap(), &MIGRATIONS, || START);
        assert!(
            seen.iter().any(|r| r.health == Health::Fail && !r.advice.is_empty()),
            "{seen:#?}"
        );
    }
}
