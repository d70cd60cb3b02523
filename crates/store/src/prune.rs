//! What is not needed any more leaves: the feed below its floor, request ids that nobody may repeat, and rows that have
//! outlived their use.
//!
//! The floor is what every consumer has durably got beyond, and a week. Who watches from below it reloads.

use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Binary};
use sammati_kernel::Micros;

use crate::error::Error;
use crate::request::WINDOW;
use crate::table::Table;
use crate::{AnyConn, heads, on_conn, sql};

/// How long events stay, whoever has them.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The most rows that leave in one transaction: commits wait for it.
const AT_ONCE: i64 = 1000;

/// What leaves and when: the rule of one database.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pruning {
    /// Whoever reads the feed: what one of them has not got stays.
    pub consumers: &'static [&'static str],
    /// Tables whose rows leave.
    pub passing: &'static [Passing],
}

/// A table whose rows have UUIDv7s as keys, and are of no use to anybody so long after these were made: as if they had never
/// been. Nothing that stays names them.
#[derive(Debug, Clone, Copy)]
pub struct Passing {
    /// The table.
    pub table: Table,
    /// How long a row is needed, from the time in its key.
    pub needed: Duration,
}

/// What left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events.
    pub events: i64,
    /// Request ids.
    pub requests: i64,
    /// Rows of tables whose rows leave.
    pub rows: i64,
}

impl Pruned {
    /// Whether there was anything.
    pub const fn is_some(self) -> bool {
        self.events + self.requests + self.rows > 0
    }
}

#[derive(diesel::QueryableByName)]
struct Position {
    #[diesel(sql_type = BigInt)]
    position: i64,
}

/// Notes that `consumer` has durably got all before these positions, each with its partition and epoch. One that is further
/// by now stays there; what is said of another epoch than the partition's is about other events, and not noted.
pub(crate) fn advance_cursor(conn: &mut AnyConn, consumer: &str, reached: &[(i64, i64, i64)]) -> Result<(), Error> {
    // By itself it is one transaction for each: a consumer tells of its place now and then, not at each event.
    let text = "INSERT INTO cursor(partition,consumer,next) SELECT h.partition,$1,$2 FROM head h \
                WHERE h.partition=$3 AND h.epoch=$4 \
                ON CONFLICT (partition,consumer) DO UPDATE SET next=excluded.next WHERE excluded.next>cursor.next";
    for (partition, epoch, next) in reached {
        on_conn!(&mut *conn, |c| diesel::sql_query(text)
            .bind::<Binary, _>(consumer.as_bytes())
            .bind::<BigInt, _>(*next)
            .bind::<BigInt, _>(*partition)
            .bind::<BigInt, _>(*epoch)
            .execute(c))?;
    }
    Ok(())
}

/// Removes some of what is not needed from one partition; tells how much.
pub(crate) fn prune(conn: &mut AnyConn, partition: i64, rule: Pruning, now: Micros) -> Result<Pruned, Error> {
    match conn {
        AnyConn::Pg(_) => sql::batch(conn, "BEGIN")?,
        AnyConn::Sqlite(_) => sql::batch(conn, "BEGIN IMMEDIATE")?,
    }
    let pruned = locked(conn, partition, rule, now);
    sql::end(conn, pruned)
}

fn locked(conn: &mut AnyConn, partition: i64, rule: Pruning, now: Micros) -> Result<Pruned, Error> {
    // Commits of this partition wait: nobody reads a floor that moves, or decides by a row that leaves.
    heads::lock_heads(conn, &[partition])?;
    Ok(Pruned {
        requests: requests(conn, partition, now)?,
        rows: passed(conn, partition, rule.passing, now)?,
        events: events(conn, partition, rule.consumers, now)?,
    })
}

fn events(conn: &mut AnyConn, partition: i64, consumers: &[&str], now: Micros) -> Result<i64, Error> {
    let Some(needed) = needed(conn, partition, consumers)? else {
        return Ok(0);
    };
    // The event before the first that is needed stays: its chain hash is where a consumer goes on from.
    let below = "SELECT MAX(position) AS position FROM (SELECT position,time FROM feed WHERE partition=$1 AND position<$2 \
                 ORDER BY position LIMIT $3) AS oldest WHERE time<$4 HAVING MAX(position) IS NOT NULL";
    let last: Vec<Position> = on_conn!(&mut *conn, |c| diesel::sql_query(below)
        .bind::<BigInt, _>(partition)
        .bind::<BigInt, _>(needed - 1)
        .bind::<BigInt, _>(AT_ONCE)
        .bind::<BigInt, _>(now.minus(KEPT).0)
        .load(c))?;
    let Some(floor) = last.first().map(|last| last.position + 1) else {
        return Ok(0);
    };
    let events = on_conn!(&mut *conn, |c| {
        // SQLite numbers parameters by where they first stand.
        diesel::sql_query("UPDATE head SET floor=$1 WHERE partition=$2")
            .bind::<BigInt, _>(floor)
            .bind::<BigInt, _>(partition)
            .execute(c)?;
        diesel::sql_query("DELETE FROM feed WHERE partition=$1 AND position<$2")
            .bind::<BigInt, _>(partition)
            .bind::<BigInt, _>(floor)
            .execute(c)
    })?;
    Ok(i64::try_from(events).unwrap_or(i64::MAX))
}

/// How many events the feed keeps.
pub(crate) fn kept(conn: &mut AnyConn) -> Result<i64, Error> {
    let text = "SELECT CAST(COALESCE(SUM(next-floor),0) AS BIGINT) AS position FROM head";
    let kept: Position = on_conn!(conn, |c| diesel::sql_query(text).get_result(c))?;
    Ok(kept.position)
}

/// The first position that some consumer has not got yet; `None` while one has never told.
fn needed(conn: &mut AnyConn, partition: i64, consumers: &[&str]) -> Result<Option<i64>, Error> {
    let text = "SELECT next AS position FROM cursor WHERE partition=$1 AND consumer=$2";
    let mut least = i64::MAX;
    for consumer in consumers {
        let told: Vec<Position> = on_conn!(&mut *conn, |c| diesel::sql_query(text)
            .bind::<BigInt, _>(partition)
            .bind::<Binary, _>(consumer.as_bytes())
            .load(c))?;
        let Some(told) = told.first() else { return Ok(None) };
        least = least.min(told.position);
    }
    Ok(Some(least))
}

/// Rows begin with the hour that their id was made in.
fn requests(conn: &mut AnyConn, partition: i64, now: Micros) -> Result<i64, Error> {
    let hour = now.minus(WINDOW).seconds().div_euclid(3600) - 1;
    leave(conn, "request", partition, &hour.to_be_bytes())
}

fn passed(conn: &mut AnyConn, partition: i64, passing: &[Passing], now: Micros) -> Result<i64, Error> {
    let mut rows = 0;
    for Passing { table, needed } in passing {
        // A UUIDv7 begins with its time, 48 bits of milliseconds.
        let made = now.minus(*needed).0.div_euclid(1000).to_be_bytes();
        rows += leave(conn, table.name, partition, &made[2..])?;
    }
    Ok(rows)
}

/// Removes the first rows of a partition whose ids come before `before`.
fn leave(conn: &mut AnyConn, table: &str, partition: i64, before: &[u8]) -> Result<i64, Error> {
    let text = format!(
        "DELETE FROM {table} WHERE partition=$1 AND id IN \
         (SELECT id FROM {table} WHERE partition=$1 AND id<$2 ORDER BY id LIMIT $3)"
    );
    let gone = on_conn!(&mut *conn, |c| diesel::sql_query(text)
        .bind::<BigInt, _>(partition)
        .bind::<Binary, _>(before.to_vec())
        .bind::<BigInt, _>(AT_ONCE)
        .execute(c))?;
    Ok(i64::try_from(gone).unwrap_or(i64::MAX))
}

/// Whether more of the same is worth a next try at once.
pub(crate) const fn is_full(pruned: Pruned) -> bool {
    pruned.events >= AT_ONCE || pruned.requests >= AT_ONCE || pruned.rows >= AT_ONCE
}
