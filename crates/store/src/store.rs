//! The store: opens a database, runs commands on its lanes, reads, confirms and watches.

use std::path::Path;
use std::sync::Arc;

use diesel_migrations::EmbeddedMigrations;
use prometheus_client::registry::Registry;
use sammati_kernel::{Clock, Id, IdKind, Key, Micros, Reason, Refusal, Seed, Slot};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::checkpoint;
use crate::command::{Command, Outcome, Pending};
use crate::confirm::Confirmer;
use crate::dial::Dial;
use crate::entrance::{Entrance, Waiting, start_lane};
use crate::error::Error;
use crate::lane::not_taken;
use crate::postgres::Purpose;
use crate::prune::{self, Pruned, Pruning};
use crate::readers::{Reader, Readers};
use crate::request::RequestKey;
use crate::room::{self, Budget, Room};
use crate::setup::{self, FileLock, PREDECESSOR};
use crate::shared::{Head, Reached, Shared};
use crate::standby::Wanted;
use crate::{AnyConn, Location, Partitions, Revision, SubjectCache, verbs};

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the data is.
    pub location: Location,
    /// Lanes on Postgres, each with a connection of its own; SQLite has one. Default 2: while one waits for its commit the
    /// other decides. More make smaller batches of the same load, and each batch waits for a disk: measured on two cores with
    /// 1, 2, 4 and 8 lanes (docs/MEASUREMENTS.md), 2 is the fastest.
    pub lanes: usize,
    /// Partitions of a new database; an old one keeps what it has. `None`: 4 on SQLite, 64 on Postgres.
    pub partitions: Option<u16>,
    /// The most commands in one batch. Default 256; 1 is one transaction for each command, which is on the disk before the next
    /// begins: what batches are measured against.
    pub max_batch: usize,
    /// The most commands that wait in one lane. Default 4,096.
    pub queue: usize,
    /// The most bytes of commands that wait in one lane. Default 64 MiB.
    pub queue_bytes: usize,
    /// Connections for reads, made when they are first needed and kept. `None`: 2 on SQLite, 8 on Postgres: reads that no
    /// cache answers are short, and what waits for a connection here would wait for a core there.
    pub readers: Option<usize>,
    /// How much room it may take. Default: no bound.
    pub budget: Budget,
    /// Whether a confirmation commits something: where a deposed primary cannot be fenced. It needs a synchronous standby.
    pub confirm_by_write: bool,
    /// Whether standbys that commits do not wait for leave the store ready.
    pub allow_asynchronous_standby: bool,
    /// Whether times only put in order what is written, as in a log: then a clock that went back stops nothing. Elsewhere,
    /// while the newest commit is ahead of the clock, nothing is decided: it would be as of that time, in which what is good
    /// is over.
    pub time_only_orders: bool,
    /// The key that seals revisions and hashes request bodies.
    pub key: Key,
}

impl Options {
    /// The defaults, for `location`.
    pub const fn new(location: Location, key: Key) -> Self {
        Self {
            location,
            lanes: 2,
            partitions: None,
            max_batch: 256,
            queue: 4096,
            queue_bytes: 64 << 20,
            readers: None,
            budget: Budget {
                bytes: None,
                free: None,
            },
            confirm_by_write: false,
            allow_asynchronous_standby: false,
            time_only_orders: false,
            key,
        }
    }
}

/// A database of one service. Clones share it; the last one to go ends its lanes.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    lanes: Arc<Vec<Entrance>>,
    pub(crate) readers: Arc<Readers>,
    confirmer: Confirmer,
}

impl Store {
    /// Opens the database, bringing its schema to where `migrations` end, and starts the lanes.
    ///
    /// # Errors
    /// When the database is away, is held by another process (SQLite), or has a schema that this binary cannot serve.
    pub fn open(options: &Options, clock: Arc<dyn Clock>, migrations: EmbeddedMigrations) -> Result<Self, Error> {
        Self::open_aside(options, clock, migrations, false)
    }

    /// The same for a database that is being recovered, which nobody may serve yet.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_unfinished(
        options: &Options,
        clock: Arc<dyn Clock>,
        migrations: EmbeddedMigrations,
    ) -> Result<Self, Error> {
        Self::open_aside(options, clock, migrations, true)
    }

    /// A Postgres connection drives a runtime of its own, which must not happen on a runtime's thread.
    fn open_aside(
        options: &Options,
        clock: Arc<dyn Clock>,
        migrations: EmbeddedMigrations,
        unfinished: bool,
    ) -> Result<Self, Error> {
        let runtime = Handle::try_current().ok();
        let open = || Self::open_here(options, clock, migrations, runtime, unfinished);
        std::thread::scope(|scope| scope.spawn(open).join())
            .unwrap_or_else(|_| Err(Error::Broken("opening the database panicked".into())))
    }

    fn open_here(
        options: &Options,
        clock: Arc<dyn Clock>,
        migrations: EmbeddedMigrations,
        runtime: Option<Handle>,
        unfinished: bool,
    ) -> Result<Self, Error> {
        let lock = match &options.location {
            Location::Sqlite(path) => Some(FileLock::take(path, PREDECESSOR)?),
            Location::Postgres { .. } => None,
        };
        options.location.expect_sessions(Purpose::Work)?;
        let prepared = setup::prepare(&options.location, options.partitions, migrations)?;
        let partitions = prepared.partitions;
        let key = options.key.derive("store");
        let mut shared = Shared::new(Dial::new(options.location.clone()), clock, partitions, key, lock);
        shared.room = Room::new(options.budget);
        shared.recovers = unfinished;
        shared.time_only_orders = options.time_only_orders;
        shared.requests_are_from(prepared.requests_from);
        let shared = Arc::new(shared);
        let mut conn = options.location.connect()?;
        verbs::finished(&mut conn, &shared)?;
        let heads = crate::heads::read_heads(&mut conn, &partitions.all().collect::<Vec<_>>())?;
        let heads: Vec<_> = heads
            .into_iter()
            .map(|head| Reached { from: head.next, head })
            .collect();
        shared.reached(&heads, &[]);
        let count = if options.location.is_embedded() {
            1
        } else {
            options.lanes.max(1)
        };
        let lanes = (0..count)
            .map(|n| start_lane(&shared, runtime.clone(), options, n))
            .collect::<Result<Vec<_>, _>>()?;
        if options.location.is_embedded() {
            checkpoint::start(&shared)?;
        }
        let readers = options
            .readers
            .unwrap_or(if options.location.is_embedded() { 2 } else { 8 });
        let wanted = Wanted {
            asynchronous: options.allow_asynchronous_standby,
            confirm_by_write: options.confirm_by_write,
        };
        Ok(Self {
            lanes: Arc::new(lanes),
            readers: Arc::new(Readers::new(Arc::clone(&shared), readers)),
            confirmer: Confirmer::start(&shared, wanted, runtime)?,
            shared,
        })
    }

    /// Runs a command and answers after its commit. With `request`, a repeat is answered from what was done.
    ///
    /// # Errors
    /// The command's refusal; OVERLOADED when the lane's queue is full, or the database's room is used up and the command
    /// is not essential; STORAGE_UNAVAILABLE or COMMIT_UNKNOWN when the
    /// database is away.
    pub async fn run<C: Command>(
        &self,
        command: C,
        request: Option<RequestKey>,
    ) -> Result<Outcome<C::Answer>, Refusal> {
        self.shared.room.admit(command.is_essential())?;
        let seed = Seed::draw().map_err(|_| Refusal::new(Reason::Internal))?;
        let (reply, answer) = oneshot::channel();
        let partition = self.shared.partitions.of(command.slot());
        let lane = &self.lanes[usize::try_from(partition).unwrap_or(0) % self.lanes.len()];
        let free = lane.sender.capacity();
        let shed = |refusal| {
            self.shared.stats.shed.inc();
            refusal
        };
        let ticket = lane.gate.admit(command.slot(), command.bytes(), free).map_err(shed)?;
        let job = Pending {
            command,
            request,
            seed,
            settled: None,
            reply,
            _ticket: ticket,
        };
        lane.sender
            .try_send(Box::new(job))
            .map_err(|error| shed(not_taken(error)))?;
        answer.await.unwrap_or_else(|_| Err(Reason::StorageUnavailable.into()))
    }

    /// Runs a command that nobody sent a request id for and that must not be done twice, whatever becomes of a commit's
    /// answer.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn once<C: Command>(&self, command: C) -> Result<C::Answer, Refusal> {
        let seed = Seed::draw().map_err(|_| Refusal::new(Reason::Internal))?;
        let id: Id<Once> = seed.id("once", self.shared.clock.now(), command.slot());
        let key = self.own_request(C::NAME, &id.to_string())?;
        match self.run(command, Some(key)).await? {
            Outcome::Fresh(answer) => Ok(answer),
            // It was done, and only its answer is lost.
            Outcome::Known(_) => Err(Reason::CommitUnknown.into()),
        }
    }

    /// What was done under a request id, if anything: for handlers that would ask others before they repeat it.
    ///
    /// # Errors
    /// The refusal that was recorded; REQUEST_ID_REUSED for another body; STORAGE_UNAVAILABLE.
    pub async fn known(&self, request: &RequestKey) -> Result<Option<Vec<u8>>, Refusal> {
        let key = request.clone();
        let row = self.read(move |r| r.request(&key)).await?;
        row.map(|row| row.replay(request, self.shared.clock.now())).transpose()
    }

    /// The key of something that this service does by itself, once: `id` is a UUIDv7 made for it, as an event's.
    ///
    /// # Errors
    /// FIELD_INVALID or REQUEST_ID_EXPIRED for an id that is none, or is older than the window.
    pub fn own_request(&self, name: &str, id: &str) -> Result<RequestKey, Refusal> {
        RequestKey::own(&self.shared.key, name, id, self.shared.clock.now())
    }

    /// Runs a command that is harmless when it is done again: after a commit whose answer was lost it is.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn apply<C: Command>(&self, command: C) -> Result<C::Answer, Refusal> {
        match self.run(command, None).await? {
            Outcome::Fresh(answer) => Ok(answer),
            Outcome::Known(_) => Err(Reason::Internal.into()),
        }
    }

    /// The key of a request id: `caller` and `method` scope it, `message` is the request.
    ///
    /// # Errors
    /// FIELD_INVALID or REQUEST_ID_EXPIRED.
    pub fn request(
        &self,
        caller: &str,
        method: &str,
        id: &str,
        message: &impl prost::Message,
    ) -> Result<RequestKey, Refusal> {
        RequestKey::new(
            &self.shared.key,
            caller,
            method,
            id,
            &message.encode_to_vec(),
            self.shared.clock.now(),
        )
    }

    /// Reads on a connection of its own; every statement sees what was committed when it began.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnMut(&mut Reader<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.readers.read(false, read).await
    }

    /// Reads in one snapshot.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn snapshot<T: Send + 'static>(
        &self,
        read: impl FnMut(&mut Reader<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.readers.read(true, read).await
    }

    /// Waits for a confirmation begun after this call: afterwards every cache of this store knows whatever was committed
    /// on any replica before the call. On SQLite this process is the head and nothing is asked.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE, also while the newest commit is ahead of the clock.
    pub async fn confirm(&self) -> Result<(), Refusal> {
        self.confirmer.confirm().await
    }

    /// Notes that `consumer` has durably got every event of these partitions before these positions: each partition with
    /// the epoch that is spoken of, and the position.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn advance_cursor(&self, consumer: &'static str, reached: Vec<(i64, i64, i64)>) -> Result<(), Refusal> {
        let told = self
            .readers
            .with(move |conn| prune::advance_cursor(conn, consumer, &reached));
        told.await
    }

    /// Removes events that all consumers have got and that are older than [`crate::KEPT`], request ids that are out of their
    /// window, and rows that are of no use any more. Without consumers all events of that age go.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn prune(&self, rule: Pruning) -> Result<Pruned, Refusal> {
        let mut all = Pruned::default();
        for partition in self.partitions().all() {
            loop {
                let now = self.shared.clock.now();
                let prune = move |conn: &mut AnyConn| prune::prune(conn, partition, rule, now);
                let pruned = self.readers.with(prune).await?;
                all.events += pruned.events;
                all.requests += pruned.requests;
                all.rows += pruned.rows;
                if !prune::is_full(pruned) {
                    break;
                }
            }
        }
        let stats = &self.shared.stats;
        stats.pruned.inc_by(u64::try_from(all.events).unwrap_or(0));
        stats.pruned_rows.inc_by(u64::try_from(all.rows).unwrap_or(0));
        Ok(all)
    }

    /// Measures the room that the database takes, and its feed: from then on commands are refused or taken on by that.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE; then it is as it was.
    pub async fn check_room(&self) -> Result<(), Refusal> {
        let path = self.path().map(Path::to_owned);
        let measure = move |conn: &mut AnyConn| Ok((room::measure(conn, path.as_deref())?, prune::kept(conn)?));
        let (usage, events) = self.readers.with(measure).await?;
        self.shared.room.measured(usage);
        self.shared.stats.feed.set(events);
        Ok(())
    }

    /// Whether the database serves at the moment, or why it does not. Somebody who holds this is told, also while nobody
    /// reads or writes. On SQLite it is the process's own, and serves unless the newest commit is ahead of the clock.
    pub fn readiness(&self) -> watch::Receiver<Result<(), String>> {
        self.shared.readiness.subscribe()
    }

    /// When the heads were last confirmed.
    pub fn confirmed_at(&self) -> Micros {
        self.confirmer.confirmed_at()
    }

    /// Whether the caches know of everything that a revision names.
    pub fn has_applied(&self, revision: &Revision) -> bool {
        self.shared.has_applied(revision)
    }

    /// A cache of what belongs to one subject, kept true by this store's commits and confirmations.
    /// `bytes` bounds what it holds.
    pub fn cache<V: Clone + Send + Sync + 'static>(&self, bytes: u64) -> Arc<SubjectCache<V>> {
        let cache = Arc::new(SubjectCache::new(bytes));
        self.shared.add_cache(Arc::clone(&cache) as _);
        cache
    }

    /// What this process knows of the database beside it: one of each type, whoever asks, for as long as the database is open.
    pub fn beside<T: std::any::Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        self.shared.beside(make)
    }

    /// Where the feed of a slot's partition stands, as far as this process knows.
    pub fn head(&self, slot: Slot) -> Option<Head> {
        self.shared.head(self.shared.partitions.of(slot))
    }

    /// Where every partition's feed stands, as far as this process knows.
    pub fn heads(&self) -> Vec<(i64, Head)> {
        self.shared
            .partitions
            .all()
            .filter_map(|p| self.shared.head(p).map(|head| (p, head)))
            .collect()
    }

    /// The revision of a slot's partition, as far as this process knows.
    pub fn revision(&self, slot: Slot) -> Option<Revision> {
        let partition = self.shared.partitions.of(slot);
        self.shared.head(partition).map(|head| Revision::of(partition, &head))
    }

    /// The same as text, sealed with this store's [`Self::key`] once for each place of the feed: reads tell it for almost
    /// nothing.
    pub fn sealed_revision(&self, slot: Slot) -> Option<String> {
        self.shared.sealed_revision(self.shared.partitions.of(slot))
    }

    /// Wakes at every commit, of this process at once, of other replicas within 200 ms.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes()
    }

    /// How the database is divided.
    pub fn partitions(&self) -> Partitions {
        self.shared.partitions
    }

    /// The store's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The key that seals revisions and resume tokens.
    pub fn key(&self) -> &Key {
        &self.shared.key
    }

    /// Adds this store's counters.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.stats.register(registry);
        self.shared.room.register(registry);
        registry.register_collector(Box::new(Waiting::new(&self.lanes)));
    }

    /// The file of an embedded database.
    pub fn path(&self) -> Option<&Path> {
        self.shared.location.file()
    }
}

/// Marks the ids of what is done once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Once;

impl IdKind for Once {
    const COLLECTION: &'static str = "requests";
}
