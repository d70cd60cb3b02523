//! Policies as they are kept.

use sammati_api::types::v1::CallerKind;
use sammati_kernel::{Micros, PolicyId, Refusal};
use sammati_store::{Cell, Column, Record, Table};

use super::ScopeRow;
use crate::standing::{Effect, State};

/// See the contract's `Policy`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PolicyRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The person, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub subject: Vec<u8>,
    /// [`Effect::number`].
    #[prost(int32, tag = "3")]
    pub effect: i32,
    /// Towards whom, a bare id; empty: everybody.
    #[prost(string, tag = "4")]
    pub hiu: String,
    /// At which HIPs, bare ids in order; empty: all.
    #[prost(string, repeated, tag = "5")]
    pub hips: Vec<String>,
    /// The most that it grants; only of an APPROVE.
    #[prost(message, optional, tag = "6")]
    pub scope: Option<ScopeRow>,
    /// What it leaves out.
    #[prost(message, repeated, tag = "7")]
    pub excluded: Vec<ExcludedRow>,
    /// `PurposeCode` numbers in order; empty: all.
    #[prost(int32, repeated, tag = "8")]
    pub purposes: Vec<i32>,
    /// Keys of care contexts in order; empty: all.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub care_contexts: Vec<Vec<u8>>,
    /// Their references, sealed; empty without.
    #[prost(bytes = "vec", tag = "10")]
    pub sealed: Vec<u8>,
    /// [`State::number`].
    #[prost(int32, tag = "11")]
    pub state: i32,
    /// Requests that it decided.
    #[prost(int64, tag = "12")]
    pub uses: i64,
    /// When it was created.
    #[prost(int64, tag = "13")]
    pub created: i64,
    /// When it was last enabled or disabled.
    #[prost(int64, tag = "14")]
    pub updated: i64,
    /// 1, and one more with each change but uses.
    #[prost(int64, tag = "15")]
    pub version: i64,
    /// `CallerKind` of who put it into force last; 0 where that was not kept: she did.
    #[prost(int32, tag = "16")]
    pub decided_by: i32,
    /// The representation it was put into force under, 16 bytes; empty: by herself.
    #[prost(bytes = "vec", tag = "17")]
    pub decided_under: Vec<u8>,
}

/// What a policy leaves out.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExcludedRow {
    /// At which HIP, a bare id; empty: at all.
    #[prost(string, tag = "1")]
    pub hip: String,
    /// `HiType` numbers in order; empty: all.
    #[prost(int32, repeated, tag = "2")]
    pub hi_types: Vec<i32>,
}

impl PolicyRow {
    /// Its id.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn id(&self) -> Result<PolicyId, Refusal> {
        super::id(&self.id)
    }

    /// What it does.
    pub const fn effect(&self) -> Effect {
        Effect::from_number(self.effect)
    }

    /// `CallerKind` of whose word it is.
    pub fn decider(&self) -> i32 {
        match self.decided_by {
            0 => CallerKind::Person.into(),
            kind => kind,
        }
    }

    /// The state.
    pub const fn state(&self) -> State {
        State::from_number(self.state)
    }

    /// Moves it on.
    pub const fn settle(&mut self, state: State, now: Micros) {
        self.state = state.number();
        self.updated = now.0;
        self.version += 1;
    }
}

impl Record for PolicyRow {
    const TABLE: Table = Table {
        name: "policy",
        columns: &[Column::bytes("subject"), Column::bytes("enabled")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let enabled = self.state() == State::Enabled;
        vec![
            self.subject.clone().into(),
            enabled.then(|| self.subject.clone()).into(),
        ]
    }
}
