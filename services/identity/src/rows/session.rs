//! A session, as it is kept: never its tokens, which are derived.

use sammati_kernel::{AccountId, Micros, ParticipantId, RepresentationId, Representing, SessionId};
use sammati_store::{Cell, Column, Record, Table};

use super::Mandate;

/// A login of a person or a participant.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SessionRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
    /// The account, for a person's session.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) account: Vec<u8>,
    /// The participant's bare id, for a participant's.
    #[prost(string, tag = "4")]
    pub(crate) participant: String,
    /// As in a token's `roles` claim; for a participant.
    #[prost(string, repeated, tag = "5")]
    pub(crate) roles: Vec<String>,
    /// `Factor` of the contract; for a person.
    #[prost(int32, repeated, tag = "6")]
    pub(crate) factors: Vec<i32>,
    /// The app, `participants/{id}`; for a person.
    #[prost(string, tag = "7")]
    pub(crate) app: String,
    /// When the person proved who she is.
    #[prost(int64, tag = "8")]
    pub(crate) auth_time: i64,
    /// 1, and one more with each refresh: the one refresh token that is good names it.
    #[prost(int64, tag = "9")]
    pub(crate) generation: i64,
    #[prost(int64, tag = "10")]
    pub(crate) create_time: i64,
    #[prost(int64, tag = "11")]
    pub(crate) update_time: i64,
    #[prost(int64, tag = "12")]
    pub(crate) expire_time: i64,
    /// When it was ended before that; 0 if it was not.
    #[prost(int64, tag = "13")]
    pub(crate) end_time: i64,
    /// Whether it has run out and was let go of: its holder's group of live sessions has it no more.
    #[prost(bool, tag = "14")]
    pub(crate) released: bool,
    /// base64url of the SHA-256 of the certificate that the tokens are bound to; for a participant.
    #[prost(string, tag = "15")]
    pub(crate) certificate: String,
    /// How many address candidates were asked about.
    #[prost(int32, tag = "16")]
    pub(crate) probes: i32,
    /// For whom a representative acts. `account` is empty then: code that does not know of representatives makes no token
    /// of the principal's from it.
    #[prost(message, optional, tag = "17")]
    pub(crate) represented: Option<RepresentedRow>,
}

/// Who acts for whom in a session, as the representation said when it began.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RepresentedRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) representation: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) principal: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) representative: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    pub(crate) mandate: Option<Mandate>,
}

impl RepresentedRow {
    pub(crate) fn representation(&self) -> Option<RepresentationId> {
        RepresentationId::from_slice(&self.representation)
    }
}

/// The value of the `ended` column of a session that was ended.
pub(crate) struct EndedSession;

impl EndedSession {
    pub(crate) const MARK: [u8; 1] = [1];
}

impl SessionRow {
    pub(crate) fn id(&self) -> Option<SessionId> {
        SessionId::from_slice(&self.id)
    }

    /// The resource name.
    pub(crate) fn name(&self) -> String {
        self.id().map(|id| id.name()).unwrap_or_default()
    }

    pub(crate) fn account(&self) -> Option<AccountId> {
        AccountId::from_slice(&self.account)
    }

    pub(crate) fn participant(&self) -> Option<ParticipantId> {
        ParticipantId::parse(&self.participant).ok()
    }

    /// The person it is about: whose account it is, or who is represented.
    pub(crate) fn subject(&self) -> Option<AccountId> {
        let represented = self.represented.as_ref();
        self.account()
            .or_else(|| AccountId::from_slice(&represented?.principal))
    }

    /// Who acts in it for another, if somebody does.
    pub(crate) fn representing(&self) -> Option<Representing> {
        let row = self.represented.as_ref()?;
        let parties = (
            row.representation()?,
            AccountId::from_slice(&row.principal)?,
            AccountId::from_slice(&row.representative)?,
        );
        let app = ParticipantId::parse_name(&self.app).ok();
        let proof = (self.id()?, app, Micros(self.auth_time).seconds());
        row.mandate.as_ref()?.representing(parties, proof)
    }

    /// The name of whoever it belongs to.
    pub(crate) fn holder(&self) -> String {
        self.account()
            .map(|a| a.name())
            .or_else(|| Some(self.represented.as_ref()?.representation()?.name()))
            .or_else(|| self.participant().map(|p| p.name()))
            .unwrap_or_default()
    }

    /// Whether it has neither ended nor run out.
    pub(crate) const fn is_live(&self, now: Micros) -> bool {
        self.end_time == 0 && now.0 < self.expire_time
    }
}

impl Record for SessionRow {
    const TABLE: Table = Table {
        name: "session",
        columns: &[
            Column::bytes("live"),
            Column::bytes("ended"),
            Column::int("end_time"),
            Column::int("due"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let ended = self.end_time != 0;
        let in_group = !ended && !self.released;
        vec![
            Cell::Bytes(in_group.then(|| self.holder().into_bytes())),
            Cell::Bytes(ended.then(|| EndedSession::MARK.to_vec())),
            Cell::Int(ended.then_some(self.end_time)),
            // Also of one that was ended: older code, which ends it without a word of this column, leaves no other value.
            Cell::Int((!self.released).then_some(self.expire_time)),
        ]
    }
}
