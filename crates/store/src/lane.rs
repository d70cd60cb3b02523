//! A lane: one bounded queue, one thread, one connection, one batch in flight, no linger timer.

use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::{Micros, Reason, Refusal, Seed};
use tokio::sync::mpsc;

use crate::batch::{self, Done};
use crate::command::Job;
use crate::error::Error;
use crate::shared::Shared;
use crate::{AnyConn, sql};

/// How often a batch is run again before its callers are told that storage is unavailable.
const RERUNS: u32 = 10;

/// How often a batch may meet claims taken meanwhile. Each time somebody else got further, so this is a bug's bound.
const CLAIM_RERUNS: u32 = 200;

/// How far this process's clock may be from the database's.
const SKEW: Duration = Duration::from_secs(1);

/// The thread of one lane.
pub(crate) struct Lane {
    shared: Arc<Shared>,
    max_batch: usize,
    conn: Option<AnyConn>,
    batches: u64,
    clock_checked: Option<Micros>,
}

impl Lane {
    pub(crate) const fn new(shared: Arc<Shared>, max_batch: usize, conn: AnyConn) -> Self {
        Self {
            shared,
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
            let jobs = std::mem::replace(&mut taken, Vec::with_capacity(self.max_batch));
            self.execute(jobs);
        }
    }

    /// Runs a batch until it commits, or its culprit is alone, or storage is given up for now.
    fn execute(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        jobs.retain(|job| !job.is_abandoned());
        if jobs.is_empty() {
            return;
        }
        match self.attempts(&mut jobs) {
            Ok(done) => self.finish(jobs, &done),
            Err(error) if !error.is_passing() && jobs.len() > 1 => {
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
        let (mut failures, mut missed_claims, mut unknown) = (0, 0, false);
        loop {
            match self.attempt(jobs) {
                Ok(done) => return Ok(done),
                Err(Error::ClaimTaken) if missed_claims < CLAIM_RERUNS => missed_claims += 1,
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
        let done = batch::run(conn, self.shared.clock.as_ref(), self.shared.partitions, jobs)?;
        self.batches += 1;
        // A plan that Postgres made while a table was empty and analysed reads the whole table for ever after.
        if matches!(conn, AnyConn::Pg(_)) && (self.batches.is_power_of_two() || self.batches.is_multiple_of(4096)) {
            sql::batch(conn, "DISCARD PLANS").unwrap_or_else(|error| tracing::warn!(%error, "cannot discard plans"));
        }
        Ok(done)
    }

    /// Once a second, and at each new connection.
    fn check_clock(&mut self, conn: &mut AnyConn) -> Result<(), Error> {
        let now = self.shared.clock.now();
        if self.clock_checked.is_some_and(|at| now.since(at) < SKEW && at <= now) {
            return Ok(());
        }
        if let Some(reported) = sql::database_time(conn)? {
            let database = self.shared.clock.database(Micros(reported));
            let skew = database.since(now).max(now.since(database));
            if skew > SKEW {
                return Err(Error::ClockSkew(i64::try_from(skew.as_millis()).unwrap_or(i64::MAX)));
            }
        }
        self.clock_checked = Some(now);
        Ok(())
    }

    /// First the caches, in commit order, then the callers: whoever has an answer is not contradicted by a cache.
    fn finish(&self, jobs: Vec<Box<dyn Job>>, done: &Done) {
        self.shared.stats.batches.inc();
        self.shared.stats.commands.inc_by(jobs.len() as u64);
        self.shared.stats.events.inc_by(done.prepared.events as u64);
        self.shared.committed(&done.prepared.heads, &done.prepared.subjects);
        for job in jobs {
            job.answer(&done.proof);
        }
    }
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

/// What a caller is told whose command found the queue full.
pub(crate) fn overloaded() -> Refusal {
    Refusal::new(Reason::Overloaded).retry_after(Duration::from_millis(100))
}
