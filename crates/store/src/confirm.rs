//! Confirmations: one statement on the primary that tells what other replicas committed.
//!
//! A check waits for a confirmation that began after it arrived. One runs, one is queued, and all who wait share it.
//!
//! A confirmation costs the same however many share it, here and on the primary, and more than a check does. So after one
//! that several shared the next waits until as many have come again, for a while: see [`rest`]. Callers who ask again once they
//! are told then stay together, however many they are. Who checks alone never waits.

mod waiting;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sammati_kernel::{Micros, Reason, Refusal};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::waiting::{Asking, Rest, Waiter, Waiting};
use crate::error::Error;
use crate::shared::{Reached, Shared};
use crate::standby::{Standbys, Wanted};
use crate::{AnyConn, clock, heads, sql, verbs};

/// How often heads are asked for while somebody watches them, or asks whether the database serves, though nobody checks.
const POLL: Duration = Duration::from_millis(200);

/// The longest rest between two confirmations.
const LONGEST_REST: Duration = Duration::from_millis(3);

/// The rest after a confirmation is at most so many times as long as it took.
const RESTS: u32 = 16;

/// Asks for confirmations.
#[derive(Clone)]
pub(crate) struct Confirmer {
    /// `None` on SQLite, where this process is the head.
    asking: Option<Arc<Asking>>,
    at: Arc<AtomicI64>,
    shared: Arc<Shared>,
}

impl Confirmer {
    /// One thread with one connection: all who wait share an answer, so a second would only ask the same twice.
    pub(crate) fn start(shared: &Arc<Shared>, wanted: Wanted, runtime: Option<Handle>) -> Result<Self, Error> {
        let at = Arc::new(AtomicI64::new(shared.clock.now().0));
        if shared.location.is_embedded() {
            look_at_clock(shared);
            let watched = Arc::downgrade(shared);
            spawn("clock", move || watch_clock(&watched))?;
            return Ok(Self {
                asking: None,
                at,
                shared: Arc::clone(shared),
            });
        }
        let (asking, waiting) = waiting::waiting();
        let asking = Arc::new(asking);
        let worker = Worker::new(Arc::clone(shared), wanted, runtime, Arc::clone(&at));
        let poller = Arc::downgrade(&asking);
        spawn("confirm", move || worker.run(&waiting))?;
        let watched = Arc::downgrade(shared);
        spawn("confirm-poll", move || poll(&poller, &watched))?;
        Ok(Self {
            asking: Some(asking),
            at,
            shared: Arc::clone(shared),
        })
    }

    pub(crate) async fn confirm(&self) -> Result<(), Refusal> {
        let Some(asking) = &self.asking else {
            return self.shared.expect_past([]).map_err(|error| error.refusal());
        };
        let (sender, answer) = oneshot::channel();
        asking.ask(sender)?;
        answer.await.unwrap_or_else(|_| Err(Reason::StorageUnavailable.into()))
    }

    pub(crate) fn confirmed_at(&self) -> Micros {
        match self.asking {
            None => self.shared.clock.now(),
            Some(_) => Micros(self.at.load(Ordering::SeqCst)),
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread
        .map(drop)
        .map_err(|e| Error::File(format!("cannot start a thread: {e}")))
}

/// Watchers of other replicas' commits, and who asks whether the database serves, need no check to come by.
fn poll(asking: &Weak<Asking>, shared: &Weak<Shared>) {
    loop {
        std::thread::sleep(POLL);
        let (Some(asking), Some(shared)) = (asking.upgrade(), shared.upgrade()) else {
            return;
        };
        if shared.is_watched() {
            let (waiter, _) = oneshot::channel();
            drop(asking.ask(waiter));
        }
    }
}

/// An embedded database is this process's own, and its clock the only one; but that may have been ahead once.
fn watch_clock(shared: &Weak<Shared>) {
    loop {
        std::thread::sleep(POLL);
        let Some(shared) = shared.upgrade() else { return };
        look_at_clock(&shared);
    }
}

fn look_at_clock(shared: &Shared) {
    match shared.expect_past([]) {
        Ok(()) => drop(shared.tell(Ok(()))),
        Err(error) => refuse(shared, &error),
    }
}

/// Says why nothing is confirmed, in the log once: how far a clock is off is another number each time.
fn refuse(shared: &Shared, error: &Error) {
    let was_ready = shared.readiness.borrow().is_ok();
    let changed = shared.tell(Err(format!("database: {error}")));
    if was_ready || (changed && !error.is_of_the_clock()) {
        tracing::warn!(%error, "cannot confirm heads on the primary");
    }
}

/// When the next begins after one that `told` so many and `took` so long: once as many wait again. No caller is held up longer
/// than that is worth, and none while one alone asks.
fn rest(told: usize, took: Duration) -> Rest {
    if told <= 1 {
        return Rest::NONE;
    }
    Rest {
        until: told,
        at_most: (took * RESTS).min(LONGEST_REST),
    }
}

struct Worker {
    shared: Arc<Shared>,
    /// Where the callers wait; `None` outside of a runtime.
    runtime: Option<Handle>,
    conn: Option<AnyConn>,
    asked: u64,
    /// What the heads came to when all of them were known, and how often any of this process's had moved by then.
    still: Option<(i64, u64)>,
    /// Whether no head had moved at the last look.
    is_quiet: bool,
    by_write: bool,
    standbys: Standbys,
    at: Arc<AtomicI64>,
    rest: fn(usize, Duration) -> Rest,
}

impl Worker {
    fn new(shared: Arc<Shared>, wanted: Wanted, runtime: Option<Handle>, at: Arc<AtomicI64>) -> Self {
        Self {
            shared,
            runtime,
            conn: None,
            asked: 0,
            still: None,
            is_quiet: false,
            by_write: wanted.confirm_by_write,
            standbys: Standbys::new(wanted),
            at,
            rest,
        }
    }

    fn run(mut self, asked: &Waiting) {
        let mut rest = Rest::NONE;
        while let Some(waiting) = asked.take(rest) {
            let began = Instant::now();
            let answer = self.confirm();
            // The poller, and callers who gave up, do not come again.
            let told = waiting.iter().filter(|waiter| !waiter.is_closed()).count();
            rest = (self.rest)(told, began.elapsed());
            self.shared.stats.confirmed.inc_by(told as u64);
            let tell = move || waiting.into_iter().for_each(|w: Waiter| drop(w.send(answer.clone())));
            match &self.runtime {
                // One wake-up for all: those that are woken from within the runtime cost it next to nothing.
                Some(runtime) => drop(runtime.spawn(async move { tell() })),
                None => tell(),
            }
        }
    }

    fn confirm(&mut self) -> Result<(), Refusal> {
        let (began, at) = (self.shared.clock.now(), Instant::now());
        let result = self.guarded().or_else(|error| {
            // Asking again is always safe: once for a connection that died while idle, not for a server that hangs.
            if error.lost_connection() && at.elapsed() < Duration::from_secs(1) {
                self.guarded()
            } else {
                Err(error)
            }
        });
        match result {
            Ok(()) => {
                self.at.fetch_max(began.0, Ordering::SeqCst);
                self.shared.stats.confirmations.inc();
                self.shared.stats.confirmation.observe(at.elapsed().as_secs_f64());
                self.shared.tell(self.standbys.seen());
                Ok(())
            }
            Err(error) => {
                refuse(&self.shared, &error);
                Err(error.refusal())
            }
        }
    }

    /// A panic must not end the thread that all checks wait for.
    fn guarded(&mut self) -> Result<(), Error> {
        catch_unwind(AssertUnwindSafe(|| self.ask()))
            .unwrap_or_else(|_| Err(Error::Broken("a confirmation panicked".into())))
    }

    /// Asks whether any head moved, which is four times cheaper than to ask for all of them; only then for those; and only
    /// then for the events of those that moved.
    fn ask(&mut self) -> Result<(), Error> {
        let mut conn = self
            .conn
            .take()
            .map_or_else(|| self.shared.location.connect_to_confirm(), Ok)?;
        let asked = self.ask_on(&mut conn);
        // A clock that is off, or a recovery that is not finished, is no fault of the connection's.
        if asked.as_ref().err().is_none_or(|error| !error.lost_connection()) {
            self.conn = Some(conn);
        }
        asked
    }

    fn ask_on(&mut self, conn: &mut AnyConn) -> Result<(), Error> {
        // Before the database is asked: what moves here meanwhile is seen as a move at the next look.
        let moves = self.shared.moves();
        let sum = match self.is_quiet {
            true => self.sum(conn)?,
            false => None,
        };
        let now = sum.map(|sum| (sum, moves));
        if now.is_none() || now != self.still {
            let moved = self.look(conn)?;
            self.is_quiet = !moved && self.shared.moves() == moves;
            self.still = now.filter(|_| self.is_quiet);
        }
        self.asked += 1;
        sql::refresh_plans(conn, self.asked);
        // What it may not see, or what such a server does not have, is no reason to confirm nothing.
        if let Err(error) = self.standbys.look(conn) {
            tracing::debug!(%error, "cannot look at the standbys");
        }
        self.shared.expect_past([])
    }

    /// What the heads come to.
    fn sum(&self, conn: &mut AnyConn) -> Result<Option<i64>, Error> {
        let began = self.shared.clock.now();
        let (sum, time) = heads::sum_now(conn, self.by_write)?;
        self.compare(began, time)?;
        Ok(sum)
    }

    /// Takes over all heads, and tells the caches of the events of those that moved; tells whether any had. The second
    /// answer may hold later ones: then a cache loads once more than it must.
    fn look(&self, conn: &mut AnyConn) -> Result<bool, Error> {
        let applied: HashMap<i64, i64> = self.shared.applied().into_iter().collect();
        let began = self.shared.clock.now();
        let (heads, time) = heads::heads_now(conn, self.by_write)?;
        let reached: Vec<_> = heads
            .into_iter()
            .map(|head| Reached {
                from: applied.get(&head.partition).copied().unwrap_or(0),
                head,
            })
            .collect();
        let moved = reached.iter().filter(|r| r.head.next > r.from);
        let moved: Vec<_> = moved.map(|r| (r.head.partition, r.from)).collect();
        let subjects = if moved.is_empty() {
            Vec::new()
        } else {
            sql::subjects_from(conn, &moved)?
        };
        self.compare(began, time)?;
        if reached.iter().any(|r| self.shared.opens_epoch(&r.head)) {
            verbs::finished(conn, &self.shared)?;
        }
        self.shared.reached(&reached, &subjects);
        Ok(!moved.is_empty())
    }

    /// Before anything is taken over: a replica whose clock is off must not decide.
    fn compare(&self, began: Micros, time: Option<i64>) -> Result<(), Error> {
        time.map_or(Ok(()), |time| clock::compare(self.shared.clock.as_ref(), began, time))
    }
}

#[cfg(test)]
mod tests;
