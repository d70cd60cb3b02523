//! Request ids (AIP-155): within their window one id has at most one effect, and after it always that answer.

use std::time::Duration;

use sammati_kernel::{Key, Micros, Reason, Refusal};

use crate::table::{Record, Table};

/// How long after its making a request id is taken.
pub const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// How far ahead of our clock one may have been made.
pub const AHEAD: Duration = Duration::from_secs(300);

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
    #[prost(int64, tag = "6")]
    pub(crate) retry_micros: i64,
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

    pub(crate) fn refused(key: &RequestKey, refusal: &Refusal) -> Self {
        let facts = refusal.metadata.iter().map(|(name, value)| Fact {
            name: (*name).to_owned(),
            value: value.clone(),
        });
        Self {
            key: key.row.clone(),
            body: key.body.to_vec(),
            refused: refusal.reason.as_str().to_owned(),
            facts: facts.collect(),
            retry_micros: refusal
                .retry_after
                .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX)),
            ..Self::default()
        }
    }

    /// What a repeat is told.
    pub(crate) fn replay(&self, key: &RequestKey) -> Result<Vec<u8>, Refusal> {
        if self.body != key.body {
            return Err(Reason::RequestIdReused.into());
        }
        match Reason::parse(&self.refused) {
            None => Ok(self.outcome.clone()),
            Some(reason) => Err(self.refusal(reason)),
        }
    }

    fn refusal(&self, reason: Reason) -> Refusal {
        let mut refusal = Refusal::new(reason);
        for fact in &self.facts {
            // The names of facts are a closed set in code; one that is no longer known is left out.
            if let Some(name) = FACTS.iter().find(|known| **known == fact.name) {
                refusal.metadata.push((name, fact.value.clone()));
            }
        }
        refusal.retry_after =
            (self.retry_micros > 0).then(|| Duration::from_micros(u64::try_from(self.retry_micros).unwrap_or(0)));
        refusal
    }
}

/// The names of facts that recorded refusals carry.
const FACTS: &[&str] = &[
    "attempts_left",
    "retry_time",
    "state",
    "decision_id",
    "consent",
    "reason",
    "event_id",
];
