//! The directory that follows identity, and the resolver that asks it.

use std::time::Duration;

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::account_service_client::AccountServiceClient;
use sammati_api::types::v1 as types;
use sammati_kernel::jws::PublicKey;
use sammati_kernel::{AccountId, Micros, ParticipantId, Reason, Refusal, Role};
use sammati_server::IdentityFacts;
use sammati_server::authn::TokenFacts;
use sammati_server::channel::Channel;
use sammati_server::error::refusal_of;
use tonic::{Code, Status};

use super::{Directory, Found, Party, Professional, Resolver, Resolving};

/// How long identity may take to say who somebody is.
const PATIENCE: Duration = Duration::from_secs(10);

/// The projection of identity's feed, with the age that decisions bear.
#[derive(Clone)]
pub struct Follower {
    facts: IdentityFacts,
    bound: Duration,
}

impl Follower {
    /// Facts that are refused once they are older than `bound`.
    pub const fn new(facts: IdentityFacts, bound: Duration) -> Self {
        Self { facts, bound }
    }
}

impl Directory for Follower {
    fn participant(&self, id: &ParticipantId) -> Option<Party> {
        self.facts.participant(id).map(|facts| Party {
            display_name: facts.message.display_name.clone(),
            active: facts.is_active(),
            roles: facts.roles.clone(),
            transfer_origins: facts.message.transfer_origins.clone(),
        })
    }

    fn display_name(&self, id: &ParticipantId) -> Option<String> {
        self.facts
            .participant(id)
            .map(|facts| facts.message.display_name.clone())
    }

    fn inactive(&self) -> Vec<ParticipantId> {
        self.facts.inactive_participants()
    }

    fn deleted(&self) -> Vec<(AccountId, bool)> {
        self.facts.deleted_accounts()
    }

    fn is_active(&self, account: AccountId) -> bool {
        self.facts.account_state(account) == api::account::State::Active
    }

    fn as_of(&self) -> Micros {
        self.facts.as_of().unwrap_or(Micros::ZERO)
    }

    fn fresh(&self) -> Result<(), Refusal> {
        self.facts.fresh(self.bound)
    }

    fn token_key(&self, kid: &str) -> Option<PublicKey> {
        TokenFacts::key(&self.facts, kid)
    }

    fn professional(&self, registration: &types::RequesterIdentifier) -> Option<Professional> {
        let found = self.facts.professional(&registration.system, &registration.value)?;
        Some(Professional {
            id: found.id.clone(),
            display_name: found.message.display_name.clone(),
        })
    }

    fn is_active_as(&self, id: &ParticipantId, role: Role) -> bool {
        self.facts.acts_as(id, role)
    }
}

/// Asks identity's `ResolveSubject`.
#[derive(Debug, Clone)]
pub struct IdentityResolver(AccountServiceClient<Channel>);

impl IdentityResolver {
    /// Over a channel to identity.
    pub fn new(channel: Channel) -> Self {
        Self(AccountServiceClient::new(channel))
    }
}

impl Resolver for IdentityResolver {
    fn resolve(&self, identifier: types::Identifier, demographics: Option<types::Demographics>) -> Resolving<'_> {
        let mut client = self.0.clone();
        Box::pin(async move {
            let compared = demographics.is_some();
            let mut request = tonic::Request::new(api::ResolveSubjectRequest {
                identifier: Some(identifier),
                demographics,
            });
            request.set_timeout(PATIENCE);
            match client.resolve_subject(request).await {
                Ok(answer) => found(answer.get_ref(), compared),
                Err(status) => nobody(&status),
            }
        })
    }
}

/// Who it is, and whether all that was sent fits.
fn found(answer: &api::ResolveSubjectResponse, compared: bool) -> Result<Option<Found>, Refusal> {
    use api::Match;
    let matches = [answer.name_match(), answer.gender_match(), answer.year_of_birth_match()]
        .iter()
        .all(|m| *m == Match::Match);
    let fits = !compared || (matches && matches!(answer.mobile_match(), Match::Match | Match::NotGiven));
    let account = AccountId::parse_name(&answer.account).ok_or(Reason::IdentityUnavailable)?;
    Ok(Some(Found {
        account,
        active: answer.state() == api::account::State::Active,
        fits,
    }))
}

/// Whether identity says that there is nobody; anything else is that it could not say.
fn nobody(status: &Status) -> Result<Option<Found>, Refusal> {
    let reason = refusal_of(status).map(|refusal| refusal.reason);
    match reason {
        Some(Reason::NoMatch | Reason::NotAvailable | Reason::NotFound) => Ok(None),
        _ => {
            let code: Code = status.code();
            tracing::warn!(
                ?code,
                reason = reason.map(Reason::as_str),
                "identity did not say who somebody is"
            );
            Err(Reason::IdentityUnavailable.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Match;

    fn answer(name: Match, mobile: Match) -> api::ResolveSubjectResponse {
        let account = AccountId::new(Micros(1_000_000), sammati_kernel::Slot::new(1), [1; 8]);
        api::ResolveSubjectResponse {
            account: account.name(),
            state: api::account::State::Active.into(),
            name_match: name.into(),
            gender_match: Match::Match.into(),
            year_of_birth_match: Match::Match.into(),
            mobile_match: mobile.into(),
            ..Default::default()
        }
    }

    #[test]
    fn somebody_fits_only_if_all_that_was_sent_does() {
        let fits = |name, mobile, compared| found(&answer(name, mobile), compared).unwrap().unwrap().fits;
        assert!(fits(Match::Match, Match::NotGiven, true) && fits(Match::Match, Match::Match, true));
        assert!(!fits(Match::Mismatch, Match::NotGiven, true) && !fits(Match::Match, Match::Mismatch, true));
        assert!(!fits(Match::NotGiven, Match::Match, true));
        assert!(fits(Match::NotGiven, Match::NotGiven, false));
    }

    #[test]
    fn an_identity_that_cannot_answer_is_not_nobody() {
        assert_eq!(
            nobody(&Status::unavailable("down")).unwrap_err().reason,
            Reason::IdentityUnavailable
        );
        let refused = sammati_server::error::status(Reason::NoMatch.into());
        assert_eq!(nobody(&refused), Ok(None));
    }
}
