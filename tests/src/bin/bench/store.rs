//! The store alone: many commands in one transaction against one transaction each, on both databases.

use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::{AccountId, Clock, Key, Seed, Slot, SystemClock, TransactionId};
use sammati_store::{Location, Options, RequestKey, Store};
use sammati_testkit::Database;

use crate::measure::{CALLERS, Contender, Failure, Pace, Sample, interleave, rate};
use crate::pgbench;
use crate::rows::{Append, Approve, MIGRATIONS};
use crate::summary::Summary;

/// The lanes of a Postgres store that gives each request a transaction: as many connections as a pool would have.
pub(crate) const POOL: usize = 16;

/// A store and the database it lives in.
#[derive(Clone)]
pub(crate) struct Bench {
    store: Store,
    _database: Arc<Database>,
}

impl Bench {
    /// With the service's defaults, or with one transaction for each command.
    pub(crate) fn open(database: Database, grouped: bool) -> Result<Self, Failure> {
        let location = Location::parse(&database.url)?;
        let mut options = Options::new(location, Key::from_bytes([7; 32]));
        if !grouped {
            options.max_batch = 1;
            options.lanes = POOL;
        }
        let store = Store::open(&options, Arc::new(SystemClock), MIGRATIONS)?;
        Ok(Self {
            store,
            _database: Arc::new(database),
        })
    }

    pub(crate) async fn append(self, time: Duration) -> Result<Sample, Failure> {
        let call = move |caller: usize| {
            let store = self.store.clone();
            async move { store.apply(Append(account(caller))).await.map_err(refused) }
        };
        rate(CALLERS, time, call).await
    }

    pub(crate) async fn approve(self, time: Duration) -> Result<Sample, Failure> {
        let call = move |caller: usize| {
            let store = self.store.clone();
            async move {
                let request = request(&store)?;
                store
                    .run(Approve(account(caller)), Some(request))
                    .await
                    .map_err(refused)?;
                Ok(())
            }
        };
        rate(CALLERS, time, call).await
    }
}

/// Each caller's own subject, so that all partitions are met.
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

pub(crate) fn refused(refusal: sammati_kernel::Refusal) -> Failure {
    format!("{refusal:?}").into()
}

/// One contender: `what` on its own database.
macro_rules! contender {
    ($name:literal, $database:expr, $grouped:literal, $what:ident, $pace:expr) => {{
        let (bench, pace) = (Bench::open($database, $grouped)?, $pace);
        Contender::new($name, move || bench.clone().$what(pace.time))
    }};
}

/// `store.*.sqlite.*`.
pub(crate) async fn sqlite(pace: Pace, summary: &mut Summary) -> Result<(), Failure> {
    let mut append = [
        contender!(
            "store.append.sqlite.per_request",
            Database::sqlite(),
            false,
            append,
            pace
        ),
        contender!("store.append.sqlite.grouped", Database::sqlite(), true, append, pace),
    ];
    let mut approve = [
        contender!(
            "store.approve.sqlite.per_request",
            Database::sqlite(),
            false,
            approve,
            pace
        ),
        contender!("store.approve.sqlite.grouped", Database::sqlite(), true, approve, pace),
    ];
    for contenders in [&mut append, &mut approve] {
        let [each, grouped] = &interleave(pace.rounds, contenders).await?[..] else {
            continue;
        };
        summary.alone(each, "1/s");
        summary.compared(grouped, "1/s", each);
    }
    Ok(())
}

/// `store.*.postgres.*` and `pgbench.insert`.
pub(crate) async fn postgres(pace: Pace, summary: &mut Summary) -> Result<(), Failure> {
    let Some(first) = Database::postgres() else {
        eprintln!("SKIPPED: store.append.postgres, store.approve.postgres, pgbench.insert: no Postgres to be had");
        return Ok(());
    };
    let another = || Database::postgres().ok_or("the Postgres server went away");
    let mut append = vec![
        contender!("store.append.postgres.per_request", first, false, append, pace),
        contender!("store.append.postgres.grouped", another()?, true, append, pace),
    ];
    append.extend(pgbench::contender(another()?, pace)?);
    let measured = interleave(pace.rounds, &mut append).await?;
    drop(append);
    if let [each, grouped, rest @ ..] = &measured[..] {
        summary.alone(each, "1/s");
        summary.compared(grouped, "1/s", each);
        rest.iter()
            .for_each(|pgbench| summary.compared(pgbench, "1/s", grouped));
    }
    let mut approve = [
        contender!("store.approve.postgres.per_request", another()?, false, approve, pace),
        contender!("store.approve.postgres.grouped", another()?, true, approve, pace),
    ];
    if let [each, grouped] = &interleave(pace.rounds, &mut approve).await?[..] {
        summary.alone(each, "1/s");
        summary.compared(grouped, "1/s", each);
    }
    Ok(())
}
