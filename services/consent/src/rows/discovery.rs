//! Discoveries and profile shares as they are kept.

use std::fmt;

use sammati_api::consent::v1::UnverifiedIdentifier;
use sammati_api::types::v1 as types;
use sammati_kernel::{DiscoveryId, Micros, ProfileShareId, Refusal};
use sammati_store::{Cell, Column, Record, Table};

use crate::discovery::{ANSWER_WITHIN, State};
use crate::share;

/// See the contract's `Discovery`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DiscoveryRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The person, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub subject: Vec<u8>,
    /// Where she looks, a bare id.
    #[prost(string, tag = "3")]
    pub hip: String,
    /// [`State::number`].
    #[prost(int32, tag = "4")]
    pub state: i32,
    /// A [`Known`], sealed.
    #[prost(bytes = "vec", tag = "5")]
    pub sealed: Vec<u8>,
    /// `IdentifierType` numbers by which she was found.
    #[prost(int32, repeated, tag = "6")]
    pub matched_by: Vec<i32>,
    /// The keys that what she chose will have once it is linked.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub selected: Vec<Vec<u8>>,
    /// The claims that it will take.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub claims: Vec<Vec<u8>>,
    /// Where the challenge was sent: the contract's `Medium`; 0 without one.
    #[prost(int32, tag = "9")]
    pub medium: i32,
    /// Until when it can be answered.
    #[prost(int64, tag = "10")]
    pub challenge_expire: i64,
    /// The HIP's key for the answer.
    #[prost(bytes = "vec", tag = "11")]
    pub token_key: Vec<u8>,
    /// The answer, sealed to that key; kept until the HIP's next word.
    #[prost(bytes = "vec", tag = "12")]
    pub sealed_token: Vec<u8>,
    /// The link that came of it; empty before.
    #[prost(bytes = "vec", tag = "13")]
    pub link: Vec<u8>,
    /// When it ends at the latest.
    #[prost(int64, tag = "14")]
    pub end: i64,
    /// When it expires if nothing happens.
    #[prost(int64, tag = "15")]
    pub expire: i64,
    /// When it was created.
    #[prost(int64, tag = "16")]
    pub created: i64,
    /// When it last changed.
    #[prost(int64, tag = "17")]
    pub updated: i64,
    /// 1, and one more with each change.
    #[prost(int64, tag = "18")]
    pub version: i64,
    /// [`State::number`] of what its time ran out in; 0 while it has not.
    #[prost(int32, tag = "19")]
    pub expired_in: i32,
}

/// What is personal in a discovery.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Known {
    /// How she named herself.
    #[prost(message, optional, tag = "1")]
    pub identifier: Option<types::Identifier>,
    /// What fits her account.
    #[prost(message, optional, tag = "2")]
    pub demographics: Option<types::Demographics>,
    /// What she says beside it.
    #[prost(message, repeated, tag = "3")]
    pub unverified: Vec<UnverifiedIdentifier>,
    /// What the HIP found.
    #[prost(message, repeated, tag = "4")]
    pub candidates: Vec<types::CareContextRef>,
    /// The references that she chose.
    #[prost(string, repeated, tag = "5")]
    pub selected: Vec<String>,
    /// Where the challenge went, masked.
    #[prost(string, tag = "6")]
    pub hint: String,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[private]")
    }
}

impl DiscoveryRow {
    /// Its id.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn id(&self) -> Result<DiscoveryId, Refusal> {
        super::id(&self.id)
    }

    /// The state as written.
    pub const fn state(&self) -> State {
        State::from_number(self.state)
    }

    /// The state by the clock of now.
    pub const fn state_at(&self, now: Micros) -> State {
        let state = self.state();
        if state.is_open() && now.0 >= self.expire {
            State::Expired
        } else {
            state
        }
    }

    /// Moves it on. The HIP has 30 s for its turn, she what is left of the whole, or of the challenge.
    pub fn settle(&mut self, state: State, now: Micros) {
        self.state = state.number();
        self.updated = now.0;
        self.version += 1;
        let limit = match state {
            State::Challenged => self.challenge_expire,
            state if state.waits_for_hip() => now.plus(ANSWER_WITHIN).0,
            state if state.is_open() => self.end,
            _ => self.expire,
        };
        self.expire = limit.min(self.end);
        if !state.is_open() {
            self.sealed_token.clear();
        }
    }
}

impl Record for DiscoveryRow {
    const TABLE: Table = Table {
        name: "discovery",
        columns: &[Column::int("due"), Column::bytes("subject")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![
            self.state().is_open().then_some(self.expire).into(),
            super::named(&self.subject),
        ]
    }
}

/// See the contract's `ProfileShare`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProfileShareRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The person, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub subject: Vec<u8>,
    /// With whom, a bare id.
    #[prost(string, tag = "3")]
    pub hip: String,
    /// The counter.
    #[prost(string, tag = "4")]
    pub counter: String,
    /// The contract's `Intent`.
    #[prost(int32, tag = "5")]
    pub intent: i32,
    /// The `SharedProfile`, sealed.
    #[prost(bytes = "vec", tag = "6")]
    pub sealed: Vec<u8>,
    /// Her number in the queue; empty before.
    #[prost(string, tag = "7")]
    pub token_number: String,
    /// [`share::State::number`].
    #[prost(int32, tag = "8")]
    pub state: i32,
    /// Until when the HIP can answer, or the token is good.
    #[prost(int64, tag = "9")]
    pub expire: i64,
    /// When it was created.
    #[prost(int64, tag = "10")]
    pub created: i64,
    /// When it last changed.
    #[prost(int64, tag = "11")]
    pub updated: i64,
    /// 1, and one more with each change.
    #[prost(int64, tag = "12")]
    pub version: i64,
}

impl ProfileShareRow {
    /// Its id.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn id(&self) -> Result<ProfileShareId, Refusal> {
        super::id(&self.id)
    }

    /// The state as written.
    pub const fn state(&self) -> share::State {
        share::State::from_number(self.state)
    }

    /// The state by the clock of now: a token's end is never written.
    pub const fn state_at(&self, now: Micros) -> share::State {
        if now.0 >= self.expire {
            share::State::Expired
        } else {
            self.state()
        }
    }
}

impl Record for ProfileShareRow {
    const TABLE: Table = Table {
        name: "profile_share",
        columns: &[Column::int("due"), Column::bytes("subject")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![
            (self.state() == share::State::Sent).then_some(self.expire).into(),
            super::named(&self.subject),
        ]
    }
}
