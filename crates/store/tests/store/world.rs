//! A small service on the store: counters that belong to owners.

use std::sync::Arc;

use prost::Message;
use sammati_kernel::{AccountId, Clock, Fact, Key, ManualClock, Micros, Reason, Refusal, Seed, Slot};
use sammati_store::{
    Cell, Column, Command, EmbeddedMigrations, Error, Keys, Location, NewEvent, Options, Pruning, Record, Store, Table,
    View, chain, embed_migrations,
};
use sammati_testkit::{Database, databases};

pub(crate) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("tests/migrations");
/// The log reads the feed; no rows leave.
pub(crate) const LOG: Pruning = Pruning {
    consumers: &["log"],
    passing: &[],
};

pub(crate) const START: Micros = Micros::from_seconds(1_800_000_000);

/// One database and the stores open on it: one on SQLite, two replicas on Postgres, and two that keep each transaction to
/// one partition.
pub(crate) struct World {
    pub(crate) replicas: Vec<Store>,
    pub(crate) clock: ManualClock,
    pub(crate) database: Database,
}

impl World {
    /// Every world a storage test runs in.
    pub(crate) fn all() -> Vec<Self> {
        let mut all: Vec<_> = databases().into_iter().map(Self::on).collect();
        all.extend(Database::postgres().map(|database| Self::opened(database, true)));
        all
    }

    pub(crate) fn on(database: Database) -> Self {
        Self::opened(database, false)
    }

    fn opened(database: Database, one_partition: bool) -> Self {
        let clock = ManualClock::at(START);
        let count = if database.url.starts_with("sqlite:") { 1 } else { 2 };
        let replicas = (0..count)
            .map(|_| {
                let location = Location::parse(&database.url).unwrap();
                open_as(location.keeping_to_one_partition(one_partition), &clock, MIGRATIONS).unwrap()
            })
            .collect();
        Self {
            replicas,
            clock,
            database,
        }
    }

    /// The `n`th replica, going round.
    pub(crate) fn replica(&self, n: usize) -> &Store {
        &self.replicas[n % self.replicas.len()]
    }

    /// The feed of every partition has no gap, its chain is right, and it ends where the head says. Tells how many
    /// events there are.
    pub(crate) async fn check_feed(&self) -> usize {
        let partitions: Vec<i64> = self.replicas[0].partitions().all().collect();
        let check = move |r: &mut sammati_store::Reader<'_>| {
            let mut events = 0;
            for partition in partitions.clone() {
                let head = r.head(partition)?;
                let feed = r.feed(partition, 0, i64::MAX)?;
                let mut hash = vec![0; 32];
                for (n, event) in feed.iter().enumerate() {
                    assert_eq!(
                        event.position,
                        i64::try_from(n).unwrap(),
                        "a gap in partition {partition}"
                    );
                    hash = chain(&hash, &event.body);
                    assert_eq!(event.chain, hash, "the chain of partition {partition} at {n}");
                }
                assert_eq!((head.next, head.chain), (i64::try_from(feed.len()).unwrap(), hash));
                events += feed.len();
            }
            Ok(events)
        };
        self.replicas[0].snapshot(check).await.unwrap()
    }

    pub(crate) async fn count(&self, replica: usize, id: &AccountId) -> i64 {
        let (slot, key) = (id.slot(), id.to_vec());
        let found = self
            .replica(replica)
            .read(move |r| r.get::<Counter>(slot, &key))
            .await
            .unwrap();
        found.map_or(0, |stored| stored.record.count)
    }
}

pub(crate) fn open(url: &str, clock: &ManualClock) -> Store {
    open_at(url, clock, MIGRATIONS).unwrap()
}

/// The same by a binary that has these migrations.
pub(crate) fn open_at(url: &str, clock: &ManualClock, migrations: EmbeddedMigrations) -> Result<Store, Error> {
    open_as(Location::parse(url).unwrap(), clock, migrations)
}

/// The usual options, for a test to change.
pub(crate) fn options(location: Location) -> Options {
    Options {
        partitions: Some(8),
        ..Options::new(location, Key::from_bytes([7; 32]))
    }
}

pub(crate) fn open_with(options: &Options, clock: &ManualClock) -> Result<Store, Error> {
    Store::open(options, Arc::new(clock.clone()), MIGRATIONS)
}

fn open_as(location: Location, clock: &ManualClock, migrations: EmbeddedMigrations) -> Result<Store, Error> {
    Store::open(&options(location), Arc::new(clock.clone()), migrations)
}

/// Whose all counters are: with a NUL, which a column of text could not hold.
pub(crate) const OWNER: &[u8] = b"all\0of them";

/// An account whose slot is `slot`.
pub(crate) fn account(slot: u16, n: u64) -> AccountId {
    AccountId::new(START, Slot::new(slot), n.to_be_bytes())
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Counter {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) owner: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(crate) count: i64,
}

impl Record for Counter {
    const TABLE: Table = Table {
        name: "counter",
        columns: &[Column::bytes("owner"), Column::int("due")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![self.owner.clone().into(), Cell::Int(None)]
    }
}

/// What a command does beside counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Plain,
    /// Refuses, dropping what it changed.
    Refuses,
    /// Refuses, keeping what it changed.
    RefusesRecorded,
    Panics,
    /// Panics where the store asks what it reads.
    PanicsReading,
    /// Writes a row that the database refuses.
    BreaksARule,
}

/// Adds one to a counter; tells what it counted.
#[derive(Debug, Clone)]
pub(crate) struct Count {
    pub(crate) id: AccountId,
    pub(crate) mood: Mood,
    pub(crate) claim: Option<[u8; 32]>,
}

impl Count {
    pub(crate) const fn up(id: AccountId) -> Self {
        Self {
            id,
            mood: Mood::Plain,
            claim: None,
        }
    }
}

impl Command for Count {
    type Answer = i64;
    const NAME: &'static str = "test.count";

    fn slot(&self) -> Slot {
        self.id.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        assert!(self.mood != Mood::PanicsReading, "as asked");
        keys.row::<Counter>(self.id.to_vec());
        keys.group::<Counter>("owner", OWNER.to_vec());
        if let Some(claim) = self.claim {
            keys.claim(claim);
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<i64, Refusal> {
        let known = view
            .group::<Counter>("owner", OWNER)
            .iter()
            .any(|c| c.id == self.id.to_vec());
        let found = view.get::<Counter>(&self.id.to_vec());
        assert_eq!(known, found.is_some(), "a group shows what its batch created");
        let mut counter = found.unwrap_or_else(|| Counter {
            id: self.id.to_vec(),
            owner: OWNER.to_vec(),
            count: 0,
        });
        counter.count += 1;
        if let Some(claim) = self.claim {
            if view.claimed(&claim).is_some() {
                return Err(Reason::AddressTaken.into());
            }
            view.claim(claim, self.id.to_vec());
        }
        if self.mood == Mood::BreaksARule {
            counter.owner = vec![b'x'; 200];
        }
        view.put(&counter);
        let body = [self.id.as_bytes().as_slice(), &counter.count.to_be_bytes()].concat();
        view.emit(NewEvent {
            id: view.next_event_id(),
            subject: Some(self.id.to_vec()),
            body,
        });
        match self.mood {
            Mood::Plain | Mood::BreaksARule => Ok(counter.count),
            Mood::Refuses => Err(Reason::StateConflict.into()),
            Mood::RefusesRecorded => Err(Refusal::new(Reason::OtpMismatch).with(Fact::AttemptsLeft, 4).recorded()),
            Mood::Panics | Mood::PanicsReading => panic!("as asked"),
        }
    }

    fn outcome(&self, answer: &i64) -> Vec<u8> {
        answer.to_be_bytes().to_vec()
    }
}

/// A fresh request id, made at the clock's time.
pub(crate) fn request_id(clock: &ManualClock) -> String {
    let id: AccountId = Seed::draw().unwrap().id("request", clock.now(), Slot::new(0));
    id.to_string()
}
