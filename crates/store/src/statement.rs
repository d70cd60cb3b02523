//! One statement over many rows, for both databases: the text is the same but for how the rows are spelled.
//!
//! SQLite gets `(VALUES (…), …)` padded with NULL rows to a power of two, so that few texts exist and stay prepared. Of what
//! is the same in all rows, as the partition mostly is, the first row's value is named in the others instead of bound again.
//! Postgres gets `unnest($1, $2, …)`: one text for any number of rows. Where they are read the rows are called `v`, their columns
//! `column1`, `column2`, … on both. Where a transaction keeps to one partition, Postgres gets `VALUES` too, and the
//! partition by itself: whoever plans the statement sees where it runs.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::{Array, BigInt, Binary, Nullable};
use diesel::sqlite::Sqlite;
use diesel::{Connection, RunQueryDsl};

use crate::table::{Cell, Kind};

/// The most rows one statement takes; more are sent in several. 256 rows of 20 columns fit both databases' limits.
pub(crate) const MAX_ROWS: usize = 256;

/// One statement over any number of rows, as it is made before it is sent.
pub(crate) struct Statement {
    /// The table that it is about.
    pub(crate) table: &'static str,
    pub(crate) head: String,
    pub(crate) tail: String,
    /// What it tells of each row that it wrote, where that is asked for: a key of two columns.
    pub(crate) returning: String,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) cells: Vec<Vec<Cell>>,
}

impl Statement {
    /// In pieces that both databases take: none without rows.
    pub(crate) fn pieces<Sql>(&self, one_partition: bool) -> impl Iterator<Item = Rows<'_, Sql>> {
        let rows = move |piece| Rows {
            returning: &self.returning,
            ..Rows::new(&self.head, &self.tail, &self.kinds, piece, one_partition)
        };
        self.cells.chunks(MAX_ROWS).map(rows)
    }

    /// The same, for who needs to know of how many rows alone.
    pub(crate) fn silent_pieces(&self, one_partition: bool) -> impl Iterator<Item = Rows<'_, ()>> {
        self.pieces(one_partition).map(|rows| Rows { returning: "", ..rows })
    }
}

/// `head (rows) AS v tail`; a head that begins with INSERT inserts the rows.
pub(crate) struct Rows<'a, Sql> {
    head: &'a str,
    tail: &'a str,
    returning: &'a str,
    kinds: &'a [Kind],
    cells: &'a [Vec<Cell>],
    /// For `unnest`; empty where the rows are spelled as `VALUES`.
    arrays: Vec<ColumnOf<'a>>,
    /// The one partition that all rows are of, where the statement is to say so.
    partition: Option<i64>,
    /// Which columns have one value in all rows, of those that [`COMMON`] names.
    common: [bool; COMMON.len()],
    _sql: PhantomData<Sql>,
}

/// One column of all rows, as Postgres wants it.
enum ColumnOf<'a> {
    Bytes(Vec<Option<&'a [u8]>>),
    Int(Vec<Option<i64>>),
}

static NO_BYTES: Option<Vec<u8>> = None;
static NO_INT: Option<i64> = None;

impl<'a, Sql> Rows<'a, Sql> {
    /// `cells` are rows of `kinds.len()` values each, at most [`MAX_ROWS`], and begin with the partition.
    /// `one_partition`: as [`crate::Location`] explains it.
    pub(crate) fn new(
        head: &'a str,
        tail: &'a str,
        kinds: &'a [Kind],
        cells: &'a [Vec<Cell>],
        one_partition: bool,
    ) -> Self {
        let columns = kinds.iter().enumerate().filter(|_| !one_partition);
        Self {
            head,
            tail,
            returning: "",
            kinds,
            cells,
            arrays: columns.map(|(i, kind)| column(*kind, cells, i)).collect(),
            partition: if one_partition { only_partition(cells) } else { None },
            common: std::array::from_fn(|i| is_common(head, cells, i)),
            _sql: PhantomData,
        }
    }
}

/// The names of the first row's values, for the columns that mostly have one value in all rows: partition, version and format.
const COMMON: [&str; 4] = ["?1", "", "?3", "?4"];

/// Whether the rows have one number in column `i`, and what makes rows different does not hang upon it. The versions of rows
/// that are changed are alike by chance only, and each case has a text of its own.
fn is_common(head: &str, cells: &[Vec<Cell>], i: usize) -> bool {
    let may_be = !COMMON[i].is_empty() && (i != 2 || head.starts_with("INSERT"));
    let first = cells.first().and_then(|row| row.get(i));
    may_be && matches!(first, Some(Cell::Int(Some(_)))) && cells.iter().all(|row| row.get(i) == first)
}

/// The partition that all rows are of, if it is one.
fn only_partition(cells: &[Vec<Cell>]) -> Option<i64> {
    let Cell::Int(Some(first)) = *cells.first()?.first()? else {
        return None;
    };
    let is_first = |row: &Vec<Cell>| row.first() == Some(&Cell::Int(Some(first)));
    cells.iter().all(is_first).then_some(first)
}

fn column(kind: Kind, cells: &[Vec<Cell>], i: usize) -> ColumnOf<'_> {
    match kind {
        Kind::Bytes => ColumnOf::Bytes(cells.iter().map(|row| row[i].bytes()).collect()),
        Kind::Int => ColumnOf::Int(
            cells
                .iter()
                .map(|row| match row[i] {
                    Cell::Int(value) => value,
                    Cell::Bytes(_) => None,
                })
                .collect(),
        ),
    }
}

// The text is the key of the prepared-statement cache: it is the same for every batch of one size.
impl<Sql> QueryId for Rows<'_, Sql> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Sql> Query for Rows<'_, Sql> {
    type SqlType = Sql;
}

impl<Sql, C: Connection> RunQueryDsl<C> for Rows<'_, Sql> {}

impl<Sql> QueryFragment<Sqlite> for Rows<'_, Sql> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.or_fail(&mut out);
        out.push_sql(if self.inserts() { "SELECT * FROM (" } else { "(" });
        for n in 0..self.cells.len().next_power_of_two() {
            out.push_sql(if n == 0 { "VALUES (" } else { ",(" });
            for (i, kind) in self.kinds.iter().enumerate() {
                if i > 0 {
                    out.push_sql(",");
                }
                match self.common.get(i) {
                    Some(true) if n > 0 => out.push_sql(COMMON[i]),
                    _ => bind(&mut out, *kind, self.cells.get(n).map(|row| &row[i]))?,
                }
            }
            out.push_sql(")");
        }
        out.push_sql(") AS v ");
        if self.inserts() {
            // A key: it is bound in every row.
            out.push_sql("WHERE column2 IS NOT NULL ");
        }
        out.push_sql(self.tail);
        self.tells(out);
        Ok(())
    }
}

impl<Sql> Rows<'_, Sql> {
    /// The head for SQLite. A write that fails is rolled back with its whole transaction, so SQLite need not keep beforehand
    /// what it would take to undo the statement alone.
    fn or_fail(&self, out: &mut AstPass<'_, '_, Sqlite>) {
        match self.head.split_once(' ') {
            Some((verb @ ("INSERT" | "UPDATE"), rest)) => {
                out.push_sql(verb);
                out.push_sql(" OR FAIL ");
                out.push_sql(rest);
            }
            _ => out.push_sql(self.head),
        }
    }
}

fn bind<'b, DB>(out: &mut AstPass<'_, 'b, DB>, kind: Kind, cell: Option<&'b Cell>) -> QueryResult<()>
where
    DB: Backend + diesel::sql_types::HasSqlType<Binary> + diesel::sql_types::HasSqlType<BigInt>,
    Option<Vec<u8>>: diesel::serialize::ToSql<Nullable<Binary>, DB>,
    Option<i64>: diesel::serialize::ToSql<Nullable<BigInt>, DB>,
{
    match (kind, cell) {
        (Kind::Bytes, Some(Cell::Bytes(value))) => out.push_bind_param::<Nullable<Binary>, _>(value),
        (Kind::Bytes, _) => out.push_bind_param::<Nullable<Binary>, _>(&NO_BYTES),
        (Kind::Int, Some(Cell::Int(value))) => out.push_bind_param::<Nullable<BigInt>, _>(value),
        (Kind::Int, _) => out.push_bind_param::<Nullable<BigInt>, _>(&NO_INT),
    }
}

const NAMES: [&str; 16] = [
    "column1", "column2", "column3", "column4", "column5", "column6", "column7", "column8", "column9", "column10",
    "column11", "column12", "column13", "column14", "column15", "column16",
];

impl<Sql> QueryFragment<Pg> for Rows<'_, Sql> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(self.head);
        if self.arrays.is_empty() {
            return self.values(out);
        }
        // Of a table of arrays Postgres keeps each column aside first; of a list of them it does not.
        let listed = self.inserts() || self.head.starts_with("UPDATE");
        out.push_sql(match (self.inserts(), listed) {
            (true, _) => "SELECT unnest(",
            (false, true) => "(SELECT unnest(",
            (false, false) => "unnest(",
        });
        for (i, (array, name)) in self.arrays.iter().zip(NAMES).enumerate() {
            if i > 0 {
                out.push_sql(if listed { ",unnest(" } else { "," });
            }
            match array {
                ColumnOf::Bytes(values) => out.push_bind_param::<Array<Nullable<Binary>>, _>(values)?,
                ColumnOf::Int(values) => out.push_bind_param::<Array<Nullable<BigInt>>, _>(values)?,
            }
            if listed {
                out.push_sql(") AS ");
                out.push_sql(name);
            }
        }
        match (self.inserts(), listed) {
            (true, _) => out.push_sql(" "),
            (false, true) => out.push_sql(") AS v "),
            (false, false) => {
                for (i, name) in NAMES.iter().take(self.arrays.len()).enumerate() {
                    out.push_sql(if i == 0 { ") AS v(" } else { "," });
                    out.push_sql(name);
                }
                out.push_sql(") ");
            }
        }
        out.push_sql(self.tail);
        self.tells(out);
        Ok(())
    }
}

impl<Sql> Rows<'_, Sql> {
    fn tells<DB: Backend>(&self, mut out: AstPass<'_, '_, DB>) {
        if !self.returning.is_empty() {
            out.push_sql(" RETURNING ");
            out.push_sql(self.returning);
        }
    }

    fn inserts(&self) -> bool {
        self.head.starts_with("INSERT")
    }

    /// The rows as `VALUES` for Postgres, typed by the first. What is inserted is padded with the last row again, which
    /// conflicts with itself; a table of NULLs between would hide from the planner where the rows go.
    fn values<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(if self.inserts() { "" } else { "(" });
        for n in 0..self.cells.len().next_power_of_two() {
            out.push_sql(if n == 0 { "VALUES (" } else { ",(" });
            let row = self
                .cells
                .get(n)
                .or_else(|| self.cells.last().filter(|_| self.inserts()));
            for (i, kind) in self.kinds.iter().enumerate() {
                if i > 0 {
                    out.push_sql(",");
                }
                bind(&mut out, *kind, row.map(|row| &row[i]))?;
                out.push_sql(match (n, kind) {
                    (0, Kind::Bytes) => "::bytea",
                    (0, Kind::Int) => "::bigint",
                    _ => "",
                });
            }
            out.push_sql(")");
        }
        out.push_sql(match (self.inserts(), self.tail) {
            (true, "") => " ON CONFLICT DO NOTHING",
            (true, _) => " ",
            (false, _) => ") AS v ",
        });
        self.within_partition(out)
    }

    /// The tail; where it joins by partition, with the partition itself.
    fn within_partition<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let (Some(partition), Some((before, after))) = (&self.partition, self.tail.split_once("=v.column1")) else {
            out.push_sql(self.tail);
            self.tells(out);
            return Ok(());
        };
        out.push_sql(before);
        out.push_sql("=v.column1 AND ");
        out.push_sql(before.rsplit(' ').next().unwrap_or(before));
        out.push_sql("=");
        out.push_bind_param::<BigInt, _>(partition)?;
        out.push_sql(after);
        self.tells(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(head: &str, tail: &str, rows: &[(i64, &[u8])], one_partition: bool) -> String {
        let cells: Vec<Vec<Cell>> = rows.iter().map(|(p, id)| vec![(*p).into(), (*id).into()]).collect();
        let kinds = [Kind::Int, Kind::Bytes];
        let rows = Rows::<(BigInt, Binary)>::new(head, tail, &kinds, &cells, one_partition);
        let text = diesel::debug_query::<Pg, _>(&rows).to_string();
        text.split(" -- binds").next().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_statement_of_one_partition_names_it() {
        let (head, tail) = (
            "SELECT t.id FROM ",
            "JOIN x t ON t.partition=v.column1 AND t.id=v.column2",
        );
        assert_eq!(
            spelled(head, tail, &[(3, b"a"), (3, b"b"), (3, b"c")], true),
            "SELECT t.id FROM (VALUES ($1::bigint,$2::bytea),($3,$4),($5,$6),($7,$8)) AS v \
             JOIN x t ON t.partition=v.column1 AND t.partition=$9 AND t.id=v.column2"
        );
        // Claims and request ids are of several.
        assert_eq!(
            spelled(head, tail, &[(3, b"a"), (4, b"b")], true),
            "SELECT t.id FROM (VALUES ($1::bigint,$2::bytea),($3,$4)) AS v \
             JOIN x t ON t.partition=v.column1 AND t.id=v.column2"
        );
        assert_eq!(
            spelled(
                "INSERT INTO x(partition,id) ",
                "ON CONFLICT DO NOTHING",
                &[(3, b"a")],
                true
            ),
            "INSERT INTO x(partition,id) VALUES ($1::bigint,$2::bytea) ON CONFLICT DO NOTHING"
        );
        // It is padded with its last row.
        let three: [(i64, &[u8]); 3] = [(3, b"a"), (3, b"b"), (3, b"c")];
        assert_eq!(
            spelled("INSERT INTO x(partition,id) ", "", &three, true),
            "INSERT INTO x(partition,id) VALUES ($1::bigint,$2::bytea),($3,$4),($5,$6),($7,$8) ON CONFLICT DO NOTHING"
        );
    }

    /// What SQLite is asked, and how many values are bound in it.
    fn spelled_for_sqlite(head: &str, tail: &str, rows: &[[Cell; 4]]) -> (String, usize) {
        let cells: Vec<Vec<Cell>> = rows.iter().map(|row| row.to_vec()).collect();
        let kinds = [Kind::Int, Kind::Bytes, Kind::Int, Kind::Int];
        let rows = Rows::<(BigInt, Binary)>::new(head, tail, &kinds, &cells, false);
        let text = diesel::debug_query::<Sqlite, _>(&rows).to_string();
        let (text, binds) = text.split_once(" -- binds: ").unwrap();
        (
            text.to_owned(),
            binds.matches("Some").count() + binds.matches("None").count(),
        )
    }

    #[test]
    fn what_all_rows_have_is_bound_once_on_sqlite() {
        let row = |partition: i64, id: &[u8], version: i64, format: i64| -> [Cell; 4] {
            [partition.into(), id.into(), version.into(), format.into()]
        };
        let insert = |rows: &[[Cell; 4]]| spelled_for_sqlite("INSERT INTO x ", "", rows);
        let three = [row(3, b"a", 1, 2), row(3, b"b", 1, 2), row(3, b"c", 1, 2)];
        assert_eq!(
            insert(&three),
            (
                "INSERT OR FAIL INTO x SELECT * FROM (VALUES (?,?,?,?),(?1,?,?3,?4),(?1,?,?3,?4),(?1,?,?3,?4)) AS v \
                 WHERE column2 IS NOT NULL "
                    .to_owned(),
                7
            )
        );
        let (several, _) = insert(&[row(3, b"a", 1, 2), row(4, b"b", 1, 2)]);
        assert!(several.contains("VALUES (?,?,?,?),(?,?,?3,?4))"), "{several}");
        let (changed, binds) = spelled_for_sqlite("UPDATE x FROM ", "WHERE x.id=v.column2", &three[..2]);
        assert!(changed.contains("VALUES (?,?,?,?),(?1,?,?,?4))"), "{changed}");
        assert_eq!(binds, 6);
    }

    #[test]
    fn otherwise_there_is_one_text_for_any_number_of_rows() {
        let tail = "ON CONFLICT DO NOTHING";
        let of = |rows: &[(i64, &[u8])]| spelled("INSERT INTO x(partition,id) ", tail, rows, false);
        assert_eq!(
            of(&[(3, b"a")]),
            "INSERT INTO x(partition,id) SELECT unnest($1) AS column1,unnest($2) AS column2 \
             ON CONFLICT DO NOTHING"
        );
        assert_eq!(of(&[(3, b"a")]), of(&[(3, b"a"), (3, b"b"), (4, b"c")]));
        let tail = "JOIN x t ON t.partition=v.column1";
        assert_eq!(
            spelled("SELECT t.id FROM ", tail, &[(3, b"a"), (4, b"b")], false),
            "SELECT t.id FROM unnest($1,$2) AS v(column1,column2) JOIN x t ON t.partition=v.column1"
        );
        let tail = "WHERE x.partition=v.column1";
        assert_eq!(
            spelled("UPDATE x SET id=v.column2 FROM ", tail, &[(3, b"a"), (4, b"b")], false),
            "UPDATE x SET id=v.column2 FROM (SELECT unnest($1) AS column1,unnest($2) AS column2) AS v \
             WHERE x.partition=v.column1"
        );
    }
}
