//! The statements, by what they do. Nothing else in the store speaks SQL to a batch.

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Binary};

use crate::error::Error;
use crate::prepared::prepared;
use crate::statement::{MAX_ROWS, Rows};
use crate::table::{Cell, Kind, Raw, Table};
use crate::{AnyConn, on_conn};

type RawSql = (BigInt, Binary, BigInt, BigInt, Binary);
type GroupSql = (BigInt, Binary, BigInt, BigInt, Binary, Binary);
pub(crate) type KeySql = (BigInt, Binary);

/// Runs one statement over all `cells`.
macro_rules! over_once {
    ($conn:expr, $sql:ty, $head:expr, $tail:expr, $kinds:expr, $cells:expr) => {{
        let conn = &mut *$conn;
        let keep = conn.keeps_to_one_partition();
        on_conn!(conn, |c| Rows::<$sql>::new($head, $tail, $kinds, $cells, keep).load(c))?
    }};
}

/// Runs one statement over `cells`, in pieces that both databases take.
macro_rules! over {
    ($conn:expr, $sql:ty, $row:ty, $head:expr, $tail:expr, $kinds:expr, $cells:expr) => {{
        let (head, tail, cells): (&str, &str, &[Vec<Cell>]) = ($head, $tail, $cells);
        let mut out: Vec<$row> = Vec::new();
        for piece in cells.chunks(MAX_ROWS) {
            let found: Vec<$row> = $crate::sql::over_once!($conn, $sql, head, tail, $kinds, piece);
            out.extend(found);
        }
        out
    }};
}

pub(crate) use {over, over_once};

const PARTITION_AND_KEY: &[Kind] = &[Kind::Int, Kind::Bytes];

pub(crate) fn batch(conn: &mut AnyConn, sql: &str) -> Result<(), Error> {
    Ok(on_conn!(conn, |c| c.batch_execute(sql))?)
}

pub(crate) fn load(conn: &mut AnyConn, table: Table, keys: &[(i64, Vec<u8>)]) -> Result<Vec<Raw>, Error> {
    let cells = key_cells(keys);
    let tail = format!("JOIN {0} t ON t.partition=v.column1 AND t.id=v.column2", table.name);
    let head = "SELECT t.partition,t.id,t.version,t.format,t.body FROM ";
    let rows = over!(
        conn,
        RawSql,
        (i64, Vec<u8>, i64, i64, Vec<u8>),
        head,
        &tail,
        PARTITION_AND_KEY,
        &cells
    );
    Ok(rows
        .into_iter()
        .map(|(partition, id, version, format, body)| Raw {
            partition,
            id,
            version,
            format,
            body,
        })
        .collect())
}

/// Rows by a look-up column, each with the value it was found by.
pub(crate) fn load_groups(
    conn: &mut AnyConn,
    table: Table,
    column: &str,
    values: &[(i64, Vec<u8>)],
) -> Result<Vec<(Raw, Vec<u8>)>, Error> {
    let cells = key_cells(values);
    let tail = format!(
        "JOIN {0} t ON t.partition=v.column1 AND t.{column}=v.column2",
        table.name
    );
    let head = "SELECT t.partition,t.id,t.version,t.format,t.body,v.column2 FROM ";
    let rows = over!(
        conn,
        GroupSql,
        (i64, Vec<u8>, i64, i64, Vec<u8>, Vec<u8>),
        head,
        &tail,
        PARTITION_AND_KEY,
        &cells
    );
    let split = |(partition, id, version, format, body, value)| {
        (
            Raw {
                partition,
                id,
                version,
                format,
                body,
            },
            value,
        )
    };
    Ok(rows.into_iter().map(split).collect())
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

fn key_cells(keys: &[(i64, Vec<u8>)]) -> Vec<Vec<Cell>> {
    keys.iter()
        .map(|(partition, id)| vec![(*partition).into(), id.clone().into()])
        .collect()
}

/// A row to be written: partition, id, version as loaded, format, body, then the table's cells.
pub(crate) type Written = Vec<Cell>;

/// Creates rows; tells which of them were not there yet.
pub(crate) fn insert(conn: &mut AnyConn, table: Table, rows: &[Written]) -> Result<Vec<(i64, Vec<u8>)>, Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let columns: String = table.columns.iter().map(|c| format!(",{}", c.name)).collect();
    let head = format!("INSERT INTO {}(partition,id,version,format,body{columns}) ", table.name);
    let tail = "ON CONFLICT DO NOTHING RETURNING partition,id";
    Ok(over!(conn, KeySql, (i64, Vec<u8>), &head, tail, &kinds(table), rows))
}

/// Replaces rows that are still of the version they were loaded in.
pub(crate) fn update(conn: &mut AnyConn, table: Table, rows: &[Written]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let name = table.name;
    let sets: String = table
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| format!(",{}=v.column{}", c.name, i + 6))
        .collect();
    let head = format!("UPDATE {name} SET version={name}.version+1,format=v.column4,body=v.column5{sets} FROM ");
    let tail = format!(
        "WHERE {name}.partition=v.column1 AND {name}.id=v.column2 AND {name}.version=v.column3 RETURNING {name}.partition,{name}.id"
    );
    let done = over!(conn, KeySql, (i64, Vec<u8>), &head, &tail, &kinds(table), rows);
    expect_all(done.len(), rows.len(), name)
}

fn kinds(table: Table) -> Vec<Kind> {
    let mut kinds = vec![Kind::Int, Kind::Bytes, Kind::Int, Kind::Int, Kind::Bytes];
    kinds.extend(table.columns.iter().map(|c| c.kind));
    kinds
}

pub(crate) fn expect_all(done: usize, wanted: usize, table: &str) -> Result<(), Error> {
    if done == wanted {
        return Ok(());
    }
    Err(Error::Missed(format!(
        "{table}: {done} of {wanted} rows were written under a lock that makes all of them certain"
    )))
}

pub(crate) fn append_feed(conn: &mut AnyConn, rows: &[Vec<Cell>]) -> Result<(), Error> {
    let kinds = [
        Kind::Int,
        Kind::Int,
        Kind::Int,
        Kind::Int,
        Kind::Bytes,
        Kind::Bytes,
        Kind::Bytes,
        Kind::Bytes,
    ];
    let head = "INSERT INTO feed(partition,position,epoch,time,event_id,subject,chain,body) ";
    let tail = "ON CONFLICT DO NOTHING RETURNING partition,event_id";
    let done = over!(conn, KeySql, (i64, Vec<u8>), head, tail, &kinds, rows);
    expect_all(done.len(), rows.len(), "feed")
}

/// The subjects of all events from the given positions on, in commit order within a partition.
pub(crate) fn subjects_from(conn: &mut AnyConn, from: &[(i64, i64)]) -> Result<Vec<Vec<u8>>, Error> {
    let cells: Vec<Vec<Cell>> = from.iter().map(|(p, n)| vec![(*p).into(), (*n).into()]).collect();
    let head = "SELECT f.partition,f.subject FROM ";
    let tail = "JOIN feed f ON f.partition=v.column1 AND f.position>=v.column2 AND f.subject IS NOT NULL \
                ORDER BY f.partition,f.position";
    let rows = over!(
        conn,
        KeySql,
        (i64, Vec<u8>),
        head,
        tail,
        &[Kind::Int, Kind::Int],
        &cells
    );
    Ok(rows.into_iter().map(|(_, subject)| subject).collect())
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
