//! What a service told, as a history keeps it. An `Err` that comes back is no answer of the model's: what became of the
//! call is not known, or something is wrong.

use sammati_api::consent::v1::{self as api, consent, consent_request, decision};
use tonic::Status;

use super::{Answer, Consent, Request, Why};
use crate::story::reason;

type Told = Result<Answer, Status>;

/// Of ApproveConsentRequest.
///
/// # Errors
/// What is no answer.
pub fn approval(told: Result<api::ApproveConsentRequestResponse, Status>) -> Told {
    match told {
        Ok(approved) if approved.consents.len() == 1 => Ok(Answer::Approved),
        Ok(approved) => Err(Status::data_loss(format!(
            "{} consents of one grant",
            approved.consents.len()
        ))),
        Err(status) if reason(&status) == "GRANT_EMPTY" => Ok(Answer::Empty),
        Err(status) => decided(status),
    }
}

/// Of DenyConsentRequest.
///
/// # Errors
/// What is no answer.
pub fn denial(told: Result<api::ConsentRequest, Status>) -> Told {
    told.map(|_| Answer::Denied).or_else(decided)
}

/// Of RevokeConsents with one name.
///
/// # Errors
/// What is no answer.
pub fn revocation(told: Result<api::RevokeConsentsResponse, Status>) -> Told {
    let told = told?;
    match (told.changed_count, told.consents.first()) {
        (1, _) => Ok(Answer::Revoked),
        (0, Some(ended)) => Ok(Answer::Ended(state(ended)?)),
        _ => Err(strange(&told)),
    }
}

/// Of CheckAccess or AuthorizeAccess, under a consent with a use limit.
///
/// # Errors
/// What is no answer.
pub fn decision(told: Result<api::Decision, Status>) -> Told {
    let told = told?;
    let count = |uses: i64| u32::try_from(uses).map_err(|_| strange(&told));
    match (told.outcome(), told.reason(), told.uses_left) {
        (decision::Outcome::Permit, decision::Reason::Granted, Some(left)) => Ok(Answer::Permit {
            taken: told.r#use.map(count).transpose()?,
            left: count(left)?,
        }),
        (decision::Outcome::Deny, why, _) => Ok(Answer::Deny(match why {
            decision::Reason::NoConsent => Why::NoConsent,
            decision::Reason::ConsentRevoked => Why::Revoked,
            decision::Reason::ConsentExpired => Why::Expired,
            decision::Reason::UseLimitReached => Why::Spent,
            _ => return Err(strange(&told)),
        })),
        _ => Err(strange(&told)),
    }
}

/// Of GetConsentRequest.
///
/// # Errors
/// What is no answer.
pub fn request(told: Result<api::ConsentRequest, Status>) -> Told {
    let told = told?;
    Ok(Answer::Request(match told.state() {
        consent_request::State::Requested => Request::Requested,
        consent_request::State::Granted => Request::Granted,
        consent_request::State::Denied => Request::Denied,
        _ => return Err(strange(&told)),
    }))
}

/// Of GetConsent.
///
/// # Errors
/// What is no answer.
pub fn consent(told: Result<api::Consent, Status>) -> Told {
    let told = told?;
    let state = state(&told)?;
    let uses = told.uses.as_ref().map_or(0, |uses| uses.count);
    let uses = u32::try_from(uses).map_err(|_| strange(&told))?;
    Ok(Answer::Consent(state, (state != Consent::Expired).then_some(uses)))
}

/// How a request had been decided that a call came too late for.
fn decided(status: Status) -> Told {
    let refusal = sammati_server::error::refusal_of(&status).filter(|r| r.reason.as_str() == "STATE_CONFLICT");
    let state = refusal.and_then(|refusal| refusal.metadata.into_iter().find(|(key, _)| *key == "state"));
    match state.as_ref().map(|(_, state)| state.as_str()) {
        Some("GRANTED") => Ok(Answer::Decided(Request::Granted)),
        Some("DENIED") => Ok(Answer::Decided(Request::Denied)),
        _ => Err(status),
    }
}

fn state(told: &api::Consent) -> Result<Consent, Status> {
    match told.state() {
        consent::State::Granted => Ok(Consent::Granted),
        consent::State::Revoked => Ok(Consent::Revoked),
        consent::State::Expired => Ok(Consent::Expired),
        _ => Err(strange(told)),
    }
}

fn strange(told: &impl std::fmt::Debug) -> Status {
    Status::data_loss(format!("no answer of the model's: {told:?}"))
}
