//! Transfers and notifications as they are kept.

use sammati_kernel::{Micros, Refusal, TransferId};
use sammati_store::{Cell, Column, Record, Table};

use crate::transfer;

/// See the contract's `Transfer`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TransferRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The consent it rests on.
    #[prost(bytes = "vec", tag = "2")]
    pub consent: Vec<u8>,
    /// The version of that consent's grant.
    #[prost(int32, tag = "3")]
    pub grant_version: i32,
    /// The person, 16 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub subject: Vec<u8>,
    /// Who gives, a bare id.
    #[prost(string, tag = "5")]
    pub hip: String,
    /// Who receives, a bare id.
    #[prost(string, tag = "6")]
    pub hiu: String,
    /// `HiType` numbers.
    #[prost(int32, repeated, tag = "7")]
    pub hi_types: Vec<i32>,
    /// The dates of the records.
    #[prost(int64, tag = "8")]
    pub from: i64,
    /// Their end.
    #[prost(int64, tag = "9")]
    pub to: i64,
    /// Where to push.
    #[prost(string, tag = "10")]
    pub push_uri: String,
    /// The receiver's key, as it wrote it.
    #[prost(string, tag = "11")]
    pub key_content: String,
    /// When that key expires.
    #[prost(int64, tag = "12")]
    pub key_expire: i64,
    /// [`transfer::State::number`].
    #[prost(int32, tag = "13")]
    pub state: i32,
    /// Which use of the consent it took, from 1.
    #[prost(int64, tag = "14")]
    pub r#use: i64,
    /// The frequency window that use lies in.
    #[prost(int64, tag = "15")]
    pub window: i64,
    /// When it expires if nothing happens.
    #[prost(int64, tag = "16")]
    pub expire: i64,
    /// When it was created.
    #[prost(int64, tag = "17")]
    pub created: i64,
    /// When it last changed.
    #[prost(int64, tag = "18")]
    pub updated: i64,
    /// 1, and one more with each change.
    #[prost(int64, tag = "19")]
    pub version: i64,
    /// `PurposeCode` of the grant.
    #[prost(int32, tag = "20")]
    pub purpose: i32,
    /// The HIP's `TransferReport`, sealed; empty before.
    #[prost(bytes = "vec", tag = "21")]
    pub hip_report: Vec<u8>,
    /// The HIU's `TransferReport`, sealed; empty before.
    #[prost(bytes = "vec", tag = "22")]
    pub hiu_report: Vec<u8>,
}

impl TransferRow {
    /// Its id.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn id(&self) -> Result<TransferId, Refusal> {
        super::id(&self.id)
    }

    /// The state as written.
    pub const fn state(&self) -> transfer::State {
        transfer::State::from_number(self.state)
    }

    /// The state by the clock of now.
    pub const fn state_at(&self, now: Micros) -> transfer::State {
        let state = self.state();
        if state.is_open() && now.0 >= self.expire {
            transfer::State::Expired
        } else {
            state
        }
    }

    /// Moves it on.
    pub const fn settle(&mut self, state: transfer::State, now: Micros) {
        self.state = state.number();
        self.updated = now.0;
        self.version += 1;
    }
}

impl Record for TransferRow {
    const TABLE: Table = Table {
        name: "transfer",
        columns: &[
            Column::bytes("open"),
            Column::int("due"),
            Column::bytes("open_hip"),
            Column::bytes("open_hiu"),
            Column::bytes("subject"),
            Column::bytes("hip"),
            Column::bytes("hiu"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let open = self.state().is_open();
        vec![
            open.then(|| self.consent.clone()).into(),
            open.then_some(self.expire).into(),
            open.then(|| self.hip.clone().into_bytes()).into(),
            open.then(|| self.hiu.clone().into_bytes()).into(),
            self.subject.clone().into(),
            self.hip.as_str().into(),
            self.hiu.as_str().into(),
        ]
    }
}

/// See the contract's `Notification`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NotificationRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// `participants/{id}` or `accounts/{id}`.
    #[prost(string, tag = "2")]
    pub recipient: String,
    /// The contract's `Notification.Kind`.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    /// The resource it is about.
    #[prost(string, tag = "4")]
    pub resource: String,
    /// The event that tells of it.
    #[prost(string, tag = "5")]
    pub event_id: String,
    /// That event's position in the feed: one recipient has one notification of an event.
    #[prost(int64, tag = "6")]
    pub position: i64,
    /// The person it is about, 16 bytes; empty if there is none.
    #[prost(bytes = "vec", tag = "7")]
    pub subject: Vec<u8>,
    /// When it was made.
    #[prost(int64, tag = "8")]
    pub created: i64,
    /// By when it should be acknowledged.
    #[prost(int64, tag = "9")]
    pub acknowledge_by: i64,
    /// When it was; 0 before.
    #[prost(int64, tag = "10")]
    pub acknowledged: i64,
    /// What the recipient last said went wrong, for an operator.
    #[prost(string, tag = "11")]
    pub error: String,
    /// Where there is something new, a bare id; empty without.
    #[prost(string, tag = "12")]
    pub hip: String,
    /// Of which kinds of record, `HiType` numbers.
    #[prost(int32, repeated, tag = "13")]
    pub hi_types: Vec<i32>,
}

impl Record for NotificationRow {
    const TABLE: Table = Table {
        name: "notification",
        columns: &[
            Column::bytes("recipient"),
            Column::bytes("pending"),
            Column::int("position"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let pending = (self.acknowledged == 0).then(|| self.recipient.clone().into_bytes());
        vec![
            super::named(self.recipient.as_bytes()),
            pending.into(),
            self.position.into(),
        ]
    }
}
