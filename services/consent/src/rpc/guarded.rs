//! Which requests can carry an action token, what one must have been made for, and how they are told from each other: the
//! token is no part of what is asked, so that a repeat with another one is a repeat.

use sammati_api::consent::v1 as api;
use sammati_kernel::jws::MAX_TOKEN;
use sammati_kernel::{Caller, Refusal, Violations};
use sammati_server::action::{Call, digest};
use sammati_store::RequestKey;

use super::Core;
use super::request::person;
use crate::step_up::Token;
use crate::wire::check_text;

/// A request that can carry an action token.
pub(super) trait Guarded: prost::Message + Clone {
    /// Its method's full name.
    const METHOD: &'static str;

    /// What it is about; `None`: her account.
    fn resource(&self) -> Option<&str>;

    /// The id that the caller made for it.
    fn request_id(&self) -> &str;

    /// The token that came; empty without one.
    fn action_token(&self) -> &str;

    /// Without the token.
    fn unproved(&self) -> Self;

    /// Without what the token does not tell of.
    fn bare(&self) -> Self;
}

macro_rules! guarded {
    ($($request:ident, $method:literal, about $resource:expr, without $($field:ident),+;)+) => {$(
        impl Guarded for api::$request {
            const METHOD: &'static str = concat!("sammati.consent.v1.", $method);

            fn resource(&self) -> Option<&str> {
                let about: fn(&Self) -> Option<&str> = $resource;
                about(self)
            }

            fn request_id(&self) -> &str {
                &self.request_id
            }

            fn action_token(&self) -> &str {
                &self.action_token
            }

            fn unproved(&self) -> Self {
                Self {
                    action_token: String::new(),
                    ..self.clone()
                }
            }

            fn bare(&self) -> Self {
                Self {
                    $($field: String::new(),)+
                    ..self.unproved()
                }
            }
        }
    )+};
}

guarded! {
    ApproveConsentRequestRequest, "ConsentRequestService/ApproveConsentRequest", about |r| Some(&r.name), without request_id, etag;
    RevokeConsentsRequest, "ConsentService/RevokeConsents", about |r| Some(r.names.first().map_or("", String::as_str)),
        without request_id, etag;
    CreatePolicyRequest, "PolicyService/CreatePolicy", about |_| None, without request_id;
    EnablePolicyRequest, "PolicyService/EnablePolicy", about |r| Some(&r.name), without request_id, etag;
    ApproveSubscriptionRequest, "SubscriptionService/ApproveSubscription", about |r| Some(&r.name), without request_id, etag;
    UpdateSubscriptionRequest, "SubscriptionService/UpdateSubscription", about |r| Some(&r.name), without request_id, etag;
    ResumeSubscriptionRequest, "SubscriptionService/ResumeSubscription", about |r| Some(&r.name), without request_id, etag;
    SetupLockerRequest, "SubscriptionService/SetupLocker", about |_| None, without request_id;
    SetStepUpRequest, "StepUpService/SetStepUp", about |_| None, without request_id, etag;
}

impl Core {
    /// The key of a call of `method` that was `parsed`, and the action token that came with it; one that does not fit is
    /// refused. Of what was done already the token is not asked: it may be over, of a session that is over, or another one,
    /// and no repeat uses one up.
    pub(super) async fn proved<M: Guarded, T>(
        &self,
        caller: &Caller,
        method: &str,
        message: &M,
        parsed: Result<T, Refusal>,
    ) -> Result<(RequestKey, T, Option<Token>), Refusal> {
        let key = self.request_key(caller, method, message.request_id(), &message.unproved());
        let token = message.action_token();
        let mut v = Violations::new();
        if !token.is_empty() {
            check_text(&mut v, "action_token", token, 1, MAX_TOKEN);
        }
        let (key, (parsed, ())) = Refusal::both(key, Refusal::both(parsed, v.check()))?;
        if token.is_empty() || self.store.known(&key).await?.is_some() {
            return Ok((key, parsed, None));
        }
        let token = self.shown_token(caller, message)?;
        Ok((key, parsed, Some(token)))
    }

    fn shown_token<M: Guarded>(&self, caller: &Caller, message: &M) -> Result<Token, Refusal> {
        let resource = match message.resource() {
            Some(resource) => resource.to_owned(),
            None => person(caller)?.name(),
        };
        let call = Call {
            caller,
            audience: "consent",
            method: M::METHOD,
            resource: &resource,
            body_sha256: digest(&message.bare()),
        };
        // A key may be unknown only because identity was not heard of for too long.
        self.directory.fresh()?;
        let claims = call.read(message.action_token(), |kid| self.directory.token_key(kid))?;
        Ok(claims.into())
    }
}
