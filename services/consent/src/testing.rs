//! What unit tests begin with.

use std::sync::Arc;

use sammati_kernel::{Key, ManualClock};
use sammati_store::{Location, Options, Store};
use sammati_testkit::Database;

use crate::rows::MIGRATIONS;

/// A store on `database`, by `clock`.
pub(crate) fn open(database: &Database, clock: &ManualClock) -> Store {
    let options = Options::new(Location::parse(&database.url).unwrap(), Key::from_bytes([9; 32]));
    Store::open(&options, Arc::new(clock.clone()), MIGRATIONS).unwrap()
}
