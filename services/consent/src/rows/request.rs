//! A consent request as it is kept.

use sammati_api::types::v1 as types;
use sammati_kernel::{ConsentRequestId, Micros, ParticipantId, Refusal};
use sammati_store::{Cell, Column, Record, Table};

use super::ScopeRow;
use crate::request::State;

/// See the contract's `ConsentRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RequestRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Whose data key seals it, 16 bytes: the account, or a keyed hash of an address that is nobody's.
    #[prost(bytes = "vec", tag = "2")]
    pub owner: Vec<u8>,
    /// Whether `owner` is an account.
    #[prost(bool, tag = "3")]
    pub known: bool,
    /// Who asks, a bare id.
    #[prost(string, tag = "4")]
    pub hiu: String,
    /// Who is asked for records, bare ids.
    #[prost(string, repeated, tag = "5")]
    pub hips: Vec<String>,
    /// The professional.
    #[prost(message, required, tag = "6")]
    pub requester: types::Requester,
    /// What is asked.
    #[prost(message, required, tag = "7")]
    pub scope: ScopeRow,
    /// The notice that is bound to it.
    #[prost(message, required, tag = "8")]
    pub notice: types::NoticeRef,
    /// The end of the window.
    #[prost(int64, tag = "9")]
    pub expire: i64,
    /// [`State::number`].
    #[prost(int32, tag = "10")]
    pub state: i32,
    /// When it left REQUESTED; 0 before.
    #[prost(int64, tag = "11")]
    pub decided: i64,
    /// `CallerKind` of who decided; 0 for nobody.
    #[prost(int32, tag = "12")]
    pub decided_by: i32,
    /// The consents made of it.
    #[prost(bytes = "vec", repeated, tag = "13")]
    pub consents: Vec<Vec<u8>>,
    /// Whether less was granted than asked.
    #[prost(bool, tag = "14")]
    pub narrowed: bool,
    /// When it was created.
    #[prost(int64, tag = "15")]
    pub created: i64,
    /// When it last changed.
    #[prost(int64, tag = "16")]
    pub updated: i64,
    /// 1, and one more with each change.
    #[prost(int64, tag = "17")]
    pub version: i64,
    /// The address and the care contexts, sealed.
    #[prost(bytes = "vec", tag = "18")]
    pub sealed: Vec<u8>,
    /// Why she denied it, sealed; empty without.
    #[prost(bytes = "vec", tag = "19")]
    pub deny_reason: Vec<u8>,
    /// One hash of owner and asker, for the limit of open requests.
    #[prost(bytes = "vec", tag = "20")]
    pub pair: Vec<u8>,
    /// The consent that an approval takes the place of; empty: none.
    #[prost(bytes = "vec", tag = "21")]
    pub renews: Vec<u8>,
    /// The representation it was decided under, 16 bytes; empty: by herself.
    #[prost(bytes = "vec", tag = "40")]
    pub decided_under: Vec<u8>,
    /// The policy that decided it; empty: she did.
    #[prost(bytes = "vec", tag = "30")]
    pub policy: Vec<u8>,
    /// The study that asks, 16 bytes; empty: none.
    #[prost(bytes = "vec", tag = "70")]
    pub study: Vec<u8>,
}

impl RequestRow {
    /// Its id.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn id(&self) -> Result<ConsentRequestId, Refusal> {
        super::id(&self.id)
    }

    /// The state as written.
    pub const fn state(&self) -> State {
        State::from_number(self.state)
    }

    /// The state by the clock of now.
    pub const fn state_at(&self, now: Micros) -> State {
        match self.state() {
            State::Requested if now.0 >= self.expire => State::Expired,
            state => state,
        }
    }

    /// The HIPs it names.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn hips(&self) -> Result<Vec<ParticipantId>, Refusal> {
        self.hips.iter().map(|id| super::participant(id)).collect()
    }

    /// Moves it on.
    pub const fn settle(&mut self, state: State, now: Micros) {
        self.state = state.number();
        self.decided = now.0;
        self.updated = now.0;
        self.version += 1;
    }
}

impl Record for RequestRow {
    const TABLE: Table = Table {
        name: "consent_request",
        columns: &[
            Column::bytes("subject"),
            Column::bytes("hiu"),
            Column::bytes("open_pair"),
            Column::int("due"),
            Column::bytes("open_study"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let open = self.state() == State::Requested;
        vec![
            self.known.then(|| self.owner.clone()).into(),
            self.study.is_empty().then(|| self.hiu.clone().into_bytes()).into(),
            open.then(|| self.pair.clone()).into(),
            open.then_some(self.expire).into(),
            (open && !self.study.is_empty()).then(|| self.study.clone()).into(),
        ]
    }
}
