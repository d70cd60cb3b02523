//! Reads outside the lanes: a few connections, each used by one blocking task at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Binary, Nullable};
use sammati_kernel::{Micros, Reason, Refusal, Slot};
use tokio::sync::Semaphore;

use crate::claim::ClaimRow;
use crate::error::Error;
use crate::feed::FeedEvent;
use crate::keys::ClaimKey;
use crate::prepared::prepared;
use crate::request::{self, RequestKey, RequestRow};
use crate::shared::Shared;
use crate::sql::over_once;
use crate::statement::Rows;
use crate::table::{Cell, Kind, Raw, Record};
use crate::{AnyConn, on_conn};
use crate::{heads, sql};

/// A bounded pool. Waiters are served in the order they came.
pub(crate) struct Readers {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Pooled>>>,
}

/// A connection, and how often it was used.
struct Pooled {
    conn: AnyConn,
    uses: u64,
}

impl Readers {
    pub(crate) fn new(shared: Arc<Shared>, count: usize) -> Self {
        Self {
            shared,
            permits: Arc::new(Semaphore::new(count.max(1))),
            idle: Arc::default(),
        }
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        snapshot: bool,
        mut read: impl FnMut(&mut Reader<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let shared = Arc::clone(&self.shared);
        self.with(move |conn| {
            if snapshot {
                sql::in_snapshot(conn, |conn| read(&mut Reader { conn, shared: &shared }))
            } else {
                read(&mut Reader { conn, shared: &shared })
            }
        })
        .await
    }

    /// Uses a connection for what can be done again when it turns out to be dead.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut AnyConn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Reason::StorageUnavailable)?;
        let (shared, idle) = (Arc::clone(&self.shared), Arc::clone(&self.idle));
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let pooled = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let was_pooled = pooled.is_some();
            let mut result = once(&shared, &idle, pooled, &mut work);
            // A pooled connection may have died while it was idle.
            if was_pooled && result.as_ref().err().is_some_and(Error::lost_connection) {
                idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                result = once(&shared, &idle, None, &mut work);
            }
            (result, shared.commits.begun())
        });
        let (result, seen) = task.await.map_err(|_| Refusal::new(Reason::Internal))?;
        // What was read may not be on the disk: nobody learns of it before that.
        self.shared.commits.durable(seen).await;
        result.map_err(|error| {
            // That nobody can be reached is told where it is tried.
            match &error {
                Error::Connect(_) => tracing::debug!(%error, "a read failed"),
                _ => tracing::warn!(%error, "a read failed"),
            }
            error.refusal()
        })
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        // A Postgres connection takes a runtime with it, which must not happen on a runtime's thread.
        if !idle.is_empty() {
            std::thread::spawn(move || drop(idle));
        }
    }
}

fn once<T>(
    shared: &Shared,
    idle: &Mutex<Vec<Pooled>>,
    pooled: Option<Pooled>,
    work: &mut impl FnMut(&mut AnyConn) -> Result<T, Error>,
) -> Result<T, Error> {
    let fresh = || shared.location.connect().map(|conn| Pooled { conn, uses: 0 });
    let mut pooled = pooled.map_or_else(fresh, Ok)?;
    let result = work(&mut pooled.conn);
    if result.as_ref().err().is_none_or(|error| !error.lost_connection()) {
        pooled.uses += 1;
        sql::refresh_plans(&mut pooled.conn, pooled.uses);
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(pooled);
    }
    result
}

/// A look-up value by itself.
#[derive(diesel::QueryableByName)]
struct Value {
    #[diesel(sql_type = Binary)]
    value: Vec<u8>,
}

/// What can be read.
pub struct Reader<'a> {
    conn: &'a mut AnyConn,
    shared: &'a Shared,
}

/// A record with what the store knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<R> {
    /// Its partition.
    pub partition: i64,
    /// 1 when created, one more with each change: the etag.
    pub version: i64,
    /// The record.
    pub record: R,
}

impl Reader<'_> {
    /// The record of `slot`'s partition with this key.
    ///
    /// # Errors
    /// When the database fails.
    pub fn get<R: Record>(&mut self, slot: Slot, key: &[u8]) -> Result<Option<Stored<R>>, Error> {
        Ok(self.many(&[(slot, key.to_vec())])?.pop())
    }

    /// The records with these keys, in no order; absent ones are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub fn many<R: Record>(&mut self, keys: &[(Slot, Vec<u8>)]) -> Result<Vec<Stored<R>>, Error> {
        let mut keys: Vec<_> = keys
            .iter()
            .map(|(slot, key)| (self.shared.partitions.of(*slot), key.clone()))
            .collect();
        keys.sort();
        keys.dedup();
        sql::load(self.conn, R::TABLE, &keys)?.into_iter().map(stored).collect()
    }

    /// All records of `slot`'s partition whose `column` is `value`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn group<R: Record>(&mut self, slot: Slot, column: &str, value: &[u8]) -> Result<Vec<Stored<R>>, Error> {
        let key = [(self.shared.partitions.of(slot), value.to_vec())];
        sql::load_groups(self.conn, R::TABLE, column, &key)?
            .into_iter()
            .map(|(raw, _)| stored(raw))
            .collect()
    }

    /// All records of `slot`'s partition whose `column` is one of `values`, in no order, by one statement.
    ///
    /// # Errors
    /// When the database fails.
    pub fn groups<R: Record>(&mut self, slot: Slot, column: &str, values: &[Vec<u8>]) -> Result<Vec<Stored<R>>, Error> {
        let partition = self.shared.partitions.of(slot);
        let mut keys: Vec<_> = values.iter().map(|value| (partition, value.clone())).collect();
        keys.sort();
        keys.dedup();
        sql::load_groups(self.conn, R::TABLE, column, &keys)?
            .into_iter()
            .map(|(raw, _)| stored(raw))
            .collect()
    }

    /// Records of all partitions whose `column` is `value`, newest id first, those before `before` only.
    ///
    /// # Errors
    /// When the database fails.
    pub fn page<R: Record>(
        &mut self,
        column: &str,
        value: &[u8],
        before: Option<&[u8]>,
        limit: i64,
    ) -> Result<Vec<Stored<R>>, Error> {
        let name = R::TABLE.name;
        let text = format!(
            "SELECT partition,id,version,format,body FROM {name} WHERE {column}=? AND id<? ORDER BY id DESC LIMIT ?"
        );
        let before = before.unwrap_or(&[0xff; 33]);
        let values = [value.into(), before.into(), limit.into()];
        let rows: Vec<Raw> = on_conn!(&mut *self.conn, |c| prepared(&text, &values).load(c))?;
        rows.into_iter().map(stored).collect()
    }

    /// The greatest value in `column` below a value, of all records of `slot`'s partition.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_below<R: Record>(&mut self, slot: Slot, column: &str, value: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let name = R::TABLE.name;
        let text = format!(
            "SELECT {column} AS value FROM {name} WHERE {column}<? AND partition=? ORDER BY {column} DESC LIMIT 1"
        );
        let values = [value.into(), self.shared.partitions.of(slot).into()];
        let rows: Vec<Value> = on_conn!(&mut *self.conn, |c| prepared(&text, &values).load(c))?;
        Ok(rows.into_iter().next().map(|row| row.value))
    }

    /// All records of a table, by partition and key, after the given place. For snapshots and checks, not for calls.
    ///
    /// # Errors
    /// When the database fails.
    pub fn scan<R: Record>(&mut self, after: (i64, &[u8]), limit: i64) -> Result<Vec<Stored<R>>, Error> {
        let rows = sql::scan(self.conn, R::TABLE.name, after.0, after.1, limit)?;
        rows.into_iter().map(stored).collect()
    }

    /// Records of one partition whose `column` is `value`, by the ascending `order` column, above `after` only.
    ///
    /// # Errors
    /// When the database fails.
    pub fn range<R: Record>(
        &mut self,
        partition: i64,
        (column, value): (&str, &[u8]),
        (order, after): (&str, i64),
        limit: i64,
    ) -> Result<Vec<Stored<R>>, Error> {
        let name = R::TABLE.name;
        let text = format!(
            "SELECT partition,id,version,format,body FROM {name} WHERE partition=? AND {column}=? AND {order}>? \
             ORDER BY {order} LIMIT ?"
        );
        let values = [partition.into(), value.into(), after.into(), limit.into()];
        let rows: Vec<Raw> = on_conn!(&mut *self.conn, |c| prepared(&text, &values).load(c))?;
        rows.into_iter().map(stored).collect()
    }

    /// The same for several partitions in one statement, each from its own place on: partition by partition, ascending,
    /// in each by the `order` column.
    ///
    /// # Errors
    /// When the database fails.
    pub fn ranges<R: Record>(
        &mut self,
        after: &[(i64, i64)],
        (column, value): (&str, &[u8]),
        order: &str,
        limit: i64,
    ) -> Result<Vec<Stored<R>>, Error> {
        let rows = sql::ranges(self.conn, R::TABLE, (column, value), (order, after), limit)?;
        rows.into_iter().map(stored).collect()
    }

    /// Records of all partitions whose `column`, a time, is not after `until`; the earliest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn due<R: Record>(&mut self, column: &str, until: i64, limit: i64) -> Result<Vec<Stored<R>>, Error> {
        let name = R::TABLE.name;
        let text =
            format!("SELECT partition,id,version,format,body FROM {name} WHERE {column}<=? ORDER BY {column} LIMIT ?");
        let values = [until.into(), limit.into()];
        let rows: Vec<Raw> = on_conn!(&mut *self.conn, |c| prepared(&text, &values).load(c))?;
        rows.into_iter().map(stored).collect()
    }

    /// Who owns a claim.
    ///
    /// # Errors
    /// When the database fails.
    pub fn claim(&mut self, key: &ClaimKey) -> Result<Option<Vec<u8>>, Error> {
        let rows = sql::load(
            self.conn,
            ClaimRow::TABLE,
            &[(self.shared.partitions.of_hash(key), key.to_vec())],
        )?;
        rows.into_iter()
            .next()
            .map(|raw| stored::<ClaimRow>(raw).map(|s| s.record.owner))
            .transpose()
    }

    pub(crate) fn request(&mut self, key: &RequestKey) -> Result<Option<RequestRow>, Error> {
        // Whoever only reads may not know yet how it is spelled.
        let place = |row: Vec<u8>| (request::home(self.shared.partitions, &row), row);
        let places = [Micros::ZERO, Micros(i64::MAX)].map(|since| place(key.row(since)));
        let row = sql::load(self.conn, RequestRow::TABLE, &places)?.pop();
        Ok(row.map(stored::<RequestRow>).transpose()?.map(|stored| stored.record))
    }

    /// The head of a partition, as committed.
    ///
    /// # Errors
    /// When the database fails.
    pub fn head(&mut self, partition: i64) -> Result<crate::Head, Error> {
        let head = heads::read_heads(self.conn, &[partition])?.remove(0);
        Ok(crate::Head {
            epoch: head.epoch,
            next: head.next,
            chain: head.chain,
        })
    }

    /// The first position that a partition's feed still has: whoever needs an earlier one reloads.
    ///
    /// # Errors
    /// When the database fails.
    pub fn floor(&mut self, partition: i64) -> Result<i64, Error> {
        Ok(heads::read_heads(self.conn, &[partition])?.remove(0).floor)
    }

    /// Events of a partition's feed from `from` on, in commit order.
    ///
    /// # Errors
    /// When the database fails.
    pub fn feed(&mut self, partition: i64, from: i64, limit: i64) -> Result<Vec<FeedEvent>, Error> {
        feed(self.conn, partition, from, limit)
    }

    /// The same of several partitions in one statement, at most `limit` of each: of every one of `places`, a partition and a
    /// position, in their order.
    ///
    /// # Errors
    /// When the database fails.
    pub fn feeds(&mut self, places: &[(i64, i64)], limit: i64) -> Result<Vec<Vec<FeedEvent>>, Error> {
        let mut found: BTreeMap<i64, Vec<FeedEvent>> = BTreeMap::new();
        for event in feeds(self.conn, places, limit)? {
            found.entry(event.partition).or_default().push(event);
        }
        let mut all = Vec::with_capacity(places.len());
        for (partition, from) in places {
            all.push(match found.remove(partition) {
                Some(events) => events,
                // There is nothing, or it begins later: what was pruned leaves a gap.
                None => self.feed(*partition, *from, limit)?,
            });
        }
        Ok(all)
    }
}

type FeedSql = (BigInt, BigInt, BigInt, BigInt, Binary, Nullable<Binary>, Binary, Binary);

type FeedRow = (i64, i64, i64, i64, Vec<u8>, Option<Vec<u8>>, Vec<u8>, Vec<u8>);

/// Events from each of `places` on, as far as positions go on without a gap for `limit` of them; partition by partition, in
/// commit order.
fn feeds(conn: &mut AnyConn, places: &[(i64, i64)], limit: i64) -> Result<Vec<FeedEvent>, Error> {
    let cell =
        |(partition, from): &(i64, i64)| vec![(*partition).into(), (*from).into(), from.saturating_add(limit).into()];
    let cells: Vec<Vec<Cell>> = places.iter().map(cell).collect();
    let head = "SELECT t.partition,t.position,t.epoch,t.time,t.event_id,t.subject,t.chain,t.body FROM ";
    let tail = "JOIN feed t ON t.partition=v.column1 AND t.position>=v.column2 AND t.position<v.column3 \
                ORDER BY t.partition,t.position";
    let rows: Vec<FeedRow> = over_once!(conn, FeedSql, head, tail, &[Kind::Int; 3], &cells);
    let event = |(partition, position, epoch, time, event_id, subject, chain, body): FeedRow| FeedEvent {
        partition,
        position,
        epoch,
        time,
        event_id,
        subject,
        chain,
        body,
    };
    Ok(rows.into_iter().map(event).collect())
}

/// Events of a partition's feed from `from` on, in commit order.
pub(crate) fn feed(conn: &mut AnyConn, partition: i64, from: i64, limit: i64) -> Result<Vec<FeedEvent>, Error> {
    let text = "SELECT partition,position,epoch,time,event_id,subject,chain,body FROM feed \
                WHERE partition=? AND position>=? ORDER BY position LIMIT ?";
    let values = [partition.into(), from.into(), limit.into()];
    Ok(on_conn!(conn, |c| prepared(text, &values).load(c))?)
}

fn stored<R: Record>(raw: Raw) -> Result<Stored<R>, Error> {
    let record = R::decode(raw.body.as_slice());
    let record = record.map_err(|_| Error::Broken(format!("a row of {} cannot be read", R::TABLE.name)))?;
    Ok(Stored {
        partition: raw.partition,
        version: raw.version,
        record,
    })
}
