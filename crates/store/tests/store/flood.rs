//! Too many at once: who is refused, who is not, and what is left of it afterwards.

use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::future::join_all;
use futures::poll;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sammati_kernel::{ManualClock, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, Location, Store, View};
use sammati_testkit::{Database, Line, databases};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::world::{Count, START, World, account, open, open_with, options};

/// What a store tells of itself.
pub(crate) struct Told(Registry);

impl Told {
    pub(crate) fn by(store: &Store) -> Self {
        let mut registry = Registry::default();
        store.register_metrics(&mut registry);
        Self(registry)
    }

    pub(crate) fn of(&self, name: &str) -> f64 {
        let mut text = String::new();
        encode(&mut text, &self.0).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
            .parse()
            .unwrap()
    }

    /// Waits until nothing is in the one lane: a command that nobody waits for any more tells nobody that it is gone.
    async fn empty(&self) {
        for _ in 0..1500 {
            let left = [
                "store_lane_waiting",
                "store_lane_waiting_bytes",
                "store_batch_age_seconds",
            ];
            if left.iter().all(|name| self.of(&format!("{name}{{lane=\"0\"}}")) == 0.0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("something stays in the lane");
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<i64, Refusal>> + Send + 'a>>;

fn counting(store: &Store, slot: u16) -> Running<'_> {
    Box::pin(store.apply(Count::up(account(slot, u64::from(slot)))))
}

/// Sends all of them; tells those that wait, and how many were refused.
async fn sent<'a>(all: impl Iterator<Item = Running<'a>>) -> (Vec<Running<'a>>, u32) {
    let (mut waiting, mut refused) = (Vec::new(), 0);
    for mut one in all {
        match poll!(&mut one) {
            Poll::Pending => waiting.push(one),
            Poll::Ready(Err(refusal)) => {
                assert!(refusal.reason == Reason::Overloaded && refusal.retry_after.is_some());
                refused += 1;
            }
            Poll::Ready(Ok(count)) => panic!("counted {count} before its commit"),
        }
    }
    (waiting, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_flood_nothing_of_it_is_left_in_the_store() {
    for database in databases() {
        let clock = ManualClock::at(START);
        let mut small = options(Location::parse(&database.url).unwrap());
        (small.queue, small.lanes, small.max_batch) = (32, 1, 4);
        let store = open_with(&small, &clock).unwrap();
        let told = Told::by(&store);
        let (mut refused, mut done) = (0_u32, 0);
        for _ in 0..3 {
            let busy = Busy::lane_of(&store).await;
            let (waiting, shed) = sent((0..400).map(|n| counting(&store, n % 64))).await;
            assert_eq!((waiting.len(), shed), (32, 368), "as many as the queue has room for");
            refused += shed;
            // Every second one is given up by whoever sent it.
            let (kept, left): (Vec<_>, Vec<_>) = waiting.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
            drop(left);
            busy.end().await;
            for (_, one) in kept {
                one.await.unwrap();
                done += 1;
            }
            told.empty().await;
        }
        assert!((told.of("store_shed_total") - f64::from(refused)).abs() < 0.5);
        // Whoever comes now finds what the first one found: the whole queue, and half of it for one alone.
        for slots in [(0..32).collect::<Vec<_>>(), vec![5; 17]] {
            let (waiting, shed) = sent(slots.iter().map(|slot| counting(&store, *slot))).await;
            assert_eq!(shed, 0);
            for count in join_all(waiting).await {
                count.unwrap();
            }
            told.empty().await;
        }
        let world = World {
            replicas: vec![store],
            clock,
            database,
        };
        assert!(world.check_feed().await >= done + 32 + 17);
    }
}

/// Keeps its lane busy until the test says so.
struct Blocks {
    entered: Arc<Notify>,
    open: Arc<(Mutex<bool>, Condvar)>,
}

/// A lane that is kept busy: what is sent meanwhile waits, however slowly it is sent. Until this ends.
struct Busy {
    blocked: JoinHandle<Result<(), Refusal>>,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Busy {
    async fn lane_of(store: &Store) -> Self {
        let (entered, open) = (Arc::new(Notify::new()), Arc::<(Mutex<bool>, Condvar)>::default());
        let blocks = Blocks {
            entered: Arc::clone(&entered),
            open: Arc::clone(&open),
        };
        let store = store.clone();
        let blocked = tokio::spawn(async move { store.apply(blocks).await });
        entered.notified().await;
        Self { blocked, open }
    }

    async fn end(self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
        self.blocked.await.unwrap().unwrap();
    }
}

impl Command for Blocks {
    type Answer = ();
    const NAME: &'static str = "test.blocks";

    fn slot(&self) -> Slot {
        Slot::new(63)
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, _: &mut View<'_>) -> Result<(), Refusal> {
        self.entered.notify_one();
        let (open, changed) = self.open.as_ref();
        let mut is_open = open.lock().unwrap();
        while !*is_open {
            is_open = changed.wait(is_open).unwrap();
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hot_subject_does_not_starve_the_rest() {
    for database in databases() {
        let mut small = options(Location::parse(&database.url).unwrap());
        (small.queue, small.lanes, small.max_batch) = (64, 1, 16);
        let store = open_with(&small, &ManualClock::at(START)).unwrap();
        let told = Told::by(&store);
        // Twice: what it held is given back.
        for _ in 0..2 {
            let busy = Busy::lane_of(&store).await;
            let (hot, refused) = sent((0..200).map(|_| counting(&store, 1))).await;
            assert_eq!(
                (hot.len(), refused),
                (33, 167),
                "no more than half of the queue, and no command that was let in"
            );
            let (rest, refused) = sent((8..32).map(|slot| counting(&store, slot))).await;
            assert_eq!((rest.len(), refused), (24, 0), "everybody else is let in");
            busy.end().await;
            for one in rest.into_iter().chain(hot) {
                one.await.unwrap();
            }
            told.empty().await;
        }
        assert!((told.of("store_shed_total") - 334.0).abs() < 0.5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_checks_that_wait_share_one_confirmation_that_began_after_them() {
    let Some(database) = Database::postgres() else { return };
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let line = Line::to(server);
    let store = open(&line.url(name), &ManualClock::at(START));
    let told = Told::by(&store);
    store.confirm().await.unwrap();
    let [before, checked] = ["store_confirmations_total", "store_confirmed_total"].map(|name| told.of(name));
    let answers = line.hold_answers();
    let running = tokio::spawn({
        let store = store.clone();
        async move { store.confirm().await }
    });
    tokio::task::block_in_place(|| answers.wait_for_one());
    let mut checks: Vec<_> = (0..1000).map(|_| Box::pin(store.confirm())).collect();
    for check in &mut checks {
        assert!(poll!(check).is_pending());
    }
    drop(answers);
    running.await.unwrap().unwrap();
    for check in checks {
        check.await.unwrap();
    }
    let asked = told.of("store_confirmations_total") - before;
    assert!(
        (asked - 2.0).abs() < 0.5,
        "the one that ran, and one for a thousand: {asked}"
    );
    let checked = told.of("store_confirmed_total") - checked;
    assert!((checked - 1001.0).abs() < 0.5, "{checked}");
}
