//! Consents, their artefacts, transfers and notifications as they are kept.

use sammati_api::types::v1 as types;
use sammati_kernel::{AccountId, ConsentId, Micros, ParticipantId, Refusal, TransferId};
use sammati_store::{Cell, Column, Record, Table};

use super::{ScopeRow, broken};
use crate::consent::State;
use crate::transfer;

/// See the contract's `Consent`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConsentRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The person, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub subject: Vec<u8>,
    /// The request it came from.
    #[prost(bytes = "vec", tag = "3")]
    pub request: Vec<u8>,
    /// Who gives, a bare id.
    #[prost(string, tag = "4")]
    pub hip: String,
    /// Who receives, a bare id.
    #[prost(string, tag = "5")]
    pub hiu: String,
    /// The professional.
    #[prost(message, required, tag = "6")]
    pub requester: types::Requester,
    /// What is granted.
    #[prost(message, required, tag = "7")]
    pub scope: ScopeRow,
    /// The version of the grant; 1 to begin with.
    #[prost(int32, tag = "8")]
    pub grant_version: i32,
    /// [`State::number`].
    #[prost(int32, tag = "9")]
    pub state: i32,
    /// When it was granted.
    #[prost(int64, tag = "10")]
    pub granted: i64,
    /// When it was revoked; 0 otherwise.
    #[prost(int64, tag = "11")]
    pub revoked: i64,
    /// When it ended; 0 while it lives.
    #[prost(int64, tag = "12")]
    pub ended: i64,
    /// From when on it permits nothing.
    #[prost(int64, tag = "13")]
    pub expire: i64,
    /// `CallerKind` of who granted.
    #[prost(int32, tag = "14")]
    pub granted_by: i32,
    /// The notice as it was shown.
    #[prost(message, required, tag = "15")]
    pub notice: types::NoticeRef,
    /// Uses since the grant.
    #[prost(int64, tag = "16")]
    pub uses: i64,
    /// The window that `window_uses` counts.
    #[prost(int64, tag = "17")]
    pub window: i64,
    /// Uses in that window.
    #[prost(int64, tag = "18")]
    pub window_uses: i64,
    /// When the HIP acknowledged; 0 before.
    #[prost(int64, tag = "19")]
    pub hip_acknowledged: i64,
    /// When the HIU acknowledged; 0 before.
    #[prost(int64, tag = "20")]
    pub hiu_acknowledged: i64,
    /// When it last changed.
    #[prost(int64, tag = "21")]
    pub updated: i64,
    /// 1, and one more with each change but uses.
    #[prost(int64, tag = "22")]
    pub version: i64,
    /// The address and the care contexts, sealed.
    #[prost(bytes = "vec", tag = "23")]
    pub sealed: Vec<u8>,
    /// Why she took it back, sealed; empty without.
    #[prost(bytes = "vec", tag = "24")]
    pub revoke_reason: Vec<u8>,
    /// One hash of person, HIP and HIU.
    #[prost(bytes = "vec", tag = "25")]
    pub pair: Vec<u8>,
}

impl ConsentRow {
    /// Its id.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn id(&self) -> Result<ConsentId, Refusal> {
        super::id(&self.id)
    }

    /// The person.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn subject(&self) -> Result<AccountId, Refusal> {
        super::account(&self.subject).ok_or_else(|| broken("a consent's subject"))
    }

    /// Who gives and who receives.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn parties(&self) -> Result<(ParticipantId, ParticipantId), Refusal> {
        Ok((super::participant(&self.hip)?, super::participant(&self.hiu)?))
    }

    /// The state as written.
    pub const fn state(&self) -> State {
        State::from_number(self.state)
    }

    /// The state by the clock of now: one whose time is over is EXPIRED, written or not.
    pub const fn state_at(&self, now: Micros) -> State {
        let state = self.state();
        if state.is_open() && now.0 >= self.expire { State::Expired } else { state }
    }

    /// Notes a change that others should see: a new version.
    pub const fn touch(&mut self, now: Micros) {
        self.updated = now.0;
        self.version += 1;
    }
}

impl Record for ConsentRow {
    const TABLE: Table = Table {
        name: "consent",
        columns: &[
            Column::bytes("subject"),
            Column::bytes("hiu"),
            Column::bytes("hip"),
            Column::bytes("request"),
            Column::bytes("pair"),
            Column::bytes("live"),
            Column::int("due"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let open = self.state().is_open();
        vec![
            self.subject.clone().into(),
            self.hiu.as_str().into(),
            self.hip.as_str().into(),
            self.request.clone().into(),
            self.pair.clone().into(),
            open.then(|| self.subject.clone()).into(),
            open.then_some(self.expire).into(),
        ]
    }
}

/// What is signed for one audience of one version.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ArtefactRow {
    /// See [`ArtefactRow::key_of`].
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The key that signs it.
    #[prost(string, tag = "2")]
    pub kid: String,
    /// The signing input, sealed: it names her.
    #[prost(bytes = "vec", tag = "3")]
    pub sealed: Vec<u8>,
    /// When it was made.
    #[prost(int64, tag = "4")]
    pub created: i64,
}

impl ArtefactRow {
    /// Consent, version and audience (`hip` is 1, `hiu` 2).
    pub fn key_of(consent: &[u8], version: i32, audience: u8) -> Vec<u8> {
        [consent, &version.to_be_bytes(), &[audience]].concat()
    }
}

impl Record for ArtefactRow {
    const TABLE: Table = Table { name: "artefact", columns: &[] };

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}

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
        if state.is_open() && now.0 >= self.expire { transfer::State::Expired } else { state }
    }

    /// Moves it on.
    pub const fn settle(&mut self, state: transfer::State, now: Micros) {
        self.state = state.number();
        self.updated = now.0;
        self.version += 1;
    }
}

impl Record for TransferRow {
    const TABLE: Table = Table { name: "transfer", columns: &[Column::bytes("open"), Column::int("due")] };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let open = self.state().is_open();
        vec![open.then(|| self.consent.clone()).into(), open.then_some(self.expire).into()]
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
}

impl Record for NotificationRow {
    const TABLE: Table = Table {
        name: "notification",
        columns: &[Column::bytes("recipient"), Column::bytes("pending"), Column::int("position")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let pending = (self.acknowledged == 0).then(|| self.recipient.clone().into_bytes());
        vec![self.recipient.as_str().into(), pending.into(), self.position.into()]
    }
}
