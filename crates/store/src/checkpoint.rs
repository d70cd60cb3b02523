//! SQLite's write-ahead log goes into the file behind the commits, not inside of one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::sql_types::Integer;
use diesel::{RunQueryDsl, SqliteConnection};
use sammati_kernel::Micros;

use crate::conn::BUSY_TIMEOUT;
use crate::error::Error;
use crate::shared::Shared;
use crate::{AnyConn, on_conn};

/// Between looks at whether something was committed.
const EVERY: Duration = Duration::from_millis(250);

#[derive(diesel::QueryableByName)]
struct Moved {
    /// Pages in the log, and those of them that are in the file by now.
    #[diesel(sql_type = Integer)]
    log: i32,
    #[diesel(sql_type = Integer)]
    checkpointed: i32,
}

/// Starts the thread for an embedded database. It ends with the store.
pub(crate) fn start(shared: &Arc<Shared>) -> Result<(), Error> {
    let shared = Arc::downgrade(shared);
    let thread = std::thread::Builder::new().name("checkpoint".to_owned());
    let started = thread.spawn(move || run(&shared));
    started
        .map(drop)
        .map_err(|e| Error::File(format!("cannot start a thread: {e}")))
}

fn run(shared: &Weak<Shared>) {
    let (mut conn, mut seen) = (None, 0);
    loop {
        std::thread::sleep(EVERY);
        let Some(shared) = shared.upgrade() else { return };
        let commits = shared.stats.batches.get();
        if commits == seen {
            continue;
        }
        match checkpoint(&shared, &mut conn) {
            // What is left goes the next time, also if nothing is committed by then.
            Ok(moved) if moved.checkpointed < moved.log => {}
            Ok(_) => seen = commits,
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log could not be moved into the file; trying again");
                conn = None;
            }
        }
    }
}

/// Moves all of the log into the file and empties it, so that nothing stays in it that was overwritten since. Whoever reads
/// or writes meanwhile is waited for, a while.
pub(crate) fn empty(conn: &mut AnyConn) -> Result<(), Error> {
    let AnyConn::Sqlite(conn) = conn else { return Ok(()) };
    conn.batch_execute("PRAGMA busy_timeout=50")?;
    let emptied = try_to_empty(conn);
    conn.batch_execute(BUSY_TIMEOUT)?;
    emptied
}

/// While one try waits for readers nobody commits: so each waits but a moment.
fn try_to_empty(conn: &mut SqliteConnection) -> Result<(), Error> {
    for _ in 0..TRIES {
        let emptied: Emptied = diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result(conn)?;
        if emptied.busy == 0 {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(Error::File(
        "the write-ahead log could not be emptied: it is read all the time".to_owned(),
    ))
}

/// Whether the log is to be emptied, and when it may be again by whoever looks again and again.
#[derive(Debug, Default)]
pub(crate) struct Emptying {
    /// How often something was overwritten that is to be nowhere, and how many of these it was emptied after. Counts, so that
    /// a try that fails, or that nobody waits for any more, takes nothing back.
    asked: AtomicU64,
    done: AtomicU64,
    from: AtomicI64,
}

impl Emptying {
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    /// How often it was asked for by now.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// It was emptied, which began when it had been asked for so often.
    pub(crate) fn done(&self, asked: u64) {
        self.done.fetch_max(asked, Ordering::SeqCst);
    }

    pub(crate) fn is_asked_for(&self) -> bool {
        self.done.load(Ordering::SeqCst) < self.asked()
    }

    pub(crate) fn may_begin(&self, now: Micros) -> bool {
        let from = Micros(self.from.load(Ordering::SeqCst));
        // A clock that went back is not waited for.
        now >= from || from.since(now) > AGAIN
    }

    /// What began at `began` has come to its end, well or not.
    pub(crate) fn ended(&self, began: Micros, well: bool) {
        let from = if well { Micros::ZERO } else { began.plus(AGAIN) };
        self.from.store(from.0, Ordering::SeqCst);
    }
}

/// From a try in vain to the next.
const AGAIN: Duration = Duration::from_secs(30);

/// How often the log is tried to be emptied, and the wait between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

#[derive(diesel::QueryableByName)]
struct Emptied {
    /// 1 when somebody was in its way.
    #[diesel(sql_type = Integer)]
    busy: i32,
}

/// Moves what can be moved without making anybody wait.
fn checkpoint(shared: &Shared, conn: &mut Option<AnyConn>) -> Result<Moved, Error> {
    let conn = match conn {
        Some(conn) => conn,
        None => conn.insert(shared.location.connect()?),
    };
    let text = "PRAGMA wal_checkpoint(PASSIVE)";
    Ok(on_conn!(conn, |c| diesel::sql_query(text).get_result(c))?)
}
