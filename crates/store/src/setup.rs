//! Bringing a database to where this binary can serve it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::sql_types::{BigInt, Binary};
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use fs4::fs_std::FileExt;
use sammati_kernel::Seed;

use crate::error::Error;
use crate::store::Options;
use crate::{AnyConn, Partitions, on_conn, sql};

const OWN: EmbeddedMigrations = embed_migrations!("migrations");

/// Keeps every other process off an embedded database for as long as this one lives.
pub(crate) struct FileLock(#[expect(dead_code, reason = "held, not read")] File);

/// How long a predecessor may take to end its last batch.
pub(crate) const PREDECESSOR: Duration = Duration::from_secs(5);

impl FileLock {
    /// Takes the lock, waiting at most `patience` for whoever holds it.
    pub(crate) fn take(database: &Path, patience: Duration) -> Result<Self, Error> {
        // Beside the database, not on it: closing any handle of the file itself would drop SQLite's own locks.
        let path = database.with_extension("lock");
        let shown = path.display();
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| Error::File(format!("cannot open {shown}: {e}; does the folder exist?")))?;
        let step = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        while !matches!(FileExt::try_lock_exclusive(&file), Ok(true)) {
            if waited >= patience {
                return Err(Error::File(format!(
                    "{shown} is held by another process: one process serves an embedded database at a time"
                )));
            }
            std::thread::sleep(step);
            waited += step;
        }
        Ok(Self(file))
    }
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    partitions: i64,
}

/// Runs the migrations and makes the heads; tells how the database is divided.
pub(crate) fn prepare(options: &Options, migrations: EmbeddedMigrations) -> Result<Partitions, Error> {
    let mut conn = options.location.connect()?;
    if !options.location.is_embedded() {
        // Replicas may start together: the first one migrates, the others wait and find it done.
        sql::batch(&mut conn, "SELECT pg_advisory_lock(7305808869229356400)")?;
    }
    run_migrations(&mut conn, OWN)?;
    check_versions(&mut conn, &migrations)?;
    run_migrations(&mut conn, migrations)?;
    let wanted = options
        .partitions
        .unwrap_or(if options.location.is_embedded() { 4 } else { 64 });
    let wanted = Partitions::new(wanted).map_err(|e| Error::Schema(e.to_owned()))?;
    let name = Seed::draw()
        .map_err(|_| Error::File("the system has no randomness".into()))?
        .bytes("database")
        .to_vec();
    let make = "INSERT INTO database(id,name,partitions) VALUES (1,$1,$2) ON CONFLICT DO NOTHING";
    on_conn!(&mut conn, |c| diesel::sql_query(make)
        .bind::<Binary, _>(&name)
        .bind::<BigInt, _>(i64::from(wanted.count()))
        .execute(c))?;
    let count: Count = on_conn!(&mut conn, |c| diesel::sql_query("SELECT partitions FROM database")
        .get_result(c))?;
    let partitions = u16::try_from(count.partitions)
        .ok()
        .and_then(|n| Partitions::new(n).ok());
    let partitions =
        partitions.ok_or_else(|| Error::Schema("the database says an impossible partition count".into()))?;
    for partition in partitions.all() {
        let head = "INSERT INTO head(partition,epoch,next,time,chain) VALUES ($1,1,0,0,$2) ON CONFLICT DO NOTHING";
        on_conn!(&mut conn, |c| diesel::sql_query(head)
            .bind::<BigInt, _>(partition)
            .bind::<Binary, _>(vec![0_u8; 32])
            .execute(c))?;
    }
    if !options.location.is_embedded() {
        sql::batch(&mut conn, "SELECT pg_advisory_unlock(7305808869229356400)")?;
    }
    Ok(partitions)
}

fn run_migrations(conn: &mut AnyConn, migrations: EmbeddedMigrations) -> Result<(), Error> {
    on_conn!(conn, |c| c.run_pending_migrations(migrations).map(drop))
        .map_err(|e| Error::Schema(format!("cannot bring the schema up to date: {e}")))
}

/// A version is one migration, ours or the service's; and the database has none that this binary does not know.
fn check_versions(conn: &mut AnyConn, service: &EmbeddedMigrations) -> Result<(), Error> {
    let (own, service) = (versions(&OWN)?, versions(service)?);
    if let Some(twice) = own.intersection(&service).next() {
        return Err(Error::Schema(format!(
            "the store and the service both have a migration {twice}"
        )));
    }
    let applied = on_conn!(conn, |c| c.applied_migrations()).map_err(unreadable)?;
    match applied
        .iter()
        .map(ToString::to_string)
        .find(|v| !own.contains(v) && !service.contains(v))
    {
        None => Ok(()),
        Some(unknown) => Err(Error::Schema(format!(
            "the database has the migration {unknown}, which this binary does not know: a newer version used it; run that one"
        ))),
    }
}

/// The versions of a set of migrations: the same for every database.
fn versions(migrations: &EmbeddedMigrations) -> Result<BTreeSet<String>, Error> {
    let all: Vec<Box<dyn Migration<Sqlite>>> = migrations.migrations().map_err(unreadable)?;
    Ok(all
        .iter()
        .map(|m| MigrationVersion::to_string(&m.name().version()))
        .collect())
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Schema(format!("the migrations cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use diesel_migrations::MigrationHarness;
    use sammati_testkit::databases;

    use super::*;
    use crate::Location;

    #[test]
    fn migrations_go_up_and_down_and_up_again_twice() {
        for database in databases() {
            let location = Location::parse(&database.url).unwrap();
            // A Postgres connection must not be made on a runtime's thread; a test's is none.
            let mut conn = location.connect().unwrap();
            for _ in 0..2 {
                run_migrations(&mut conn, OWN).unwrap();
                run_migrations(&mut conn, OWN).unwrap();
                on_conn!(&mut conn, |c| c.revert_all_migrations(OWN).map(drop)).unwrap();
            }
        }
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused_with_what_to_do() {
        for database in databases() {
            let mut conn = Location::parse(&database.url).unwrap().connect().unwrap();
            run_migrations(&mut conn, OWN).unwrap();
            let none = EmbeddedMigrations::new(&[]);
            check_versions(&mut conn, &none).unwrap();
            let newer = "INSERT INTO __diesel_schema_migrations(version) VALUES ('20991231000001')";
            sql::batch(&mut conn, newer).unwrap();
            let refused = check_versions(&mut conn, &none).unwrap_err().to_string();
            assert!(
                refused.contains("20991231000001") && refused.contains("newer version"),
                "{refused}"
            );
        }
    }

    #[test]
    fn an_embedded_database_is_served_by_one_process() {
        let database = databases().remove(0);
        let Location::Sqlite(path) = Location::parse(&database.url).unwrap() else {
            panic!("the first is SQLite")
        };
        let take = || FileLock::take(&path, Duration::ZERO);
        let first = take().unwrap();
        assert!(take().is_err());
        drop(first);
        assert!(take().is_ok());
    }
}
