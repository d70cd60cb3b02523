//! The store alone: many commands in one transaction against one transaction each, on both databases.
//!
//! The opponent gives the same guarantees by the same statements, with one command in a transaction: on SQLite on its
//! one connection, on Postgres on as many as a pool would have.

use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::{AccountId, Clock, Key, Seed, Slot, SystemClock, TransactionId};
use sammati_store::{Command, Location, Options, RequestKey, Store};
use sammati_testkit::Database;

use crate::goal::Goal;
use crate::measure::{CALLERS, Contender, Failure, Measured, Pace, Sample, interleave, rate};
use crate::pgbench;
use crate::rows::{Append, Approve, Insert, MIGRATIONS};
use crate::summary::Summary;

/// The lanes of a Postgres store that gives each request a transaction: as many connections as a pool would have.
pub(crate) const POOL: usize = 16;

/// How commands come into transactions.
#[derive(Debug, Clone, Copy)]
enum Batches {
    /// As by default.
    Grouped,
    /// As by default, on so many lanes.
    Lanes(usize),
    /// One transaction for each command.
    Each,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
enum What {
    Insert,
    Append,
    Approve,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Append => "append",
            Self::Approve => "approve",
        }
    }
}

/// A store and the database it lives in.
#[derive(Clone)]
struct Bench {
    store: Store,
    _database: Arc<Database>,
}

impl Bench {
    fn open(database: Database, batches: Batches) -> Result<Self, Failure> {
        let location = Location::parse(&database.url)?;
        let mut options = Options::new(location, Key::from_bytes([7; 32]));
        match batches {
            Batches::Grouped => {}
            Batches::Lanes(lanes) => options.lanes = lanes,
            Batches::Each => (options.max_batch, options.lanes) = (1, POOL),
        }
        let store = Store::open(&options, Arc::new(SystemClock), MIGRATIONS)?;
        Ok(Self {
            store,
            _database: Arc::new(database),
        })
    }

    async fn run(self, what: What, callers: usize, time: Duration) -> Result<Sample, Failure> {
        match what {
            What::Insert => self.rate(callers, time, Insert, false).await,
            What::Append => self.rate(callers, time, Append, false).await,
            What::Approve => self.rate(callers, time, Approve, true).await,
        }
    }

    /// Closed loop, each caller on a subject of its own so that all partitions are met.
    async fn rate<C: Command>(
        self,
        callers: usize,
        time: Duration,
        command: fn(AccountId) -> C,
        requested: bool,
    ) -> Result<Sample, Failure> {
        let call = move |caller: usize| {
            let store = self.store.clone();
            async move {
                let request = if requested { Some(request(&store)?) } else { None };
                store.run(command(account(caller)), request).await.map_err(refused)?;
                Ok(())
            }
        };
        rate(callers, time, call).await
    }
}

fn account(caller: usize) -> AccountId {
    let number = u16::try_from(caller).unwrap_or(0);
    AccountId::new(SystemClock.now(), Slot::new(number), u64::from(number).to_be_bytes())
}

fn request(store: &Store) -> Result<RequestKey, Failure> {
    let seed = Seed::draw().map_err(|_| "the system has no randomness")?;
    let id: TransactionId = seed.id("request", SystemClock.now(), Slot::new(0));
    store
        .request("accounts/bench", "bench.approve", &id.to_string(), &String::new())
        .map_err(refused)
}

fn refused(refusal: sammati_kernel::Refusal) -> Failure {
    format!("{refusal:?}").into()
}

fn contender(
    name: String,
    database: Database,
    batches: Batches,
    (what, callers): (What, usize),
    pace: Pace,
) -> Result<Contender, Failure> {
    let bench = Bench::open(database, batches)?;
    Ok(Contender::new(name, move || {
        bench.clone().run(what, callers, pace.time)
    }))
}

/// `store.approve.{database}.grouped` for a run of something else: the part of an approval that no service can do without.
pub(crate) fn approve(database: Database, kind: &str, pace: Pace) -> Result<Contender, Failure> {
    let name = format!("store.{}.{kind}.grouped", What::Approve.name());
    contender(name, database, Batches::Grouped, (What::Approve, CALLERS), pace)
}

/// One transaction each, then many commands in one, on databases of their own.
fn pair(name: &str, homes: [Database; 2], work: (What, usize), pace: Pace) -> Result<Vec<Contender>, Failure> {
    let [first, second] = homes;
    Ok(vec![
        contender(format!("{name}.per_request"), first, Batches::Each, work, pace)?,
        contender(format!("{name}.grouped"), second, Batches::Grouped, work, pace)?,
    ])
}

/// Measures a pair and what is beside it; tells all of it.
async fn told(mut contenders: Vec<Contender>, pace: Pace, summary: &mut Summary) -> Result<Vec<Measured>, Failure> {
    let measured = interleave(pace.rounds, &mut contenders).await?;
    if let [each, grouped, ..] = &measured[..] {
        summary.alone(each, "1/s");
        summary.compared(grouped, "1/s", each);
    }
    Ok(measured)
}

/// `store.*.sqlite.*`.
pub(crate) async fn sqlite(pace: Pace, summary: &mut Summary) -> Result<(), Failure> {
    let homes = || [Database::sqlite(), Database::sqlite()];
    for what in [What::Insert, What::Append, What::Approve] {
        let name = format!("store.{}.sqlite", what.name());
        told(pair(&name, homes(), (what, CALLERS), pace)?, pace, summary).await?;
    }
    let alone = pair("store.insert.sqlite.one_caller", homes(), (What::Insert, 1), pace)?;
    told(alone, pace, summary).await?;
    summary.goal("store.insert.sqlite.grouped", Goal::AtLeast(10.0));
    summary.goal("store.insert.sqlite.one_caller.grouped", Goal::AtLeast(0.9));
    Ok(())
}

/// `store.*.postgres.*` and `pgbench.insert`.
pub(crate) async fn postgres(pace: Pace, summary: &mut Summary) -> Result<(), Failure> {
    if Database::postgres().is_none() {
        eprintln!("SKIPPED: store.*.postgres and pgbench.insert: no Postgres to be had");
        return Ok(());
    }
    for what in [What::Insert, What::Append, What::Approve] {
        let name = format!("store.{}.postgres", what.name());
        let mut contenders = pair(&name, homes()?, (what, CALLERS), pace)?;
        if matches!(what, What::Insert) {
            contenders.extend(pgbench::contender(home()?, pace)?);
        }
        let measured = told(contenders, pace, summary).await?;
        if let [_, grouped, pgbench] = &measured[..] {
            summary.alone(pgbench, "1/s");
            let ratio = summary.ratio(grouped, pgbench);
            summary.goal(&ratio, Goal::AtLeast(2.5));
        }
    }
    let alone = pair("store.insert.postgres.one_caller", homes()?, (What::Insert, 1), pace)?;
    told(alone, pace, summary).await?;
    summary.goal("store.insert.postgres.grouped", Goal::AtLeast(5.0));
    summary.goal("store.insert.postgres.one_caller.grouped", Goal::AtLeast(0.9));
    Ok(())
}

pub(crate) fn home() -> Result<Database, Failure> {
    Ok(Database::postgres().ok_or("the Postgres server went away")?)
}

fn homes() -> Result<[Database; 2], Failure> {
    Ok([home()?, home()?])
}

/// `store.*.postgres.lanes_*`: what the default number of lanes rests on.
pub(crate) async fn lanes(pace: Pace, summary: &mut Summary) -> Result<(), Failure> {
    if Database::postgres().is_none() {
        eprintln!("SKIPPED: store.*.postgres.lanes_*: no Postgres to be had");
        return Ok(());
    }
    for what in [What::Append, What::Approve] {
        let contender = |lanes: usize| {
            let name = format!("store.{}.postgres.lanes_{lanes}", what.name());
            contender(name, home()?, Batches::Lanes(lanes), (what, CALLERS), pace)
        };
        let mut contenders = [1, 2, 4, 8].map(contender).into_iter().collect::<Result<Vec<_>, _>>()?;
        if let [one, more @ ..] = &interleave(pace.rounds, &mut contenders).await?[..] {
            summary.alone(one, "1/s");
            more.iter().for_each(|more| summary.compared(more, "1/s", one));
        }
    }
    Ok(())
}
