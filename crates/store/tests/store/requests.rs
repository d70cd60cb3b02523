//! Request ids, invariant I1.

use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use sammati_kernel::{Clock, ManualClock, Micros, Reason};
use sammati_store::{AnyConn, Location, Outcome, Pruning, RequestKey, Store, on_conn};

use crate::world::{Count, Mood, World, account, open, request_id};

fn key(store: &Store, id: &str, body: &str) -> RequestKey {
    store
        .request("participants/clinic", "test.count", id, &body.to_owned())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_repeat_gets_the_first_answer_and_has_no_effect() {
    for world in World::all() {
        let (id, request) = (account(1, 1), request_id(&world.clock));
        let first = world
            .replica(0)
            .run(Count::up(id), Some(key(world.replica(0), &request, "a")))
            .await
            .unwrap();
        assert_eq!(first, Outcome::Fresh(1));
        for n in 0..4 {
            let again = world
                .replica(n)
                .run(Count::up(id), Some(key(world.replica(n), &request, "a")))
                .await
                .unwrap();
            assert_eq!(again, Outcome::Known(1_i64.to_be_bytes().to_vec()));
        }
        let other = world
            .replica(1)
            .run(Count::up(id), Some(key(world.replica(1), &request, "b")))
            .await;
        assert_eq!(other.unwrap_err().reason, Reason::RequestIdReused);
        assert_eq!(world.count(0, &id).await, 1);
        assert_eq!(world.check_feed().await, 1);
    }
}

/// The body may name something anywhere; what its id did is found all the same.
#[tokio::test(flavor = "multi_thread")]
async fn i1_an_id_that_was_used_in_another_partition_is_refused() {
    for world in World::all() {
        let (here, there, request) = (account(1, 1), account(6, 1), request_id(&world.clock));
        let run = |n, id, body| {
            let store = world.replica(n);
            store.run(Count::up(id), Some(key(store, &request, body)))
        };
        run(0, here, "a").await.unwrap();
        let refused = run(1, there, "b").await.unwrap_err();
        assert_eq!(refused.reason, Reason::RequestIdReused);
        assert_eq!(world.count(0, &there).await, 0);
        let store = world.replica(1);
        assert_eq!(
            store.known(&key(store, &request, "a")).await.unwrap(),
            Some(1_i64.to_be_bytes().to_vec())
        );
        let refused = store.known(&key(store, &request, "b")).await.unwrap_err();
        assert_eq!(refused.reason, Reason::RequestIdReused);
        assert_eq!(
            store.known(&key(store, &request_id(&world.clock), "a")).await.unwrap(),
            None
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_one_id_in_many_partitions_at_once_has_one_effect() {
    for world in World::all() {
        for round in 0..20 {
            let request = request_id(&world.clock);
            let tries = (0..16_u16).map(|n| {
                let store = world.replica(usize::from(n));
                store.run(Count::up(account(n, round)), Some(key(store, &request, &n.to_string())))
            });
            let results = futures::future::join_all(tries).await;
            let done = results.iter().filter(|r| matches!(r, Ok(Outcome::Fresh(1)))).count();
            let reused = results
                .iter()
                .filter(|r| matches!(r, Err(e) if e.reason == Reason::RequestIdReused));
            assert_eq!((done, reused.count()), (1, 15), "{results:?}");
        }
        assert_eq!(world.check_feed().await, 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_does_by_itself_is_done_once() {
    for world in World::all() {
        let (store, id) = (world.replica(0), account(1, 1));
        assert_eq!(store.once(Count::up(id)).await.unwrap(), 1);
        let event = request_id(&world.clock);
        for n in 0..3 {
            let store = world.replica(n);
            let own = store.own_request("test.count", &event).unwrap();
            store.run(Count::up(id), Some(own)).await.unwrap();
        }
        assert_eq!(world.count(0, &id).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_two_replicas_with_one_request_id_have_one_effect() {
    for world in World::all() {
        for round in 0..20 {
            let (id, request) = (account(2, round), request_id(&world.clock));
            let tries = (0..16).map(|n| {
                let store = world.replica(n);
                store.run(Count::up(id), Some(key(store, &request, "a")))
            });
            let results = futures::future::join_all(tries).await;
            let fresh = results.iter().filter(|r| matches!(r, Ok(Outcome::Fresh(1)))).count();
            let known = results.iter().filter(|r| matches!(r, Ok(Outcome::Known(_)))).count();
            assert_eq!((fresh, known), (1, 15), "{results:?}");
        }
        assert_eq!(world.check_feed().await, 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_recorded_refusal_is_repeated_and_a_plain_one_decided_afresh() {
    for world in World::all() {
        let id = account(3, 3);
        let store = world.replica(0);
        let request = request_id(&world.clock);
        for n in 0..3 {
            let command = Count {
                mood: Mood::RefusesRecorded,
                ..Count::up(id)
            };
            let refusal = world
                .replica(n)
                .run(command, Some(key(world.replica(n), &request, "a")))
                .await
                .unwrap_err();
            assert_eq!(
                (refusal.reason, refusal.metadata),
                (Reason::OtpMismatch, vec![("attempts_left", "4".to_owned())])
            );
        }
        assert_eq!(world.count(0, &id).await, 1, "the attempt is counted once");
        let request = request_id(&world.clock);
        let refused = store
            .run(
                Count {
                    mood: Mood::Refuses,
                    ..Count::up(id)
                },
                Some(key(store, &request, "a")),
            )
            .await;
        assert_eq!(refused.unwrap_err().reason, Reason::StateConflict);
        let later = store.run(Count::up(id), Some(key(store, &request, "a"))).await.unwrap();
        assert_eq!(later, Outcome::Fresh(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_an_id_outside_its_window_is_refused() {
    for world in World::all() {
        let store = world.replica(0);
        let old = request_id(&world.clock);
        let admitted = key(store, &old, "a");
        world.clock.advance(Duration::from_secs(24 * 3600 + 1));
        let refused = store
            .request("participants/clinic", "test.count", &old, &"a".to_owned())
            .unwrap_err();
        assert_eq!(refused.reason, Reason::RequestIdExpired);
        // Admitted in time, decided too late.
        let refused = store.run(Count::up(account(4, 4)), Some(admitted)).await.unwrap_err();
        assert_eq!(refused.reason, Reason::RequestIdExpired);
        let ahead = ManualClock::at(Clock::now(&world.clock).plus(Duration::from_secs(301)));
        let refused = store
            .request("x", "y", &request_id(&ahead), &"a".to_owned())
            .unwrap_err();
        assert_eq!(refused.reason, Reason::RequestIdExpired);
        for bad in [
            "",
            "x",
            "c232ab00-9414-41e8-b2a5-5c7ef3f0a1de",
            &old.to_uppercase(),
            "\0",
        ] {
            let refused = store.request("x", "y", bad, &"a".to_owned()).unwrap_err();
            assert_eq!(refused.reason, Reason::FieldInvalid, "{bad:?}");
        }
        assert_eq!(world.check_feed().await, 0);
    }
}

/// Does something on a connection of its own.
fn aside<T: Send>(world: &World, run: impl FnOnce(&mut AnyConn) -> T + Send) -> T {
    let url = &world.database.url;
    let connect = || Location::parse(url).unwrap().connect().unwrap();
    std::thread::scope(|scope| scope.spawn(|| run(&mut connect())).join().unwrap())
}

/// Lets ids that are made from a time on lie in the order of their times, and all replicas know of it: on Postgres as they run,
/// on SQLite by a restart.
fn in_order_from(world: &mut World, from: Option<Micros>) {
    let is_embedded = world.replica(0).path().is_some();
    if is_embedded {
        world.replicas.clear();
    }
    let from = from.map_or("NULL".to_owned(), |from| from.0.to_string());
    let text = format!("UPDATE database SET requests_from={from}");
    aside(world, |conn| on_conn!(conn, |c| c.batch_execute(&text)).unwrap());
    if is_embedded {
        world.replicas.push(open(&world.database.url, &world.clock));
    }
    world.clock.advance(Duration::from_secs(2));
}

#[derive(diesel::QueryableByName)]
struct Length {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

#[derive(diesel::QueryableByName)]
struct Needed {
    #[diesel(sql_type = Text)]
    version: String,
}

/// How long the keys of the rows are.
fn keys(world: &World) -> Vec<i64> {
    let text = "SELECT CAST(length(id) AS BIGINT) AS bytes FROM request ORDER BY 1";
    let found: Vec<Length> = aside(world, |conn| {
        on_conn!(conn, |c| diesel::sql_query(text).load(c)).unwrap()
    });
    found.into_iter().map(|row| row.bytes).collect()
}

/// An older release left its ids in the order of a hash; some that it would take are not made yet when that changes.
#[tokio::test(flavor = "multi_thread")]
async fn i1_a_repeat_finds_what_its_id_did_on_either_side_of_a_change_of_the_order_of_keys() {
    for mut world in World::all() {
        in_order_from(&mut world, None);
        let id = account(1, 1);
        let before = request_id(&world.clock);
        let run = async |world: &World, n: usize, request: &str, body: &str| {
            let store = world.replica(n);
            let ran = store.run(Count::up(id), Some(key(store, request, body))).await;
            ran.map_err(|refusal| refusal.reason)
        };
        assert_eq!(run(&world, 0, &before, "a").await, Ok(Outcome::Fresh(1)));
        let from = world.clock.now().plus(Duration::from_secs(600));
        in_order_from(&mut world, Some(from));
        let meanwhile = request_id(&world.clock);
        assert_eq!(run(&world, 1, &meanwhile, "a").await, Ok(Outcome::Fresh(2)));
        assert_eq!(keys(&world), [32, 32]);
        // It is made by another's clock, which is five minutes ahead.
        world.clock.advance(Duration::from_secs(400));
        let ahead = ManualClock::at(world.clock.now().plus(Duration::from_secs(299)));
        let ahead = request_id(&ahead);
        assert_eq!(run(&world, 0, &ahead, "a").await, Ok(Outcome::Fresh(3)));
        world.clock.advance(Duration::from_secs(300));
        let after = request_id(&world.clock);
        assert_eq!(run(&world, 1, &after, "a").await, Ok(Outcome::Fresh(4)));
        assert_eq!(keys(&world), [28, 28, 32, 32]);
        for (request, count) in [&before, &meanwhile, &ahead, &after].into_iter().zip(1_i64..) {
            for n in 0..2 {
                let known = Ok(Outcome::Known(count.to_be_bytes().to_vec()));
                assert_eq!(run(&world, n, request, "a").await, known);
                let reused = run(&world, n, request, "b").await;
                assert_eq!(reused, Err(Reason::RequestIdReused));
                let store = world.replica(n);
                let told = store.known(&key(store, request, "a")).await.unwrap();
                assert_eq!(told, Some(count.to_be_bytes().to_vec()));
            }
        }
        assert_eq!(world.count(0, &id).await, 4);
        world.clock.advance(Duration::from_secs(27 * 3600));
        assert_eq!(
            world.replica(1).prune(Pruning::default()).await.unwrap().requests,
            4,
            "of both spellings"
        );
    }
}

/// Code that would not find its ids must not serve a new database after this one did.
#[tokio::test(flavor = "multi_thread")]
async fn i1_a_new_database_needs_a_binary_that_finds_its_request_ids() {
    for world in World::all() {
        let text = "SELECT version FROM needed";
        let needed: Vec<Needed> = aside(&world, |conn| {
            on_conn!(conn, |c| diesel::sql_query(text).load(c)).unwrap()
        });
        let needed: Vec<_> = needed.into_iter().map(|row| row.version).collect();
        assert_eq!(needed, ["20261127000004"]);
        let (store, request) = (world.replica(0), request_id(&world.clock));
        store
            .run(Count::up(account(1, 1)), Some(key(store, &request, "a")))
            .await
            .unwrap();
        assert_eq!(keys(&world), [28]);
    }
}
