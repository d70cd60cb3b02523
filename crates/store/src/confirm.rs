//! Confirmations: one statement on the primary that tells what other replicas committed.
//!
//! A check waits for a confirmation that began after it arrived. One runs, one is queued, and all who wait share it.
//!
//! A confirmation costs the same however many share it, here and on the primary, and more than a check does. So
//! while several share one there is a [`rest`] before the next: then more come to share that. Who checks alone never waits for it.

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

/// How often heads are asked for while somebody watches them, or asks whether the database serves, though nobody checks.
const POLL: Duration = Duration::from_millis(200);

/// The longest rest between two confirmations.
const LONGEST_REST: Duration = Duration::from_millis(1);

/// The rest after a confirmation is so many times as long as it took.
const RESTS: u32 = 2;

/// The most who wait for one confirmation.
const MOST: usize = 16 * 1024;

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
            look_at_clock(shared);
            let watched = Arc::downgrade(shared);
            spawn("clock", move || watch_clock(&watched))?;
            return Ok(Self {
                waiters: None,
                at,
                shared: Arc::clone(shared),
            });
        }
        let (sender, queue) = mpsc::channel(MOST);
        let worker = Worker::new(Arc::clone(shared), wanted, runtime, Arc::clone(&at));
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
        let Some(waiters) = &self.waiters else {
            return self.shared.expect_past([]).map_err(|error| error.refusal());
        };
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

/// Watchers of other replicas' commits, and who asks whether the database serves, need no check to come by.
fn poll(sender: &mpsc::WeakSender<Waiter>, shared: &Weak<Shared>) {
    loop {
        std::thread::sleep(POLL);
        let (Some(sender), Some(shared)) = (sender.upgrade(), shared.upgrade()) else {
            return;
        };
        if shared.is_watched() {
            let (waiter, _) = oneshot::channel();
            drop(sender.try_send(waiter));
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

/// How long none is begun after one that `told` so many and `took` so long: at most a third of the time is spent on
/// confirmations while several share them, and none is held up while one alone asks.
fn rest(told: usize, took: Duration) -> Duration {
    if told > 1 {
        (took * RESTS).min(LONGEST_REST)
    } else {
        Duration::ZERO
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
    pause: Box<dyn Fn(Duration) + Send>,
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
            pause: Box::new(std::thread::sleep),
        }
    }

    fn run(mut self, mut queue: mpsc::Receiver<Waiter>) {
        let mut waiting = Vec::new();
        while queue.blocking_recv_many(&mut waiting, MOST) > 0 {
            let began = Instant::now();
            let answer = self.confirm();
            let rest = rest(waiting.len(), began.elapsed());
            self.shared.stats.confirmed.inc_by(waiting.len() as u64);
            let waiting = std::mem::take(&mut waiting);
            let tell = move || waiting.into_iter().for_each(|w: Waiter| drop(w.send(answer.clone())));
            match &self.runtime {
                // One wake-up for all: those that are woken from within the runtime cost it next to nothing.
                Some(runtime) => drop(runtime.spawn(async move { tell() })),
                None => tell(),
            }
            // Whoever comes meanwhile wakes nobody.
            if !rest.is_zero() {
                (self.pause)(rest);
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
mod tests {
    use std::sync::mpsc as channel;

    use diesel_migrations::EmbeddedMigrations;
    use sammati_kernel::{Key, ManualClock};
    use sammati_testkit::Database;

    use super::*;
    use crate::dial::Dial;
    use crate::{Location, Partitions, setup};

    fn worker(url: &str) -> Worker {
        let shared = Shared::new(
            Dial::new(Location::parse(url).unwrap()),
            Arc::new(ManualClock::at(Micros::from_seconds(1))),
            Partitions::new(4).unwrap(),
            Key::from_bytes([1; 32]),
            None,
        );
        let wanted = Wanted {
            asynchronous: false,
            confirm_by_write: false,
        };
        Worker::new(Arc::new(shared), wanted, None, Arc::default())
    }

    #[test]
    fn a_connection_that_is_not_at_fault_is_kept() {
        let mut worker = worker("sqlite::memory:");
        let error = worker.ask().unwrap_err();
        assert!(!error.lost_connection(), "{error}");
        assert!(worker.conn.is_some(), "it has no heads, and is as good as before");
    }

    type Answer = oneshot::Receiver<Result<(), Refusal>>;

    fn ask(queue: &mpsc::Sender<Waiter>, count: usize) -> Vec<Answer> {
        let ask = |_| {
            let (sender, answer) = oneshot::channel();
            queue.try_send(sender).unwrap();
            answer
        };
        (0..count).map(ask).collect()
    }

    fn told(answers: Vec<Answer>) {
        for answer in answers {
            answer.blocking_recv().unwrap().unwrap();
        }
    }

    #[test]
    fn who_comes_while_it_rests_shares_the_next_and_who_asks_alone_is_told_at_once() {
        let Some(database) = Database::postgres() else { return };
        let location = Location::parse(&database.url).unwrap();
        setup::prepare(&location, Some(4), EmbeddedMigrations::new(&[])).unwrap();
        let mut worker = worker(&database.url);
        let stats = worker.shared.stats.clone();
        let ((rests, rested), (wake, woken)) = (channel::channel(), channel::channel::<()>());
        worker.pause = Box::new(move |rest| {
            rests.send(rest).unwrap();
            woken.recv().ok();
        });
        let (queue, waiting) = mpsc::channel(MOST);
        // It begins with three at once.
        let three = ask(&queue, 3);
        let thread = std::thread::spawn(move || worker.run(waiting));
        told(three);
        let rest = rested.recv().unwrap();
        assert!(Duration::ZERO < rest && rest <= LONGEST_REST, "{rest:?}");
        let mut hundred = ask(&queue, 100);
        assert!(hundred.iter_mut().all(|answer| answer.try_recv().is_err()), "it rests");
        assert_eq!((stats.confirmations.get(), stats.confirmed.get()), (1, 3));
        wake.send(()).unwrap();
        told(hundred);
        assert_eq!((stats.confirmations.get(), stats.confirmed.get()), (2, 103));
        rested.recv().unwrap();
        wake.send(()).unwrap();
        for n in 1..=5 {
            told(ask(&queue, 1));
            assert_eq!((stats.confirmations.get(), stats.confirmed.get()), (2 + n, 103 + n));
        }
        drop(queue);
        thread.join().unwrap();
        assert!(rested.try_recv().is_err(), "it has not rested since");
    }

    /// How many confirmations and checks there are in a second, in microseconds: each of `callers` asks again `away` after it
    /// was told and had its turn of `busy` on processors that all of them share.
    fn in_a_second(callers: usize, [away, busy, took]: [u64; 3], rest: fn(usize, Duration) -> Duration) -> [usize; 2] {
        let (mut now, mut free, mut asks) = (0, 0, vec![0; callers]);
        let (mut confirmations, mut checks) = (0, 0);
        while now < 1_000_000 {
            now = now.max(asks.iter().copied().min().unwrap());
            let told: Vec<_> = asks.iter_mut().filter(|asks| **asks <= now).collect();
            let count = told.len();
            (confirmations, checks) = (confirmations + 1, checks + count);
            now += took;
            for asks in told {
                free = free.max(now) + busy;
                *asks = free + away;
            }
            now += u64::try_from(rest(count, Duration::from_micros(took)).as_micros()).unwrap();
        }
        [confirmations, checks]
    }

    #[test]
    fn many_who_ask_again_and_again_share_few_confirmations_and_few_who_do_have_each_as_before() {
        let restless = |_, _| Duration::ZERO;
        // They keep the processors busy.
        let busy = [0, 140, 200];
        let (before, now) = (in_a_second(32, busy, restless), in_a_second(32, busy, rest));
        assert!(now[0] * 5 < before[0] * 2, "{now:?} instead of {before:?}");
        assert!(now[1] * 100 > before[1] * 99, "{now:?} instead of {before:?}");
        // They are far from keeping them busy.
        let idle = [250, 0, 100];
        for callers in [1, 2, 8] {
            assert_eq!(in_a_second(callers, idle, rest), in_a_second(callers, idle, restless));
        }
        assert_eq!(
            rest(100, Duration::from_secs(5)),
            LONGEST_REST,
            "a server that hangs is not waited for twice"
        );
    }
}
