//! Confirmations: one statement on the primary that tells what other replicas committed.
//!
//! A check waits for a confirmation that began after it arrived. One runs, one is queued, and all who wait share it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sammati_kernel::{Micros, Reason, Refusal};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::error::Error;
use crate::shared::{Reached, Shared};
use crate::standby::{Standbys, Wanted};
use crate::{AnyConn, clock, heads, sql, verbs};

/// How often heads are asked for while somebody watches, though nobody checks.
const POLL: Duration = Duration::from_millis(200);

type Waiter = oneshot::Sender<Result<(), Refusal>>;

/// Asks for confirmations.
#[derive(Clone)]
pub(crate) struct Confirmer {
    /// `None` on SQLite, where this process is the head.
    waiters: Option<mpsc::Sender<Waiter>>,
    at: Arc<AtomicI64>,
    shared: Arc<Shared>,
}

impl Confirmer {
    /// One thread with one connection: all who wait share an answer, so a second would only ask the same twice.
    pub(crate) fn start(shared: &Arc<Shared>, wanted: Wanted, runtime: Option<Handle>) -> Result<Self, Error> {
        let at = Arc::new(AtomicI64::new(shared.clock.now().0));
        if shared.location.is_embedded() {
            return Ok(Self {
                waiters: None,
                at,
                shared: Arc::clone(shared),
            });
        }
        let (sender, queue) = mpsc::channel(16 * 1024);
        let worker = Worker {
            shared: Arc::clone(shared),
            runtime,
            conn: None,
            asked: 0,
            still: None,
            is_quiet: false,
            by_write: wanted.confirm_by_write,
            standbys: Standbys::new(wanted),
            at: Arc::clone(&at),
        };
        let poller = sender.downgrade();
        spawn("confirm", move || worker.run(queue))?;
        let watched = Arc::downgrade(shared);
        spawn("confirm-poll", move || poll(&poller, &watched))?;
        Ok(Self {
            waiters: Some(sender),
            at,
            shared: Arc::clone(shared),
        })
    }

    pub(crate) async fn confirm(&self) -> Result<(), Refusal> {
        let Some(waiters) = &self.waiters else { return Ok(()) };
        let (sender, answer) = oneshot::channel();
        waiters.try_send(sender).map_err(crate::lane::not_taken)?;
        answer.await.unwrap_or_else(|_| Err(Reason::StorageUnavailable.into()))
    }

    pub(crate) fn confirmed_at(&self) -> Micros {
        match self.waiters {
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

/// Watchers of other replicas' commits need no check to come by.
fn poll(sender: &mpsc::WeakSender<Waiter>, shared: &Weak<Shared>) {
    loop {
        std::thread::sleep(POLL);
        let (Some(sender), Some(shared)) = (sender.upgrade(), shared.upgrade()) else {
            return;
        };
        if shared.watchers() > 0 {
            let (waiter, _) = oneshot::channel();
            drop(sender.try_send(waiter));
        }
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
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Waiter>) {
        let mut waiting = Vec::new();
        while queue.blocking_recv_many(&mut waiting, 16 * 1024) > 0 {
            let answer = self.confirm();
            let waiting = std::mem::take(&mut waiting);
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
                self.tell(self.standbys.seen());
                Ok(())
            }
            Err(error) => {
                if self.tell(Err(format!("database: {error}"))) {
                    tracing::warn!(%error, "cannot confirm heads on the primary");
                }
                Err(error.refusal())
            }
        }
    }

    /// Whoever asks for readiness; tells whether it changed.
    fn tell(&self, now: Result<(), String>) -> bool {
        self.shared.readiness.send_if_modified(|known| {
            let changes = *known != now;
            *known = now;
            changes
        })
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
        Ok(())
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
mod tests {
    use sammati_kernel::{Key, ManualClock};

    use super::*;
    use crate::dial::Dial;
    use crate::{Location, Partitions};

    #[test]
    fn a_connection_that_is_not_at_fault_is_kept() {
        let shared = Shared::new(
            Dial::new(Location::parse("sqlite::memory:").unwrap()),
            Arc::new(ManualClock::at(Micros::from_seconds(1))),
            Partitions::new(4).unwrap(),
            Key::from_bytes([1; 32]),
            None,
        );
        let wanted = Wanted {
            asynchronous: false,
            confirm_by_write: false,
        };
        let mut worker = Worker {
            shared: Arc::new(shared),
            runtime: None,
            conn: None,
            asked: 0,
            still: None,
            is_quiet: false,
            by_write: false,
            standbys: Standbys::new(wanted),
            at: Arc::default(),
        };
        let error = worker.ask().unwrap_err();
        assert!(!error.lost_connection(), "{error}");
        assert!(worker.conn.is_some(), "it has no heads, and is as good as before");
    }
}
