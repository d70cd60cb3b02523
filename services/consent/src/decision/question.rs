//! What is asked: who would do what with which records of whom.

use std::collections::BTreeSet;

use sammati_kernel::{AccessMode, AccountId, HiType, ParticipantId, PurposeCode};

use super::Granted;
use crate::lookup::ContextKey;
use crate::scope::Range;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// A participant: about consents in which it is named.
    Participant(ParticipantId),
    /// A person: about herself.
    Person(AccountId),
    /// Another service: about anything.
    Service,
}

impl Asker {
    /// Whether it is this participant.
    pub fn is(&self, id: &ParticipantId) -> bool {
        matches!(self, Self::Participant(asker) if asker == id)
    }
}

/// A question, well formed.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Who asks.
    pub asker: Asker,
    /// Who would look; `None`: whoever the named consent says.
    pub requester: Option<ParticipantId>,
    /// Who holds the records; `None`: whoever the named consent says.
    pub provider: Option<ParticipantId>,
    /// The professional: type, value, system.
    pub user: Option<[String; 3]>,
    /// Why; `None`, for a transfer: as granted.
    pub purpose: Option<PurposeCode>,
    /// What would be done; `None`, for a transfer: what is granted.
    pub access_mode: Option<AccessMode>,
    /// The kinds of record; empty, for a transfer: all that are granted.
    pub hi_types: BTreeSet<HiType>,
    /// The dates of the records.
    pub record_range: Range,
    /// Care contexts, hashed for the provider in question; empty: whatever the consent covers.
    pub care_contexts: BTreeSet<ContextKey>,
    /// Whether it has its use already, as a transfer that is taken on: then none need be left, and none is taken.
    pub has_use: bool,
    /// Whether a part of it will do.
    pub allow_reduced: bool,
}

impl Question {
    /// Whether the asker may know that this consent exists.
    pub fn may_know(&self, consent: &Granted) -> bool {
        match &self.asker {
            Asker::Participant(id) => consent.is_party(id),
            Asker::Person(account) => *account == consent.subject,
            Asker::Service => true,
        }
    }
}
