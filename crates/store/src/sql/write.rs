//! The statements that write rows, and those that a batch counts.

use std::collections::BTreeSet;

use diesel::RunQueryDsl;

use super::{Key, KeySql, at_once};
use crate::AnyConn;
use crate::error::Error;
use crate::statement::Statement;
use crate::table::{Cell, Kind, Table};

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

#[cfg(test)]
mod tests {
    use super::super::batch;
    use super::*;
    use crate::{Column, Location};

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
