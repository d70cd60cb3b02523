//! Heads: a partition's lock, and where its feed stands.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable};
use diesel::{Connection, QueryResult, QueryableByName, RunQueryDsl};
use diesel_async::SimpleAsyncConnection;
use futures::FutureExt;

use crate::conn::PgConn;
use crate::error::Error;
use crate::prepared::prepared;
use crate::sql::{self, Loaded, over_once};
use crate::statement::{Rows, Statement};
use crate::table::{Cell, Kind};
use crate::{AnyConn, on_conn};

type HeadSql = (BigInt, BigInt, BigInt, BigInt, Binary, BigInt);

type Found = (i64, i64, i64, i64, Vec<u8>, i64);

const COLUMNS: &str = "SELECT h.partition,h.epoch,h.next,h.time,h.chain,h.floor FROM ";

/// Heads by their partitions, ascending.
const READ: &str = "JOIN head h ON h.partition=v.column1 ORDER BY h.partition";

/// A head as it stands in its table.
#[derive(Debug, Clone, QueryableByName)]
pub(crate) struct HeadRow {
    #[diesel(sql_type = BigInt)]
    pub(crate) partition: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) epoch: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) next: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) time: i64,
    #[diesel(sql_type = Binary)]
    pub(crate) chain: Vec<u8>,
    /// The first position that the feed still has.
    #[diesel(sql_type = BigInt)]
    pub(crate) floor: i64,
}

/// The lock, where it is one partition's: so spelled it runs where the partition is, however the database is divided.
const LOCK_ONE: &str = "SELECT partition,epoch,next,time,chain,floor FROM head WHERE partition=? FOR UPDATE";

/// The lock of several in a batch on Postgres: they are found in one walk through the index, not each by itself.
const LOCK_ANY: [&str; 2] = [
    "SELECT partition,epoch,next,time,chain,floor FROM head WHERE partition=ANY(",
    ") ORDER BY partition FOR UPDATE",
];

/// [`LOCK_ANY`] of these.
struct LockAny<'a>(&'a [i64]);

impl QueryId for LockAny<'_> {
    type QueryId = LockAny<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for LockAny<'_> {
    type SqlType = HeadSql;
}

impl<C: Connection> RunQueryDsl<C> for LockAny<'_> {}

impl QueryFragment<Pg> for LockAny<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(LOCK_ANY[0]);
        out.push_bind_param::<Array<BigInt>, [i64]>(self.0)?;
        out.push_sql(LOCK_ANY[1]);
        Ok(())
    }
}

/// The lock elsewhere on Postgres. SQLite has locked all there is.
const LOCK: &str = "JOIN head h ON h.partition=v.column1 ORDER BY h.partition FOR UPDATE OF h";

/// Locks the heads of `partitions`, ascending, and reads them. Loading is never part of this statement: it would answer
/// from before the wait.
pub(crate) fn lock_heads(conn: &mut AnyConn, partitions: &[i64]) -> Result<Vec<HeadRow>, Error> {
    if let (AnyConn::Pg(pg), [partition]) = (&mut *conn, partitions) {
        let locked = prepared(LOCK_ONE, &[(*partition).into()]).load(pg.diesel())?;
        return all_found(locked, 1);
    }
    let lock = match conn {
        AnyConn::Pg(_) => LOCK,
        AnyConn::Sqlite(_) => READ,
    };
    heads(conn, partitions, lock)
}

/// Locks the heads of a batch as [`lock_heads`] does, then loads; on Postgres it begins the transaction too. Each is a
/// statement of its own that comes after the one before, so that the loads see what the lock waited for.
pub(crate) fn lock_and_load(
    conn: &mut AnyConn,
    partitions: &[i64],
    statements: &[Statement],
) -> Result<(Vec<HeadRow>, Vec<Vec<Loaded>>), Error> {
    let lock = if partitions.len() == 1 { LOCK_ONE } else { LOCK_ANY[0] };
    match conn {
        // A lock that is not prepared would be sent after the loads.
        AnyConn::Pg(pg) if !pg.prepared_locks.contains(lock) => {
            let (heads, _) = begin(pg, partitions, &[])?;
            pg.prepared_locks.insert(lock);
            Ok((heads, sql::load_all(conn, statements)?))
        }
        AnyConn::Pg(pg) => begin(pg, partitions, statements),
        AnyConn::Sqlite(_) => Ok((lock_heads(conn, partitions)?, sql::load_all(conn, statements)?)),
    }
}

/// What comes back of what a transaction begins with.
enum Begun {
    Transaction,
    Heads(Vec<HeadRow>),
    /// Rows of one of the statements, by its place.
    Rows(usize, Vec<sql::Found>),
}

/// Begins a transaction, locks heads in it and loads, in this order and all at once.
fn begin(pg: &PgConn, partitions: &[i64], statements: &[Statement]) -> Result<(Vec<HeadRow>, Vec<Vec<Loaded>>), Error> {
    let keep = pg.keeps_to_one_partition();
    let begun = pg.at_once(|conn| {
        let begin = async move {
            let mut conn = conn;
            conn.batch_execute("BEGIN").await.map(|()| Begun::Transaction)
        };
        let lock = async move {
            let mut conn = conn;
            let found: QueryResult<Vec<HeadRow>> = if let [partition] = partitions {
                let values = [(*partition).into()];
                diesel_async::RunQueryDsl::load(prepared(LOCK_ONE, &values), &mut conn).await
            } else {
                let found: QueryResult<Vec<Found>> =
                    diesel_async::RunQueryDsl::load(LockAny(partitions), &mut conn).await;
                found.map(|rows| rows.into_iter().map(row).collect())
            };
            found.map(Begun::Heads)
        };
        let mut all = vec![begin.boxed_local(), lock.boxed_local()];
        for (n, statement) in statements.iter().enumerate() {
            for piece in statement.pieces::<sql::GroupSql>(keep) {
                let load = async move {
                    let mut conn = conn;
                    let rows: Vec<sql::Found> = diesel_async::RunQueryDsl::load(piece, &mut conn).await?;
                    Ok(Begun::Rows(n, rows))
                };
                all.push(load.boxed_local());
            }
        }
        all
    })?;
    let (mut heads, mut found) = (Vec::new(), vec![Vec::new(); statements.len()]);
    for one in begun {
        match one {
            Begun::Transaction => {}
            Begun::Heads(rows) => heads = rows,
            Begun::Rows(n, rows) => found[n].extend(rows.into_iter().map(sql::loaded)),
        }
    }
    Ok((all_found(heads, partitions.len())?, found))
}

/// Reads heads without locking them.
pub(crate) fn read_heads(conn: &mut AnyConn, partitions: &[i64]) -> Result<Vec<HeadRow>, Error> {
    heads(conn, partitions, READ)
}

fn heads(conn: &mut AnyConn, partitions: &[i64], tail: &str) -> Result<Vec<HeadRow>, Error> {
    let cells = cells(partitions);
    // In one statement: locks must be taken in one ascending order. Partitions never exceed 4,096.
    let rows: Vec<Found> = over_once!(conn, HeadSql, COLUMNS, tail, &[Kind::Int], &cells);
    all_found(rows.into_iter().map(row).collect(), partitions.len())
}

fn cells(partitions: &[i64]) -> Vec<Vec<Cell>> {
    partitions.iter().map(|p| vec![Cell::from(*p)]).collect()
}

fn row((partition, epoch, next, time, chain, floor): Found) -> HeadRow {
    HeadRow {
        partition,
        epoch,
        next,
        time,
        chain,
        floor,
    }
}

fn all_found(heads: Vec<HeadRow>, wanted: usize) -> Result<Vec<HeadRow>, Error> {
    if heads.len() != wanted {
        return Err(Error::Schema(
            "the database has no head for some partition; was it made by another version?".into(),
        ));
    }
    Ok(heads)
}

/// What moves heads on.
pub(crate) fn advance<'a>(heads: impl Iterator<Item = &'a HeadRow>) -> Statement {
    use Kind::{Bytes, Int};
    Statement {
        table: "head",
        head: "UPDATE head SET next=v.column2,time=v.column3,chain=v.column4 FROM ".to_owned(),
        tail: "WHERE head.partition=v.column1".to_owned(),
        returning: "head.partition,head.chain".to_owned(),
        kinds: vec![Int, Int, Int, Bytes],
        cells: heads
            .map(|h| vec![h.partition.into(), h.next.into(), h.time.into(), h.chain.clone().into()])
            .collect(),
    }
}

/// The head of one partition; `None` where a damaged database has none.
pub(crate) fn find_head(conn: &mut AnyConn, partition: i64) -> Result<Option<HeadRow>, Error> {
    let text = "SELECT partition,epoch,next,time,chain,floor FROM head WHERE partition=$1";
    let found: Vec<HeadRow> = on_conn!(conn, |c| diesel::sql_query(text).bind::<BigInt, _>(partition).load(c))?;
    Ok(found.into_iter().next())
}

#[derive(QueryableByName)]
struct HeadNow {
    #[diesel(embed)]
    head: HeadRow,
    #[diesel(sql_type = Nullable<BigInt>)]
    database_time: Option<i64>,
    #[diesel(sql_type = Bool)]
    only_reads: bool,
}

/// All heads on the primary, and what time it says it is; `None` where that is this process's own clock. A server that only
/// reads is none. With `by_write` it must also commit something, which a synchronous standby must follow in before there is
/// an answer: so it is the primary that the standby knows.
pub(crate) fn heads_now(conn: &mut AnyConn, by_write: bool) -> Result<(Vec<HeadRow>, Option<i64>), Error> {
    let text = match (&*conn, by_write) {
        (AnyConn::Pg(_), false) => {
            "SELECT partition,epoch,next,time,chain,floor,\
             (extract(epoch FROM clock_timestamp())*1000000)::bigint AS database_time,\
             pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS only_reads FROM head"
        }
        // Nothing but a record in the log: no row, so nobody waits for another's confirmation.
        (AnyConn::Pg(_), true) => {
            "WITH w AS MATERIALIZED (SELECT pg_logical_emit_message(true,'sammati','') IS NULL AS nothing) \
             SELECT partition,epoch,next,time,chain,floor,\
             (extract(epoch FROM clock_timestamp())*1000000)::bigint AS database_time,\
             w.nothing OR pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS only_reads \
             FROM head,w"
        }
        (AnyConn::Sqlite(_), _) => {
            "SELECT partition,epoch,next,time,chain,floor,NULL AS database_time,FALSE AS only_reads FROM head"
        }
    };
    let rows: Vec<HeadNow> = on_conn!(conn, |c| prepared(text, &[]).load(c))?;
    if rows.iter().any(|row| row.only_reads) {
        return Err(Error::OnlyReads);
    }
    // The earliest of the rows' times: the statement had begun by then.
    let time = rows.iter().filter_map(|row| row.database_time).min();
    Ok((rows.into_iter().map(|row| row.head).collect(), time))
}

#[derive(QueryableByName)]
struct SumNow {
    #[diesel(sql_type = Nullable<BigInt>)]
    sum: Option<i64>,
    #[diesel(sql_type = BigInt)]
    database_time: i64,
    #[diesel(sql_type = Bool)]
    only_reads: bool,
}

/// A number that all heads come to, another one whenever any of them moved, forth or back, but for one time in 2^64; and
/// what time the primary says it is. As [`heads_now`], in one row. `None` for the number where the database has none.
pub(crate) fn sum_now(conn: &mut AnyConn, by_write: bool) -> Result<(Option<i64>, Option<i64>), Error> {
    let AnyConn::Pg(c) = conn else { return Ok((None, None)) };
    let text = if by_write {
        "WITH w AS MATERIALIZED (SELECT pg_logical_emit_message(true,'sammati','') IS NULL AS nothing) \
         SELECT bit_xor(hashint8extended(next,hashint8extended(epoch,hashint8extended(floor,partition)))) AS sum,\
         (extract(epoch FROM clock_timestamp())*1000000)::bigint AS database_time,\
         (SELECT nothing FROM w) OR pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean \
         AS only_reads FROM head"
    } else {
        "SELECT bit_xor(hashint8extended(next,hashint8extended(epoch,hashint8extended(floor,partition)))) AS sum,\
         (extract(epoch FROM clock_timestamp())*1000000)::bigint AS database_time,\
         pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS only_reads FROM head"
    };
    let now: SumNow = prepared(text, &[]).get_result(c.diesel())?;
    if now.only_reads {
        return Err(Error::OnlyReads);
    }
    Ok((now.sum, Some(now.database_time)))
}

#[derive(QueryableByName)]
struct Latest {
    #[diesel(sql_type = Nullable<BigInt>)]
    time: Option<i64>,
}

/// When anything was last committed; `None` where the database has no head.
pub(crate) fn latest(conn: &mut AnyConn) -> Result<Option<i64>, Error> {
    let latest: Latest = on_conn!(conn, |c| diesel::sql_query("SELECT max(time) AS time FROM head")
        .get_result(c))?;
    Ok(latest.time)
}

#[derive(QueryableByName)]
struct Now {
    #[diesel(sql_type = BigInt)]
    micros: i64,
}

#[derive(QueryableByName)]
struct NowAndOrder {
    #[diesel(sql_type = BigInt)]
    micros: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    requests_from: Option<i64>,
}

/// The same as [`database_time`], and from which time on request ids lie in the order of their times.
pub(crate) fn now_and_order(conn: &mut AnyConn) -> Result<Option<(i64, Option<i64>)>, Error> {
    let AnyConn::Pg(c) = conn else { return Ok(None) };
    let text = "SELECT (extract(epoch FROM clock_timestamp())*1000000)::bigint AS micros,requests_from FROM database";
    let now: NowAndOrder = prepared(text, &[]).get_result(c.diesel())?;
    Ok(Some((now.micros, now.requests_from)))
}

/// What time the database says it is, in microseconds; `None` where it is this process's own clock.
pub(crate) fn database_time(conn: &mut AnyConn) -> Result<Option<i64>, Error> {
    let AnyConn::Pg(c) = conn else { return Ok(None) };
    let now: Now = diesel::sql_query("SELECT (extract(epoch FROM clock_timestamp())*1000000)::bigint AS micros")
        .get_result(c.diesel())?;
    Ok(Some(now.micros))
}
