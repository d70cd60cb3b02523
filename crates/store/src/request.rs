//! Request ids (AIP-155): within their window one id has at most one effect, and after it always that answer.
//!
//! A request's row lives where its own hash says, not where its effect is: the same id with another body is found
//! wherever that body would have had its effect. As with claims, only the insert decides; whoever misses decides again
//! and then finds the row.

use std::time::Duration;

use sammati_kernel::{Key, Micros, Reason, Refusal, Slot};

use crate::Partitions;
use crate::table::{Record, Table};

/// How long after its making a request id is taken.
pub const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// How far ahead of our clock one may have been made.
pub const AHEAD: Duration = Duration::from_secs(300);

/// The bytes of a row's key that tell the hour; the rest is a keyed hash.
const HOUR: usize = 8;

/// Who repeats what: the key under which the outcome is kept, and a keyed hash of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    pub(crate) row: Vec<u8>,
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
        let mut row = hour.to_be_bytes().to_vec();
        row.extend_from_slice(&scope[..24]);
        let key = Self {
            row,
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
        &self.row
    }

    /// Of something that a service does by itself, once: `id` is a UUIDv7 that it made for it, as an event's.
    pub(crate) fn own(key: &Key, name: &str, id: &str, now: Micros) -> Result<Self, Refusal> {
        // No caller is called like this.
        Self::new(key, "(itself)", name, id, id.as_bytes(), now)
    }
}

/// Where the row with this key lives.
pub(crate) fn home(partitions: Partitions, row: &[u8]) -> i64 {
    let hash = row.get(HOUR..HOUR + 2).and_then(|bytes| bytes.try_into().ok());
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
    pub(crate) fn done(key: &RequestKey, outcome: Vec<u8>) -> Self {
        Self {
            key: key.row.clone(),
            body: key.body.to_vec(),
            outcome,
            ..Self::default()
        }
    }

    pub(crate) fn refused(key: &RequestKey, refusal: &Refusal, now: Micros) -> Self {
        let facts = refusal.metadata.iter().map(|(name, value)| Fact {
            name: (*name).to_owned(),
            value: value.clone(),
        });
        Self {
            key: key.row.clone(),
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
