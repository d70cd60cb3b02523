//! A lane: one bounded queue, one thread, one connection, one batch at a time, no linger timer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::{Micros, Reason, Refusal, Seed};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::batch::{self, Prepared};
use crate::command::Job;
use crate::durable::{Durability, Settled};
use crate::error::Error;
use crate::failures::Failures;
use crate::flight::Flight;
use crate::gate::overloaded;
use crate::shared::Shared;
use crate::{AnyConn, clock, heads, sql};

/// The most bytes of commands in one batch: what it writes is held in memory a few times over.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// How often a batch may meet claims taken meanwhile. Each time somebody else got further, so this is a bug's bound.
const CLAIM_RERUNS: u32 = 200;

/// How long after its beginning a batch that meets a locked file is run again: each time it has waited ten seconds, and
/// most callers have gone by then.
const LOCKED_RERUNS: Duration = Duration::from_secs(15);

/// The thread of one lane.
pub(crate) struct Lane {
    /// Before `shared`, which holds the lock on the file: the connection ends first.
    conn: Option<AnyConn>,
    shared: Arc<Shared>,
    durability: Durability,
    max_batch: usize,
    flight: Flight,
    locked_reruns: Duration,
    batches: u64,
    clock_checked: Option<Micros>,
}

impl Lane {
    pub(crate) fn new(shared: Arc<Shared>, runtime: Option<Handle>, max_batch: usize) -> Result<Self, Error> {
        let mut conn = shared.location.connect()?;
        let durability = Durability::start(&shared, runtime, &mut conn)?;
        Ok(Self::on_conn(shared, durability, max_batch, Some(conn)))
    }

    pub(crate) fn on_conn(
        shared: Arc<Shared>,
        durability: Durability,
        max_batch: usize,
        conn: Option<AnyConn>,
    ) -> Self {
        Self {
            conn,
            shared,
            durability,
            max_batch,
            flight: Flight::default(),
            locked_reruns: LOCKED_RERUNS,
            batches: 0,
            clock_checked: None,
        }
    }

    fn connect(&mut self) -> Result<AnyConn, Error> {
        let mut conn = self.shared.location.connect()?;
        self.durability.ready(&mut conn)?;
        self.clock_checked = None;
        self.batches = 0;
        Ok(conn)
    }

    /// How long its batch takes, and then the disk.
    pub(crate) fn flights(&self) -> [Flight; 2] {
        [self.flight.clone(), self.durability.flight()]
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

    /// Runs a batch until it commits, or its culprit is alone, or storage is given up for now, or nobody waits for it.
    pub(crate) fn execute(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        jobs.retain(|job| !job.is_abandoned());
        if jobs.is_empty() {
            return;
        }
        match self.timed(&mut jobs) {
            Ok(Some(prepared)) => {
                self.durability.tell(Settled { jobs, prepared });
                if self.max_batch == 1 {
                    self.durability.wait();
                }
            }
            Ok(None) => {}
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

    fn timed(&mut self, jobs: &mut Vec<Box<dyn Job>>) -> Result<Option<Prepared>, Error> {
        let began = self.flight.begin();
        let done = self.attempts(jobs, began);
        self.flight
            .end("a batch took long: the database is slow, or somebody holds it");
        done
    }

    /// `None` when nobody waits for any of it any more, and nothing of it was done.
    fn attempts(&mut self, jobs: &mut Vec<Box<dyn Job>>, began: Instant) -> Result<Option<Prepared>, Error> {
        let (mut failures, mut missed_claims, mut missed_rows) = (Failures::default(), 0, 0);
        loop {
            match self.guarded(jobs) {
                Ok(done) => return Ok(Some(done)),
                Err(Error::ClaimTaken) if missed_claims < CLAIM_RERUNS => missed_claims += 1,
                Err(error @ Error::Missed(_)) if missed_rows == 0 => {
                    missed_rows += 1;
                    self.shared.stats.missed.inc();
                    tracing::error!(%error, "running a batch again that a locked partition should have kept from this");
                }
                Err(error) if error.is_locked() && began.elapsed() >= self.locked_reruns && !failures.may_be_done() => {
                    return Err(error);
                }
                Err(error) => {
                    if !failures.again_after(&error) {
                        return Err(failures.end(error));
                    }
                    self.shared.stats.reruns.inc();
                    tracing::warn!(%error, failures = failures.count(), "running a batch again");
                    std::thread::sleep(backoff(failures.count()));
                }
            }
            // Of what may be committed the caches must learn, whoever waits.
            if !failures.may_be_done() {
                jobs.retain(|job| !job.is_abandoned());
                if jobs.is_empty() {
                    return Ok(None);
                }
            }
        }
    }

    /// A panic must not end the lane: the batch is rolled back with its connection, and halving finds the command.
    fn guarded(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Prepared, Error> {
        let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt(jobs)));
        let attempt = attempt.unwrap_or_else(|_| Err(Error::Broken("a batch panicked".into())));
        if attempt.is_err() {
            self.durability.gave_up();
        }
        attempt
    }

    #[cfg(test)]
    pub(crate) fn gave_up(&self) {
        self.durability.gave_up();
    }

    fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Prepared, Error> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect()?,
        };
        let result = self.on(&mut conn, jobs);
        if result.as_ref().err().is_none_or(|error| !error.lost_connection()) {
            self.conn = Some(conn);
        }
        result
    }

    fn on(&mut self, conn: &mut AnyConn, jobs: &mut [Box<dyn Job>]) -> Result<Prepared, Error> {
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
        // An embedded database is opened anew by whoever changes how its request ids lie.
        if let Some((reported, requests_from)) = heads::now_and_order(conn)? {
            clock::compare(self.shared.clock.as_ref(), now, reported)?;
            self.shared.requests_are_from(requests_from);
        }
        self.clock_checked = Some(now);
        Ok(())
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

/// What a caller is told whose command or question found the queue full, or its thread gone.
#[expect(clippy::needless_pass_by_value, reason = "reads well in map_err")]
pub(crate) fn not_taken<T>(error: mpsc::error::TrySendError<T>) -> Refusal {
    match error {
        mpsc::error::TrySendError::Full(_) => overloaded(),
        mpsc::error::TrySendError::Closed(_) => Reason::StorageUnavailable.into(),
    }
}

#[cfg(test)]
mod tests;
