//! Who is asking: the peer at the other end of the connection, and the actor whose token it carries.

use std::collections::BTreeSet;
use std::fmt;

use crate::{AadhaarNumber, AccountId, Representing, SessionId};

/// The kinds of caller that a contract's access option names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallerKind {
    /// Anybody, without any credential.
    Anyone,
    /// A PHR app or kiosk.
    App,
    /// The data principal herself.
    Person,
    /// Her guardian, nominee or delegate.
    Representative,
    /// A health information provider.
    Hip,
    /// A health information user.
    Hiu,
    /// A health locker.
    Locker,
    /// A research study.
    Researcher,
    /// An operator, by client certificate.
    Operator,
    /// Another service, by client certificate.
    Service,
}

/// A role that a participant holds; a session names the ones it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Health information provider.
    Hip,
    /// Health information user.
    Hiu,
    /// Health locker.
    Locker,
    /// PHR app.
    PhrApp,
    /// Researcher.
    Researcher,
    /// Benefit programme.
    BenefitProgramme,
}

impl Role {
    /// All of them, in the order of their numbers in `type.v1.ParticipantRole`, from 1.
    pub const ALL: [Self; 6] = [
        Self::Hip,
        Self::Hiu,
        Self::Locker,
        Self::PhrApp,
        Self::Researcher,
        Self::BenefitProgramme,
    ];

    /// As in a token's `roles` claim.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hip => "HIP",
            Self::Hiu => "HIU",
            Self::Locker => "LOCKER",
            Self::PhrApp => "PHR_APP",
            Self::Researcher => "RESEARCHER",
            Self::BenefitProgramme => "BENEFIT_PROGRAMME",
        }
    }

    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }

    /// The caller kind that a session with this role opens.
    pub const fn kind(self) -> Option<CallerKind> {
        match self {
            Self::Hip => Some(CallerKind::Hip),
            Self::Hiu => Some(CallerKind::Hiu),
            Self::Locker => Some(CallerKind::Locker),
            Self::PhrApp => Some(CallerKind::App),
            Self::Researcher => Some(CallerKind::Researcher),
            Self::BenefitProgramme => None,
        }
    }
}

/// A participant's ABDM service id, `[A-Za-z0-9][A-Za-z0-9_-]*[A-Za-z0-9]`, 2 to 50 characters. It goes into every event
/// that names the participant, so one that looks like an Aadhaar number is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId(String);

impl ParticipantId {
    /// Reads a bare id.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(id: &str) -> Result<Self, &'static str> {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let bytes = id.as_bytes();
        if !(2..=50).contains(&id.len()) || !edge(bytes.first()) || !edge(bytes.last()) || !id.bytes().all(inner) {
            return Err("a service id is 2 to 50 letters, digits, _ and -, the latter two not first or last");
        }
        if AadhaarNumber::found_in(id) {
            return Err("a service id must not look like an Aadhaar number");
        }
        Ok(Self(id.to_owned()))
    }

    /// Reads a resource name, `participants/{id}`.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse_name(name: &str) -> Result<Self, &'static str> {
        name.strip_prefix("participants/")
            .ok_or("a participant's name is participants/{service id}")
            .and_then(Self::parse)
    }

    /// The bare id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The resource name.
    pub fn name(&self) -> String {
        format!("participants/{}", self.0)
    }
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who holds the other end of the connection, by its client certificate's SPIFFE URI
/// `spiffe://{trust domain}/{service|operator|participant}/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// No client certificate.
    Anonymous,
    /// An operator.
    Operator(String),
    /// A participant.
    Participant(ParticipantId),
    /// One of our services: `identity`, `consent`, `audit`, `sandbox`.
    Service(String),
}

/// Whose token the call carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A participant, in the roles that its session names.
    Participant {
        /// Which.
        id: ParticipantId,
        /// As what.
        roles: BTreeSet<Role>,
    },
    /// A person, through an app's session or a service's actor token.
    Person {
        /// Her account: the subject.
        account: AccountId,
        /// The session the token belongs to.
        session: SessionId,
        /// The app (a participant) that the session was opened in.
        app: Option<ParticipantId>,
        /// When she last proved who she is, seconds since 1970.
        auth_time: i64,
    },
    /// One who acts for a person: her guardian, nominee or delegate.
    Representative(Box<Representing>),
}

/// Who is asking. Built by the server's authentication layer and by nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who holds the connection.
    pub peer: Peer,
    /// Whose token it carries, if any.
    pub actor: Option<Actor>,
}

impl Caller {
    /// A caller without any credential.
    pub const ANYONE: Self = Self {
        peer: Peer::Anonymous,
        actor: None,
    };

    /// The kinds this caller is, beside [`CallerKind::Anyone`]. An actor's kinds count before the peer's: a service
    /// that carries a person's token is that person there and not a service.
    pub fn kinds(&self) -> BTreeSet<CallerKind> {
        match (&self.actor, &self.peer) {
            (Some(Actor::Person { .. }), _) => BTreeSet::from([CallerKind::Person]),
            (Some(Actor::Representative(_)), _) => BTreeSet::from([CallerKind::Representative]),
            (Some(Actor::Participant { roles, .. }), _) => roles.iter().filter_map(|r| r.kind()).collect(),
            (None, Peer::Operator(_)) => BTreeSet::from([CallerKind::Operator]),
            (None, Peer::Service(_)) => BTreeSet::from([CallerKind::Service]),
            (None, Peer::Anonymous | Peer::Participant(_)) => BTreeSet::new(),
        }
    }

    /// Whether it is an operator.
    pub fn is_operator(&self) -> bool {
        self.kinds().contains(&CallerKind::Operator)
    }

    /// The person whose account and records it is about, if she is asking or somebody asks for her.
    pub fn account(&self) -> Option<AccountId> {
        match &self.actor {
            Some(Actor::Person { account, .. }) => Some(*account),
            Some(Actor::Representative(acting)) => Some(acting.principal),
            _ => None,
        }
    }

    /// Who asks for her, if somebody does.
    pub fn representing(&self) -> Option<&Representing> {
        match &self.actor {
            Some(Actor::Representative(acting)) => Some(acting),
            _ => None,
        }
    }

    /// When a person or her representative last proved who that is, seconds since 1970.
    pub fn auth_time(&self) -> Option<i64> {
        match &self.actor {
            Some(Actor::Person { auth_time, .. }) => Some(*auth_time),
            Some(Actor::Representative(acting)) => Some(acting.auth_time),
            _ => None,
        }
    }

    /// The session of a person or her representative.
    pub fn session(&self) -> Option<SessionId> {
        match &self.actor {
            Some(Actor::Person { session, .. }) => Some(*session),
            Some(Actor::Representative(acting)) => Some(acting.session),
            _ => None,
        }
    }

    /// The participant who is asking, if one is.
    pub fn participant(&self) -> Option<&ParticipantId> {
        match &self.actor {
            Some(Actor::Participant { id, .. }) => Some(id),
            _ => None,
        }
    }

    /// Whether the caller acts in `role`.
    pub fn has_role(&self, role: Role) -> bool {
        matches!(&self.actor, Some(Actor::Participant { roles, .. }) if roles.contains(&role))
    }

    /// A stable name of whoever asks: the scope of its request ids. Of a representative the representation's, so that one
    /// is told from the principal, and from the same person who acts for another.
    pub fn id(&self) -> String {
        match (&self.actor, &self.peer) {
            (Some(Actor::Person { account, .. }), _) => account.name(),
            (Some(Actor::Representative(acting)), _) => acting.representation.name(),
            (Some(Actor::Participant { id, .. }), _) | (None, Peer::Participant(id)) => id.name(),
            (None, Peer::Operator(name)) => format!("operators/{name}"),
            (None, Peer::Service(name)) => format!("services/{name}"),
            (None, Peer::Anonymous) => "anyone".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_a_participant_is_not_called_by_an_aadhaar_number() {
        for good in ["IN2710001234", "city-hospital", "999941057059", "91-1234-5678-9015"] {
            assert!(ParticipantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["999941057058", "9999-4105-7058", "HIP-999941057058", "hip_999941057058"] {
            assert!(ParticipantId::parse(bad).is_err(), "{bad}");
        }
        assert!(ParticipantId::parse_name("participants/999941057058").is_err());
    }
}
