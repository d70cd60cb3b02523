//! The interleavings that would break the store, each a test by name:
//!
//! | what meets what | test |
//! | --- | --- |
//! | two commands on one row in a batch | [`two_commands_on_one_row_in_a_batch_see_each_other`] |
//! | absence read by two replicas | [`absence_read_by_two_replicas_creates_the_row_once`] |
//! | a row replaced by a tombstone under a writer | [`a_row_replaced_by_a_tombstone_under_a_writer_stays_one`] |
//! | a stale cache fill | `freshness::c4_a_stale_cache_fill_is_not_kept` |
//! | a check that joins a running confirmation | [`c4_a_check_that_joins_a_running_confirmation_waits_for_the_next`] |
//! | two replicas with one request id | `requests::i1_two_replicas_with_one_request_id_have_one_effect` |
//! | a panic and a NUL in a batch | `batches::a_panic_a_nul_or_a_refusal_in_a_batch_touches_nobody_else` |
//! | a retried enrolment | identity's `n1_a_retried_enrolment_gets_the_same_account` |
//! | an expiry racing a revoke | consent's `c1_c2_an_expiry_racing_a_revoke_ends_a_consent_once` |
//! | a restore with positions used again | the tests of the verb `recover` |

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use sammati_kernel::{AccountId, ManualClock, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};
use sammati_testkit::{Database, Line};
use tokio::sync::oneshot;

use crate::world::{Count, Counter, START, World, account, open};

/// A command that says so where it first decides, and waits until it may go on.
pub(crate) struct Held {
    command: Count,
    gate: Mutex<Option<(oneshot::Sender<()>, Receiver<()>)>>,
}

/// The command, when it decides, and what lets it go on.
pub(crate) fn held(command: Count) -> (Held, oneshot::Receiver<()>, Sender<()>) {
    let ((decides, deciding), (go, may_go)) = (oneshot::channel(), channel());
    let gate = Mutex::new(Some((decides, may_go)));
    (Held { command, gate }, deciding, go)
}

impl Command for Held {
    type Answer = i64;
    const NAME: &'static str = "test.held";

    fn slot(&self) -> Slot {
        self.command.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        self.command.reads(keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<i64, Refusal> {
        if let Some((decides, may_go)) = self.gate.lock().unwrap().take() {
            decides.send(()).unwrap();
            may_go.recv().unwrap();
        }
        self.command.decide(view)
    }
}

/// What is left of a counter that was deleted: a row that says so, since a row never goes.
const DELETED: i64 = -1;

/// Counts up, unless the counter was deleted.
struct CountLiving(AccountId);

/// Deletes a counter; tells what it had counted.
struct Delete(AccountId);

impl Command for CountLiving {
    type Answer = i64;
    const NAME: &'static str = "test.count_living";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        Count::up(self.0).reads(keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<i64, Refusal> {
        let found = view.get::<Counter>(self.0.as_bytes());
        if found.is_some_and(|counter| counter.count == DELETED) {
            return Err(Reason::StateConflict.into());
        }
        Count::up(self.0).decide(view)
    }
}

impl Command for Delete {
    type Answer = i64;
    const NAME: &'static str = "test.delete";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        Count::up(self.0).reads(keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<i64, Refusal> {
        let mut counter = view.get::<Counter>(self.0.as_bytes()).unwrap_or_default();
        let counted = counter.count;
        counter.id = self.0.to_vec();
        counter.count = DELETED;
        view.put(&counter);
        Ok(counted)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_commands_on_one_row_in_a_batch_see_each_other() {
    for world in World::all() {
        let (store, id) = (world.replica(0), account(1, 2));
        let (first, deciding, go) = held(Count::up(account(1, 1)));
        let first = tokio::spawn({
            let store = store.clone();
            async move { store.apply(first).await }
        });
        deciding.await.unwrap();
        // The lane is at work: what comes now gathers, and is one batch.
        let both: Vec<_> = (0..8).map(|_| Box::pin(store.apply(Count::up(id)))).collect();
        let mut both = futures::future::join_all(both);
        assert!(futures::poll!(&mut both).is_pending());
        go.send(()).unwrap();
        let counted: Vec<_> = both.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(counted, (1..=8).collect::<Vec<_>>(), "in the order in which they came");
        first.await.unwrap().unwrap();
        assert_eq!(world.count(0, &id).await, 8);
        assert_eq!(world.check_feed().await, 9);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absence_read_by_two_replicas_creates_the_row_once() {
    for world in World::all() {
        for round in 0..30 {
            let id = account(5, round);
            let counted = futures::future::join_all((0..8).map(|n| world.replica(n).apply(Count::up(id)))).await;
            let counted: BTreeSet<_> = counted.into_iter().map(Result::unwrap).collect();
            assert_eq!(counted, (1..=8).collect());
        }
        assert_eq!(world.check_feed().await, 240);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_replaced_by_a_tombstone_under_a_writer_stays_one() {
    for world in World::all() {
        for round in 0..20 {
            let id = account(4, round);
            let writers = futures::future::join_all((0..16).map(|n| world.replica(n).apply(CountLiving(id))));
            let (deleted, written) = tokio::join!(world.replica(1).apply(Delete(id)), writers);
            let counted: BTreeSet<_> = written.iter().filter_map(|w| w.as_ref().ok()).copied().collect();
            assert_eq!(
                counted,
                (1..=deleted.unwrap()).collect(),
                "who was answered came before it"
            );
            let refused = written.iter().filter_map(|w| w.as_ref().err());
            assert!(refused.clone().all(|r| r.reason == Reason::StateConflict));
            assert_eq!(refused.count() + counted.len(), 16);
            assert_eq!(world.count(0, &id).await, DELETED, "nobody brings it back");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_check_that_joins_a_running_confirmation_waits_for_the_next() {
    let Some(database) = Database::postgres() else { return };
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let (line, clock) = (Line::to(server), ManualClock::at(START));
    let (checks, writes) = (open(&line.url(name), &clock), open(&database.url, &clock));
    let (cache, id) = (checks.cache::<i64>(1 << 20), account(3, 3));
    let load = async || {
        let found = checks
            .snapshot(move |r| r.get::<Counter>(id.slot(), &id.to_vec()))
            .await?;
        Ok((found.map_or(0, |stored| stored.record.count), 8))
    };
    checks.confirm().await.unwrap();
    assert_eq!(cache.get(&id.to_vec(), &load).await.unwrap(), 0, "in memory");
    for round in 1..=5 {
        // Postgres has told its heads, and its answer is on the way.
        let answers = line.hold_answers();
        let running = tokio::spawn({
            let checks = checks.clone();
            async move { checks.confirm().await }
        });
        tokio::task::block_in_place(|| answers.wait_for_one());
        writes.apply(Count::up(id)).await.unwrap();
        let joins = checks.confirm();
        let mut joins = Box::pin(joins);
        assert!(futures::poll!(&mut joins).is_pending());
        drop(answers);
        running.await.unwrap().unwrap();
        joins.await.unwrap();
        assert_eq!(
            cache.get(&id.to_vec(), &load).await.unwrap(),
            round,
            "committed before the check began"
        );
    }
}
