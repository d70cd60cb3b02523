//! What leaves the store: only what nobody needs any more.

use std::time::Duration;

use sammati_kernel::Reason;
use sammati_store::KEPT;

use crate::world::{Count, World, account, request_id};

const LOG: &[&str] = &["log"];

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
