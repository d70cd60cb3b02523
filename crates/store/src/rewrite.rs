//! What Postgres keeps of rows that were overwritten: the row as it was stays in the table's file as a dead tuple, and after
//! a VACUUM its bytes may still lie in the free part of their page. Only a table that is written anew leaves them behind.
//!
//! And it keeps samples: ANALYZE, which the server does by itself, copies up to a hundred values of each column into
//! `pg_statistic`, bodies as well, where they outlive their rows. Nothing is ever planned by a body.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewritten {
    /// Nothing of it is in the table's files.
    Whole,
    /// The table has so many bytes that nobody should wait for it: only its dead rows are gone, and their bytes go as new
    /// ones need the room.
    TooLarge(i64),
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
pub(crate) fn rewrite(conn: &mut AnyConn, table: &str) -> Result<Rewritten, Error> {
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
