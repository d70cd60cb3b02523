//! Request ids (AIP-155): within their window one id has at most one effect, and after it always that answer.
//!
//! A request's row lives where its own hash says, not where its effect is: the same id with another body is found
//! wherever that body would have had its effect. As with claims, only the insert decides; whoever misses decides again
//! and then finds the row.
//!
//! Its key begins with the hour and the time that the id was made at, so that ids of one time lie together and a commit changes
//! few pages. Code that landed before 28 November 2026 left that time out. Which of the two an id has depends on its time and on
//! `database.requests_from` alone, so all replicas look in one place. A database that is new has 0 there. An older one has NULL
//! until nothing older than this code serves it; then a time is set that no id can have yet. A day after that the older
//! spelling is nowhere any more, and the release after may know it no longer.

use std::time::Duration;

use sammati_kernel::{Key, Micros, Reason, Refusal, Slot};

use crate::Partitions;
use crate::table::{Record, Table};

/// How long after its making a request id is taken.
pub const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// How far ahead of our clock one may have been made.
pub const AHEAD: Duration = Duration::from_secs(300);

/// The bytes of a row's key that tell the hour.
const HOUR: usize = 8;

/// Those after them, in which the older spelling has its hash: milliseconds of the hour.
const WITHIN: usize = 4;

/// How many bytes of the hash a key ends with.
const HASH: usize = 16;

/// The migration that a binary must know to find the ids that are kept in the order of their times.
pub(crate) const ORDERED: &str = "20261127000004";

/// Who repeats what: the key under which the outcome is kept, and a keyed hash of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The hour, and a keyed hash of caller, method and id: the older spelling.
    scope: Vec<u8>,
    pub(crate) body: [u8; 32],
    made: Micros,
}

impl RequestKey {
    /// `caller` and `method` scope the id; `body` is the encoded request.
    ///
    /// # Errors
    /// When `id` is not a UUIDv7, or one whose time is not within the window around `now`.
    pub fn new(key: &Key, caller: &str, method: &str, id: &str, body: &[u8], now: Micros) -> Result<Self, Refusal> {
        let id: sammati_kernel::Id<AnyRequest> = id
            .parse()
            .map_err(|()| Refusal::field("request_id", "must be a UUIDv7 in lower case, new for each intent"))?;
        let scope = key.mac("request scope", format!("{caller}\n{method}\n{id}").as_bytes());
        let hour = id.time().seconds().div_euclid(3600);
        let key = Self {
            scope: [hour.to_be_bytes().as_slice(), &scope[..24]].concat(),
            body: key.mac("request body", body),
            made: id.time(),
        };
        key.check_window(now)?;
        Ok(key)
    }

    pub(crate) fn check_window(&self, now: Micros) -> Result<(), Refusal> {
        if self.made < now.minus(WINDOW) || self.made > now.plus(AHEAD) {
            let allowed = "must have been made within the last 24 hours, and no more than 5 minutes ahead of our clock";
            let mut refusal = Refusal::field("request_id", allowed);
            refusal.reason = Reason::RequestIdExpired;
            return Err(refusal);
        }
        Ok(())
    }

    /// A stable hash of caller, method and id: for a claim that fixes where a repeat goes.
    pub fn scope(&self) -> &[u8] {
        &self.scope
    }

    /// The key of its row, where ids that were made from `since` on lie in the order of their times.
    pub(crate) fn row(&self, since: Micros) -> Vec<u8> {
        if self.made < since {
            return self.scope.clone();
        }
        let within = u32::try_from(self.made.millis().rem_euclid(3_600_000)).unwrap_or(0);
        let (hour, hash) = self.scope.split_at(HOUR);
        [hour, &within.to_be_bytes(), &hash[..HASH]].concat()
    }

    /// Of something that a service does by itself, once: `id` is a UUIDv7 that it made for it, as an event's.
    pub(crate) fn own(key: &Key, name: &str, id: &str, now: Micros) -> Result<Self, Refusal> {
        // No caller is called like this.
        Self::new(key, "(itself)", name, id, id.as_bytes(), now)
    }
}

/// Where the row with this key lives.
pub(crate) fn home(partitions: Partitions, row: &[u8]) -> i64 {
    let at = if row.len() == HOUR + WITHIN + HASH {
        HOUR + WITHIN
    } else {
        HOUR
    };
    let hash = row.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
    partitions.of(Slot::new(u16::from_be_bytes(hash.unwrap_or_default())))
}

/// Request ids name nothing; they are only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct AnyRequest;

impl sammati_kernel::IdKind for AnyRequest {
    const COLLECTION: &'static str = "requests";
}

/// What a request id did.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RequestRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) body: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) outcome: Vec<u8>,
    /// Set when it was a recorded refusal.
    #[prost(string, tag = "4")]
    pub(crate) refused: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) facts: Vec<Fact>,
    /// When to come back, in microseconds since 1970; 0 if that was not said.
    #[prost(int64, tag = "7")]
    pub(crate) retry_at: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Fact {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

impl Record for RequestRow {
    const TABLE: Table = Table {
        name: "request",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}

impl RequestRow {
    /// Where ids that were made from `since` on lie in the order of their times.
    pub(crate) fn done(key: &RequestKey, since: Micros, outcome: Vec<u8>) -> Self {
        Self {
            key: key.row(since),
            body: key.body.to_vec(),
            outcome,
            ..Self::default()
        }
    }

    /// As [`Self::done`].
    pub(crate) fn refused(key: &RequestKey, since: Micros, refusal: &Refusal, now: Micros) -> Self {
        let facts = refusal.metadata.iter().map(|(name, value)| Fact {
            name: (*name).to_owned(),
            value: value.clone(),
        });
        Self {
            key: key.row(since),
            body: key.body.to_vec(),
            refused: refusal.reason.as_str().to_owned(),
            facts: facts.collect(),
            retry_at: refusal.retry_after.map_or(0, |after| now.plus(after).0),
            ..Self::default()
        }
    }

    /// What a repeat is told.
    pub(crate) fn replay(&self, key: &RequestKey, now: Micros) -> Result<Vec<u8>, Refusal> {
        if self.body != key.body {
            return Err(Reason::RequestIdReused.into());
        }
        if self.refused.is_empty() {
            return Ok(self.outcome.clone());
        }
        // A reason that only a newer version knows is still a refusal.
        Err(self.refusal(Reason::parse(&self.refused).unwrap_or(Reason::Internal), now))
    }

    fn refusal(&self, reason: Reason, now: Micros) -> Refusal {
        let mut refusal = Refusal::new(reason);
        for fact in &self.facts {
            // The names of facts are a closed set in code; one that is no longer known is left out.
            if let Some(known) = sammati_kernel::Fact::parse(&fact.name) {
                refusal.metadata.push((known.as_str(), fact.value.clone()));
            }
        }
        refusal.retry_after = (self.retry_at > 0).then(|| Micros(self.retry_at).since(now));
        refusal
    }
}

#[cfg(test)]
mod tests {
    use sammati_kernel::{Id, Seed};

    use super::*;
    use crate::table::Cell;
    use crate::{AnyConn, Location, sql};

    const HASHED: Micros = Micros(i64::MAX);
    const BY_TIME: Micros = Micros::ZERO;

    /// The key of an id that is made so long after an hour began.
    fn made(after: Duration) -> RequestKey {
        let at = Micros::from_seconds(1_800_000_000).plus(after);
        let id: Id<AnyRequest> = Seed::draw().unwrap().id("request", at, Slot::new(0));
        RequestKey::new(&Key::from_bytes([3; 32]), "me", "test", &id.to_string(), b"", at).unwrap()
    }

    #[test]
    fn keys_lie_in_the_order_of_their_times_within_an_hour_and_beyond() {
        let keys: Vec<_> = (0..100)
            .map(|n| made(Duration::from_millis(n * 90_001)).row(BY_TIME))
            .collect();
        assert!(keys.is_sorted(), "{keys:?}");
        let hashed: Vec<_> = (0..100).map(|n| made(Duration::from_millis(n)).row(HASHED)).collect();
        assert!(!hashed.is_sorted());
    }

    #[test]
    fn both_spellings_of_an_id_are_of_one_partition_and_one_hour() {
        for n in 0..100 {
            let key = made(Duration::from_secs(n * 600));
            let both = [key.row(HASHED), key.row(BY_TIME)];
            for count in [1, 4, 64, 4096] {
                let partitions = Partitions::new(count).unwrap();
                let [old, new] = both.each_ref().map(|row| home(partitions, row));
                assert_eq!(old, new);
            }
            assert_eq!(both[0][..HOUR], both[1][..HOUR]);
            assert_ne!(both[0], both[1]);
            assert_eq!(key.scope(), both[0], "what else rests on it stays");
        }
    }

    fn write(conn: &mut AnyConn, keys: &[RequestKey], since: Micros) {
        let row = |key: &RequestKey| {
            let (row, partitions) = (RequestRow::done(key, since, vec![7; 16]), Partitions::new(4).unwrap());
            let (id, body) = (row.key(), prost::Message::encode_to_vec(&row));
            let cells: [Cell; 5] = [home(partitions, &id).into(), id.into(), 1.into(), 1.into(), body.into()];
            cells.to_vec()
        };
        sql::batch(conn, "BEGIN IMMEDIATE").unwrap();
        sql::write_all(conn, &[sql::insert(RequestRow::TABLE, keys.iter().map(row).collect())]).unwrap();
        sql::batch(conn, "COMMIT").unwrap();
    }

    /// How many pages a commit of 128 ids changes after 16,000 others of the same hour.
    fn pages(since: Micros) -> u64 {
        let folder = tempfile::tempdir().unwrap();
        let mut conn = Location::Sqlite(folder.path().join("x.db")).connect().unwrap();
        sql::batch(
            &mut conn,
            "CREATE TABLE request (partition BIGINT, id BYTEA, version BIGINT, format BIGINT, body BYTEA, \
             PRIMARY KEY (partition, id))",
        )
        .unwrap();
        let keys: Vec<_> = (0..16_128).map(|n| made(Duration::from_millis(n * 200))).collect();
        let (before, last) = keys.split_at(16_000);
        write(&mut conn, before, since);
        let wal = folder.path().join("x.db-wal");
        let pages = || std::fs::metadata(&wal).unwrap().len() / 4096;
        let already = pages();
        write(&mut conn, last, since);
        pages() - already
    }

    #[test]
    fn a_commit_changes_few_pages_however_many_ids_there_are_of_the_hour() {
        let (hashed, by_time) = (pages(HASHED), pages(BY_TIME));
        assert!(by_time * 3 < hashed, "{by_time} instead of {hashed}");
    }
}
