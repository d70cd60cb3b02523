//! What is to be erased, what was, and what holds it back.

use prost::Message;
use sammati_api::audit::v1 as audit;
use sammati_store::{Cell, Column, Record, Table};

/// One key that is to be destroyed, or was: of one subject in one class, or of one class in one month.
#[derive(Clone, PartialEq, Message)]
pub struct ErasureRow {
    /// The key's name in the key database.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// When it may be destroyed; 0: nothing is booked.
    #[prost(int64, tag = "2")]
    pub due: i64,
    /// On what ground.
    #[prost(string, tag = "3")]
    pub basis: String,
    /// Who asked.
    #[prost(message, optional, tag = "4")]
    pub actor: Option<audit::Actor>,
    /// What has begun and must come to its end.
    #[prost(message, optional, tag = "5")]
    pub running: Option<Running>,
    /// What was done, the oldest first.
    #[prost(message, repeated, tag = "6")]
    pub done: Vec<Done>,
    /// What was asked for of what was told since, the oldest first: the turn of each comes afterwards.
    #[prost(message, repeated, tag = "7")]
    pub next: Vec<Booking>,
    /// The newest generation of the key that it takes: what is told once it was asked for is under a later one. An older
    /// booking has none until it is first looked at.
    #[prost(int64, optional, tag = "8")]
    pub through: Option<i64>,
}

/// An erasure that waits for another one to end.
#[derive(Clone, PartialEq, Message)]
pub struct Booking {
    /// When the key may be destroyed.
    #[prost(int64, tag = "1")]
    pub due: i64,
    /// On what ground.
    #[prost(string, tag = "2")]
    pub basis: String,
    /// Who asked.
    #[prost(message, optional, tag = "3")]
    pub actor: Option<audit::Actor>,
    /// The newest generation of the key that it takes.
    #[prost(int64, optional, tag = "4")]
    pub through: Option<i64>,
}

/// An erasure that has begun.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Running {
    /// The id of the event that will record it.
    #[prost(string, tag = "1")]
    pub event_id: String,
    /// When it began: as the record will say.
    #[prost(int64, tag = "2")]
    pub at: i64,
    /// Which generation of the key is destroyed.
    #[prost(int64, tag = "3")]
    pub generation: i64,
}

/// An erasure that is done.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Done {
    /// The generation of the key that is destroyed, and all before it.
    #[prost(int64, tag = "1")]
    pub generation: i64,
    /// When.
    #[prost(int64, tag = "2")]
    pub at: i64,
    /// The leaf that records it.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// On what ground.
    #[prost(string, tag = "4")]
    pub basis: String,
}

impl ErasureRow {
    /// The erasure that took this generation of the key.
    pub fn of_generation(&self, generation: i64) -> Option<&Done> {
        self.done.iter().find(|done| done.generation >= generation)
    }

    /// Whether nothing has come of this booking since it was looked at, and it is not another one.
    pub(crate) fn is_still(&self, looked: &Self) -> bool {
        let of = |row: &Self| (row.through, row.done.len());
        self.due != 0 && self.running.is_none() && of(self) == of(looked)
    }

    /// The newest generation that anything booked takes, if it was said.
    pub(crate) fn line(&self) -> Option<i64> {
        let last = self.next.last().and_then(|next| next.through);
        last.or(self.through).filter(|_| self.due != 0)
    }

    /// Nothing is booked any more but what waited for that.
    pub(crate) fn go_on(&mut self) {
        let next = match self.next.is_empty() {
            true => Booking::default(),
            false => self.next.remove(0),
        };
        (self.due, self.basis, self.actor, self.through) = (next.due, next.basis, next.actor, next.through);
        self.running = None;
    }

    /// The newest generation of the key that is destroyed or is being: nothing is sealed under it or one before any more.
    pub fn end(&self) -> Option<Done> {
        let running = self.running.as_ref().map(|running| Done {
            generation: running.generation,
            at: running.at,
            index: 0,
            basis: self.basis.clone(),
        });
        running
            .into_iter()
            .chain(self.done.iter().cloned())
            .max_by_key(|done| done.generation)
    }
}

impl Record for ErasureRow {
    const TABLE: Table = Table {
        name: "erasure",
        columns: &[Column::int("due")],
    };
    /// Code that knows of no lines between bookings would lose them, and what waits, with the first row that it writes.
    const FORMAT: i64 = 2;

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![(self.due != 0).then_some(self.due).into()]
    }
}

/// What holds erasures back.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HoldRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Of whom; empty: of everybody.
    #[prost(bytes = "vec", tag = "2")]
    pub subject: Vec<u8>,
    /// In which classes; empty: in all.
    #[prost(int32, repeated, tag = "3")]
    pub classes: Vec<i32>,
    /// On what ground.
    #[prost(string, tag = "4")]
    pub basis: String,
    /// When it was set.
    #[prost(int64, tag = "5")]
    pub set: i64,
    /// When it was lifted; 0 while it is in force.
    #[prost(int64, tag = "6")]
    pub lifted: i64,
}

impl HoldRow {
    /// The value of the column of those in force.
    pub const ACTIVE: [u8; 1] = [1];

    /// Whether it holds this class back of the subject with this tag, or with an empty tag of anybody.
    pub fn covers(&self, class: i32, tag: &[u8]) -> bool {
        let of = self.subject.is_empty() || tag.is_empty() || self.subject == tag;
        of && (self.classes.is_empty() || self.classes.contains(&class))
    }
}

impl Record for HoldRow {
    const TABLE: Table = Table {
        name: "legal_hold",
        columns: &[Column::bytes("active")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![(self.lifted == 0).then(|| Self::ACTIVE.to_vec()).into()]
    }
}
