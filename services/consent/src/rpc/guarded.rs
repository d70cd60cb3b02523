//! Which requests can carry an action token, and what one must have been made for.

use sammati_api::consent::v1 as api;
use sammati_kernel::jws::MAX_TOKEN;
use sammati_kernel::{Caller, Refusal, Violations};
use sammati_server::action::{Call, digest};

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

    /// The token that came; empty without one.
    fn action_token(&self) -> &str;

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

            fn action_token(&self) -> &str {
                &self.action_token
            }

            fn bare(&self) -> Self {
                Self {
                    action_token: String::new(),
                    $($field: String::new(),)+
                    ..self.clone()
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
    ResumeSubscriptionRequest, "SubscriptionService/ResumeSubscription", about |r| Some(&r.name), without request_id, etag;
    SetupLockerRequest, "SubscriptionService/SetupLocker", about |_| None, without request_id;
    SetStepUpRequest, "StepUpService/SetStepUp", about |_| None, without request_id, etag;
}

impl Core {
    /// The action token of a call, if one came; one that does not fit is refused.
    pub(super) fn shown_token<M: Guarded>(&self, caller: &Caller, message: &M) -> Result<Option<Token>, Refusal> {
        let token = message.action_token();
        if token.is_empty() {
            return Ok(None);
        }
        let mut v = Violations::new();
        check_text(&mut v, "action_token", token, 1, MAX_TOKEN);
        v.check()?;
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
        let claims = call.read(token, |kid| self.directory.token_key(kid))?;
        Ok(Some(claims.into()))
    }
}
