//! Studies as they are kept, and what is kept of their asking and counting.

use sammati_api::types::v1 as types;
use sammati_kernel::{Micros, Refusal, StudyId};
use sammati_store::{Cell, Column, Record, Table};

use super::ScopeRow;
use crate::study::{KEY_KEPT, SETTLED_AFTER, State};

/// The value of the column that is the same for all studies.
pub const EVERY: &[u8] = b"study";

/// See the contract's `Study`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StudyRow {
    /// Its id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Who does the research, a bare id.
    #[prost(string, tag = "2")]
    pub sponsor: String,
    /// What people read.
    #[prost(string, tag = "3")]
    pub title: String,
    /// The approval.
    #[prost(message, required, tag = "4")]
    pub ethics: EthicsRow,
    /// What is asked.
    #[prost(message, required, tag = "5")]
    pub scope: ScopeRow,
    /// SHA-256 of the protocol, in hexadecimal.
    #[prost(string, tag = "6")]
    pub protocol: String,
    /// The HIPs, bare ids.
    #[prost(string, repeated, tag = "7")]
    pub nodes: Vec<String>,
    /// The smallest group that is counted.
    #[prost(int32, tag = "8")]
    pub min_cell: i32,
    /// Who answers for it.
    #[prost(message, required, tag = "9")]
    pub investigator: types::Requester,
    /// What is bound to what it asks.
    #[prost(message, required, tag = "10")]
    pub notice: types::NoticeRef,
    /// [`State::number`].
    #[prost(int32, tag = "11")]
    pub state: i32,
    /// When it became ACTIVE; 0 before.
    #[prost(int64, tag = "12")]
    pub activated: i64,
    /// When it was closed; 0 before.
    #[prost(int64, tag = "13")]
    pub closed: i64,
    /// When nothing of it was open any more; 0 before.
    #[prost(int64, tag = "14")]
    pub settled: i64,
    /// When the key of its pseudonyms was destroyed; 0 before.
    #[prost(int64, tag = "15")]
    pub destroyed: i64,
    /// Which key that is; empty without.
    #[prost(string, tag = "16")]
    pub key_id: String,
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

/// The word of an ethics committee.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EthicsRow {
    /// Which committee.
    #[prost(string, tag = "1")]
    pub body: String,
    /// Its number.
    #[prost(string, tag = "2")]
    pub number: String,
    /// SHA-256 of the document, in hexadecimal.
    #[prost(string, tag = "3")]
    pub sha256: String,
    /// Until when.
    #[prost(int64, tag = "4")]
    pub until: i64,
}

impl StudyRow {
    /// Its id.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn id(&self) -> Result<StudyId, Refusal> {
        super::id(&self.id)
    }

    /// The state as written.
    pub const fn state(&self) -> State {
        State::from_number(self.state)
    }

    /// The state by the clock of now.
    pub const fn state_at(&self, now: Micros) -> State {
        match self.state() {
            State::Active if now.0 >= self.ethics.until => State::Closed,
            state => state,
        }
    }

    /// Whether a HIP takes part.
    pub fn has_node(&self, id: &str) -> bool {
        self.nodes.iter().any(|node| node == id)
    }

    /// When its key is to be destroyed, once it is closed.
    pub fn destroy(&self) -> Option<Micros> {
        match self.closed {
            0 => None,
            closed => Some(Micros(closed).plus(KEY_KEPT)),
        }
    }

    /// When the clock does the next thing to it.
    pub fn due(&self) -> Option<i64> {
        match self.state() {
            State::Draft => None,
            State::Active => Some(self.ethics.until),
            State::Closed if self.settled == 0 => Some(Micros(self.closed).plus(SETTLED_AFTER).0),
            State::Closed if self.destroyed == 0 => self.destroy().map(|at| at.0),
            State::Closed => None,
        }
    }

    /// Notes a change: a new version.
    pub const fn touch(&mut self, now: Micros) {
        self.updated = now.0;
        self.version += 1;
    }
}

impl Record for StudyRow {
    const TABLE: Table = Table {
        name: "study",
        columns: &[Column::bytes("sponsor"), Column::bytes("every"), Column::int("due")],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![self.sponsor.as_str().into(), EVERY.to_vec().into(), self.due().into()]
    }
}

/// That a node asked somebody for a study.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StudyAskRow {
    /// Keyed hash of study, node and person.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// When.
    #[prost(int64, tag = "2")]
    pub asked: i64,
    /// The call that did, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub call: Vec<u8>,
    /// Under which reference: a keyed hash.
    #[prost(bytes = "vec", tag = "4")]
    pub reference: Vec<u8>,
}

impl Record for StudyAskRow {
    const TABLE: Table = Table {
        name: "study_ask",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}

/// What a run decided of one person: its use is taken once.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CohortUseRow {
    /// Keyed hash of run and person.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The decision.
    #[prost(message, required, tag = "2")]
    pub decided: MemberRow,
    /// Whether a restore lost it: of the decision only the use is known, which is counted.
    #[prost(bool, tag = "3")]
    pub lost: bool,
    /// The consent whose use it took, 16 bytes; empty without one, and in rows of format 1.
    #[prost(bytes = "vec", tag = "4")]
    pub consent: Vec<u8>,
}

impl Record for CohortUseRow {
    const TABLE: Table = Table {
        name: "cohort_use",
        columns: &[],
    };
    /// Code that does not know whose use it is would lose that with the next row that it writes.
    const FORMAT: i64 = 2;

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}

/// What a run told: see the contract's `CohortMember`. Neither who it is nor her reference.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MemberRow {
    /// Her pseudonym; empty where the row is hers.
    #[prost(string, tag = "1")]
    pub pseudonym: String,
    /// `Decision.Reason`.
    #[prost(int32, tag = "2")]
    pub reason: i32,
    /// The version of her consent.
    #[prost(int32, tag = "3")]
    pub version: i32,
    /// Until when, with a permit; 0 without.
    #[prost(int64, tag = "4")]
    pub erase: i64,
    /// The kinds of record.
    #[prost(int32, repeated, tag = "5")]
    pub hi_types: Vec<i32>,
    /// The dates of the records: the first.
    #[prost(int64, tag = "6")]
    pub from: i64,
    /// And the first after.
    #[prost(int64, tag = "7")]
    pub to: i64,
    /// Which use it took; 0: none.
    #[prost(int64, tag = "8")]
    pub r#use: i64,
}

/// One commit of a run. It lives with the node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CohortChunkRow {
    /// Keyed hash of study, node and run, and the number of the chunk.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// In the order of their pseudonyms.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<MemberRow>,
    /// With the last chunk: what is signed of the run; empty before.
    #[prost(string, tag = "3")]
    pub manifest: String,
    /// The key that signs it.
    #[prost(string, tag = "4")]
    pub kid: String,
    /// The places of the feeds when it began, sealed.
    #[prost(string, tag = "5")]
    pub revision: String,
    /// When it was committed.
    #[prost(int64, tag = "6")]
    pub created: i64,
}

impl CohortChunkRow {
    /// The key of a run's `n`th chunk.
    pub fn key_of(run: &[u8; 32], n: u32) -> Vec<u8> {
        [run.as_slice(), &n.to_be_bytes()].concat()
    }
}

impl Record for CohortChunkRow {
    const TABLE: Table = Table {
        name: "cohort_chunk",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}

/// How often somebody counted a cohort. It lives with the study.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CohortCountRow {
    /// Keyed hash of study and caller.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// When the present day of counting began.
    #[prost(int64, tag = "2")]
    pub since: i64,
    /// Counts since.
    #[prost(int32, tag = "3")]
    pub count: i32,
}

impl Record for CohortCountRow {
    const TABLE: Table = Table {
        name: "cohort_count",
        columns: &[],
    };

    fn key(&self) -> Vec<u8> {
        self.key.clone()
    }
}
