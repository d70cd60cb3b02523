use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use futures::executor::block_on;
use sammati_kernel::Slot;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::command::{Command, Outcome, Pending};
use crate::gate::Gate;
use crate::keys::Keys;
use crate::view::View;
use crate::{Location, setup};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("tests/migrations");

struct Nothing(Slot);

impl Command for Nothing {
    type Answer = ();
    const NAME: &'static str = "test.nothing";

    fn slot(&self) -> Slot {
        self.0
    }

    fn reads(&self, _keys: &mut Keys) {}

    fn decide(&self, _view: &mut View<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A job that nobody waits for any more.
fn job(gate: &Gate, slot: u16) -> Box<dyn Job> {
    job_of(gate, Nothing(Slot::new(slot))).0
}

/// A job, and who waits for it.
fn job_of<C: Command<Answer = ()>>(gate: &Gate, command: C) -> (Box<dyn Job>, Answer) {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let slot = command.slot();
    let job = Pending {
        command,
        request: None,
        seed: Seed::draw().unwrap(),
        settled: None,
        reply,
        _ticket: gate.admit(slot, 1, 100).ok().unwrap(),
    };
    (Box::new(job), answer)
}

type Answer = tokio::sync::oneshot::Receiver<Result<Outcome<()>, Refusal>>;

/// Keeps somebody else's lock for as long as it is there.
struct Holding(#[expect(dead_code, reason = "is dropped")] AnyConn);

impl Command for Holding {
    type Answer = ();
    const NAME: &'static str = "test.holding";

    fn slot(&self) -> Slot {
        Slot::new(1)
    }

    fn reads(&self, _keys: &mut Keys) {}

    fn decide(&self, _view: &mut View<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A lane on a file of its own, which has none of the store's tables: a batch that gets at it fails for good.
struct OnFile {
    lane: Lane,
    gate: Gate,
    location: Location,
    _folder: tempfile::TempDir,
}

impl OnFile {
    fn new(locked_reruns: Duration) -> Self {
        Self::told_in(None, locked_reruns)
    }

    fn told_in(runtime: Option<Handle>, locked_reruns: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("x.db"));
        let mut conn = location.connect().unwrap();
        sql::batch(&mut conn, "PRAGMA busy_timeout=1; CREATE TABLE other (n)").unwrap();
        let shared = Shared::in_test(location.clone());
        let durability = Durability::start(&shared, runtime, &mut conn).unwrap();
        let mut lane = Lane::on_conn(shared, durability, 100, Some(conn));
        lane.locked_reruns = locked_reruns;
        Self {
            lane,
            gate: Gate::new(100, 1 << 20),
            location,
            _folder: folder,
        }
    }

    /// Somebody else's connection, which has the lock on the file.
    fn lock(&self) -> AnyConn {
        let mut conn = self.location.connect().unwrap();
        sql::batch(&mut conn, "BEGIN IMMEDIATE").unwrap();
        conn
    }

    fn reruns(&self) -> u64 {
        self.lane.shared.stats.reruns.get()
    }
}

fn is_missing_its_tables(error: &Error) -> bool {
    error.to_string().contains("no such table")
}

#[test]
fn a_batch_is_run_again_for_those_alone_who_still_wait() {
    let mut on = OnFile::new(LOCKED_RERUNS);
    let holding = Holding(on.lock());
    // Its caller has gone; the lock goes with it, so the second attempt gets at the file.
    let (gone, _) = job_of(&on.gate, holding);
    let (here, _answer) = job_of(&on.gate, Nothing(Slot::new(1)));
    let mut jobs = vec![gone, here];
    let failed = on.lane.attempts(&mut jobs, Instant::now()).err().unwrap();
    assert!(is_missing_its_tables(&failed), "{failed}");
    assert_eq!((jobs.len(), on.reruns()), (1, 1));
}

#[test]
fn a_batch_that_nobody_waits_for_ends() {
    let mut on = OnFile::new(LOCKED_RERUNS);
    let lock = on.lock();
    let mut jobs = vec![job(&on.gate, 1)];
    assert!(on.lane.timed(&mut jobs).unwrap().is_none());
    assert_eq!((jobs.len(), on.reruns()), (0, 1));
    drop(lock);
}

#[test]
fn a_file_that_stays_locked_is_given_up_in_time() {
    let mut on = OnFile::new(Duration::ZERO);
    let lock = on.lock();
    let (waiting, mut answer) = job_of(&on.gate, Nothing(Slot::new(1)));
    on.lane.execute(vec![waiting]);
    let refusal = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(refusal.reason, Reason::StorageUnavailable);
    assert_eq!(on.reruns(), 0);
    drop(lock);
}

/// Panics where the store asks what it reads.
struct Panics;

impl Command for Panics {
    type Answer = ();
    const NAME: &'static str = "test.panics";

    fn slot(&self) -> Slot {
        Slot::new(1)
    }

    fn reads(&self, _keys: &mut Keys) {
        panic!("as asked");
    }

    fn decide(&self, _view: &mut View<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// What the callers of a batch were told, of whom one's command panics if `panics`; `None` of one who goes on waiting.
fn told(lane: &mut Lane, gate: &Gate, panics: bool) -> Vec<Option<Result<(), Reason>>> {
    let (mut jobs, mut answers) = (Vec::new(), Vec::new());
    for n in 0..5 {
        let (job, answer) = match n {
            2 if panics => job_of(gate, Panics),
            _ => job_of(gate, Nothing(Slot::new(n))),
        };
        jobs.push(job);
        answers.push(answer);
    }
    lane.execute(jobs);
    // Whoever is told of a commit is told before that.
    block_on(lane.shared.commits.durable(lane.shared.commits.begun()));
    let told = answers.iter_mut().map(|answer| match answer.try_recv() {
        Ok(told) => Some(told.map(|_| ()).map_err(|refusal| refusal.reason)),
        // As in `Store::run`.
        Err(TryRecvError::Closed) => Some(Err(Reason::StorageUnavailable)),
        Err(TryRecvError::Empty) => None,
    });
    told.collect()
}

#[test]
fn every_caller_is_told_something_whatever_becomes_of_the_batch() {
    let (done, unavailable, internal) = (
        Some(Ok(())),
        Some(Err(Reason::StorageUnavailable)),
        Some(Err(Reason::Internal)),
    );
    let mut on = OnFile::new(Duration::ZERO);
    assert_eq!(
        told(&mut on.lane, &on.gate, false),
        [unavailable; 5],
        "there are no tables"
    );
    let lock = on.lock();
    assert_eq!(told(&mut on.lane, &on.gate, false), [unavailable; 5]);
    drop(lock);

    setup::prepare(&on.location, Some(4), MIGRATIONS).unwrap();
    assert_eq!(told(&mut on.lane, &on.gate, false), [done; 5]);
    assert_eq!(told(&mut on.lane, &on.gate, true), [done, done, internal, done, done]);

    // The runtime that would have told them is gone: what waits there hears no more than that.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut on = OnFile::told_in(Some(runtime.handle().clone()), Duration::ZERO);
    setup::prepare(&on.location, Some(4), MIGRATIONS).unwrap();
    drop(runtime);
    assert_eq!(told(&mut on.lane, &on.gate, false), [unavailable; 5]);
    assert_eq!(on.gate.taken(), 0, "and every place is given back");
}

#[test]
fn who_still_waits_when_a_lane_ends_is_told() {
    let on = OnFile::new(Duration::ZERO);
    let (sender, queue) = mpsc::channel(4);
    let (job, mut answer) = job_of(&on.gate, Nothing(Slot::new(1)));
    sender.try_send(job).unwrap();
    drop(queue);
    assert_eq!(answer.try_recv().unwrap_err(), TryRecvError::Closed);
}

fn batches(one_partition: bool, slots: &[u16]) -> Vec<Vec<u16>> {
    let location = Location::parse("postgres://u@127.0.0.1/x").unwrap();
    let shared = Shared::in_test(location.keeping_to_one_partition(one_partition));
    let lane = Lane::on_conn(Arc::clone(&shared), Durability::by_server(&shared, None), 100, None);
    let gate = Gate::new(100, 1 << 20);
    let mut jobs: Vec<_> = slots.iter().map(|slot| job(&gate, *slot)).collect();
    let mut batches = Vec::new();
    while !jobs.is_empty() {
        let batch = lane.next_batch(&mut jobs);
        batches.push(batch.iter().map(|job| job.slot().number()).collect());
    }
    batches
}

#[test]
fn a_batch_may_keep_to_one_partition_and_keeps_the_order_within_it() {
    // Of four partitions: 1, 2, 1, 1, 3, 2.
    let slots = [1, 2, 5, 1, 3, 6];
    assert_eq!(batches(false, &slots), [slots.to_vec()]);
    assert_eq!(batches(true, &slots), [vec![1, 5, 1], vec![2, 6], vec![3]]);
}
