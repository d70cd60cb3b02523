//! What needs her PIN, as it is kept.

use sammati_store::{Record, Table};

/// See the contract's `StepUp`. One for each person who ever set it or showed a token.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StepUpRow {
    /// Her account, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub account: Vec<u8>,
    /// `StepUp.Action` numbers, in order.
    #[prost(int32, repeated, tag = "2")]
    pub actions: Vec<i32>,
    /// When they were last set; 0: never.
    #[prost(int64, tag = "3")]
    pub updated: i64,
    /// One more each time they are set.
    #[prost(int64, tag = "4")]
    pub version: i64,
    /// Tokens that were used and are not over yet.
    #[prost(message, repeated, tag = "5")]
    pub spent: Vec<SpentRow>,
}

/// One token that was used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SpentRow {
    /// Its id.
    #[prost(string, tag = "1")]
    pub jti: String,
    /// From when it is over, so that nobody need remember it.
    #[prost(int64, tag = "2")]
    pub until: i64,
}

impl StepUpRow {
    /// Of a person who has set nothing.
    pub fn of(account: &[u8]) -> Self {
        Self {
            account: account.to_vec(),
            ..Self::default()
        }
    }
}

impl Record for StepUpRow {
    const TABLE: Table = Table {
        name: "step_up",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.account.clone()
    }
}
