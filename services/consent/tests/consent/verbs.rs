//! Everything that may be done to a consent or a request, as one call each.

use std::sync::Arc;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::types::v1 as types;
use sammati_consent::sweep;
use sammati_kernel::{Caller, Refusal};
use tonic::{Response, Status};

use crate::world::{DAY, World, by, participant, refused};

/// What may be done to a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Pause,
    Resume,
    Narrow,
    Revoke,
    /// Approving a renewal of it.
    Renew,
    /// A sweep, once its time is over.
    Expire,
}

impl Verb {
    pub(crate) const ALL: [Self; 6] = [
        Self::Pause,
        Self::Resume,
        Self::Narrow,
        Self::Revoke,
        Self::Renew,
        Self::Expire,
    ];

    /// The event that says that it was done.
    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Pause => "consent.paused",
            Self::Resume => "consent.resumed",
            Self::Narrow => "consent.modified",
            Self::Revoke => "consent.withdrawn",
            Self::Renew => "consent.superseded",
            Self::Expire => "consent.expired",
        }
    }
}

/// A consent of hers that ends in a day, and requests to renew it that are open.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) she: Caller,
    pub(crate) consent: api::Consent,
    pub(crate) renewals: Vec<api::ConsentRequest>,
}

impl World {
    /// A consent that ends in a day, acknowledged, with two requests to renew it.
    pub(crate) async fn subject(&self, address: &str) -> Subject {
        let day = self.at(DAY);
        let (she, consent) = self.granted(address, |scope| scope.erase_time = day).await;
        let mut renewals = Vec::new();
        for _ in 0..2 {
            renewals.push(self.create(self.renewal(address, &consent)).await.unwrap());
        }
        Subject { she, consent, renewals }
    }

    /// Asks to go on with a consent for ten days.
    pub(crate) fn renewal(&self, address: &str, consent: &api::Consent) -> api::CreateConsentRequestRequest {
        let mut ask = self.asks(address);
        ask.renews.clone_from(&consent.name);
        ask.hips.clear();
        ask.scope.clone_from(&consent.scope);
        ask.scope.as_mut().unwrap().erase_time = self.at(10 * DAY);
        ask
    }

    pub(crate) async fn pause(&self, she: &Caller, consent: &str) -> Result<api::Consent, Status> {
        self.pause_until(she, consent, None).await
    }

    pub(crate) async fn pause_until(
        &self,
        she: &Caller,
        consent: &str,
        resume_time: Option<prost_types::Timestamp>,
    ) -> Result<api::Consent, Status> {
        let message = api::PauseConsentRequest {
            name: consent.to_owned(),
            resume_time,
            etag: String::new(),
            request_id: self.request_id(),
        };
        self.rpc()
            .pause_consent(by(she, message))
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn resume(&self, she: &Caller, consent: &str) -> Result<api::Consent, Status> {
        let message = api::ResumeConsentRequest {
            name: consent.to_owned(),
            etag: String::new(),
            request_id: self.request_id(),
        };
        self.rpc()
            .resume_consent(by(she, message))
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn narrow(
        &self,
        she: &Caller,
        consent: &str,
        scope: types::Scope,
    ) -> Result<api::Consent, Status> {
        let message = api::NarrowConsentRequest {
            name: consent.to_owned(),
            scope: Some(scope),
            etag: String::new(),
            request_id: self.request_id(),
        };
        self.rpc()
            .narrow_consent(by(she, message))
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn cancel(&self, who: &str, request: &str) -> Result<api::ConsentRequest, Status> {
        let message = api::CancelConsentRequestRequest {
            name: request.to_owned(),
            etag: String::new(),
            request_id: self.request_id(),
        };
        self.rpc()
            .cancel_consent_request(by(&participant(who), message))
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn consent(&self, who: &Caller, name: &str) -> api::Consent {
        let name = name.to_owned();
        let read = self.rpc().get_consent(by(who, api::GetConsentRequest { name })).await;
        read.unwrap().into_inner()
    }

    /// Does it, and tells whether it changed anything.
    pub(crate) async fn act(self: &Arc<Self>, to: &Subject, verb: Verb) -> Result<bool, Refusal> {
        let (she, name) = (&to.she, &to.consent.name);
        let done = match verb {
            Verb::Pause => self.pause(she, name).await.map(|_| true),
            Verb::Resume => self.resume(she, name).await.map(|_| true),
            Verb::Narrow => self
                .narrow(she, name, less(to.consent.scope.as_ref().unwrap()))
                .await
                .map(|_| true),
            Verb::Revoke => self.revoke(she, &[name]).await.map(|done| done.changed_count == 1),
            Verb::Renew => {
                let request = to.renewals.last().unwrap();
                self.approve(she, self.approval(request)).await.map(|_| true)
            }
            Verb::Expire => {
                let before = self.moves(name).await.len();
                sweep::sweep(self.store()).await.unwrap();
                Ok(self.moves(name).await.len() > before)
            }
        };
        done.map_err(|status| refused::<()>(Err(status)))
    }

    /// The events that moved one consent, in the order of their commits.
    pub(crate) async fn moves(&self, consent: &str) -> Vec<String> {
        let kinds = Verb::ALL.map(Verb::event);
        let of = |event: &sammati_api::audit::v1::Event| {
            kinds.contains(&event.event_type.as_str()) && event.payload.as_ref().unwrap().resource == consent
        };
        self.events()
            .await
            .into_iter()
            .filter(of)
            .map(|event| event.event_type)
            .collect()
    }
}

/// The scope without its last kind of record.
pub(crate) fn less(scope: &types::Scope) -> types::Scope {
    let mut less = scope.clone();
    less.hi_types.pop();
    less
}
