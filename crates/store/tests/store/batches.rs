//! Batches: one order, nothing lost, nothing half done.

use std::collections::BTreeSet;
use std::sync::Arc;

use sammati_kernel::{AccountId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, NewEvent, Outcome, View};

use crate::interleavings::held;
use crate::world::{Count, Counter, Mood, OWNER, World, account};

#[tokio::test(flavor = "multi_thread")]
async fn o1_each_change_is_one_event_and_every_count_is_given_once() {
    for world in World::all() {
        let world = Arc::new(world);
        let tasks: Vec<_> = (0..64_u64)
            .map(|n| {
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    let mut counted = Vec::new();
                    for round in 0..20_usize {
                        let id = account(u16::try_from(n % 4).unwrap(), n % 4);
                        let store = world.replica(usize::try_from(n).unwrap() + round);
                        counted.push((n % 4, store.apply(Count::up(id)).await.unwrap()));
                    }
                    counted
                })
            })
            .collect();
        let mut seen = BTreeSet::new();
        for task in tasks {
            for counted in task.await.unwrap() {
                assert!(seen.insert(counted), "{counted:?} was given twice");
            }
        }
        assert_eq!(seen.len(), 64 * 20);
        for n in 0..4 {
            assert_eq!(world.count(0, &account(u16::try_from(n).unwrap(), n)).await, 320);
        }
        assert_eq!(world.check_feed().await, 64 * 20);
    }
}

/// Tells of something now, and of something when its batch is decided.
struct Leaves {
    id: AccountId,
    works: bool,
}

impl Command for Leaves {
    type Answer = ();
    const NAME: &'static str = "test.leaves";

    fn slot(&self) -> Slot {
        self.id.slot()
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        fn tell(view: &mut View<'_>, body: &[u8]) {
            let event = NewEvent {
                id: view.next_event_id(),
                subject: None,
                body: body.to_vec(),
            };
            view.emit(event);
        }
        tell(view, b"now");
        let works = self.works;
        view.later(move |view| {
            tell(view, b"later");
            if works { Ok(()) } else { Err(Reason::Internal.into()) }
        });
        Ok(())
    }
}

/// O1: what a command leaves for later is in its commit, and whoever's fails has done nothing, alone.
#[tokio::test(flavor = "multi_thread")]
async fn o1_what_is_left_for_later_is_in_the_same_commit() {
    for world in World::all() {
        let left = (0..64_u16).map(|n| {
            let (id, works) = (account(n % 4, 1), n % 16 != 7);
            let store = world.replica(0);
            async move { (works, store.apply(Leaves { id, works }).await) }
        });
        for (works, result) in futures::future::join_all(left).await {
            let expected = if works { Ok(()) } else { Err(Reason::Internal) };
            assert_eq!(result.map_err(|refusal| refusal.reason), expected);
        }
        assert_eq!(world.check_feed().await, 60 * 2);
        let read = |r: &mut sammati_store::Reader<'_>| (0..4).map(|p| r.feed(p, 0, 100)).collect::<Result<Vec<_>, _>>();
        let feeds = world.replica(0).read(read).await.unwrap();
        let ids: BTreeSet<_> = feeds.iter().flatten().map(|event| &event.event_id).collect();
        assert_eq!(ids.len(), 60 * 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_has_one_owner_whoever_asks_at_once() {
    for world in World::all() {
        for round in 0..20_u8 {
            let claim = Some([round; 32]);
            let tries = (0..32_u64).map(|n| {
                let id = account(u16::try_from(n).unwrap(), u64::from(round) * 100 + n);
                let command = Count { claim, ..Count::up(id) };
                world.replica(usize::try_from(n).unwrap()).apply(command)
            });
            let results = futures::future::join_all(tries).await;
            assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
            let refused = results.iter().filter_map(|r| r.as_ref().err());
            assert!(
                refused.clone().all(|r| r.reason == Reason::AddressTaken),
                "{:?}",
                refused.collect::<Vec<_>>()
            );
        }
        assert_eq!(world.check_feed().await, 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_a_nul_or_a_refusal_in_a_batch_touches_nobody_else() {
    for world in World::all() {
        let id = account(3, 1);
        let moods = [
            Mood::Plain,
            Mood::Panics,
            Mood::PanicsReading,
            Mood::Plain,
            Mood::Refuses,
            Mood::RefusesRecorded,
            Mood::Plain,
        ];
        let results = futures::future::join_all(moods.iter().cycle().take(70).map(|mood| {
            world.replica(0).apply(Count {
                mood: *mood,
                ..Count::up(id)
            })
        }))
        .await;
        for (result, mood) in results.iter().zip(moods.iter().cycle()) {
            match mood {
                Mood::Plain | Mood::BreaksARule => assert!(result.is_ok()),
                Mood::Panics | Mood::PanicsReading => assert_eq!(result.as_ref().unwrap_err().reason, Reason::Internal),
                Mood::Refuses => assert_eq!(result.as_ref().unwrap_err().reason, Reason::StateConflict),
                Mood::RefusesRecorded => assert_eq!(result.as_ref().unwrap_err().reason, Reason::OtpMismatch),
            }
        }
        // Three plain ones and the recorded refusal of each seven; the NUL in each row came through as it was.
        let (slot, key) = (id.slot(), id.to_vec());
        let kept = world
            .replica(0)
            .read(move |r| r.get::<Counter>(slot, &key))
            .await
            .unwrap();
        assert_eq!(kept.unwrap().record.owner, OWNER);
        assert_eq!(world.count(0, &id).await, 40);
        assert_eq!(world.check_feed().await, 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_database_refuses_is_halved_until_the_culprit_is_alone() {
    for world in World::all() {
        let commands = (0..40_u64).map(|n| {
            let mood = if n == 17 { Mood::BreaksARule } else { Mood::Plain };
            world.replica(0).apply(Count {
                mood,
                ..Count::up(account(2, n))
            })
        });
        let results = futures::future::join_all(commands).await;
        for (n, result) in results.iter().enumerate() {
            match n {
                17 => assert_eq!(result.as_ref().unwrap_err().reason, Reason::Internal),
                _ => assert_eq!(*result.as_ref().unwrap(), 1),
            }
        }
        assert_eq!(world.check_feed().await, 39);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_rows_than_one_statement_takes_go_through_in_one_batch() {
    for world in World::all() {
        let all = (0..700_u64).map(|n| world.replica(0).apply(Count::up(account(1, n))));
        assert!(
            futures::future::join_all(all)
                .await
                .iter()
                .all(|r| *r.as_ref().unwrap() == 1)
        );
        assert_eq!(world.check_feed().await, 700);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_a_restart_is_what_was_committed() {
    for mut world in World::all() {
        let id = account(9, 9);
        for n in 1..=5 {
            assert_eq!(
                world.replica(0).run(Count::up(id), None).await.unwrap(),
                Outcome::Fresh(n)
            );
        }
        world.replicas.clear();
        // An embedded database is let go when its last lane has ended.
        let clock = world.clock.clone();
        world.replicas.push(crate::world::open(&world.database.url, &clock));
        assert_eq!(world.count(0, &id).await, 5);
        assert_eq!(world.replica(0).apply(Count::up(id)).await.unwrap(), 6);
        assert_eq!(world.check_feed().await, 6);
    }
}

/// How old the batches in flight are, one after another: the sum over the lanes.
fn age_in_flight(store: &sammati_store::Store) -> f64 {
    let mut registry = prometheus_client::registry::Registry::default();
    store.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let ages = text.lines().filter(|line| line.starts_with("store_batch_age_seconds{"));
    ages.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_flight_tells_its_age() {
    for world in World::all() {
        let store = world.replica(0);
        assert_eq!(age_in_flight(store), 0.0);
        let (command, deciding, go) = held(Count::up(account(1, 1)));
        let running = tokio::spawn({
            let store = store.clone();
            async move { store.apply(command).await }
        });
        deciding.await.unwrap();
        let first = age_in_flight(store);
        assert!(first > 0.0 && age_in_flight(store) > first);
        go.send(()).unwrap();
        running.await.unwrap().unwrap();
        assert_eq!(age_in_flight(store), 0.0, "it is over before its callers are told");
    }
}

/// Creates a counter without looking whether it is there.
struct Blind(AccountId);

impl Command for Blind {
    type Answer = ();
    const NAME: &'static str = "test.blind";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        view.put(&Counter {
            id: self.0.to_vec(),
            owner: b"blind".to_vec(),
            count: 1000,
        });
        Ok(())
    }
}

/// Under the lock a row that was not there stays so: one that is there all the same is a bug, which harms nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_row_that_was_not_loaded_and_is_there_is_not_overwritten() {
    for world in World::all() {
        let (there, new) = (account(1, 1), account(1, 2));
        world.replica(0).apply(Count::up(there)).await.unwrap();
        for n in 0..2 {
            // In another partition: who counts in hers loads all counters of it.
            let others = (10..30).map(|n| world.replica(0).apply(Count::up(account(2, n))));
            let blind = world.replica(0).apply(Blind(there));
            let (others, refused) = tokio::join!(futures::future::join_all(others), blind);
            assert_eq!(refused.unwrap_err().reason, Reason::Internal);
            assert!(
                others.iter().all(|count| *count.as_ref().unwrap() == n + 1),
                "{others:?}"
            );
        }
        world.replica(0).apply(Blind(new)).await.unwrap();
        assert_eq!((world.count(0, &there).await, world.count(0, &new).await), (1, 1000));
        assert_eq!(world.check_feed().await, 41);
    }
}
