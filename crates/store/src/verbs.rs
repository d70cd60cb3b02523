//! What an operator does to a database beside serving it.
//!
//! All of it blocks, and none of it may be called on a runtime's thread.

mod ahead;
mod backup;
mod feed;
mod fsck;
mod look;
mod primary;
mod read;
mod recover;
mod restore;
mod room;

use diesel_migrations::EmbeddedMigrations;

pub use ahead::ahead;
pub use backup::backup;
pub use fsck::{Disagreement, Fsck, Indexes, Keyed, Known, More, Summary, fsck};
pub use look::{Health, Remark, look};
pub use primary::{Needs, primary};
pub use read::{Looking, read};
pub(crate) use recover::finished;
pub use recover::{Cut, Recovery, Standing, finish};
pub use restore::{Restored, restore};
pub use room::room;

use crate::Location;
use crate::error::Error;
use crate::postgres::Purpose;
use crate::setup::{self, FileLock, PREDECESSOR};

/// Brings the schema to where `migrations` end, as a store does that is opened; tells the migrations that were run.
///
/// # Errors
/// When the database is away, is held by another process (SQLite), or has a schema that this binary cannot serve.
pub fn migrate(
    location: &Location,
    partitions: Option<u16>,
    migrations: EmbeddedMigrations,
) -> Result<Vec<String>, Error> {
    let _lock = match location {
        Location::Sqlite(path) => Some(FileLock::take(path, PREDECESSOR)?),
        Location::Postgres { .. } => None,
    };
    location.expect_sessions(Purpose::Work)?;
    Ok(setup::prepare(location, partitions, migrations)?.applied)
}
