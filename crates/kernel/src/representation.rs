//! Who decides for another, and how far: a guardian, a nominee, a delegate.

use std::collections::BTreeSet;

use crate::{AccountId, Micros, ParticipantId, PurposeCode, RepresentationId, SessionId};

/// What a representative may do for the principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Power {
    /// See what the principal sees. It comes with each of the others.
    Read = 1,
    /// Grant and deny.
    Decide = 2,
    /// Take back.
    Revoke = 3,
    /// Change the account.
    ManageAccount = 4,
    /// Ask for access, correction, erasure, and complain.
    Rights = 5,
}

impl Power {
    /// All of them, in the order of their numbers in `type.v1.Power`, from 1.
    pub const ALL: [Self; 5] = [
        Self::Read,
        Self::Decide,
        Self::Revoke,
        Self::ManageAccount,
        Self::Rights,
    ];

    /// As in a token's `powers`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Decide => "DECIDE",
            Self::Revoke => "REVOKE",
            Self::ManageAccount => "MANAGE_ACCOUNT",
            Self::Rights => "RIGHTS",
        }
    }

    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|power| power.as_str() == text)
    }

    /// Its number in `type.v1.Power`.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// Reads it back.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|power| power.number() == number)
    }
}

/// Why somebody may act for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepresentationKind {
    /// A parent or lawful guardian of a child.
    Guardian = 1,
    /// The lawful guardian of a person with a disability.
    DisabilityGuardian = 2,
    /// Whom she named for the case of her death or incapacity.
    Nominee = 3,
    /// Whom she lets act for her for a while.
    Delegate = 4,
}

impl RepresentationKind {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 4] = [Self::Guardian, Self::DisabilityGuardian, Self::Nominee, Self::Delegate];

    /// As in a token's `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guardian => "GUARDIAN",
            Self::DisabilityGuardian => "DISABILITY_GUARDIAN",
            Self::Nominee => "NOMINEE",
            Self::Delegate => "DELEGATE",
        }
    }

    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// Reads it back.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// One who acts for another, in a session that names both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Representing {
    /// What entitles to it.
    pub representation: RepresentationId,
    /// Whose account and records it is: the subject.
    pub principal: AccountId,
    /// Who acts.
    pub representative: AccountId,
    /// Why.
    pub kind: RepresentationKind,
    /// How far.
    pub powers: BTreeSet<Power>,
    /// The purposes to which a delegate is held; empty: any.
    pub purposes: BTreeSet<PurposeCode>,
    /// The participants to which a delegate is held, on either side of a consent; empty: any.
    pub participants: BTreeSet<ParticipantId>,
    /// From when on it is over, if that is set: the principal's majority or the end of the period.
    pub ends: Option<Micros>,
    /// The session the token belongs to.
    pub session: SessionId,
    /// The app (a participant) that the session was opened in.
    pub app: Option<ParticipantId>,
    /// When the representative last proved who that is, seconds since 1970.
    pub auth_time: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_and_kinds_are_read_back() {
        for power in Power::ALL {
            assert_eq!(Power::parse(power.as_str()), Some(power));
            assert_eq!(Power::from_number(power.number()), Some(power));
        }
        for kind in RepresentationKind::ALL {
            assert_eq!(RepresentationKind::parse(kind.as_str()), Some(kind));
            assert_eq!(RepresentationKind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(
            (Power::from_number(0), RepresentationKind::from_number(5)),
            (None, None)
        );
    }
}
