//! After a restore or a lossy failover: a new epoch, under replicas that run or none, and nothing of the old one believed.

use sammati_kernel::{AccountId, Micros, Reason};
use sammati_store::verbs::{self, Recovery};
use sammati_store::{FeedEvent, Location, Revision, Store};

use crate::verbs::{aside, execute, fsck};
use crate::world::{Count, Counter, LOG, MIGRATIONS, START, World, account, open, open_at};

const EPOCH: i64 = 216_000_000;

/// Opens `epoch` in every partition, in the first from `from` on; leaves the mark.
fn open_epoch(location: &Location, epoch: i64, from: Option<i64>) -> Result<(), String> {
    aside(|| {
        let mut recovery = Recovery::begin(location, None, MIGRATIONS).map_err(|e| e.to_string())?;
        for standing in recovery.standings().unwrap() {
            let partition = standing.head.partition;
            let from = from.filter(|_| partition == 1);
            let tell = |cut: &verbs::Cut| format!("cut at {} of {}", cut.at.next, cut.at.epoch).into_bytes();
            recovery
                .open_epoch(partition, epoch, from, START, tell)
                .map_err(|e| e.to_string())?;
        }
        recovery.release();
        Ok(())
    })
}

async fn feed(store: &Store) -> Vec<FeedEvent> {
    store.read(|r| r.feed(1, 0, 100)).await.unwrap()
}

async fn cached(store: &Store, cache: &sammati_store::SubjectCache<i64>, id: AccountId) -> i64 {
    store.confirm().await.unwrap();
    let load = || async {
        let found = store.read(move |r| r.get::<Counter>(id.slot(), &id.to_vec())).await?;
        Ok((found.map_or(0, |stored| stored.record.count), 8))
    };
    cache.get(&id.to_vec(), load).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_begins_where_the_feed_and_the_log_part() {
    for world in World::all() {
        let location = Location::parse(&world.database.url).unwrap();
        let World {
            replicas,
            clock,
            database,
        } = world;
        for _ in 0..5 {
            replicas[0].apply(Count::up(account(1, 0))).await.unwrap();
        }
        let old = replicas[0].revision(account(1, 0).slot()).unwrap();
        drop(replicas);
        // Two of the five were committed at positions whose first events the log has: they are of the new epoch.
        open_epoch(&location, EPOCH, Some(3)).unwrap();
        let refused = std::panic::catch_unwind(|| open(&database.url, &clock));
        assert!(refused.is_err(), "nobody serves what is not recovered to its end");
        assert!(open_epoch(&location, EPOCH, None).unwrap_err().contains("run it again"));
        aside(|| verbs::finish(&location).unwrap());
        let store = open(&database.url, &clock);
        assert_eq!(store.apply(Count::up(account(1, 0))).await.unwrap(), 6);
        let feed = feed(&store).await;
        let epochs: Vec<_> = feed.iter().map(|event| event.epoch).collect();
        assert_eq!(epochs, [1, 1, 1, EPOCH, EPOCH, EPOCH, EPOCH]);
        assert_eq!(feed[5].body, b"cut at 3 of 1");
        let world = World {
            replicas: vec![store],
            clock,
            database,
        };
        assert_eq!(world.check_feed().await, 6 + 8, "and a cut in each partition");
        let (_, found) = aside(|| fsck(&location));
        assert_eq!(found, []);
        let head = world.replicas[0].head(account(1, 0).slot()).unwrap();
        assert!(
            !old.is_reached_by(&head),
            "a revision of the old epoch is never reached"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recovering_twice_is_harmless() {
    for world in World::all() {
        let location = Location::parse(&world.database.url).unwrap();
        let World { replicas, .. } = world;
        replicas[0].apply(Count::up(account(1, 0))).await.unwrap();
        drop(replicas);
        for epoch in [EPOCH, EPOCH + 1] {
            open_epoch(&location, epoch, None).unwrap();
            aside(|| verbs::finish(&location).unwrap());
        }
        assert_eq!(aside(|| fsck(&location)).1, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_replicas_that_run_wait_for_a_recovery_to_end_and_then_drop_what_they_knew() {
    for world in World::all() {
        if world.replicas.len() < 2 {
            // An embedded database is stopped for it.
            continue;
        }
        let location = Location::parse(&world.database.url).unwrap();
        let caches: Vec<_> = world.replicas.iter().map(|store| store.cache::<i64>(1 << 20)).collect();
        let id = account(1, 0);
        for _ in 0..3 {
            world.replicas[0].apply(Count::up(id)).await.unwrap();
        }
        for (store, cache) in world.replicas.iter().zip(&caches) {
            assert_eq!(cached(store, cache, id).await, 3);
        }
        let before: Revision = world.replicas[1].revision(id.slot()).unwrap();
        // The last commit is lost behind their backs, with its position and its effect.
        let lose = "DELETE FROM feed WHERE partition=1 AND position=2; \
             UPDATE head SET next=2,chain=(SELECT chain FROM feed WHERE partition=1 AND position=1) WHERE partition=1; \
             DELETE FROM counter WHERE partition=1";
        aside(|| execute(&location, lose));
        open_epoch(&location, EPOCH, None).unwrap();
        // What took something away is not done again yet: nobody permits, by a check or by a command.
        for store in &world.replicas {
            for _ in 0..3 {
                assert_eq!(store.confirm().await.unwrap_err().reason, Reason::StorageUnavailable);
            }
            assert!(store.readiness().borrow().is_err());
            let refused = store.apply(Count::up(id)).await.unwrap_err();
            assert_eq!(refused.reason, Reason::StorageUnavailable);
        }
        aside(|| verbs::finish(&location).unwrap());
        // One learns it by a commit of its own, the other by its next confirmation.
        assert_eq!(world.replicas[0].apply(Count::up(id)).await.unwrap(), 1, "as restored");
        assert_eq!(caches[0].len(), 0, "its own commit emptied it");
        for (store, cache) in world.replicas.iter().zip(&caches) {
            assert_eq!(cached(store, cache, id).await, 1);
            assert!(!store.has_applied(&before));
            assert_eq!(store.head(id.slot()).unwrap().epoch, EPOCH);
        }
        let epochs: Vec<_> = feed(&world.replicas[1]).await.iter().map(|event| event.epoch).collect();
        assert_eq!(epochs, [1, 1, EPOCH, EPOCH]);
        world.check_feed().await;
        assert!(world.replicas.iter().all(|store| store.readiness().borrow().is_ok()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_tells_of_an_old_epoch_is_not_noted() {
    for world in World::all() {
        let location = Location::parse(&world.database.url).unwrap();
        let World {
            replicas,
            clock,
            database,
        } = world;
        for _ in 0..3 {
            replicas[0].apply(Count::up(account(1, 0))).await.unwrap();
        }
        drop(replicas);
        open_epoch(&location, EPOCH, None).unwrap();
        aside(|| verbs::finish(&location).unwrap());
        let store = open(&database.url, &clock);
        clock.advance(sammati_store::KEPT + std::time::Duration::from_secs(1));
        store.advance_cursor("log", vec![(1, 1, 4)]).await.unwrap();
        assert_eq!(store.prune(LOG).await.unwrap().events, 0);
        store.advance_cursor("log", vec![(1, EPOCH, 4)]).await.unwrap();
        assert_eq!(store.prune(LOG).await.unwrap().events, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_not_served_before_it_was_recovered() {
    let world = World::on(sammati_testkit::Database::sqlite());
    let location = Location::parse(&world.database.url).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved.db");
    world.replicas[0].apply(Count::up(account(1, 0))).await.unwrap();
    aside(|| verbs::backup(&location, &saved).unwrap());
    let World {
        replicas,
        clock,
        database,
    } = world;
    drop(replicas);
    aside(|| verbs::restore(&location, &saved, &MIGRATIONS, true, true, Micros::from_seconds(7)).unwrap());
    let said = open_at(&database.url, &clock, MIGRATIONS).err().unwrap().to_string();
    assert!(said.contains("Run the verb recover"), "{said}");
    let seen = |location: &Location| aside(|| verbs::look(location, &MIGRATIONS, || START));
    let remarks = seen(&location);
    assert!(
        remarks
            .iter()
            .any(|r| r.health == verbs::Health::Fail && r.advice.contains("verb recover")),
        "{remarks:?}"
    );
    open_epoch(&location, EPOCH, None).unwrap();
    aside(|| verbs::finish(&location).unwrap());
    assert!(
        seen(&location)
            .iter()
            .all(|remark| remark.health != verbs::Health::Fail)
    );
    assert_eq!(
        open(&database.url, &clock)
            .apply(Count::up(account(1, 0)))
            .await
            .unwrap(),
        2
    );
}
