//! Bringing a database to where this binary can serve it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use fs4::fs_std::FileExt;
use sammati_kernel::Seed;

use crate::error::Error;
use crate::{AnyConn, Location, Partitions, damage, on_conn, sql};

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

/// A database that can be served.
pub(crate) struct Prepared {
    pub(crate) partitions: Partitions,
    /// The migrations that were run, in their order.
    pub(crate) applied: Vec<String>,
}

/// Runs the migrations and makes the heads; tells how the database is divided.
pub(crate) fn prepare(
    location: &Location,
    partitions: Option<u16>,
    migrations: EmbeddedMigrations,
) -> Result<Prepared, Error> {
    let mut conn = connect(location)?;
    let embedded = location.is_embedded();
    if !embedded {
        // Replicas may start together: the first one migrates, the others wait and find it done.
        sql::batch(&mut conn, "SELECT pg_advisory_lock(7305808869229356400)")?;
    }
    let mut applied = run_migrations(&mut conn, OWN)?;
    check_versions(&mut conn, &migrations)?;
    applied.extend(run_migrations(&mut conn, migrations)?);
    let wanted = partitions.unwrap_or(if embedded { 4 } else { 64 });
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
    let partitions = partitions_of(&mut conn)?;
    for partition in partitions.all() {
        let head = "INSERT INTO head(partition,epoch,next,time,chain) VALUES ($1,1,0,0,$2) ON CONFLICT DO NOTHING";
        on_conn!(&mut conn, |c| diesel::sql_query(head)
            .bind::<BigInt, _>(partition)
            .bind::<Binary, _>(vec![0_u8; 32])
            .execute(c))?;
    }
    if !embedded {
        sql::batch(&mut conn, "SELECT pg_advisory_unlock(7305808869229356400)")?;
    }
    Ok(Prepared { partitions, applied })
}

/// A connection to a database whose file is whole: on a damaged one nothing is served and nothing written.
fn connect(location: &Location) -> Result<AnyConn, Error> {
    let Location::Sqlite(path) = location else {
        return location.connect();
    };
    let found = location
        .connect()
        .and_then(|mut conn| Ok((damage::quick_check(&mut conn)?, conn)));
    let what = match found {
        Ok((None, conn)) => return Ok(conn),
        Ok((Some(what), _)) => what,
        Err(Error::Database(error)) if damage::is_damage(&error) => error.to_string(),
        Err(error) => return Err(error),
    };
    Err(Error::File(format!(
        "{} is damaged: {what}; nothing was changed. Look after the disk first; then keep a copy of this file with its \
         -wal, and bring back the last backup with the verb restore",
        path.display()
    )))
}

/// How the database says that it is divided.
pub(crate) fn partitions_of(conn: &mut AnyConn) -> Result<Partitions, Error> {
    let count: Count = on_conn!(conn, |c| diesel::sql_query("SELECT partitions FROM database")
        .get_result(c))?;
    let partitions = u16::try_from(count.partitions)
        .ok()
        .and_then(|n| Partitions::new(n).ok());
    partitions.ok_or_else(|| Error::Schema("the database says an impossible partition count".into()))
}

/// Where the schema of a database stands, for this binary.
pub(crate) struct Schema {
    /// What it has of ours and the service's.
    pub(crate) applied: usize,
    /// What it lacks.
    pub(crate) pending: Vec<String>,
    /// What it has that this binary does not know.
    pub(crate) unknown: Vec<String>,
    /// Whether it has something of this service's.
    pub(crate) is_of_the_service: bool,
}

#[derive(diesel::QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

impl Schema {
    /// Reads it, changing nothing.
    pub(crate) fn read(conn: &mut AnyConn, service: &EmbeddedMigrations) -> Result<Self, Error> {
        let (own, service) = (versions(&OWN)?, versions(service)?);
        let text = "SELECT version FROM __diesel_schema_migrations ORDER BY version";
        let found: Result<Vec<Version>, _> = on_conn!(conn, |c| diesel::sql_query(text).load(c));
        let found = found.map_err(|error| Error::Schema(format!("there is no schema of Sammati in it: {error}")))?;
        let found: BTreeSet<String> = found.into_iter().map(|row| row.version).collect();
        let known: BTreeSet<String> = own.union(&service).cloned().collect();
        Ok(Self {
            applied: found.intersection(&known).count(),
            pending: known.difference(&found).cloned().collect(),
            unknown: found.difference(&known).cloned().collect(),
            is_of_the_service: !found.is_disjoint(&service),
        })
    }

    /// Refuses a schema that this binary cannot read in full.
    pub(crate) fn expect_current(&self) -> Result<(), Error> {
        if let Some(unknown) = self.unknown.first() {
            return Err(newer(unknown));
        }
        match self.pending.first() {
            None => Ok(()),
            Some(pending) => Err(Error::Schema(format!(
                "the database lacks the migration {pending}; run the verb migrate first, or the binary that last served it"
            ))),
        }
    }
}

fn newer(unknown: &str) -> Error {
    Error::Schema(format!(
        "the database has the migration {unknown}, which this binary does not know: a newer version used it; run that one"
    ))
}

/// Runs what is pending; tells what that was.
fn run_migrations(conn: &mut AnyConn, migrations: EmbeddedMigrations) -> Result<Vec<String>, Error> {
    let names = |all: Vec<MigrationVersion<'_>>| all.iter().map(ToString::to_string).collect();
    on_conn!(conn, |c| c.run_pending_migrations(migrations).map(names))
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
        Some(unknown) => Err(newer(&unknown)),
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
    fn a_damaged_file_is_refused_with_what_to_do() {
        let database = databases().remove(0);
        let location = Location::parse(&database.url).unwrap();
        let Location::Sqlite(path) = &location else {
            panic!("the first is SQLite")
        };
        let none = || EmbeddedMigrations::new(&[]);
        assert_eq!(
            prepare(&location, None, none()).unwrap().applied.len(),
            versions(&OWN).unwrap().len()
        );
        assert!(prepare(&location, None, none()).unwrap().applied.is_empty());
        let good = std::fs::read(path).unwrap();
        for page in [0, 2] {
            let mut bad = good.clone();
            bad[page * 4096..][..100].fill(0x5a);
            std::fs::write(path, bad).unwrap();
            let refused = prepare(&location, None, none()).err().unwrap().to_string();
            assert!(
                refused.contains("is damaged") && refused.contains("restore"),
                "{refused}"
            );
        }
        std::fs::write(path, good).unwrap();
        assert!(prepare(&location, None, none()).is_ok());
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
