//! What leaves the store: only what nobody needs any more.

use std::time::Duration;

use futures::future::join_all;
use sammati_kernel::{AccountId, Clock, Reason, Seed, Slot};
use sammati_store::{KEPT, Passing, Pruning, Record};

use crate::world::{Count, Counter, LOG, World, account, request_id};

async fn span(world: &World) -> (i64, Vec<i64>) {
    let read = |r: &mut sammati_store::Reader<'_>| {
        let feed = r.feed(1, 0, i64::MAX)?;
        Ok((r.floor(1)?, feed.into_iter().map(|event| event.position).collect()))
    };
    world.replicas[0].read(read).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_an_event_stays_until_every_consumer_has_it_and_it_is_old() {
    for world in World::all() {
        let (store, id) = (world.replica(0), account(1, 1));
        for _ in 0..5 {
            store.apply(Count::up(id)).await.unwrap();
        }
        world.clock.advance(KEPT + Duration::from_secs(1));
        for _ in 0..5 {
            store.apply(Count::up(id)).await.unwrap();
        }
        let all: Vec<i64> = (0..10).collect();
        assert_eq!(store.prune(LOG).await.unwrap().events, 0, "the log has not told yet");
        store.advance_cursor("log", vec![(1, 1, 4)]).await.unwrap();
        store.advance_cursor("log", vec![(1, 1, 2)]).await.unwrap();
        // The log needs 4, and the chain hash of 3 to go on from.
        assert_eq!(store.prune(LOG).await.unwrap().events, 3);
        assert_eq!(span(&world).await, (3, all[3..].to_vec()));
        store.advance_cursor("log", vec![(1, 1, 10)]).await.unwrap();
        assert_eq!(
            world.replica(1).prune(LOG).await.unwrap().events,
            2,
            "the rest is not a week old"
        );
        assert_eq!(span(&world).await, (5, all[5..].to_vec()));
        assert_eq!(store.prune(LOG).await.unwrap().events, 0);
        store.apply(Count::up(id)).await.unwrap();
        assert_eq!(world.count(0, &id).await, 11);
    }
}

/// O1: who reads several partitions at once reads what each of them has: from its beginning, from within, pruned, and none.
#[tokio::test(flavor = "multi_thread")]
async fn o1_feeds_that_are_read_together_are_those_of_each() {
    for world in World::all() {
        let store = world.replica(0);
        for _ in 0..5 {
            for slot in [1, 2, 4] {
                store.apply(Count::up(account(slot, 1))).await.unwrap();
            }
        }
        world.clock.advance(KEPT + Duration::from_secs(1));
        store.advance_cursor("log", vec![(1, 1, 4)]).await.unwrap();
        assert_eq!(store.prune(LOG).await.unwrap().events, 3);
        let places = [(4, 0), (1, 0), (2, 2), (3, 0), (7, 9)];
        for limit in [1, 2, 100] {
            let read = store.read(move |r| {
                let each = places.iter().map(|(partition, from)| r.feed(*partition, *from, limit));
                Ok((each.collect::<Result<Vec<_>, _>>()?, r.feeds(&places, limit)?))
            });
            let (each, together) = read.await.unwrap();
            assert_eq!(each, together, "at most {limit} of each");
            assert_eq!(
                each.iter().map(Vec::len).sum::<usize>(),
                [3, 6, 10][usize::min(limit as usize - 1, 2)]
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_request_id_stays_for_its_window() {
    for world in World::all() {
        let (store, id) = (world.replica(0), account(1, 1));
        let request = request_id(&world.clock);
        let key = || store.request("participants/clinic", "test.count", &request, &"a".to_owned());
        store.run(Count::up(id), Some(key().unwrap())).await.unwrap();
        world.clock.advance(Duration::from_secs(24 * 3600 - 1));
        assert_eq!(store.prune(LOG).await.unwrap().requests, 0);
        assert!(store.known(&key().unwrap()).await.unwrap().is_some());
        world.clock.advance(Duration::from_secs(3 * 3600));
        assert_eq!(key().unwrap_err().reason, Reason::RequestIdExpired);
        assert_eq!(store.prune(LOG).await.unwrap().requests, 1);
    }
}

/// Counters leave a week after their ids were made.
const COUNTERS: Pruning = Pruning {
    consumers: &[],
    passing: &[Passing {
        table: Counter::TABLE,
        needed: KEPT,
    }],
};

/// An id that is made now.
fn made(world: &World, slot: u16) -> AccountId {
    Seed::draw().unwrap().id("counter", world.clock.now(), Slot::new(slot))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_has_outlived_its_use_leaves_as_if_it_had_never_been() {
    for world in World::all() {
        let old = [1, 2].map(|slot| made(&world, slot));
        for id in old {
            world.replica(0).apply(Count::up(id)).await.unwrap();
        }
        world.clock.advance(KEPT);
        let young = made(&world, 1);
        world.replica(0).apply(Count::up(young)).await.unwrap();
        let prune = async |n| world.replica(n).prune(COUNTERS).await.unwrap().rows;
        assert_eq!(prune(0).await, 0, "it is still the same millisecond");
        assert_eq!(world.replica(0).prune(LOG).await.unwrap().rows, 0);
        world.clock.advance(Duration::from_millis(1));
        assert_eq!((prune(1).await, prune(0).await), (2, 0));
        for id in old {
            assert_eq!(world.count(1, &id).await, 0);
            assert_eq!(
                world.replica(0).apply(Count::up(id)).await.unwrap(),
                1,
                "it begins anew"
            );
            assert_eq!(world.replica(1).apply(Count::up(id)).await.unwrap(), 2);
        }
        assert_eq!(world.count(0, &young).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_leave_leave_in_one_round_and_none_under_a_command() {
    for world in World::all() {
        // More than one transaction of pruning takes, all in one partition.
        let ids: Vec<_> = (0..1100).map(|_| made(&world, 1)).collect();
        let count = |id: &AccountId| world.replica(0).apply(Count::up(*id));
        join_all(ids.iter().map(count)).await.into_iter().for_each(|done| {
            done.unwrap();
        });
        world.clock.advance(KEPT + Duration::from_millis(1));
        let again = |id: &AccountId| world.replica(1).apply(Count::up(*id));
        let (left, counted) = tokio::join!(world.replica(0).prune(COUNTERS), join_all(ids[..100].iter().map(again)));
        // Each was decided before its row left, or after it, when there was none.
        assert!(counted.into_iter().all(|count| [1, 2].contains(&count.unwrap())));
        // Those that had begun anew by then are as old as they were.
        let rest = world.replica(1).prune(COUNTERS).await.unwrap().rows;
        assert!((1100..=1200).contains(&(left.unwrap().rows + rest)));
        assert_eq!(world.replica(0).prune(COUNTERS).await.unwrap().rows, 0);
    }
}
