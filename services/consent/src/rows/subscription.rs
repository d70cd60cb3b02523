//! Subscriptions as they are kept.

use sammati_kernel::{Micros, Refusal, SubscriptionId};
use sammati_store::{Cell, Column, Record, Table};

use super::ExcludedRow;
use crate::subscription::State;

/// See the contract's `Subscription`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubscriptionRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The owner of the row: an account, or something that is none.
    #[prost(bytes = "vec", tag = "2")]
    pub owner: Vec<u8>,
    /// Whether the owner is an account.
    #[prost(bool, tag = "3")]
    pub known: bool,
    /// Who is told, a bare id.
    #[prost(string, tag = "4")]
    pub holder: String,
    /// `PurposeCode`.
    #[prost(int32, tag = "5")]
    pub purpose: i32,
    /// What was asked for.
    #[prost(message, required, tag = "6")]
    pub asked: SourcesRow,
    /// What she gave.
    #[prost(message, optional, tag = "7")]
    pub given: Option<SourcesRow>,
    /// [`State::number`].
    #[prost(int32, tag = "8")]
    pub state: i32,
    /// Whether it is a locker that she set up.
    #[prost(bool, tag = "9")]
    pub locker: bool,
    /// The end of the window.
    #[prost(int64, tag = "10")]
    pub expire: i64,
    /// When it was decided; 0 before.
    #[prost(int64, tag = "11")]
    pub decided: i64,
    /// When it was created.
    #[prost(int64, tag = "12")]
    pub created: i64,
    /// When it last changed.
    #[prost(int64, tag = "13")]
    pub updated: i64,
    /// 1, and one more with each change.
    #[prost(int64, tag = "14")]
    pub version: i64,
    /// Her address, sealed.
    #[prost(bytes = "vec", tag = "15")]
    pub sealed: Vec<u8>,
    /// One hash of address and holder, for the limit of open ones.
    #[prost(bytes = "vec", tag = "16")]
    pub pair: Vec<u8>,
    /// With a locker: the policy that came with it, 16 bytes; empty of one that was set up before this was kept.
    #[prost(bytes = "vec", tag = "17")]
    pub policy: Vec<u8>,
    /// Whether its pause took that policy out of force.
    #[prost(bool, tag = "18")]
    pub policy_paused: bool,
    /// `CallerKind` of who decided last what is given of it; 0 before, and where that was not kept.
    #[prost(int32, tag = "19")]
    pub decided_by: i32,
    /// The representation that was decided under, 16 bytes; empty: by herself.
    #[prost(bytes = "vec", tag = "20")]
    pub decided_under: Vec<u8>,
}

/// What a subscription is about.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SourcesRow {
    /// The contract's `SubscriptionCategory` numbers in order.
    #[prost(int32, repeated, tag = "1")]
    pub categories: Vec<i32>,
    /// Bare ids in order; empty: all.
    #[prost(string, repeated, tag = "2")]
    pub hips: Vec<String>,
    /// `HiType` numbers in order.
    #[prost(int32, repeated, tag = "3")]
    pub hi_types: Vec<i32>,
    /// From when on.
    #[prost(int64, tag = "4")]
    pub from: i64,
    /// Until when.
    #[prost(int64, tag = "5")]
    pub to: i64,
    /// What is left out.
    #[prost(message, repeated, tag = "6")]
    pub excluded: Vec<ExcludedRow>,
}

impl SubscriptionRow {
    /// Its id.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn id(&self) -> Result<SubscriptionId, Refusal> {
        super::id(&self.id)
    }

    /// The state as written.
    pub const fn state(&self) -> State {
        State::from_number(self.state)
    }

    /// When it ends by itself, as it is now; `None` once it is over.
    pub fn end(&self) -> Option<i64> {
        match self.state() {
            State::Requested => Some(self.expire),
            State::Granted | State::Paused => self.given.as_ref().map(|given| given.to),
            _ => None,
        }
    }

    /// The state by the clock of now.
    pub fn state_at(&self, now: Micros) -> State {
        match self.end() {
            Some(end) if now.0 >= end => State::Expired,
            _ => self.state(),
        }
    }

    /// Moves it on.
    pub const fn settle(&mut self, state: State, now: Micros) {
        self.state = state.number();
        self.updated = now.0;
        self.version += 1;
    }
}

impl Record for SubscriptionRow {
    const TABLE: Table = Table {
        name: "subscription",
        columns: &[
            Column::bytes("subject"),
            Column::bytes("holder"),
            Column::bytes("live"),
            Column::bytes("open_pair"),
            Column::int("due"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let state = self.state();
        let live = matches!(state, State::Granted | State::Paused);
        vec![
            self.known.then(|| self.owner.clone()).into(),
            self.holder.as_str().into(),
            live.then(|| self.owner.clone()).into(),
            (state == State::Requested).then(|| self.pair.clone()).into(),
            self.end().into(),
        ]
    }
}
