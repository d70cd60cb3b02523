//! The statements, by what they do. Nothing else in the store speaks SQL to a batch.

use std::collections::BTreeSet;

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

/// A row to be written: partition, id, version as loaded, format, body, then the table's cells.
pub(crate) type Written = Vec<Cell>;

/// What creates rows; a row that is there already stays, and counts for nothing.
pub(crate) fn insert(table: Table, rows: Vec<Written>) -> Statement {
    let columns: String = table.columns.iter().map(|c| format!(",{}", c.name)).collect();
    Statement {
        table: table.name,
        head: format!("INSERT INTO {}(partition,id,version,format,body{columns}) ", table.name),
        tail: "ON CONFLICT DO NOTHING".to_owned(),
        returning: "partition,id".to_owned(),
        kinds: kinds(table),
        cells: rows,
    }
}

/// The same for rows that a lock makes sure of: one that is there already is a [`Error::Missed`]. Postgres then neither looks
/// first nor writes down that it found nothing, which is a third of what it writes of an insert.
pub(crate) fn create(table: Table, rows: Vec<Written>) -> Statement {
    Statement {
        tail: String::new(),
        ..insert(table, rows)
    }
}

/// What replaces rows that are still of the version they were loaded in.
pub(crate) fn update(table: Table, rows: Vec<Written>) -> Statement {
    let name = table.name;
    let sets: String = table
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| format!(",{}=v.column{}", c.name, i + 6))
        .collect();
    Statement {
        table: name,
        head: format!("UPDATE {name} SET version={name}.version+1,format=v.column4,body=v.column5{sets} FROM "),
        tail: format!("WHERE {name}.partition=v.column1 AND {name}.id=v.column2 AND {name}.version=v.column3"),
        returning: format!("{name}.partition,{name}.id"),
        kinds: kinds(table),
        cells: rows,
    }
}

/// What replaces the body, and of the look-up values those in `moved`, a bit for each column, of rows whose others are as they
/// are in the table, `NULL` included.
fn update_only(table: Table, moved: u32, rows: Vec<Written>) -> Statement {
    let name = table.name;
    let (mut sets, mut same) = (String::new(), String::new());
    for (i, c) in table.columns.iter().enumerate() {
        if moved & 1 << i == 0 {
            // By its `+` a column chooses no index: a row is found by its key.
            same.push_str(&format!(" AND +{name}.{} IS v.column{}", c.name, i + 6));
        } else {
            sets.push_str(&format!(",{}=v.column{}", c.name, i + 6));
        }
    }
    Statement {
        table: name,
        head: format!("UPDATE {name} SET version={name}.version+1,format=v.column4,body=v.column5{sets} FROM "),
        tail: format!("WHERE {name}.partition=v.column1 AND {name}.id=v.column2 AND {name}.version=v.column3{same}"),
        returning: format!("{name}.partition,{name}.id"),
        kinds: kinds(table),
        cells: rows,
    }
}

/// Replaces the rows whose look-up values are what they were but for those in `moved`, and tells the others. SQLite writes
/// each index anew whose columns a statement sets, whatever they are set to; so what did not move is not named. Postgres looks
/// by itself: nothing is done.
pub(crate) fn update_moved(
    conn: &mut AnyConn,
    table: Table,
    moved: u32,
    rows: Vec<Written>,
) -> Result<Vec<Written>, Error> {
    let all_move = moved.count_ones() as usize == table.columns.len();
    if all_move || matches!(conn, AnyConn::Pg(_)) {
        return Ok(rows);
    }
    let statements = [update_only(table, moved, rows)];
    let done: BTreeSet<Key> = written(conn, &statements)?.into_iter().flatten().collect();
    let [Statement { mut cells, .. }] = statements;
    cells.retain(|row| match row.as_slice() {
        [Cell::Int(Some(partition)), Cell::Bytes(Some(id)), ..] => !done.contains(&(*partition, id.clone())),
        _ => true,
    });
    Ok(cells)
}

/// Runs statements that write; tells how many rows each of them wrote. The database counts them, and nothing of them comes
/// back.
pub(crate) fn write_all(conn: &mut AnyConn, statements: &[Statement]) -> Result<Vec<usize>, Error> {
    let mut counts = vec![0; statements.len()];
    let pg = match conn {
        AnyConn::Pg(pg) => pg,
        AnyConn::Sqlite(conn) => {
            for (statement, count) in statements.iter().zip(&mut counts) {
                for piece in statement.silent_pieces(false) {
                    *count += piece.execute(&mut *conn)?;
                }
            }
            return Ok(counts);
        }
    };
    let keep = pg.keeps_to_one_partition();
    let pieces = statements.iter().enumerate();
    let pieces = pieces.flat_map(|(n, statement)| statement.silent_pieces(keep).map(move |piece| (n, piece)));
    let done = pg.at_once(|conn| {
        let run = |(n, piece)| async move {
            let mut conn = conn;
            let count: usize = diesel_async::RunQueryDsl::execute(piece, &mut conn).await?;
            Ok((n, count))
        };
        pieces.map(run).collect()
    })?;
    done.into_iter()
        .for_each(|(n, count): (usize, usize)| counts[n] += count);
    Ok(counts)
}

/// What failed because a row was there that a lock made sure of.
pub(crate) fn missed(error: Error) -> Error {
    use diesel::result::{DatabaseErrorKind::UniqueViolation, Error as Diesel};
    match error {
        Error::Database(Diesel::DatabaseError(UniqueViolation, info)) => Error::Missed(info.message().to_owned()),
        other => other,
    }
}

/// The keys of the rows that each of the statements found or wrote.
pub(crate) fn written(conn: &mut AnyConn, statements: &[Statement]) -> Result<Vec<Vec<Key>>, Error> {
    Ok(at_once!(conn, KeySql, Key, statements))
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

/// What appends events to the feed.
pub(crate) fn feed(rows: Vec<Vec<Cell>>) -> Statement {
    use Kind::{Bytes, Int};
    Statement {
        table: "feed",
        head: "INSERT INTO feed(partition,position,epoch,time,event_id,subject,chain,body) ".to_owned(),
        tail: String::new(),
        returning: "partition,event_id".to_owned(),
        kinds: vec![Int, Int, Int, Int, Bytes, Bytes, Bytes, Bytes],
        cells: rows,
    }
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
    use crate::{Column, Location};

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

    const OWNED: Table = Table {
        name: "owned",
        columns: &[Column::bytes("owner"), Column::int("due")],
    };

    fn owned(version: i64, owner: &[u8]) -> Written {
        let mut row: Written = vec![3.into(), b"key".as_slice().into(), version.into(), 1.into()];
        row.extend([b"body".as_slice().into(), owner.into(), Cell::Int(None)]);
        row
    }

    #[test]
    fn a_change_of_no_look_up_value_writes_no_index() {
        let folder = tempfile::tempdir().unwrap();
        let mut conn = Location::Sqlite(folder.path().join("x.db")).connect().unwrap();
        batch(
            &mut conn,
            "CREATE TABLE owned (partition BIGINT, id BYTEA, version BIGINT, format BIGINT, body BYTEA, owner BYTEA, \
             due BIGINT, PRIMARY KEY (partition, id)); CREATE INDEX by_owner ON owned (owner); CREATE INDEX by_due ON owned (due)",
        )
        .unwrap();
        assert_eq!(
            write_all(&mut conn, &[insert(OWNED, vec![owned(1, b"she")])]).unwrap(),
            [1]
        );
        // Each page that a commit changed is written whole.
        let wal = folder.path().join("x.db-wal");
        let pages = || std::fs::metadata(&wal).unwrap().len() / 4096;
        let mut before = pages();
        let mut since = || {
            let now = pages();
            now - std::mem::replace(&mut before, now)
        };
        assert!(
            update_moved(&mut conn, OWNED, 0, vec![owned(1, b"she")])
                .unwrap()
                .is_empty()
        );
        assert_eq!(since(), 1, "the row");
        assert_eq!(
            write_all(&mut conn, &[update(OWNED, vec![owned(2, b"she")])]).unwrap(),
            [1]
        );
        assert_eq!(since(), 3, "the row and both indexes");
        for not_the_same in [owned(3, b"he"), owned(2, b"she")] {
            let left = update_moved(&mut conn, OWNED, 0, vec![not_the_same.clone()]).unwrap();
            assert_eq!(left, [not_the_same], "another value, or a version that is gone");
        }
        assert_eq!(since(), 0);
        // The owner is another, and that alone.
        assert!(
            update_moved(&mut conn, OWNED, 0b01, vec![owned(3, b"he")])
                .unwrap()
                .is_empty()
        );
        assert_eq!(since(), 2, "the row and the index of owners");
        let due_too = vec![owned(4, b"he")];
        assert_eq!(
            update_moved(&mut conn, OWNED, 0b11, due_too.clone()).unwrap(),
            due_too,
            "where all move it is the usual update"
        );
        let left = update_moved(&mut conn, OWNED, 0b10, vec![owned(4, b"she")]).unwrap();
        assert_eq!(
            left,
            [owned(4, b"she")],
            "the owner moved though the body did not say so"
        );
        assert_eq!(since(), 0);
    }
}
