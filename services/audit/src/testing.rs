//! What tests within the crate need.

use std::sync::Arc;

use prost::Message;
use ring::signature::Ed25519KeyPair;
use sammati_api::audit::v1 as audit;
use sammati_kernel::{Key, ManualClock, Micros, Seed};
use sammati_store::{EmbeddedMigrations, Location, Options, Store};
use sammati_testkit::databases::{Database, databases};

use crate::keyring::Keyring;
use crate::log::{Log, Own, Received};
use crate::rows::{KEY_MIGRATIONS, MIGRATIONS, SLOT};

/// A database with these tables on every kind of database, empty.
pub(crate) fn stores(migrations: fn() -> EmbeddedMigrations) -> Vec<(Database, Store)> {
    let open = |database: Database| {
        let store = open(&database, &clock(), migrations);
        (database, store)
    };
    databases().into_iter().map(open).collect()
}

fn clock() -> ManualClock {
    ManualClock::at(Micros::from_seconds(1_800_000_000))
}

fn open(database: &Database, clock: &ManualClock, migrations: fn() -> EmbeddedMigrations) -> Store {
    let options = Options {
        lanes: 1,
        partitions: Some(1),
        time_only_orders: true,
        ..Options::new(Location::parse(&database.url).unwrap(), Key::from_bytes([3; 32]))
    };
    Store::open(&options, Arc::new(clock.clone()), migrations()).unwrap()
}

/// A log with its clock: two of it where two processes may have one.
pub(crate) struct Replicas {
    pub(crate) clock: ManualClock,
    pub(crate) logs: Vec<Arc<Log>>,
    _databases: [Database; 2],
}

/// A new log on every kind of database.
pub(crate) async fn logs() -> Vec<Replicas> {
    let mut all = Vec::new();
    for databases in databases().into_iter().zip(databases()).map(<[Database; 2]>::from) {
        let (clock, mut logs) = (clock(), Vec::new());
        let key = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let replicas = if databases[0].url.starts_with("postgres") { 2 } else { 1 };
        for _ in 0..replicas {
            let store = open(&databases[0], &clock, || MIGRATIONS);
            let keys = open(&databases[1], &clock, || KEY_MIGRATIONS);
            let keyring = Keyring::new(keys, &Key::from_bytes([4; 32]));
            let lookup = Key::from_bytes([5; 32]);
            let log = Log::open(store, keyring, "sammati.test/audit", key.as_ref(), None, &lookup, None).await;
            logs.push(Arc::new(log.unwrap()));
        }
        all.push(Replicas {
            clock,
            logs,
            _databases: databases,
        });
    }
    all
}

/// An event with nothing in it but its id, as it is received.
pub(crate) fn received(now: Micros) -> Received {
    let id = Seed::draw().unwrap().id::<Own>("event", now, SLOT);
    let event = audit::Event {
        event_id: id.to_string(),
        ..audit::Event::default()
    };
    Received {
        body: event.encode_to_vec(),
        event,
    }
}
