//! One statement over many rows, for both databases: the text is the same but for how the rows are spelled.
//!
//! SQLite gets `(VALUES (…), …)` padded with NULL rows to a power of two, so that few texts exist and stay prepared.
//! Postgres gets `unnest($1, $2, …)`: one text for any number of rows. The rows are called `v`, their columns
//! `column1`, `column2`, … on both.

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

/// `head (rows) AS v tail`.
pub(crate) struct Rows<'a, Sql> {
    head: &'a str,
    tail: &'a str,
    kinds: &'a [Kind],
    cells: &'a [Vec<Cell>],
    arrays: Vec<ColumnOf<'a>>,
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
    /// `cells` are rows of `kinds.len()` values each, at most [`MAX_ROWS`].
    pub(crate) fn new(head: &'a str, tail: &'a str, kinds: &'a [Kind], cells: &'a [Vec<Cell>]) -> Self {
        let arrays = kinds
            .iter()
            .enumerate()
            .map(|(i, kind)| column(*kind, cells, i))
            .collect();
        Self {
            head,
            tail,
            kinds,
            cells,
            arrays,
            _sql: PhantomData,
        }
    }
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
        out.push_sql(self.head);
        out.push_sql("(VALUES ");
        for n in 0..self.cells.len().next_power_of_two() {
            out.push_sql(if n == 0 { "(" } else { ",(" });
            for (i, kind) in self.kinds.iter().enumerate() {
                if i > 0 {
                    out.push_sql(",");
                }
                bind(&mut out, *kind, self.cells.get(n).map(|row| &row[i]))?;
            }
            out.push_sql(")");
        }
        out.push_sql(") AS v ");
        out.push_sql(self.tail);
        Ok(())
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
        out.push_sql("unnest(");
        for (i, array) in self.arrays.iter().enumerate() {
            if i > 0 {
                out.push_sql(",");
            }
            match array {
                ColumnOf::Bytes(values) => out.push_bind_param::<Array<Nullable<Binary>>, _>(values)?,
                ColumnOf::Int(values) => out.push_bind_param::<Array<Nullable<BigInt>>, _>(values)?,
            }
        }
        out.push_sql(") AS v(");
        for (i, name) in NAMES.iter().take(self.arrays.len()).enumerate() {
            if i > 0 {
                out.push_sql(",");
            }
            out.push_sql(name);
        }
        out.push_sql(") ");
        out.push_sql(self.tail);
        Ok(())
    }
}
