//! What Postgres keeps of rows that were overwritten: the row as it was stays in the table's file as a dead tuple, and after
//! a VACUUM its bytes may still lie in the free part of their page. Only a table that is written anew leaves them behind.
//!
//! And it keeps samples: ANALYZE, which the server does by itself, copies up to a hundred values of each column into
//! `pg_statistic`, bodies as well, where they outlive their rows. Nothing is ever planned by a body.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use sammati_kernel::Micros;

use crate::dial::Dial;
use crate::error::Error;
use crate::{AnyConn, on_conn};

/// The largest table, its indexes included, that is written anew while others wait for it.
const MOST: i64 = 128 << 20;

/// How long others may have to wait: until nobody reads the table, and while it is written anew.
const BOUNDS: &str = "SET lock_timeout='1s'; SET statement_timeout='5s'";

/// From one writing to the next: everybody waits while a table is written, and behind whoever waits for it.
const PAUSE: Duration = Duration::from_secs(60);

/// The tables in whose files something may be that was overwritten and is to be nowhere.
#[derive(Debug, Default)]
pub(crate) struct Remains(Mutex<Left>);

#[derive(Debug, Default)]
struct Left {
    tables: BTreeSet<&'static str>,
    /// Before when no table is written anew.
    pause: Micros,
}

impl Remains {
    pub(crate) fn are_in(&self, table: &'static str) {
        self.left().tables.insert(table);
    }

    /// Those to write anew at `now`; the next ones are not told before the pause is over.
    pub(crate) fn take(&self, now: Micros) -> BTreeSet<&'static str> {
        let mut left = self.left();
        if left.tables.is_empty() || now < left.pause {
            return BTreeSet::new();
        }
        left.pause = now.plus(PAUSE);
        std::mem::take(&mut left.tables)
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a table of the Postgres database at `location` anew, on a connection of its own.
pub(crate) fn clear(location: &Dial, table: &'static str) -> Result<(), Failed> {
    match location.connect().and_then(|mut conn| rewrite(&mut conn, table)) {
        Ok(bytes) if bytes <= MOST => Ok(()),
        Ok(bytes) => {
            tracing::warn!(
                table,
                bytes,
                "the table of keys is too large to be written anew while others wait; bytes of destroyed keys may be in \
                 the free room of its pages: run VACUUM FULL on it in a quiet hour"
            );
            Err(Failed::ForGood)
        }
        Err(error) => {
            tracing::warn!(table, %error, "destroyed keys may still be in dead rows of the table; trying again in a minute");
            Err(Failed::ForNow)
        }
    }
}

/// Why a table was not written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Somebody holds it, or the database is away.
    ForNow,
    /// It is too large: its dead rows are gone, and their bytes go as new ones need the room.
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

/// Writes `table` anew unless it is too large, on a connection whose settings it changes; tells how many bytes it had.
fn rewrite(conn: &mut AnyConn, table: &str) -> Result<i64, Error> {
    let size = number(conn, format!("SELECT pg_total_relation_size('{table}') AS number"))?;
    if size > MOST {
        on_conn!(conn, |c| c.batch_execute(&format!("VACUUM {table}")))?;
    }
    on_conn!(conn, |c| c.batch_execute(BOUNDS))?;
    forget_samples(conn, table)?;
    if size <= MOST {
        on_conn!(conn, |c| c.batch_execute(&format!("VACUUM FULL {table}")))?;
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_anew_once_a_minute_at_most_and_none_is_forgotten() {
        let (remains, at) = (Remains::default(), |seconds: i64| Micros::from_seconds(1_000 + seconds));
        assert!(remains.take(at(0)).is_empty(), "and that was no writing");
        remains.are_in("key");
        assert_eq!(remains.take(at(1)), BTreeSet::from(["key"]));
        // In vain; and another one came.
        remains.are_in("key");
        remains.are_in("other");
        assert!(remains.take(at(60)).is_empty());
        assert_eq!(remains.take(at(61)), BTreeSet::from(["key", "other"]));
        assert!(remains.take(at(200)).is_empty());
    }
}
