//! A statement with a few values that stays prepared on its connection: diesel's own `sql_query` is prepared anew each time,
//! which costs Postgres more than the answer.

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Binary, HasSqlType, Nullable, Untyped};
use diesel::{Connection, RunQueryDsl};

use crate::table::Cell;

/// `text`, in which each `?` stands for the next of `values`. Rows are read by the names of their columns.
pub(crate) struct Prepared<'a> {
    text: &'a str,
    values: &'a [Cell],
}

/// The statement `text` with `values`; a text is one of few, for every one stays prepared.
pub(crate) const fn prepared<'a>(text: &'a str, values: &'a [Cell]) -> Prepared<'a> {
    Prepared { text, values }
}

// The text is the key of the cache of prepared statements.
impl QueryId for Prepared<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Prepared<'_> {
    type SqlType = Untyped;
}

impl<C: Connection> RunQueryDsl<C> for Prepared<'_> {}

impl<DB> QueryFragment<DB> for Prepared<'_>
where
    DB: Backend + HasSqlType<Binary> + HasSqlType<BigInt>,
    Option<Vec<u8>>: diesel::serialize::ToSql<Nullable<Binary>, DB>,
    Option<i64>: diesel::serialize::ToSql<Nullable<BigInt>, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let mut values = self.values.iter();
        for (n, piece) in self.text.split('?').enumerate() {
            match (n > 0).then(|| values.next()).flatten() {
                Some(Cell::Bytes(value)) => out.push_bind_param::<Nullable<Binary>, _>(value)?,
                Some(Cell::Int(value)) => out.push_bind_param::<Nullable<BigInt>, _>(value)?,
                None => {}
            }
            out.push_sql(piece);
        }
        Ok(())
    }
}
