//! Who may act for whom, as it is kept.

use std::collections::BTreeSet;

use sammati_kernel::{
    AccountId, Micros, ParticipantId, Power, PurposeCode, RepresentationId, RepresentationKind, Representing, SessionId,
};
use sammati_store::{Cell, Column, Record, Table};

use crate::representation::State;

/// A representation. It lives with the principal.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RepresentationRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
    /// Who is represented, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) principal: Vec<u8>,
    /// Who acts, 16 bytes; empty when nobody was found by what was asked for.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) representative: Vec<u8>,
    /// What it gives.
    #[prost(message, optional, tag = "5")]
    pub(crate) mandate: Option<Mandate>,
    /// [`State::number`].
    #[prost(int32, tag = "6")]
    pub(crate) state: i32,
    /// What it rests on; none where the principal's word is enough.
    #[prost(message, optional, tag = "7")]
    pub(crate) evidence: Option<EvidenceRow>,
    /// When it was accepted; 0 before.
    #[prost(int64, tag = "8")]
    pub(crate) accept_time: i64,
    /// From when on it may be used; 0 before it is ACTIVE.
    #[prost(int64, tag = "9")]
    pub(crate) effective_time: i64,
    /// `EndReason` of the contract.
    #[prost(int32, tag = "10")]
    pub(crate) end_reason: i32,
    #[prost(int64, tag = "11")]
    pub(crate) create_time: i64,
    #[prost(int64, tag = "12")]
    pub(crate) update_time: i64,
    /// Until when it can be accepted.
    #[prost(int64, tag = "13")]
    pub(crate) accept_by: i64,
    /// When all sessions under it were ended last: what was proved before opens none. Code that does not know of it may drop
    /// it, for it lets such a proof pass anyway.
    #[prost(int64, tag = "14")]
    pub(crate) sessions_from: i64,
}

/// Why somebody may act for another, and how far. It never changes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Mandate {
    /// [`RepresentationKind::number`].
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    /// [`Power::number`].
    #[prost(int32, repeated, tag = "2")]
    pub(crate) powers: Vec<i32>,
    /// From when on it is over; 0 without an end.
    #[prost(int64, tag = "3")]
    pub(crate) ends: i64,
    /// Numbers of purposes; none: any.
    #[prost(int32, repeated, tag = "4")]
    pub(crate) purposes: Vec<i32>,
    /// Bare ids of participants; none: any.
    #[prost(string, repeated, tag = "5")]
    pub(crate) participants: Vec<String>,
}

/// A document that somebody looked at.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct EvidenceRow {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) sha256: Vec<u8>,
    /// `operators/{name}`.
    #[prost(string, tag = "3")]
    pub(crate) checked_by: String,
}

impl Mandate {
    pub(crate) fn kind(&self) -> Option<RepresentationKind> {
        RepresentationKind::from_number(self.kind)
    }

    /// Who acts under it; `None` when a word of it is unknown: a limit that is not understood must not be passed over.
    pub(crate) fn representing(
        &self,
        (representation, principal, representative): (RepresentationId, AccountId, AccountId),
        (session, app, auth_time): (SessionId, Option<ParticipantId>, i64),
    ) -> Option<Representing> {
        let purpose = |n: &i32| PurposeCode::ALL.into_iter().find(|p| p.number() == *n);
        let participants = self.participants.iter().map(|id| ParticipantId::parse(id).ok());
        Some(Representing {
            representation,
            principal,
            representative,
            kind: self.kind()?,
            powers: self
                .powers
                .iter()
                .map(|n| Power::from_number(*n))
                .collect::<Option<_>>()?,
            purposes: self.purposes.iter().map(purpose).collect::<Option<_>>()?,
            participants: participants.collect::<Option<BTreeSet<_>>>()?,
            ends: (self.ends != 0).then_some(Micros(self.ends)),
            session,
            app,
            auth_time,
        })
    }
}

impl RepresentationRow {
    pub(crate) fn id(&self) -> Option<RepresentationId> {
        RepresentationId::from_slice(&self.id)
    }

    /// The resource name.
    pub(crate) fn name(&self) -> String {
        self.id().map(|id| id.name()).unwrap_or_default()
    }

    pub(crate) fn principal(&self) -> Option<AccountId> {
        AccountId::from_slice(&self.principal)
    }

    pub(crate) fn representative(&self) -> Option<AccountId> {
        AccountId::from_slice(&self.representative)
    }

    /// Whether a guardian acts, of a child or of a person with a disability; a kind that is not known is none.
    pub(crate) fn is_guardianship(&self) -> bool {
        use RepresentationKind::{DisabilityGuardian, Guardian};
        let kind = self.mandate.as_ref().and_then(|mandate| mandate.kind());
        matches!(kind, Some(Guardian | DisabilityGuardian))
    }

    /// The state as written.
    pub(crate) const fn state(&self) -> State {
        State::from_number(self.state)
    }

    /// When time ends it, if it does.
    pub(crate) fn due(&self) -> Option<i64> {
        let ends = self.mandate.as_ref().map_or(0, |m| m.ends);
        let ends = (ends != 0).then_some(ends);
        match self.state() {
            State::Ended => None,
            State::Proposed => Some(ends.map_or(self.accept_by, |ends| ends.min(self.accept_by))),
            State::Standby | State::Active => ends,
        }
    }

    /// The state by the clock of now: one whose time is over is ENDED, written or not.
    pub(crate) fn state_at(&self, now: Micros) -> State {
        match self.due() {
            Some(due) if now.0 >= due => State::Ended,
            _ => self.state(),
        }
    }

    /// Whether somebody may act under it.
    pub(crate) fn is_in_force(&self, now: Micros) -> bool {
        self.state_at(now) == State::Active && now.0 >= self.effective_time
    }

    /// Notes a change.
    pub(crate) const fn touch(&mut self, now: Micros) {
        self.version += 1;
        self.update_time = now.0;
    }
}

impl Record for RepresentationRow {
    const TABLE: Table = Table {
        name: "representation",
        columns: &[
            Column::bytes("principal"),
            Column::bytes("representative"),
            Column::bytes("open"),
            Column::int("due"),
        ],
    };

    fn key(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        let open = self.state() != State::Ended;
        vec![
            self.principal.clone().into(),
            Cell::Bytes((!self.representative.is_empty()).then(|| self.representative.clone())),
            Cell::Bytes(open.then(|| self.principal.clone())),
            Cell::Int(self.due()),
        ]
    }
}
