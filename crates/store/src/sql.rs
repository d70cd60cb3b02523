//! The statements, by what they do. Nothing else in the store speaks SQL to a batch.

mod write;

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Binary};

use crate::error::Error;
use crate::prepared::prepared;
use crate::statement::{Rows, Statement};
use crate::table::{Cell, Kind, Raw, Table};
use crate::{AnyConn, on_conn};

type RawSql = (BigInt, Binary, BigInt, BigInt, Binary);
pub(crate) type GroupSql = (BigInt, Binary, BigInt, BigInt, Binary, Binary);
type KeySql = (BigInt, Binary);

/// Runs one statement over all `cells`.
macro_rules! over_once {
    ($conn:expr, $sql:ty, $head:expr, $tail:expr, $kinds:expr, $cells:expr) => {{
        let conn = &mut *$conn;
        let keep = conn.keeps_to_one_partition();
        on_conn!(conn, |c| Rows::<$sql>::new($head, $tail, $kinds, $cells, keep).load(c))?
    }};
}

pub(crate) use over_once;
pub(crate) use write::{Written, create, expect_all, feed, insert, missed, update, update_moved, write_all, written};

const PARTITION_AND_KEY: &[Kind] = &[Kind::Int, Kind::Bytes];

pub(crate) fn batch(conn: &mut AnyConn, sql: &str) -> Result<(), Error> {
    Ok(on_conn!(conn, |c| c.batch_execute(sql))?)
}

/// Runs statements that need nothing of each other's; tells the rows of each. Postgres is sent all of them before it is waited
/// for.
macro_rules! at_once {
    ($conn:expr, $sql:ty, $row:ty, $statements:expr) => {{
        let (conn, statements): (&mut AnyConn, &[Statement]) = ($conn, $statements);
        let keep = conn.keeps_to_one_partition();
        let mut found: Vec<Vec<$row>> = Vec::with_capacity(statements.len());
        match conn {
            AnyConn::Sqlite(conn) => {
                for statement in statements {
                    let mut rows = Vec::new();
                    for piece in statement.pieces::<$sql>(keep) {
                        rows.extend(piece.load::<$row>(&mut *conn)?);
                    }
                    found.push(rows);
                }
            }
            AnyConn::Pg(pg) => {
                let pieces = statements.iter().enumerate();
                let pieces =
                    pieces.flat_map(|(n, statement)| statement.pieces::<$sql>(keep).map(move |piece| (n, piece)));
                let answers = pg.at_once(|conn| {
                    let ask = |(n, piece)| async move {
                        let mut conn = conn;
                        let rows: Vec<$row> = diesel_async::RunQueryDsl::load(piece, &mut conn).await?;
                        Ok((n, rows))
                    };
                    pieces.map(ask).collect()
                })?;
                found.resize_with(statements.len(), Vec::new);
                for (n, rows) in answers {
                    let place: &mut Vec<$row> = &mut found[n];
                    if place.is_empty() {
                        *place = rows;
                    } else {
                        place.extend(rows);
                    }
                }
            }
        }
        found
    }};
}

use at_once;

/// A partition and a key in it.
pub(crate) type Key = (i64, Vec<u8>);

pub(crate) type Found = (i64, Vec<u8>, i64, i64, Vec<u8>, Vec<u8>);

/// A row, and the value that it was found by if that is not its key.
pub(crate) type Loaded = (Raw, Vec<u8>);

pub(crate) fn loaded((partition, id, version, format, body, value): Found) -> Loaded {
    let raw = Raw {
        partition,
        id,
        version,
        format,
        body,
    };
    (raw, value)
}

/// What loads rows by their keys.
pub(crate) fn by_key<'a>(table: Table, keys: impl IntoIterator<Item = &'a (i64, Vec<u8>)>) -> Statement {
    Statement {
        table: table.name,
        // As many columns as where rows are found by another one; what it would hold is the key itself.
        head: "SELECT t.partition,t.id,t.version,t.format,t.body,substr(t.id,1,0) FROM ".to_owned(),
        tail: format!("JOIN {0} t ON t.partition=v.column1 AND t.id=v.column2", table.name),
        returning: String::new(),
        kinds: PARTITION_AND_KEY.to_vec(),
        cells: key_cells(keys),
    }
}

/// What loads rows by a look-up column, each with the value it is found by.
pub(crate) fn by_column<'a>(
    table: Table,
    column: &str,
    values: impl IntoIterator<Item = &'a (i64, Vec<u8>)>,
) -> Statement {
    Statement {
        table: table.name,
        head: "SELECT t.partition,t.id,t.version,t.format,t.body,v.column2 FROM ".to_owned(),
        tail: format!(
            "JOIN {0} t ON t.partition=v.column1 AND t.{column}=v.column2",
            table.name
        ),
        returning: String::new(),
        kinds: PARTITION_AND_KEY.to_vec(),
        cells: key_cells(values),
    }
}

/// The rows that each of the statements loads.
pub(crate) fn load_all(conn: &mut AnyConn, statements: &[Statement]) -> Result<Vec<Vec<Loaded>>, Error> {
    let found: Vec<Vec<Found>> = at_once!(conn, GroupSql, Found, statements);
    let found = found.into_iter().map(|rows| rows.into_iter().map(loaded).collect());
    Ok(found.collect())
}

pub(crate) fn load(conn: &mut AnyConn, table: Table, keys: &[(i64, Vec<u8>)]) -> Result<Vec<Raw>, Error> {
    let found = load_all(conn, &[by_key(table, keys)])?;
    Ok(found.into_iter().flatten().map(|(raw, _)| raw).collect())
}

/// Rows by a look-up column, each with the value it was found by.
pub(crate) fn load_groups(
    conn: &mut AnyConn,
    table: Table,
    column: &str,
    values: &[(i64, Vec<u8>)],
) -> Result<Vec<(Raw, Vec<u8>)>, Error> {
    let found = load_all(conn, &[by_column(table, column, values)])?;
    Ok(found.into_iter().flatten().collect())
}

/// Rows of several partitions by a look-up column, from a place in each on. In one statement, for the limit is on all of
/// them: partitions never exceed 4,096.
pub(crate) fn ranges(
    conn: &mut AnyConn,
    table: Table,
    (column, value): (&str, &[u8]),
    (order, after): (&str, &[(i64, i64)]),
    limit: i64,
) -> Result<Vec<Raw>, Error> {
    let cells: Vec<Vec<Cell>> = after
        .iter()
        .map(|(partition, after)| vec![(*partition).into(), value.to_vec().into(), (*after).into()])
        .collect();
    let tail = format!(
        "JOIN {0} t ON t.partition=v.column1 AND t.{column}=v.column2 AND t.{order}>v.column3 \
         ORDER BY t.partition,t.{order} LIMIT {limit}",
        table.name
    );
    let head = "SELECT t.partition,t.id,t.version,t.format,t.body FROM ";
    let kinds = [Kind::Int, Kind::Bytes, Kind::Int];
    type Found = (i64, Vec<u8>, i64, i64, Vec<u8>);
    let rows: Vec<Found> = over_once!(conn, RawSql, head, &tail, &kinds, &cells);
    let raw = |(partition, id, version, format, body): Found| Raw {
        partition,
        id,
        version,
        format,
        body,
    };
    Ok(rows.into_iter().map(raw).collect())
}

fn key_cells<'a>(keys: impl IntoIterator<Item = &'a (i64, Vec<u8>)>) -> Vec<Vec<Cell>> {
    keys.into_iter()
        .map(|(partition, id)| vec![(*partition).into(), id.clone().into()])
        .collect()
}

/// The subjects of all events from the given positions on, in commit order within a partition.
pub(crate) fn subjects_from(conn: &mut AnyConn, from: &[(i64, i64)]) -> Result<Vec<Vec<u8>>, Error> {
    let statement = Statement {
        table: "feed",
        head: "SELECT f.partition,f.subject FROM ".to_owned(),
        tail: "JOIN feed f ON f.partition=v.column1 AND f.position>=v.column2 AND f.subject IS NOT NULL \
               ORDER BY f.partition,f.position"
            .to_owned(),
        returning: String::new(),
        kinds: vec![Kind::Int, Kind::Int],
        cells: from.iter().map(|(p, n)| vec![(*p).into(), (*n).into()]).collect(),
    };
    let found: Vec<Vec<(i64, Vec<u8>)>> = at_once!(conn, KeySql, (i64, Vec<u8>), &[statement]);
    Ok(found.into_iter().flatten().map(|(_, subject)| subject).collect())
}

/// A plan that Postgres made while a table was empty and analysed reads the whole table for ever after: plans are made
/// anew after 1, 2, 4, 8 … uses of a connection, and then each 4,096.
pub(crate) fn refresh_plans(conn: &mut AnyConn, uses: u64) {
    if matches!(conn, AnyConn::Pg(_)) && (uses.is_power_of_two() || uses.is_multiple_of(4096)) {
        batch(conn, "DISCARD PLANS").unwrap_or_else(|error| tracing::warn!(%error, "cannot discard plans"));
    }
}

/// Rows of one partition of a table, by key, after the given one.
pub(crate) fn scan(
    conn: &mut AnyConn,
    table: &str,
    partition: i64,
    after: &[u8],
    limit: i64,
) -> Result<Vec<Raw>, Error> {
    let text =
        format!("SELECT partition,id,version,format,body FROM {table} WHERE partition=? AND id>? ORDER BY id LIMIT ?");
    let values = [partition.into(), after.into(), limit.into()];
    Ok(on_conn!(conn, |c| prepared(&text, &values).load(c))?)
}

/// Runs `read` in one snapshot.
pub(crate) fn in_snapshot<T>(
    conn: &mut AnyConn,
    read: impl FnOnce(&mut AnyConn) -> Result<T, Error>,
) -> Result<T, Error> {
    let begin = match conn {
        AnyConn::Pg(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        AnyConn::Sqlite(_) => "BEGIN",
    };
    batch(conn, begin)?;
    let result = read(conn);
    end(conn, result)
}

/// Ends a transaction: commits what went well, takes back what did not.
pub(crate) fn end<T>(conn: &mut AnyConn, result: Result<T, Error>) -> Result<T, Error> {
    let result = result.and_then(|value| batch(conn, "COMMIT").map(|()| value));
    result.map_err(|error| roll_back(conn, error))
}

/// Takes back what failed of `error`; tells what to say of it. A transaction that cannot be ended ends with its connection:
/// kept, it would keep others waiting.
pub(crate) fn roll_back(conn: &mut AnyConn, error: Error) -> Error {
    if error.lost_connection() {
        return error;
    }
    let Err(second) = batch(conn, "ROLLBACK") else {
        return error;
    };
    tracing::warn!(%error, %second, "a transaction that failed could not be rolled back; dropping its connection");
    Error::Connect(format!("{error}; then the rollback failed: {second}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Location;

    #[test]
    fn a_failure_whose_rollback_fails_too_tells_of_both_and_drops_the_connection() {
        let mut conn = Location::parse("sqlite::memory:").unwrap().connect().unwrap();
        let failed = in_snapshot(&mut conn, |conn| {
            batch(conn, "ROLLBACK")?;
            batch(conn, "SELECT * FROM absent")
        });
        let error = failed.unwrap_err();
        assert!(error.lost_connection());
        let text = error.to_string();
        assert!(
            text.contains("no such table: absent") && text.contains("no transaction is active"),
            "{text}"
        );
        let failed = in_snapshot(&mut conn, |conn| batch(conn, "SELECT * FROM absent"));
        assert!(!failed.unwrap_err().lost_connection(), "this one is ended");
        in_snapshot(&mut conn, |_| Ok(())).unwrap();
    }
}
