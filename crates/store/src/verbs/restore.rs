//! A backup of an embedded database takes the database's place.

use std::fs;
use std::path::{Path, PathBuf};

use diesel_migrations::EmbeddedMigrations;
use sammati_kernel::Micros;

use super::backup::{beside, copy, failed, refuse_existing, sync_folder};
use super::recover::mark_file;
use crate::error::Error;
use crate::schema::Schema;
use crate::setup::{FileLock, PREDECESSOR};
use crate::{Location, damage};

const ON_POSTGRES: &str = "Postgres is restored by its own tools: a base backup with its archived WAL to the latest point, \
    or `pg_restore --clean --if-exists --single-transaction` of a dump; stop all replicas of the service first, and run the verb recover before they start";

/// What a database consists of, as ends of its file's name.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Bytes of the database that is in place now.
    pub bytes: u64,
    /// Where the one before it is.
    pub aside: Option<PathBuf>,
}

/// Puts the database in the file `from` where `location` says, once it has shown to be whole and this service's. One that
/// is there is refused or, with `replace`, moved aside. With `recover` nobody serves it before it was recovered.
///
/// # Errors
/// When a process serves the database, when there is one and it is not to be replaced, when `from` is not good, and on
/// Postgres. Then the database that was there still is.
pub fn restore(
    location: &Location,
    from: &Path,
    migrations: &EmbeddedMigrations,
    replace: bool,
    recover: bool,
    now: Micros,
) -> Result<Restored, Error> {
    let Location::Sqlite(path) = location else {
        return Err(Error::File(ON_POSTGRES.to_owned()));
    };
    let _lock = FileLock::take(path, PREDECESSOR)?;
    if !replace && refuse_existing(path).is_err() {
        return Err(Error::File(format!(
            "{} is there already; with --replace it is moved aside, not deleted",
            path.display()
        )));
    }
    check(from, migrations)?;
    let fresh = beside(path, &format!(".{}.restored", std::process::id()));
    let bytes = copy(from, &fresh)?;
    if recover {
        // Before it has its name: whoever dies in between leaves nothing that could be served.
        mark_file(&fresh).inspect_err(|_| drop(fs::remove_file(&fresh)))?;
    }
    let aside = set_aside(path, now).inspect_err(|_| drop(fs::remove_file(&fresh)))?;
    fs::rename(&fresh, path).map_err(|error| failed(path, &error))?;
    sync_folder(path)?;
    Ok(Restored { bytes, aside })
}

/// Whether `from` is a whole database that this service can serve.
fn check(from: &Path, migrations: &EmbeddedMigrations) -> Result<(), Error> {
    let bad = |what: &dyn std::fmt::Display| Error::File(format!("{} cannot be restored: {what}", from.display()));
    let mut conn = Location::Sqlite(from.to_owned()).look().map_err(|error| bad(&error))?;
    let found = damage::integrity_check(&mut conn).map_err(|error| bad(&error))?;
    if !found.is_empty() {
        return Err(bad(&format!("it is damaged: {}", found.join("; "))));
    }
    let schema = Schema::read(&mut conn, migrations).map_err(|error| bad(&error))?;
    if !schema.is_of_the_service {
        return Err(bad(&"it has no table of this service"));
    }
    schema.expect_served().map_err(|error| bad(&error))
}

/// Moves away what is at `path`. A write-ahead log goes with its file: beside another one it would be read into that.
fn set_aside(path: &Path, now: Micros) -> Result<Option<PathBuf>, Error> {
    let aside = beside(path, &format!(".replaced-{}", now.seconds()));
    let mut moved = None;
    for part in PARTS {
        let (old, new) = (beside(path, part), beside(&aside, part));
        if fs::symlink_metadata(&old).is_ok() {
            refuse_existing(&new)?;
            fs::rename(&old, &new).map_err(|error| failed(&old, &error))?;
            moved = Some(aside.clone());
        }
    }
    Ok(moved)
}
