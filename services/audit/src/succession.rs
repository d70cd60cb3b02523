//! How a log ends and another goes on. A sealed log takes no more events of services, only what it records of itself: that it
//! is read, foremost. The log that follows a sealed one, or a frozen one, begins in every feed where that one ended.

use prost::Message;
use ring::digest::{SHA256, digest};
use sammati_api::audit::v1 as audit;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Fact, Reason, Refusal, Slot};
use sammati_server::event::{Draft, system};
use sammati_store::{Command, Error, Keys, Location, Record, Store, Table, View, verbs};

use crate::half_year;
use crate::head::Begin;
use crate::log::{Log, OpenError, SERVICE};
use crate::rows::{CheckpointRow, LogRow, MIGRATIONS, PARTITION, SLOT, SourceRow};
use crate::tree::{Tree, frozen};

/// One end of a log. Apart from its head: code that knows nothing of it rewrites that one.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SuccessionRow {
    /// Which end: its key.
    #[prost(string, tag = "1")]
    pub end: String,
    /// Sealed: the log that takes the events, `logs/{id}`. Follows, waits: the origin of the log before.
    #[prost(string, tag = "2")]
    pub other: String,
    /// Sealed: how many leaves there were. Follows: how many of the log before were signed.
    #[prost(uint64, tag = "3")]
    pub size: u64,
    /// Waits: when it last did, microseconds.
    #[prost(int64, tag = "4")]
    pub at: i64,
}

impl SuccessionRow {
    /// The key of the row that says that the log is sealed.
    pub(crate) const SEALED: &'static [u8] = b"sealed";
    /// The key of the row that says which log it follows.
    pub(crate) const FOLLOWS: &'static [u8] = b"follows";
    /// The key of the row that says for which log's end it waits, or did before it began.
    pub(crate) const WAITS: &'static [u8] = b"waits";

    /// That a log waits for the one with this origin.
    pub(crate) fn waits(origin: &str, at: i64) -> Self {
        Self {
            at,
            ..Self::of(Self::WAITS, origin, 0)
        }
    }

    fn of(end: &[u8], other: &str, size: u64) -> Self {
        Self {
            end: String::from_utf8_lossy(end).into_owned(),
            other: other.to_owned(),
            size,
            at: 0,
        }
    }
}

impl Record for SuccessionRow {
    const TABLE: Table = Table {
        name: "succession",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.end.clone().into_bytes()
    }
}

/// Both ends of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    /// That it is sealed.
    pub(crate) sealed: Option<SuccessionRow>,
    /// Which one it follows.
    pub(crate) follows: Option<SuccessionRow>,
}

/// What an append of a service's events to a sealed log is told.
pub(crate) fn sealed(row: &SuccessionRow) -> Refusal {
    Refusal::new(Reason::LogSealed).saying(format!(
        "this log is sealed at {} leaves and takes no more events; they go to {}",
        row.size, row.other
    ))
}

/// Seals the log; answers whether it was not sealed before.
#[derive(Clone)]
struct Seal {
    successor: String,
    /// Not before the half-year is over, by the time of the commit.
    by_clock: bool,
}

impl Command for Seal {
    type Answer = bool;
    const NAME: &'static str = "audit.seal";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
        keys.row::<SuccessionRow>(SuccessionRow::SEALED);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let log = view.get::<LogRow>(LogRow::KEY).ok_or(Reason::Internal)?;
        if !log.frozen.is_empty() {
            return Err(frozen());
        }
        match view.get::<SuccessionRow>(SuccessionRow::SEALED) {
            Some(row) if self.by_clock || row.other == self.successor => Ok(false),
            Some(row) => Err(Refusal::new(Reason::StateConflict)
                .saying(format!("the log is sealed already, and {} follows it", row.other))
                .with(Fact::State, "SEALED")),
            None if self.by_clock && half_year::end(&log.id).is_none_or(|end| view.now() < end) => Ok(false),
            None => {
                let size = Tree::of(&log).map_err(|_| Reason::Internal)?.size();
                view.put(&SuccessionRow::of(SuccessionRow::SEALED, &self.successor, size));
                Ok(true)
            }
        }
    }
}

impl Log {
    /// Seals it: `successor` takes the events from now on.
    ///
    /// # Errors
    /// `STATE_CONFLICT` when another one does, `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn seal(&self, caller: &Caller, successor: &str) -> Result<(), Refusal> {
        self.seal_for(caller, successor, false).await
    }

    /// Seals it if its half-year is over and nobody has: the log of the present one takes the events.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn seal_when_over(&self) -> Result<(), Refusal> {
        let now = half_year::of(self.store.clock().now());
        let successor = format!("logs/{now}");
        if successor == self.name() {
            return Ok(());
        }
        self.seal_for(&system(SERVICE), &successor, true).await
    }

    async fn seal_for(&self, caller: &Caller, successor: &str, by_clock: bool) -> Result<(), Refusal> {
        let draft = Draft::new(
            "audit.sealed",
            audit::event::Action::Update,
            RetentionClass::Admin,
            caller,
        );
        let told = draft.resource(&self.name(), 0).object(successor);
        let successor = successor.to_owned();
        self.tell(Seal { successor, by_clock }, told).await
    }

    /// How it ended and what it follows.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn ends(&self) -> Result<Ends, Refusal> {
        let read = self.store.read(|r| {
            let sealed = r.get::<SuccessionRow>(SLOT, SuccessionRow::SEALED)?;
            let follows = r.get::<SuccessionRow>(SLOT, SuccessionRow::FOLLOWS)?;
            Ok::<_, Error>(Ends {
                sealed: sealed.map(|row| row.record),
                follows: follows.map(|row| row.record),
            })
        });
        read.await
    }

    /// Begins it after the log that has `ended`, unless it has begun.
    ///
    /// # Errors
    /// When this one has that one's origin, or has begun without it.
    pub(crate) async fn begin_after(&self, begin: Begin, ended: Option<Ended>) -> Result<(), OpenError> {
        if let Some(ended) = ended {
            if ended.origin == begin.origin {
                return Err(other(format!(
                    "that log is {} too, and no log begins another history under the name of one before: change \
                     service.origin",
                    ended.origin
                )));
            }
            self.go_on(begin, ended).await.map_err(OpenError::Head)?;
        }
        match self.ends().await.map_err(OpenError::Head)?.follows {
            Some(_) => Ok(()),
            None => Err(other(
                "this log has begun without it, at the first event of each feed; only an empty database goes on where \
                 another log ended"
                    .to_owned(),
            )),
        }
    }

    /// Begins it where `before` ended, in one commit with the record of that; unless it has begun.
    async fn go_on(&self, begin: Begin, before: Ended) -> Result<(), Refusal> {
        let class = RetentionClass::Admin;
        let mut told = Draft::new("audit.begun", audit::event::Action::Create, class, &system(SERVICE));
        told = told.resource(&self.name(), 0);
        if let Some(checkpoint) = &before.checkpoint {
            told = told.object(format!("logs/{}/checkpoints/{}", before.id, checkpoint.size));
            told.payload().artefact_sha256 = digest(&SHA256, checkpoint.note.as_bytes()).as_ref().to_vec();
        }
        self.tell(GoOn { begin, before }, told).await
    }
}

fn other(why: String) -> OpenError {
    OpenError::Other(format!("service.follows: {why}"))
}

/// What the log before left: what it signed last, and how far it had come in every feed.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    id: String,
    origin: String,
    /// The log that takes its events, as its seal says; empty if it was frozen.
    successor: String,
    checkpoint: Option<CheckpointRow>,
    sources: Vec<SourceRow>,
}

impl Ended {
    /// Reads it from the database `before`, for a log that has not begun yet.
    ///
    /// # Errors
    /// When it cannot be read, or may still take events.
    pub(crate) async fn before(store: &Store, before: Option<Location>) -> Result<Option<Self>, OpenError> {
        let Some(before) = before else { return Ok(None) };
        let head = store.read(|r| r.get::<LogRow>(SLOT, LogRow::KEY)).await;
        if head.map_err(OpenError::Head)?.is_some() {
            return Ok(None);
        }
        let ended = tokio::task::spawn_blocking(move || Self::read(&before)).await;
        let ended = ended.map_err(|error| other(error.to_string()))?;
        ended.map(Some).map_err(|error| other(error.to_string()))
    }

    /// The half-year that its seal names, if it is one after its own.
    pub(crate) fn named(&self) -> Option<String> {
        let name = self.successor.strip_prefix("logs/")?;
        (half_year::end(name)? > half_year::end(&self.id)?).then(|| name.to_owned())
    }

    /// Reads it from the database of a log that has ended. It blocks.
    ///
    /// # Errors
    /// When it cannot be read, or may still take events.
    fn read(location: &Location) -> Result<Self, Error> {
        verbs::read(location, &MIGRATIONS, |looking| {
            let log = looking.get::<LogRow>(PARTITION, LogRow::KEY)?;
            let log =
                log.ok_or_else(|| Error::File("the database that service.follows names has no log".to_owned()))?;
            let sealed = looking.get::<SuccessionRow>(PARTITION, SuccessionRow::SEALED)?;
            if sealed.is_none() && log.frozen.is_empty() {
                return Err(Error::File(format!(
                    "the log {} that service.follows names is neither sealed nor frozen and may still take events: seal it \
                     first (LogService/SealLog)",
                    log.origin
                )));
            }
            let signed = log.signed.map(u64::to_be_bytes);
            let checkpoint = signed
                .map(|size| looking.get::<CheckpointRow>(PARTITION, &size))
                .transpose()?;
            Ok(Self {
                id: log.id,
                origin: log.origin,
                successor: sealed.map(|row| row.other).unwrap_or_default(),
                checkpoint: checkpoint.flatten(),
                sources: looking.all::<SourceRow>(PARTITION)?,
            })
        })
    }
}

/// Begins a log where another one ended; answers whether it had not begun.
#[derive(Clone)]
struct GoOn {
    begin: Begin,
    before: Ended,
}

impl Command for GoOn {
    type Answer = bool;
    const NAME: &'static str = "audit.go_on";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn bytes(&self) -> usize {
        1024 + self.before.sources.len() * 128
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        self.begin.reads(keys);
        keys.row::<SuccessionRow>(SuccessionRow::FOLLOWS);
        let sources = self.before.sources.iter();
        sources.for_each(|source| keys.row::<SourceRow>(source.key()));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        // Another replica may have been quicker.
        if view.get::<LogRow>(LogRow::KEY).is_some() {
            return Ok(false);
        }
        self.begin.decide(view)?;
        let size = self.before.checkpoint.as_ref().map_or(0, |row| row.size);
        view.put(&SuccessionRow::of(SuccessionRow::FOLLOWS, &self.before.origin, size));
        self.before.sources.iter().for_each(|source| view.put(source));
        Ok(true)
    }
}
