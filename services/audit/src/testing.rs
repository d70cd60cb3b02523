//! What tests within the crate need.

use std::sync::Arc;

use sammati_kernel::{Key, ManualClock, Micros};
use sammati_store::{EmbeddedMigrations, Location, Options, Store};
use sammati_testkit::databases::{Database, databases};

/// A database with these tables on every kind of database, empty.
pub(crate) fn stores(migrations: fn() -> EmbeddedMigrations) -> Vec<(Database, Store)> {
    let open = |database: Database| {
        let options = Options {
            lanes: 1,
            partitions: Some(1),
            ..Options::new(Location::parse(&database.url).unwrap(), Key::from_bytes([3; 32]))
        };
        let clock = ManualClock::at(Micros::from_seconds(1_800_000_000));
        let store = Store::open(&options, Arc::new(clock), migrations()).unwrap();
        (database, store)
    };
    databases().into_iter().map(open).collect()
}
