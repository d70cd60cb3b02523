//! What Postgres keeps of rows that were overwritten: the row as it was stays in the table's file as a dead tuple, and after
//! a VACUUM its bytes may still lie in the free part of their page. Only a table that is written anew leaves them behind.

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
struct Size {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// Writes `table` of a Postgres database anew, on a connection of its own, whose settings it changes.
pub(crate) fn rewrite(conn: &mut AnyConn, table: &str) -> Result<Rewritten, Error> {
    let text = format!("SELECT pg_total_relation_size('{table}') AS bytes");
    let size: Size = on_conn!(conn, |c| diesel::sql_query(text).get_result(c))?;
    if size.bytes > MOST {
        on_conn!(conn, |c| c.batch_execute(&format!("VACUUM {table}")))?;
        return Ok(Rewritten::TooLarge(size.bytes));
    }
    on_conn!(conn, |c| c.batch_execute(BOUNDS))?;
    on_conn!(conn, |c| c.batch_execute(&format!("VACUUM FULL {table}")))?;
    Ok(Rewritten::Whole)
}
