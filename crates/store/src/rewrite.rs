//! What Postgres keeps of rows that were overwritten: the row as it was stays in the table's file as a dead tuple, and after
//! a VACUUM its bytes may still lie in the free part of their page. Only a table that is written anew leaves them behind.
//!
//! And it keeps samples: ANALYZE, which the server does by itself, copies up to a hundred values of each column into
//! `pg_statistic`, bodies as well, where they outlive their rows. Nothing is ever planned by a body.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;

use crate::error::Error;
use crate::{AnyConn, on_conn};

/// The largest table, its indexes included, that is written anew while others wait for it.
const MOST: i64 = 128 << 20;

/// How long others may have to wait: until nobody reads the table, and while it is written anew.
const BOUNDS: &str = "SET lock_timeout='1s'; SET statement_timeout='5s'";

/// What became of what was overwritten.
enum Rewritten {
    /// Nothing of it is in the table's files.
    Whole,
    /// The table has so many bytes that nobody should wait for it: only its dead rows are gone, and their bytes go as new
    /// ones need the room.
    TooLarge(i64),
}

/// The tables in whose files something may be that was overwritten and is to be nowhere.
#[derive(Debug, Default)]
pub(crate) struct Remains(Mutex<BTreeSet<&'static str>>);

impl Remains {
    pub(crate) fn are_in(&self, table: &'static str) {
        self.tables().insert(table);
    }

    pub(crate) fn take(&self) -> BTreeSet<&'static str> {
        std::mem::take(&mut *self.tables())
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the table anew; tells whether that is done, and is not to be tried again.
pub(crate) fn clear(conn: Result<AnyConn, Error>, table: &'static str) -> Result<(), Failed> {
    match conn.and_then(|mut conn| rewrite(&mut conn, table)) {
        Ok(Rewritten::Whole) => Ok(()),
        Ok(Rewritten::TooLarge(bytes)) => {
            tracing::warn!(
                table,
                bytes,
                "the table of keys is too large to be written anew while others wait; bytes of destroyed keys may be in \
                 the free room of its pages: run VACUUM FULL on it in a quiet hour"
            );
            Err(Failed::ForGood)
        }
        Err(error) => {
            tracing::warn!(table, %error, "destroyed keys may still be in dead rows of the table; trying again within a minute");
            Err(Failed::ForNow)
        }
    }
}

/// Why a table was not written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Somebody holds it, or the database is away.
    ForNow,
    /// It is too large.
    ForGood,
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

fn number(conn: &mut AnyConn, text: String) -> Result<i64, Error> {
    let row: Number = on_conn!(conn, |c| diesel::sql_query(text).get_result(c))?;
    Ok(row.number)
}

/// Lets no samples be taken of bodies of `table` any more, and nothing stay of those that were taken. A column whose type is
/// set has none; it is the type that it has, so that the table is not written for it.
fn forget_samples(conn: &mut AnyConn, table: &str) -> Result<(), Error> {
    let column = format!("ALTER TABLE {table} ALTER COLUMN body");
    on_conn!(conn, |c| c.batch_execute(&format!("{column} SET STATISTICS 0")))?;
    let samples = format!(
        "SELECT COUNT(*) AS number FROM pg_stats \
         WHERE schemaname = current_schema() AND tablename = '{table}' AND attname = 'body'"
    );
    if number(conn, samples)? > 0 {
        on_conn!(conn, |c| c.batch_execute(&format!("{column} TYPE BYTEA")))?;
        on_conn!(conn, |c| c.batch_execute("VACUUM FULL pg_statistic"))?;
    }
    Ok(())
}

/// Writes `table` of a Postgres database anew, on a connection of its own, whose settings it changes.
fn rewrite(conn: &mut AnyConn, table: &str) -> Result<Rewritten, Error> {
    let size = number(conn, format!("SELECT pg_total_relation_size('{table}') AS number"))?;
    if size > MOST {
        on_conn!(conn, |c| c.batch_execute(&format!("VACUUM {table}")))?;
    }
    on_conn!(conn, |c| c.batch_execute(BOUNDS))?;
    forget_samples(conn, table)?;
    if size > MOST {
        return Ok(Rewritten::TooLarge(size));
    }
    on_conn!(conn, |c| c.batch_execute(&format!("VACUUM FULL {table}")))?;
    Ok(Rewritten::Whole)
}
