//! Bringing a database to where this binary can serve it.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use diesel_migrations::EmbeddedMigrations;
use fs4::fs_std::FileExt;
use sammati_kernel::Seed;

use crate::error::Error;
use crate::request::ORDERED;
use crate::schema::{OWN, Schema, run_migrations};
use crate::{AnyConn, Location, Partitions, damage, inline, on_conn, sql};

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

#[derive(diesel::QueryableByName)]
struct Order {
    #[diesel(sql_type = Nullable<BigInt>)]
    requests_from: Option<i64>,
}

/// A database that can be served.
pub(crate) struct Prepared {
    pub(crate) partitions: Partitions,
    /// From which time on request ids lie in the order of their times.
    pub(crate) requests_from: Option<i64>,
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
        // However long that takes; but a change of a table waits for others' transactions only so long, for meanwhile
        // everybody waits for it.
        sql::batch(
            &mut conn,
            "SET statement_timeout=0; SET lock_timeout=0; SELECT pg_advisory_lock(7305808869229356400); \
             SET lock_timeout='10s'",
        )?;
    }
    // Before anything is changed: it may be another service's, or a newer version's.
    let schema = Schema::begin(&mut conn, &migrations)?;
    schema.expect_served()?;
    if !schema.unknown.is_empty() {
        tracing::info!(unknown = ?schema.unknown, "a newer version has been here; it left all that this one needs");
    }
    let mut applied = run_migrations(&mut conn, OWN)?;
    applied.extend(run_migrations(&mut conn, migrations)?);
    if !embedded {
        inline::keep_bodies(&mut conn)?;
    }
    let wanted = partitions.unwrap_or(if embedded { 4 } else { 64 });
    let wanted = Partitions::new(wanted).map_err(|e| Error::Schema(e.to_owned()))?;
    let name = Seed::draw()
        .map_err(|_| Error::File("the system has no randomness".into()))?
        .bytes("database")
        .to_vec();
    let make = "INSERT INTO database(id,name,partitions,requests_from) VALUES (1,$1,$2,0) ON CONFLICT DO NOTHING";
    let made = on_conn!(&mut conn, |c| diesel::sql_query(make)
        .bind::<Binary, _>(&name)
        .bind::<BigInt, _>(i64::from(wanted.count()))
        .execute(c))?;
    if made == 1 {
        // It has nothing of older code's, which would not find the request ids.
        let need = "INSERT INTO needed(version) VALUES ($1) ON CONFLICT DO NOTHING";
        on_conn!(&mut conn, |c| diesel::sql_query(need)
            .bind::<Text, _>(ORDERED)
            .execute(c))?;
    }
    let partitions = partitions_of(&mut conn)?;
    let order: Order = on_conn!(&mut conn, |c| diesel::sql_query("SELECT requests_from FROM database")
        .get_result(c))?;
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
    Ok(Prepared {
        partitions,
        requests_from: order.requests_from,
        applied,
    })
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

#[cfg(test)]
mod tests {
    use sammati_testkit::databases;

    use super::*;
    use crate::schema::versions;

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
