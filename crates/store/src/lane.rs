//! A lane: one bounded queue, one thread, one connection, one batch in flight, no linger timer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::{Micros, Reason, Refusal, Seed};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::batch::{self, Done};
use crate::command::Job;
use crate::error::Error;
use crate::gate::overloaded;
use crate::shared::Shared;
use crate::{AnyConn, clock, heads, sql};

/// The most bytes of commands in one batch: what it writes is held in memory a few times over.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// How often a batch is run again before its callers are told that storage is unavailable.
const RERUNS: u32 = 10;

/// How often a batch may meet claims taken meanwhile. Each time somebody else got further, so this is a bug's bound.
const CLAIM_RERUNS: u32 = 200;

/// How often a batch is run again before the command that may be too slow for all is looked for.
const SLOW_RERUNS: u32 = 2;

/// The thread of one lane.
pub(crate) struct Lane {
    /// Before `shared`, which holds the lock on the file: the connection ends first.
    conn: Option<AnyConn>,
    shared: Arc<Shared>,
    /// Where the callers wait; `None` outside of a runtime.
    runtime: Option<Handle>,
    max_batch: usize,
    batches: u64,
    clock_checked: Option<Micros>,
}

impl Lane {
    pub(crate) const fn new(shared: Arc<Shared>, runtime: Option<Handle>, max_batch: usize, conn: AnyConn) -> Self {
        Self {
            shared,
            runtime,
            max_batch,
            conn: Some(conn),
            batches: 0,
            clock_checked: None,
        }
    }

    /// Runs until every sender is gone.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Box<dyn Job>>) {
        let mut taken = Vec::with_capacity(self.max_batch);
        while queue.blocking_recv_many(&mut taken, self.max_batch) > 0 {
            let mut jobs = std::mem::replace(&mut taken, Vec::with_capacity(self.max_batch));
            while !jobs.is_empty() {
                let batch = self.next_batch(&mut jobs);
                self.execute(batch);
            }
        }
    }

    /// Takes the first batch out of what waits, in its order; where a transaction keeps to one partition, those of the
    /// first one's. The others come next: new ones are taken from the queue only when these are done.
    fn next_batch(&self, jobs: &mut Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let mut batch = std::mem::take(jobs);
        if self.shared.location.keeps_to_one_partition() {
            let partition = |job: &dyn Job| self.shared.partitions.of(job.slot());
            let first = batch.first().map(|job| partition(job.as_ref()));
            (batch, *jobs) = batch
                .into_iter()
                .partition(|job| Some(partition(job.as_ref())) == first);
        }
        let rest = batch.split_off(fitting(&batch));
        jobs.extend(rest);
        batch
    }

    /// Runs a batch until it commits, or its culprit is alone, or storage is given up for now.
    fn execute(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        jobs.retain(|job| !job.is_abandoned());
        if jobs.is_empty() {
            return;
        }
        match self.attempts(&mut jobs) {
            Ok(done) => self.finish(jobs, done),
            Err(error) if error.is_of_one_command() && jobs.len() > 1 => {
                tracing::warn!(%error, commands = jobs.len(), "a batch failed; halving it to find the command at fault");
                let rest = jobs.split_off(jobs.len() / 2);
                self.execute(jobs);
                self.execute(rest);
            }
            Err(error) => {
                let names: Vec<_> = jobs.iter().map(|job| job.name()).collect();
                tracing::error!(%error, commands = ?names, "a batch could not be committed");
                let refusal = error.refusal();
                jobs.into_iter().for_each(|job| job.fail(refusal.clone()));
            }
        }
    }

    fn attempts(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Done, Error> {
        let (mut failures, mut missed_claims, mut missed_rows, mut unknown) = (0, 0, 0, false);
        loop {
            match self.guarded(jobs) {
                Ok(done) => return Ok(done),
                Err(Error::ClaimTaken) if missed_claims < CLAIM_RERUNS => missed_claims += 1,
                Err(error @ Error::Missed(_)) if missed_rows == 0 => {
                    missed_rows += 1;
                    self.shared.stats.missed.inc();
                    tracing::error!(%error, "running a batch again that a locked partition should have kept from this");
                }
                Err(error) if error.is_slow() && jobs.len() > 1 && failures >= SLOW_RERUNS => return Err(error),
                Err(error) if error.is_passing() && failures < RERUNS => {
                    // After an unknown commit the request rows tell, at the next attempt, what had been done.
                    unknown |= matches!(error, Error::CommitUnknown(_));
                    failures += 1;
                    self.shared.stats.reruns.inc();
                    tracing::warn!(%error, failures, "running a batch again");
                    std::thread::sleep(backoff(failures));
                }
                Err(error) if unknown => return Err(Error::CommitUnknown(given_up(&error))),
                Err(error) => return Err(error),
            }
        }
    }

    /// A panic must not end the lane: the batch is rolled back with its connection, and halving finds the command.
    fn guarded(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Done, Error> {
        let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt(jobs)));
        attempt.unwrap_or_else(|_| Err(Error::Broken("a batch panicked".into())))
    }

    fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Done, Error> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => {
                self.clock_checked = None;
                self.batches = 0;
                self.shared.location.connect()?
            }
        };
        let result = self.on(&mut conn, jobs);
        if result.as_ref().err().is_none_or(|error| !error.lost_connection()) {
            self.conn = Some(conn);
        }
        result
    }

    fn on(&mut self, conn: &mut AnyConn, jobs: &mut [Box<dyn Job>]) -> Result<Done, Error> {
        self.check_clock(conn)?;
        let done = batch::run(conn, &self.shared, jobs)?;
        self.batches += 1;
        sql::refresh_plans(conn, self.batches);
        Ok(done)
    }

    /// Once a second, and at each new connection.
    fn check_clock(&mut self, conn: &mut AnyConn) -> Result<(), Error> {
        let now = self.shared.clock.now();
        if self
            .clock_checked
            .is_some_and(|at| now.since(at) < clock::SKEW && at <= now)
        {
            return Ok(());
        }
        if let Some(reported) = heads::database_time(conn)? {
            clock::compare(self.shared.clock.as_ref(), now, reported)?;
        }
        self.clock_checked = Some(now);
        Ok(())
    }

    /// First the caches, in commit order, then the callers: whoever has an answer is not contradicted by a cache.
    fn finish(&self, jobs: Vec<Box<dyn Job>>, done: Done) {
        self.shared.stats.batches.inc();
        self.shared
            .stats
            .batch
            .observe(f64::from(u32::try_from(jobs.len()).unwrap_or(u32::MAX)));
        self.shared.stats.commands.inc_by(jobs.len() as u64);
        self.shared.stats.events.inc_by(done.prepared.events as u64);
        self.shared.reached(&done.prepared.heads, &done.prepared.subjects);
        let answer = move || jobs.into_iter().for_each(|job| job.answer(&done.proof));
        match &self.runtime {
            // One wake-up for the whole batch: callers that are woken from within the runtime cost it next to nothing.
            Some(runtime) => drop(runtime.spawn(async move { answer() })),
            None => answer(),
        }
    }
}

/// How many of the first jobs make one batch; always one.
fn fitting(jobs: &[Box<dyn Job>]) -> usize {
    let mut bytes = 0_usize;
    let fitting = jobs.iter().take_while(|job| {
        bytes = bytes.saturating_add(job.bytes());
        bytes <= MAX_BATCH_BYTES
    });
    fitting.count().max(1)
}

/// 5 ms doubling to about 1 s, with jitter so that replicas do not meet again.
fn backoff(failures: u32) -> Duration {
    let ceiling = 5_u64 << failures.min(8);
    let jitter = Seed::draw().map_or(0, |seed| seed.below("backoff", ceiling));
    Duration::from_millis(ceiling / 2 + jitter / 2)
}

fn given_up(error: &Error) -> diesel::result::Error {
    diesel::result::Error::QueryBuilderError(error.to_string().into())
}

/// What a caller is told whose command or question found the queue full, or its thread gone.
#[expect(clippy::needless_pass_by_value, reason = "reads well in map_err")]
pub(crate) fn not_taken<T>(error: mpsc::error::TrySendError<T>) -> Refusal {
    match error {
        mpsc::error::TrySendError::Full(_) => overloaded(),
        mpsc::error::TrySendError::Closed(_) => Reason::StorageUnavailable.into(),
    }
}

#[cfg(test)]
mod tests {
    use sammati_kernel::{Key, ManualClock, Slot};

    use super::*;
    use crate::command::{Command, Pending};
    use crate::dial::Dial;
    use crate::gate::Gate;
    use crate::keys::Keys;
    use crate::view::View;
    use crate::{Location, Partitions};

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

    fn job(gate: &Gate, slot: u16) -> Box<dyn Job> {
        let (reply, _) = tokio::sync::oneshot::channel();
        Box::new(Pending {
            command: Nothing(Slot::new(slot)),
            request: None,
            seed: Seed::draw().unwrap(),
            settled: None,
            reply,
            _ticket: gate.admit(Slot::new(slot), 1, 100).ok().unwrap(),
        })
    }

    fn batches(one_partition: bool, slots: &[u16]) -> Vec<Vec<u16>> {
        let location = Location::parse("postgres://u@127.0.0.1/x").unwrap();
        let shared = Shared::new(
            Dial::new(location.keeping_to_one_partition(one_partition)),
            Arc::new(ManualClock::at(Micros::from_seconds(1))),
            Partitions::new(4).unwrap(),
            Key::from_bytes([1; 32]),
            None,
        );
        let lane = Lane {
            conn: None,
            shared: Arc::new(shared),
            runtime: None,
            max_batch: 100,
            batches: 0,
            clock_checked: None,
        };
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
}
