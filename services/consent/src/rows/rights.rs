//! What a person asks about her rights, as it is kept.

use sammati_kernel::{AccountId, Micros, Refusal, RightsRequestId};
use sammati_store::{Cell, Column, Record, Table};

use crate::rights::State;

/// In the look-up column of all of them.
pub const ALL_RIGHTS: [u8; 1] = [1];

/// In the look-up column of those against us.
pub const AGAINST_US: &str = "us";

/// See the contract's `RightsRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RightsRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The person, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub subject: Vec<u8>,
    /// `RightsRequest.Kind` of the contract.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    /// `participants/{id}`; empty: us.
    #[prost(string, tag = "4")]
    pub against: String,
    /// What it is about, by name.
    #[prost(string, repeated, tag = "5")]
    pub about: Vec<String>,
    /// Her words, sealed under her key.
    #[prost(bytes = "vec", tag = "6")]
    pub text: Vec<u8>,
    /// [`State::number`].
    #[prost(int32, tag = "7")]
    pub state: i32,
    /// When she asked.
    #[prost(int64, tag = "8")]
    pub created: i64,
    /// By when it must be answered.
    #[prost(int64, tag = "9")]
    pub due: i64,
    /// When it last changed.
    #[prost(int64, tag = "10")]
    pub updated: i64,
    /// 1, and one more with each change.
    #[prost(int64, tag = "11")]
    pub version: i64,
    /// What was answered; none before.
    #[prost(message, optional, tag = "12")]
    pub answer: Option<AnswerRow>,
    /// When she closed it, or time escalated it; 0 before.
    #[prost(int64, tag = "13")]
    pub closed: i64,
    /// The representation under which it was asked, 16 bytes; empty: she asked herself.
    #[prost(bytes = "vec", tag = "14")]
    pub asked_under: Vec<u8>,
}

/// What was answered.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AnswerRow {
    /// A sealed [`Answered`].
    #[prost(bytes = "vec", tag = "1")]
    pub sealed: Vec<u8>,
    /// Who answered: the caller's name.
    #[prost(string, tag = "2")]
    pub by: String,
    /// When.
    #[prost(int64, tag = "3")]
    pub at: i64,
}

/// The words of an answer. Sealed under her key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Answered {
    /// What is said.
    #[prost(string, tag = "1")]
    pub text: String,
    /// What is not erased, to an ERASURE.
    #[prost(message, repeated, tag = "2")]
    pub kept: Vec<KeptRow>,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[answer]")
    }
}

/// What law keeps.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeptRow {
    /// Which data.
    #[prost(string, tag = "1")]
    pub what: String,
    /// Under which law.
    #[prost(string, tag = "2")]
    pub law: String,
    /// Until when.
    #[prost(int64, tag = "3")]
    pub until: i64,
}

impl RightsRow {
    /// Its id.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn id(&self) -> Result<RightsRequestId, Refusal> {
        super::id(&self.id)
    }

    /// Whose it is.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn subject(&self) -> Result<AccountId, Refusal> {
        super::id(&self.subject)
    }

    /// The state as written.
    pub const fn state(&self) -> State {
        State::from_number(self.state)
    }

    /// The state by the clock of now.
    pub fn state_at(&self, now: Micros) -> State {
        match self.state() {
            State::Open if now.0 >= self.due => State::Escalated,
            state => state,
        }
    }

    /// Moves it on.
    pub const fn settle(&mut self, state: State, now: Micros) {
        self.state = state.number();
        self.updated = now.0;
        self.version += 1;
    }
}

impl Record for RightsRow {
    const TABLE: Table = Table {
        name: "rights_request",
        columns: &[
            Column::bytes("subject"),
            Column::bytes("against"),
            Column::bytes("listed"),
            Column::bytes("open"),
            Column::int("due"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let state = self.state();
        let open = matches!(state, State::Open | State::Answered);
        let against = if self.against.is_empty() {
            AGAINST_US
        } else {
            &self.against
        };
        vec![
            self.subject.clone().into(),
            against.into(),
            ALL_RIGHTS.to_vec().into(),
            open.then(|| self.subject.clone()).into(),
            (state == State::Open).then_some(self.due).into(),
        ]
    }
}
