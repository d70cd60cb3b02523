//! Reads that must not be stale, the ground of invariant C4.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sammati_kernel::{AccountId, ManualClock, Reason, Refusal};
use sammati_store::verbs::{self, Health};
use sammati_store::{Location, Options, Revision, Store, SubjectCache};
use sammati_testkit::databases;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::world::{Count, Counter, START, World, account, open, open_with, options};

/// The longest that anything takes here.
const WAIT: Duration = Duration::from_secs(30);

async fn load(store: &Store, id: AccountId) -> Result<(i64, u64), Refusal> {
    let found = store
        .snapshot(move |r| r.get::<Counter>(id.slot(), &id.to_vec()))
        .await?;
    Ok((found.map_or(0, |stored| stored.record.count), 8))
}

async fn check(store: &Store, cache: &SubjectCache<i64>, id: AccountId) -> i64 {
    store.confirm().await.unwrap();
    cache.get(&id.to_vec(), || load(store, id)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_check_begun_after_a_commit_returned_sees_it_on_any_replica() {
    for world in World::all() {
        let world = Arc::new(world);
        let caches: Arc<Vec<_>> = Arc::new(world.replicas.iter().map(|store| store.cache::<i64>(1 << 20)).collect());
        let (id, committed) = (account(6, 6), Arc::new(AtomicI64::new(0)));
        let checks = Arc::new(AtomicU64::new(0));
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let readers: Vec<_> = (0..16_usize)
            .map(|n| {
                let (world, caches, committed) = (Arc::clone(&world), Arc::clone(&caches), Arc::clone(&committed));
                let (stopped, checks) = (stop.subscribe(), Arc::clone(&checks));
                tokio::spawn(async move {
                    let at = n % caches.len();
                    while !*stopped.borrow() {
                        let before = committed.load(Ordering::SeqCst);
                        let seen = check(&world.replicas[at], &caches[at], id).await;
                        assert!(seen >= before, "saw {seen} after {before} had returned");
                        checks.fetch_add(1, Ordering::SeqCst);
                        // Where nothing is asked of a database a check never waits; commits are answered on these threads too.
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for n in 0..300 {
            let count = world.replica(n).apply(Count::up(id)).await.unwrap();
            committed.fetch_max(count, Ordering::SeqCst);
        }
        while checks.load(Ordering::SeqCst) < 1000 {
            tokio::task::yield_now().await;
        }
        stop.send(true).unwrap();
        stopped.changed().await.unwrap();
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

/// A replica's own commit follows upon another's in the same partition; that must not hide the other's from its cache.
#[tokio::test(flavor = "multi_thread")]
async fn c4_an_own_commit_does_not_hide_what_another_replica_committed_before_it() {
    for world in World::all() {
        let (first, last) = (world.replica(0), world.replica(1));
        let cache = last.cache::<i64>(1 << 20);
        let (hers, another) = (account(5, 1), account(5, 2));
        assert_eq!(check(last, &cache, hers).await, 0);
        for round in 1..=20 {
            first.apply(Count::up(hers)).await.unwrap();
            last.apply(Count::up(another)).await.unwrap();
            assert_eq!(check(last, &cache, hers).await, round);
        }
    }
}

/// C2 holds across replicas only while their clocks agree: one that is off confirms nothing and writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn c2_a_replica_whose_clock_is_off_neither_confirms_nor_writes() {
    for world in World::all() {
        world.clock.lag_behind_database(Duration::from_secs(5));
        let store = world.replica(0);
        if store.path().is_some() {
            continue; // The process is the head there, and its clock the only one.
        }
        let refused = [
            store.confirm().await.unwrap_err(),
            store.apply(Count::up(account(4, 4))).await.unwrap_err(),
        ];
        assert!(
            refused.iter().all(|r| r.reason == Reason::StorageUnavailable),
            "{refused:?}"
        );
        world.clock.lag_behind_database(Duration::from_millis(900));
        store.confirm().await.unwrap();
    }
}

/// As long as the newest commit is ahead of the clock, which was fast once, what is good would be over: nothing is decided, by
/// no partition, and an operator reads why. What replicas may be apart is let pass.
#[tokio::test(flavor = "multi_thread")]
async fn c2_a_clock_behind_what_was_committed_neither_confirms_nor_writes() {
    const MONTH: Duration = Duration::from_secs(30 * 86_400);
    for mut world in World::all() {
        world.clock.advance(MONTH);
        world.replica(0).apply(Count::up(account(4, 4))).await.unwrap();
        world.clock.set(START);
        for turn in 0..2 {
            if turn == 1 {
                world.replicas.clear();
                world.replicas.push(open(&world.database.url, &world.clock));
            }
            let store = world.replica(0);
            let mut readiness = store.readiness();
            let why = timeout(WAIT, readiness.wait_for(Result::is_err)).await.unwrap();
            let why = why.unwrap().clone().unwrap_err();
            assert!(why.contains("2592000 s ahead") && why.contains("NTP"), "{why}");
            let refused = [
                store.confirm().await.unwrap_err(),
                store.apply(Count::up(account(4, 4))).await.unwrap_err(),
                store.apply(Count::up(account(5, 4))).await.unwrap_err(),
            ];
            assert!(
                refused.iter().all(|r| r.reason == Reason::StorageUnavailable),
                "{refused:?}"
            );
        }
        let location = Location::parse(&world.database.url).unwrap();
        let told = |time_only_orders| {
            let look = || verbs::ahead(&location, &world.clock, time_only_orders).unwrap().health;
            std::thread::scope(|scope| scope.spawn(look).join().unwrap())
        };
        assert_eq!([false, true].map(told), [Health::Fail, Health::Warn]);
        world.clock.advance(MONTH - Duration::from_secs(2));
        assert_eq!([false, true].map(told), [Health::Ok, Health::Ok]);
        let store = world.replica(0);
        timeout(WAIT, store.readiness().wait_for(Result::is_ok))
            .await
            .unwrap()
            .unwrap();
        store.confirm().await.unwrap();
        assert_eq!(store.apply(Count::up(account(4, 4))).await.unwrap(), 2);
    }
}

/// A log's time only puts it in order, so that it goes on by the time of its head.
#[tokio::test(flavor = "multi_thread")]
async fn where_times_only_order_a_clock_that_went_back_stops_nothing() {
    for database in databases() {
        let clock = ManualClock::at(START.plus(Duration::from_secs(3600)));
        let options = Options {
            time_only_orders: true,
            ..options(Location::parse(&database.url).unwrap())
        };
        let store = open_with(&options, &clock).unwrap();
        store.apply(Count::up(account(4, 4))).await.unwrap();
        clock.set(START);
        store.confirm().await.unwrap();
        assert_eq!(store.apply(Count::up(account(4, 4))).await.unwrap(), 2);
        assert_eq!(*store.readiness().borrow(), Ok(()));
    }
}

/// A standby that lacks the last commits took over: what they told is not true any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lost_commits_makes_every_cache_load_again() {
    for world in World::all() {
        let store = world.replica(0);
        if store.path().is_some() {
            continue;
        }
        let (cache, id) = (store.cache::<i64>(1 << 20), account(3, 9));
        for _ in 0..3 {
            store.apply(Count::up(id)).await.unwrap();
        }
        assert_eq!(check(store, &cache, id).await, 3);
        world.database.execute(
            "DELETE FROM feed WHERE partition=3 AND position>0; UPDATE head SET next=1 WHERE partition=3; \
             DELETE FROM counter WHERE partition=3;",
        );
        assert_eq!(check(store, &cache, id).await, 0);
    }
}

/// One event less in one partition and one more in another: as many as before, and neither is what it was.
#[tokio::test(flavor = "multi_thread")]
async fn c4_a_loss_and_a_commit_that_come_to_the_same_number_are_both_seen() {
    for world in World::all() {
        let (first, last) = (world.replica(0), world.replica(1));
        if first.path().is_some() {
            continue;
        }
        let (cache, lost, found) = (last.cache::<i64>(1 << 20), account(3, 9), account(4, 9));
        for id in [lost, lost, found] {
            first.apply(Count::up(id)).await.unwrap();
        }
        // Often enough that nothing is asked any more but whether anything moved.
        for _ in 0..5 {
            assert_eq!(
                (check(last, &cache, lost).await, check(last, &cache, found).await),
                (2, 1)
            );
        }
        world.database.execute(
            "DELETE FROM feed WHERE partition=3 AND position>0; UPDATE head SET next=1 WHERE partition=3; \
             DELETE FROM counter WHERE partition=3;",
        );
        first.apply(Count::up(found)).await.unwrap();
        assert_eq!(
            (check(last, &cache, lost).await, check(last, &cache, found).await),
            (0, 2)
        );
    }
}

/// What this process told and the database then lost is seen, though the database stands where it was last looked at.
#[tokio::test(flavor = "multi_thread")]
async fn c4_an_own_commit_that_the_database_loses_is_seen() {
    for world in World::all() {
        let store = world.replica(0);
        if store.path().is_some() {
            continue;
        }
        let (cache, id) = (store.cache::<i64>(1 << 20), account(3, 9));
        store.apply(Count::up(id)).await.unwrap();
        for _ in 0..5 {
            assert_eq!(check(store, &cache, id).await, 1);
        }
        store.apply(Count::up(id)).await.unwrap();
        let load_now = || load(store, id);
        assert_eq!(cache.get(&id.to_vec(), load_now).await.unwrap(), 2);
        world.database.execute(
            "DELETE FROM feed WHERE partition=3 AND position=1; UPDATE head SET next=1 WHERE partition=3; \
             DELETE FROM counter WHERE partition=3;",
        );
        assert_eq!(check(store, &cache, id).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_stale_cache_fill_is_not_kept() {
    for world in World::all() {
        let store = world.replica(0).clone();
        let cache = store.cache::<i64>(1 << 20);
        let id = account(7, 7);
        store.apply(Count::up(id)).await.unwrap();
        let (loaded, was_loaded) = oneshot::channel();
        let (go, may_go) = oneshot::channel::<()>();
        let slow = {
            let (store, cache) = (store.clone(), Arc::clone(&cache));
            tokio::spawn(async move {
                let old = || async {
                    let old = load(&store, id).await;
                    loaded.send(()).unwrap();
                    may_go.await.unwrap();
                    old
                };
                cache.get(&id.to_vec(), old).await.unwrap()
            })
        };
        was_loaded.await.unwrap();
        store.apply(Count::up(id)).await.unwrap();
        go.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), 1, "its own check began before the change");
        assert_eq!(check(&store, &cache, id).await, 2, "but it was not kept");
        assert_eq!(cache.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_subject_is_cached_until_it_changes() {
    for world in World::all() {
        let (first, last) = (world.replica(0), world.replica(1));
        let cache = last.cache::<i64>(1 << 20);
        let id = account(8, 8);
        assert_eq!(check(last, &cache, id).await, 0);
        let unasked = || async { panic!("a cached absence is not loaded again") };
        assert_eq!(cache.get(&id.to_vec(), unasked).await.unwrap(), 0);
        first.apply(Count::up(id)).await.unwrap();
        assert_eq!(check(last, &cache, id).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_names_a_place_that_every_replica_reaches() {
    for world in World::all() {
        let (first, last) = (world.replica(0), world.replica(1));
        let id = account(2, 2);
        first.apply(Count::up(id)).await.unwrap();
        let sealed = first.revision(id.slot()).unwrap().seal(first.key());
        last.confirm().await.unwrap();
        let revision = Revision::open(last.key(), &sealed).unwrap();
        assert!(revision.is_reached_by(&last.head(id.slot()).unwrap()));
        assert_eq!(Revision::open(last.key(), &sealed[1..]), None);
        assert_eq!(Revision::open(last.key(), "\u{0}"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_wakes_at_a_commit_of_any_replica() {
    for world in World::all() {
        let mut changes = world.replica(1).changes();
        changes.borrow_and_update();
        world.replica(0).apply(Count::up(account(1, 1))).await.unwrap();
        changes.changed().await.unwrap();
        let head = world.replica(1).head(account(1, 1).slot()).unwrap();
        assert_eq!(head.next, 1);
    }
}
