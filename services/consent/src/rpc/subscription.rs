//! `SubscriptionService`: leave to be told.

use std::sync::Arc;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::subscription_service_server::SubscriptionService;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Micros, Reason, Refusal, SubscriptionId, Violations};
use sammati_server::{authz, error};
use sammati_store::{Outcome, RequestKey};
use tonic::{Request, Response, Status};

use super::list::{self, Whose};
use super::request::person;
use super::{Core, Rpc, head};
use crate::place::Place;
use crate::policy;
use crate::rows::{self, PolicyRow, SourcesRow, SubscriptionRow, broken};
use crate::step_up::Token;
use crate::subscription::Verb;
use crate::subscription::create::CreateSubscription;
use crate::subscription::decide::Decide;
use crate::subscription::locker::SetupLocker;
use crate::wire;
use crate::wire::subscription::{parse, parse_given, parse_locker, render};

/// Which subscription, what she gives, and what she showed for it.
type Asked = (RequestKey, (SubscriptionId, Option<SourcesRow>), Option<Token>);

/// The same of what needs no PIN.
fn unproved(
    key: Result<RequestKey, Refusal>,
    parsed: Result<(SubscriptionId, Option<SourcesRow>), Refusal>,
) -> Result<Asked, Refusal> {
    let (key, parsed) = Refusal::both(key, parsed)?;
    Ok((key, parsed, None))
}

#[tonic::async_trait]
impl SubscriptionService for Rpc {
    async fn create_subscription(
        &self,
        request: Request<api::CreateSubscriptionRequest>,
    ) -> Result<Response<api::Subscription>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .subscribe(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn get_subscription(
        &self,
        request: Request<api::GetSubscriptionRequest>,
    ) -> Result<Response<api::Subscription>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .read_subscription(&caller, &request.into_inner().name)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_subscriptions(
        &self,
        request: Request<api::ListSubscriptionsRequest>,
    ) -> Result<Response<api::ListSubscriptionsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .list_subscriptions(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn approve_subscription(
        &self,
        request: Request<api::ApproveSubscriptionRequest>,
    ) -> Result<Response<api::Subscription>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let parsed = parse_given(&message.name, message.sources.as_ref(), false);
        let asked = self.0.proved(&caller, "subscription.approve", &message, parsed).await;
        self.0
            .decide_subscription(&caller, asked, Verb::Approve, message.etag)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn deny_subscription(
        &self,
        request: Request<api::DenySubscriptionRequest>,
    ) -> Result<Response<api::Subscription>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let key = self
            .0
            .request_key(&caller, "subscription.deny", &message.request_id, &message);
        let parsed = parse_given(&message.name, None, false);
        self.0
            .decide_subscription(&caller, unproved(key, parsed), Verb::Deny, message.etag)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn update_subscription(
        &self,
        request: Request<api::UpdateSubscriptionRequest>,
    ) -> Result<Response<api::Subscription>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let parsed = parse_given(&message.name, message.sources.as_ref(), true);
        let asked = self.0.proved(&caller, "subscription.update", &message, parsed).await;
        self.0
            .decide_subscription(&caller, asked, Verb::Update, message.etag)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn pause_subscription(
        &self,
        request: Request<api::PauseSubscriptionRequest>,
    ) -> Result<Response<api::Subscription>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let key = self
            .0
            .request_key(&caller, "subscription.pause", &message.request_id, &message);
        let parsed = parse_given(&message.name, None, false);
        self.0
            .decide_subscription(&caller, unproved(key, parsed), Verb::Pause, message.etag)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn resume_subscription(
        &self,
        request: Request<api::ResumeSubscriptionRequest>,
    ) -> Result<Response<api::Subscription>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let parsed = parse_given(&message.name, None, false);
        let asked = self.0.proved(&caller, "subscription.resume", &message, parsed).await;
        self.0
            .decide_subscription(&caller, asked, Verb::Resume, message.etag)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn revoke_subscription(
        &self,
        request: Request<api::RevokeSubscriptionRequest>,
    ) -> Result<Response<api::Subscription>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let key = self
            .0
            .request_key(&caller, "subscription.revoke", &message.request_id, &message);
        let parsed = parse_given(&message.name, None, false);
        self.0
            .decide_subscription(&caller, unproved(key, parsed), Verb::Revoke, message.etag)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn setup_locker(
        &self,
        request: Request<api::SetupLockerRequest>,
    ) -> Result<Response<api::SetupLockerResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .set_up_locker(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Core {
    async fn subscribe(
        &self,
        caller: &Caller,
        message: api::CreateSubscriptionRequest,
    ) -> Result<api::Subscription, Refusal> {
        let key = self.request_key(caller, "subscription.create", &message.request_id, &message);
        let (key, wanted) = Refusal::both(key, parse(&message, caller))?;
        // Before anybody is looked up: a repeat needs no one else to say the same again.
        if let Some(id) = self.store.known(&key).await? {
            return self.show_subscription(caller, rows::subscription_id(&id)?).await;
        }
        let command = CreateSubscription {
            caller: caller.clone(),
            holder: policy::participant(caller)?.clone(),
            place: self.place_at(&wanted.patient).await?,
            patient: wanted.patient,
            purpose: wanted.purpose,
            asked: wanted.asked,
            directory: Arc::clone(&self.directory),
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_subscription(caller, outcome).await
    }

    /// Where what is asked of an address goes. A closed account is nobody, like an address that is.
    pub(super) async fn place_at(&self, patient: &str) -> Result<Place, Refusal> {
        let identifier = types::Identifier {
            identifier: Some(types::identifier::Identifier::AbhaAddress(patient.to_owned())),
        };
        let found = self.resolver.resolve(identifier, None).await?;
        let Some(found) = found.filter(|found| found.active) else {
            let (slot, owner) = self.lookup.nobody(patient);
            return Ok(Place {
                slot,
                owner,
                subject: None,
            });
        };
        Ok(Place::person(found.account))
    }

    async fn tell_subscription(
        &self,
        caller: &Caller,
        outcome: Outcome<SubscriptionRow>,
    ) -> Result<api::Subscription, Refusal> {
        let id = match outcome {
            Outcome::Fresh(row) => row.id,
            Outcome::Known(id) => id,
        };
        self.show_subscription(caller, rows::subscription_id(&id)?).await
    }

    async fn read_subscription(&self, caller: &Caller, text: &str) -> Result<api::Subscription, Refusal> {
        let mut v = Violations::new();
        let id: Option<SubscriptionId> = wire::name(&mut v, "name", text);
        v.check()?;
        self.show_subscription(caller, id.ok_or(Reason::FieldInvalid)?).await
    }

    async fn show_subscription(&self, caller: &Caller, id: SubscriptionId) -> Result<api::Subscription, Refusal> {
        let store = self.store.clone();
        let read = self.store.read(move |r| {
            let row = r.get::<SubscriptionRow>(id.slot(), id.as_bytes())?;
            Ok((row.map(|stored| stored.record), head(r, &store, id.slot())?))
        });
        let (row, (partition, head)) = read.await?;
        let row = policy::may_see_subscription(caller, row)?;
        let ring = self.ring(vec![(id.slot(), row.owner.clone())]).await?;
        render(&row, &ring, caller, self.now(), self.seal(partition, &head))
    }

    async fn decide_subscription(
        &self,
        caller: &Caller,
        asked: Result<Asked, Refusal>,
        verb: Verb,
        etag: String,
    ) -> Result<api::Subscription, Refusal> {
        let (key, (subscription, given), token) = asked?;
        let command = Decide {
            caller: caller.clone(),
            subscription,
            verb,
            given,
            etag,
            token,
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_subscription(caller, outcome).await
    }

    async fn list_subscriptions(
        &self,
        caller: &Caller,
        mut message: api::ListSubscriptionsRequest,
    ) -> Result<api::ListSubscriptionsResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListSubscriptions", &message, size, &token);
        let asked = list::asked(page, |v| {
            let states = wire::states::<api::subscription::State>(v, "states", &message.states);
            Ok((states, list::subject(v, caller, &message.subject)?))
        });
        let (page, (states, subject)) = asked.map_err(error::status)?;
        let source = match subject {
            Some(account) => Whose::subject(account),
            None => Whose::participant("holder", caller).map_err(error::status)?,
        };
        let (now, lockers) = (self.now(), message.lockers);
        let holds = move |row: &SubscriptionRow| {
            (states.is_empty() || states.contains(&row.state_at(now).number())) && (!lockers || row.locker)
        };
        let rows = list::page::<SubscriptionRow>(&self.store, vec![source], &page, holds).await;
        let (rows, next) = rows.map_err(error::status)?;
        let next_page_token = next.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        let shown = self.show_subscriptions(caller, &rows, now).await;
        Ok(api::ListSubscriptionsResponse {
            subscriptions: shown.map_err(error::status)?,
            next_page_token,
        })
    }

    pub(super) async fn show_subscriptions(
        &self,
        caller: &Caller,
        rows: &[SubscriptionRow],
        now: Micros,
    ) -> Result<Vec<api::Subscription>, Refusal> {
        let of = |row: &SubscriptionRow| Ok((row.id()?.slot(), row.owner.clone()));
        self.shown(rows, of, |row, ring, revision| render(row, ring, caller, now, revision))
            .await
    }

    async fn set_up_locker(
        &self,
        caller: &Caller,
        message: api::SetupLockerRequest,
    ) -> Result<api::SetupLockerResponse, Refusal> {
        let wanted = parse_locker(&message);
        let (key, wanted, token) = self.proved(caller, "subscription.locker", &message, wanted).await?;
        let account = person(caller)?;
        let ids = match self.store.known(&key).await? {
            Some(ids) => ids,
            None => {
                if self.place_at(&wanted.patient).await?.subject != Some(account) {
                    return Err(Refusal::new(Reason::ProfileMismatch).saying("this is no ABHA address of yours"));
                }
                let command = SetupLocker {
                    caller: caller.clone(),
                    account,
                    patient: wanted.patient,
                    locker: wanted.locker,
                    hips: wanted.hips,
                    hi_types: wanted.hi_types,
                    expire: wanted.expire,
                    directory: Arc::clone(&self.directory),
                    token,
                    vault: self.vault.clone(),
                };
                match self.store.run(command, Some(key)).await? {
                    Outcome::Fresh(set) => [set.subscription.id.as_slice(), &set.policy.id].concat(),
                    Outcome::Known(ids) => ids,
                }
            }
        };
        let (subscription, policy) = ids.split_at_checked(16).ok_or_else(|| broken("a locker's ids"))?;
        let subscription = self
            .show_subscription(caller, rows::subscription_id(subscription)?)
            .await?;
        let policy = rows::policy_id(policy)?;
        let row = self
            .store
            .read(move |r| r.get::<PolicyRow>(policy.slot(), policy.as_bytes()))
            .await?;
        let row = row.ok_or_else(|| broken("a locker's policy"))?.record;
        Ok(api::SetupLockerResponse {
            subscription: Some(subscription),
            policy: self.show_policies(&[row]).await?.into_iter().next(),
        })
    }
}
