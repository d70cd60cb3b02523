//! Consents and their artefacts as they are kept.

use sammati_api::types::v1 as types;
use sammati_kernel::{AccountId, ConsentId, Micros, ParticipantId, Refusal};
use sammati_store::{Cell, Column, Record, Table};

use super::{BreakGlassRow, ScopeRow, broken};
use crate::consent::State;

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
    /// When a paused one is in force again by itself; 0: not by itself.
    #[prost(int64, tag = "26")]
    pub resume: i64,
    /// When it was last narrowed; 0: never.
    #[prost(int64, tag = "27")]
    pub narrowed: i64,
    /// The event of its last narrowing: whoever takes that in has taken in the present version. Empty: never narrowed.
    #[prost(string, tag = "28")]
    pub narrowed_by: String,
    /// The consent that it took the place of; empty: none.
    #[prost(bytes = "vec", tag = "29")]
    pub renews: Vec<u8>,
    /// The version of that one.
    #[prost(int32, tag = "30")]
    pub renews_version: i32,
    /// The consent that took its place; empty: none.
    #[prost(bytes = "vec", tag = "31")]
    pub successor: Vec<u8>,
    /// The representation it was granted under, 16 bytes; empty: by herself.
    #[prost(bytes = "vec", tag = "40")]
    pub granted_under: Vec<u8>,
    /// What happened, if it was opened without her word in an emergency.
    #[prost(message, optional, tag = "42")]
    pub break_glass: Option<BreakGlassRow>,
    /// The contract's `Origin`; 0 is REQUEST.
    #[prost(int32, tag = "41")]
    pub origin: i32,
    /// The status list that tells of it, 16 bytes; empty of a consent that is older than the lists.
    #[prost(bytes = "vec", tag = "43")]
    pub status_list: Vec<u8>,
    /// Where in that list.
    #[prost(uint32, tag = "44")]
    pub status_index: u32,
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

    /// The state by the clock of now: one whose time is over is EXPIRED, one whose pause is over GRANTED, written or not.
    pub const fn state_at(&self, now: Micros) -> State {
        match self.state() {
            state if state.is_open() && now.0 >= self.expire => State::Expired,
            State::Paused if self.resumes() && now.0 >= self.resume => State::Granted,
            state => state,
        }
    }

    /// Whether it is paused and will be in force again by itself, before its end.
    pub const fn resumes(&self) -> bool {
        matches!(self.state(), State::Paused) && self.resume != 0 && self.resume < self.expire
    }

    /// When the present version was made.
    pub const fn made(&self) -> i64 {
        if self.narrowed == 0 {
            self.granted
        } else {
            self.narrowed
        }
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
            Column::bytes("status_list"),
            Column::bytes("hiu"),
            Column::bytes("hip"),
            Column::bytes("request"),
            Column::bytes("pair"),
            Column::bytes("live"),
            Column::int("due"),
            Column::int("review_due"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let open = self.state().is_open();
        vec![
            self.subject.clone().into(),
            (!self.status_list.is_empty()).then(|| self.status_list.clone()).into(),
            self.hiu.as_str().into(),
            self.hip.as_str().into(),
            (!self.request.is_empty()).then(|| self.request.clone()).into(),
            self.pair.clone().into(),
            open.then(|| self.subject.clone()).into(),
            open.then_some(if self.resumes() { self.resume } else { self.expire })
                .into(),
            self.break_glass.as_ref().and_then(BreakGlassRow::review_due).into(),
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
    /// SHA-256 of the signed artefact.
    #[prost(bytes = "vec", tag = "5")]
    pub sha256: Vec<u8>,
}

impl ArtefactRow {
    /// Consent, version and audience (`hip` is 1, `hiu` 2).
    pub fn key_of(consent: &[u8], version: i32, audience: u8) -> Vec<u8> {
        [consent, &version.to_be_bytes(), &[audience]].concat()
    }
}

impl Record for ArtefactRow {
    const TABLE: Table = Table {
        name: "artefact",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}
