//! What is not needed any more leaves: the feed below its floor, and request ids that nobody may repeat.
//!
//! The floor is what every consumer has durably got beyond, and a week. Who watches from below it reloads.

use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Binary};
use sammati_kernel::Micros;

use crate::error::Error;
use crate::request::WINDOW;
use crate::{AnyConn, heads, on_conn, sql};

/// How long events stay, whoever has them.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The most rows that leave in one transaction: commits wait for it.
const AT_ONCE: i64 = 1000;

/// What left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events.
    pub events: i64,
    /// Request ids.
    pub requests: i64,
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
pub(crate) fn prune(conn: &mut AnyConn, partition: i64, consumers: &[&str], now: Micros) -> Result<Pruned, Error> {
    match conn {
        AnyConn::Pg(_) => sql::batch(conn, "BEGIN")?,
        AnyConn::Sqlite(_) => sql::batch(conn, "BEGIN IMMEDIATE")?,
    }
    let pruned = locked(conn, partition, consumers, now);
    sql::end(conn, pruned)
}

fn locked(conn: &mut AnyConn, partition: i64, consumers: &[&str], now: Micros) -> Result<Pruned, Error> {
    // Commits of this partition wait; so nobody reads a floor that moves.
    heads::lock_heads(conn, &[partition])?;
    let requests = requests(conn, partition, now)?;
    let Some(needed) = needed(conn, partition, consumers)? else {
        return Ok(Pruned { events: 0, requests });
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
        return Ok(Pruned { events: 0, requests });
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
    Ok(Pruned {
        events: i64::try_from(events).unwrap_or(i64::MAX),
        requests,
    })
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
    let text = "DELETE FROM request WHERE partition=$1 AND id IN \
                (SELECT id FROM request WHERE partition=$1 AND id<$2 ORDER BY id LIMIT $3)";
    let gone = on_conn!(&mut *conn, |c| diesel::sql_query(text)
        .bind::<BigInt, _>(partition)
        .bind::<Binary, _>(hour.to_be_bytes().to_vec())
        .bind::<BigInt, _>(AT_ONCE)
        .execute(c))?;
    Ok(i64::try_from(gone).unwrap_or(i64::MAX))
}

/// Whether more of the same is worth a next try at once.
pub(crate) const fn is_full(pruned: Pruned) -> bool {
    pruned.events >= AT_ONCE || pruned.requests >= AT_ONCE
}
