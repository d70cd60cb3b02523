//! What identity says: a projection of participants and accounts in memory, and the look-up of a person.

pub mod identity;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use sammati_api::types::v1 as types;
use sammati_kernel::jws::PublicKey;
use sammati_kernel::{AccountId, Micros, ParticipantId, Refusal, Role};

/// What is known of a participant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// What people read.
    pub display_name: String,
    /// Whether it is ACTIVE.
    pub active: bool,
    /// Its roles.
    pub roles: BTreeSet<Role>,
    /// Origins that records may be pushed to, `https://host[:port]`.
    pub transfer_origins: Vec<String>,
}

/// A professional whose registration is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Professional {
    /// Who it is, however the registration is spelled.
    pub id: ParticipantId,
    /// What people read.
    pub display_name: String,
}

/// Facts of identity, in memory, as of some moment.
pub trait Directory: Send + Sync + 'static {
    /// The participant with this id, if there is one.
    fn participant(&self, id: &ParticipantId) -> Option<Party>;

    /// The participants that are known and not ACTIVE.
    fn inactive(&self) -> Vec<ParticipantId>;

    /// The accounts that are deleted, and whether identity has destroyed their data.
    fn deleted(&self) -> Vec<(AccountId, bool)>;

    /// Whether an account is ACTIVE.
    fn is_active(&self, account: AccountId) -> bool;

    /// The moment whose facts these are.
    fn as_of(&self) -> Micros;

    /// Refuses when the facts are older than the bound.
    ///
    /// # Errors
    /// IDENTITY_STALE.
    fn fresh(&self) -> Result<(), Refusal>;

    /// The key with this id, if tokens of identity verify with it now.
    fn token_key(&self, kid: &str) -> Option<PublicKey>;

    /// The ACTIVE professional who has this registration, verified: `value` at the registry `system`.
    fn professional(&self, registration: &types::RequesterIdentifier) -> Option<Professional>;

    /// What people read for a participant, if there is one.
    fn display_name(&self, id: &ParticipantId) -> Option<String> {
        self.participant(id).map(|party| party.display_name)
    }

    /// Whether it is an active participant with this role.
    fn is_active_as(&self, id: &ParticipantId, role: Role) -> bool {
        self.participant(id)
            .is_some_and(|party| party.active && party.roles.contains(&role))
    }
}

/// A person whom identity found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Her account.
    pub account: AccountId,
    /// Whether it is ACTIVE.
    pub active: bool,
    /// Whether all that was sent of her fits; with nothing sent it does.
    pub fits: bool,
}

/// A boxed future, so that a resolver can be a trait object.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Option<Found>, Refusal>> + Send + 'a>>;

/// Asks identity who is meant.
pub trait Resolver: Send + Sync + 'static {
    /// The account behind `identifier`, and whether `demographics` fit it; `None` when there is none.
    fn resolve(&self, identifier: types::Identifier, demographics: Option<types::Demographics>) -> Resolving<'_>;
}
