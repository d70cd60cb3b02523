//! When a batch is told of: once it cannot be lost.
//!
//! The commit of a server returns when it is on the server's disk. That of an embedded database returns when it is in the
//! write-ahead log, and the lane goes on with its next batch upon it, while a thread of its own puts the log on the disk,
//! for as many commits at once as have gathered. Each lies in the log behind those before it, so a power cut takes none
//! and leaves a later one.
//!
//! What may yet be lost leaves the process in no way: not in an answer, a cache or a head, for these are told afterwards;
//! and not in what another connection read, which waits for [`Commits::durable`]. Who reads the file in another process
//! puts the log on the disk himself before he makes anything of it ([`sync_beside`]).

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use futures::executor::block_on;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::batch::Prepared;
use crate::command::Job;
use crate::error::Error;
use crate::flight::Flight;
use crate::shared::Shared;
use crate::{AnyConn, sql};

/// How many batches wait for the disk before their lane does. Measured with 1, 2 and 4 (docs/MEASUREMENTS.md).
const AHEAD: usize = 2;

/// Proof that a batch cannot be lost. Only this module makes one, so an answer before that cannot be written.
pub(crate) struct Durable(());

/// A batch that was committed.
pub(crate) struct Settled {
    pub(crate) jobs: Vec<Box<dyn Job>>,
    pub(crate) prepared: Prepared,
}

/// Commits of an embedded database's lane, counted from its opening. Whoever else writes to it waits for the disk itself.
pub(crate) struct Commits {
    begun: AtomicU64,
    durable: watch::Sender<u64>,
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            begun: AtomicU64::new(0),
            durable: watch::channel(0).0,
        }
    }
}

impl Commits {
    /// The next is about to be seen by other connections.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// The last that anybody can have seen by now.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Waits until none of the first `seen` can be lost.
    pub(crate) async fn durable(&self, seen: u64) {
        let mut durable = self.durable.subscribe();
        // It ends with its sender, which is here.
        drop(durable.wait_for(|durable| *durable >= seen).await);
    }

    fn are_durable(&self, until: u64) {
        self.durable.send_replace(until);
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.durable.receiver_count()
    }
}

/// How a lane's commits become durable, and are told of then.
pub(crate) enum Durability {
    /// By themselves.
    Server(Teller),
    /// By the thread that puts the write-ahead log on the disk.
    Disk(Disk),
}

impl Durability {
    /// How it is done for the database of `conn`, which is the lane's; callers wait in the runtime, if there is one.
    pub(crate) fn start(shared: &Arc<Shared>, runtime: Option<Handle>, conn: &mut AnyConn) -> Result<Self, Error> {
        Self::start_with(shared, runtime, conn, File::sync_data)
    }

    fn start_with(
        shared: &Arc<Shared>,
        runtime: Option<Handle>,
        conn: &mut AnyConn,
        sync: impl Fn(&File) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Error> {
        match shared.location.file() {
            Some(file) => Disk::start(file, Teller::new(shared, runtime), conn, sync).map(Self::Disk),
            None => Ok(Self::by_server(shared, runtime)),
        }
    }

    /// As a server does it.
    pub(crate) fn by_server(shared: &Arc<Shared>, runtime: Option<Handle>) -> Self {
        Self::Server(Teller::new(shared, runtime))
    }

    /// Readies another connection of the lane.
    pub(crate) fn ready(&mut self, conn: &mut AnyConn) -> Result<(), Error> {
        if let Self::Disk(disk) = self {
            disk.log = ready(&disk.path, conn)?;
        }
        Ok(())
    }

    /// Tells of a batch of the connection that was readied last, as soon as it cannot be lost.
    pub(crate) fn tell(&self, settled: Settled) {
        match self {
            Self::Server(teller) => teller.tell(vec![settled], Durable(())),
            Self::Disk(disk) => disk.put(Some(settled)),
        }
    }

    /// A batch was given up, perhaps at its commit: nobody waits for that any longer than for those before it.
    pub(crate) fn gave_up(&self) {
        if let Self::Disk(disk) = self {
            disk.put(None);
        }
    }

    /// Waits until nothing that was told of can be lost.
    pub(crate) fn wait(&self) {
        if let Self::Disk(Disk { shared, .. }) = self {
            block_on(shared.commits.durable(shared.commits.begun()));
        }
    }

    /// How long the disk takes at the moment.
    pub(crate) fn flight(&self) -> Flight {
        match self {
            Self::Server(_) => Flight::default(),
            Self::Disk(disk) => disk.flight.clone(),
        }
    }
}

/// Has the commits of a connection not wait for the disk; they are in the log that this is, which is there from the
/// connection's first read to its end.
fn ready(log: &Path, conn: &mut AnyConn) -> Result<Arc<File>, Error> {
    sql::batch(conn, "PRAGMA synchronous=NORMAL; PRAGMA schema_version")?;
    let opened = File::open(log).map_err(|e| Error::Connect(format!("{}: {e}", log.display())))?;
    Ok(Arc::new(opened))
}

/// Who tells of batches.
pub(crate) struct Teller {
    shared: Arc<Shared>,
    runtime: Option<Handle>,
}

impl Teller {
    fn new(shared: &Arc<Shared>, runtime: Option<Handle>) -> Self {
        let shared = Arc::clone(shared);
        Self { shared, runtime }
    }

    /// First the caches, in commit order, then the callers: whoever has an answer is not contradicted by a cache.
    fn tell(&self, batches: Vec<Settled>, proof: Durable) {
        let mut told = Vec::with_capacity(batches.len());
        for Settled { jobs, prepared } in batches {
            self.shared.stats.committed(jobs.len(), prepared.events);
            self.shared.reached(&prepared.heads, &prepared.subjects);
            told.push(jobs);
        }
        let answer = move || told.into_iter().flatten().for_each(|job| job.answer(&proof));
        match &self.runtime {
            // One wake-up for all: callers that are woken from within the runtime cost it next to nothing.
            Some(runtime) => drop(runtime.spawn(async move { answer() })),
            None => answer(),
        }
    }
}

/// Where commits go that are in the write-ahead log and, perhaps, not on the disk.
pub(crate) struct Disk {
    path: PathBuf,
    log: Arc<File>,
    shared: Arc<Shared>,
    queue: SyncSender<Written>,
    flight: Flight,
}

/// A commit on its way to the disk.
struct Written {
    number: u64,
    log: Arc<File>,
    /// Nothing, if it came to nothing.
    batch: Option<Settled>,
}

impl Disk {
    /// Its thread ends with the lane.
    fn start(
        file: &Path,
        teller: Teller,
        conn: &mut AnyConn,
        sync: impl Fn(&File) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Error> {
        let path = log_of(file);
        let log = ready(&path, conn)?;
        let failed = |doing: &str, e| Error::File(format!("{}: {doing}: {e}", path.display()));
        // A process that was killed may have left what it had not put there, and told nobody of.
        sync(&log).map_err(|e| failed("cannot be put on the disk", e))?;
        let (shared, flight) = (Arc::clone(&teller.shared), Flight::default());
        let (queue, written) = sync_channel(AHEAD);
        let told = flight.clone();
        let thread = std::thread::Builder::new().name("disk".to_owned());
        let run = move || {
            let ran = catch_unwind(AssertUnwindSafe(|| run(&teller, &written, &told, sync)));
            // What is committed would never be told of, and readers would wait for it.
            ran.unwrap_or_else(|_| end(&"the thread that tells of commits panicked"));
        };
        thread.spawn(run).map_err(|e| failed("cannot start its thread", e))?;
        Ok(Self {
            path,
            log,
            shared,
            queue,
            flight,
        })
    }

    fn put(&self, batch: Option<Settled>) {
        let written = Written {
            number: self.shared.commits.begun(),
            log: Arc::clone(&self.log),
            batch,
        };
        // Its thread ends after this, or has ended the process.
        drop(self.queue.send(written));
    }
}

/// Puts on the disk what was committed, and tells of it, until the lane is gone.
fn run(teller: &Teller, queue: &Receiver<Written>, flight: &Flight, sync: impl Fn(&File) -> io::Result<()>) {
    while let Ok(first) = queue.recv() {
        flight.begin();
        let (mut logs, mut batches, mut until) = (Vec::<Arc<File>>::new(), Vec::new(), 0);
        for written in std::iter::once(first).chain(queue.try_iter()) {
            until = written.number;
            // Another log only after the lane had to connect anew.
            if written.batch.is_some() && logs.last().is_none_or(|last| !Arc::ptr_eq(last, &written.log)) {
                logs.push(written.log);
            }
            batches.extend(written.batch);
        }
        for log in logs {
            sync(&log).unwrap_or_else(|error| end(&error));
        }
        flight.end("the disk took long for a batch");
        if !batches.is_empty() {
            teller.tell(batches, Durable(()));
        }
        teller.shared.commits.are_durable(until);
    }
}

/// What is on the disk is not known, and what is in memory may not be on it, later commits included. A new process begins
/// with what the file has, and puts that on the disk first.
pub(crate) fn end(error: &dyn Display) -> ! {
    tracing::error!(%error, "a commit failed on the disk; ending the process so that a restart recovers");
    std::process::abort()
}

/// The write-ahead log of a database.
fn log_of(file: &Path) -> PathBuf {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Puts on the disk whatever can have been read in this file until now, beside a process that serves it and may not have
/// done so yet.
pub(crate) fn sync_beside(file: &Path) -> Result<(), Error> {
    let log = log_of(file);
    match File::open(&log).and_then(|log| log.sync_data()) {
        // Its server ended: then all of it is in the file, and that on the disk.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(|e| Error::File(format!("{}: cannot be put on the disk: {e}", log.display()))),
    }
}

#[cfg(test)]
mod tests;
