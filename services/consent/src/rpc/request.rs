//! `ConsentRequestService`: the ask.

use std::sync::Arc;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_kernel::{AccountId, Caller, ConsentId, ConsentRequestId, Micros, Reason, Refusal, Violations};
use sammati_server::{authz, error};
use sammati_store::Outcome;
use tonic::{Request, Response, Status};

use super::list::{self, Whose};
use super::{Core, Rpc, head};
use crate::place::Place;
use crate::policy;
use crate::request::approve::{ApproveRequest, Approved};
use crate::request::ask::Ask;
use crate::request::cancel::CancelRequest;
use crate::request::create::CreateRequest;
use crate::request::deny::DenyRequest;
use crate::rows::{CareContextRow, ConsentRow, RequestRow, broken, request_id};
use crate::vault::Ring;
use crate::wire;
use crate::wire::ask::parse_ask;
use crate::wire::request::{Filter, Linked, check_deny_reason, parse_grants, parse_notice, render};

#[tonic::async_trait]
impl ConsentRequestService for Rpc {
    async fn create_consent_request(
        &self,
        request: Request<api::CreateConsentRequestRequest>,
    ) -> Result<Response<api::ConsentRequest>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .create(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn get_consent_request(
        &self,
        request: Request<api::GetConsentRequestRequest>,
    ) -> Result<Response<api::ConsentRequest>, Status> {
        let caller = authz::caller(&request)?.clone();
        let name = request.into_inner().name;
        self.0
            .read_request(&caller, &name)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_consent_requests(
        &self,
        request: Request<api::ListConsentRequestsRequest>,
    ) -> Result<Response<api::ListConsentRequestsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .list_requests(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn approve_consent_request(
        &self,
        request: Request<api::ApproveConsentRequestRequest>,
    ) -> Result<Response<api::ApproveConsentRequestResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .approve(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn deny_consent_request(
        &self,
        request: Request<api::DenyConsentRequestRequest>,
    ) -> Result<Response<api::ConsentRequest>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .deny(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn cancel_consent_request(
        &self,
        request: Request<api::CancelConsentRequestRequest>,
    ) -> Result<Response<api::ConsentRequest>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .cancel(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Core {
    async fn create(
        &self,
        caller: &Caller,
        message: api::CreateConsentRequestRequest,
    ) -> Result<api::ConsentRequest, Refusal> {
        let key = self.request_key(caller, CREATE, &message.request_id, &message);
        let published = self.published(&message.notice).await?;
        let notices = (&self.notices, published.as_ref());
        let (key, ask) = Refusal::both(key, parse_ask(&message, caller, notices, self.now()))?;
        // Before anybody is looked up: a repeat needs no one else to say the same again.
        if let Some(id) = self.store.known(&key).await? {
            return self.show_request(caller, &request_id(&id)?).await;
        }
        // Said to no repeat: what was asked before it was retired stays asked.
        if published.is_some_and(|notice| notice.retired != 0) {
            return Err(retired());
        }
        let place = self.place_of(&ask).await?;
        let command = CreateRequest {
            caller: caller.clone(),
            ask: self.renewing(caller, ask, &place).await?,
            place,
            directory: Arc::clone(&self.directory),
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
            issuer: self.issuer(),
        };
        let id = match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(row) => row.id,
            Outcome::Known(id) => id,
        };
        self.show_request(caller, &request_id(&id)?).await
    }

    /// A renewal is for the HIP of the consent it renews, and lives where that lives. Whether the asker may is decided again
    /// under the lock.
    async fn renewing(&self, caller: &Caller, mut ask: Ask, place: &Place) -> Result<Ask, Refusal> {
        let Some(renews) = ask.renews else { return Ok(ask) };
        let parties = self.subjects.parties(renews).await?;
        let parties = parties.filter(|p| p.hiu == ask.hiu && Some(p.subject) == place.subject);
        let parties = parties.ok_or_else(|| policy::unavailable(caller))?;
        if ask.hips.is_empty() {
            ask.hips.push(parties.hip.clone());
        }
        if ask.hips != [parties.hip.clone()] {
            let why = "a renewal is for the HIP of the consent it renews alone; name that, or leave it out";
            return Err(Refusal::field("hips", why));
        }
        Ok(ask)
    }

    /// Where the request goes. A closed account is nobody, like an address that is.
    async fn place_of(&self, ask: &Ask) -> Result<Place, Refusal> {
        self.place_at(&ask.patient).await
    }

    async fn read_request(&self, caller: &Caller, name: &str) -> Result<api::ConsentRequest, Refusal> {
        let mut v = Violations::new();
        let id: Option<ConsentRequestId> = wire::name(&mut v, "name", name);
        v.check()?;
        self.show_request(caller, &id.ok_or(Reason::FieldInvalid)?).await
    }

    async fn show_request(&self, caller: &Caller, id: &ConsentRequestId) -> Result<api::ConsentRequest, Refusal> {
        let (id, store) = (*id, self.store.clone());
        let read = self.store.read(move |r| {
            let row = r
                .get::<RequestRow>(id.slot(), id.as_bytes())?
                .map(|stored| stored.record);
            Ok((row, head(r, &store, id.slot())?))
        });
        let (row, (partition, head)) = read.await?;
        let row = policy::may_see_request(caller, row)?;
        let ring = self.ring(vec![(id.slot(), row.owner.clone())]).await?;
        let linked = self.linked(caller, std::slice::from_ref(&row)).await?;
        render(&row, &ring, &linked, caller, self.now(), self.seal(partition, &head))
    }

    /// The care contexts that requests name, as far as they are linked. Participants are not shown them.
    async fn linked(&self, caller: &Caller, rows: &[RequestRow]) -> Result<Linked, Refusal> {
        let mut keys = Vec::new();
        for row in rows.iter().filter(|_| caller.participant().is_none()) {
            let (slot, scope) = (row.id()?.slot(), row.scope.read()?);
            keys.extend(scope.care_contexts.iter().map(|key| (slot, key.to_vec())));
        }
        if keys.is_empty() {
            return Ok(Linked::default());
        }
        let rows = self.store.read(move |r| r.many::<CareContextRow>(&keys)).await?;
        let by_key = |stored: sammati_store::Stored<CareContextRow>| (stored.record.key.clone(), stored.record);
        Ok(rows.into_iter().map(by_key).collect())
    }

    async fn list_requests(
        &self,
        caller: &Caller,
        mut message: api::ListConsentRequestsRequest,
    ) -> Result<api::ListConsentRequestsResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListConsentRequests", &message, size, &token);
        let asked = list::asked(page, |v| {
            let filter = Filter::parse(v, &message);
            Ok((filter, list::subject(v, caller, &message.subject)?))
        });
        let (page, (filter, subject)) = asked.map_err(error::status)?;
        let source = match subject {
            Some(account) => Whose::subject(account),
            None => Whose::participant("hiu", caller).map_err(error::status)?,
        };
        let now = self.now();
        let holds = move |row: &RequestRow| filter.holds(row, now);
        let rows = list::page::<RequestRow>(&self.store, vec![source], &page, holds).await;
        let (rows, next) = rows.map_err(error::status)?;
        let next_page_token = next.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        Ok(api::ListConsentRequestsResponse {
            consent_requests: self.show_requests(caller, &rows, now).await.map_err(error::status)?,
            next_page_token,
        })
    }

    pub(super) async fn show_requests(
        &self,
        caller: &Caller,
        rows: &[RequestRow],
        now: Micros,
    ) -> Result<Vec<api::ConsentRequest>, Refusal> {
        let linked = self.linked(caller, rows).await?;
        let of = |row: &RequestRow| Ok((row.id()?.slot(), row.owner.clone()));
        self.shown(rows, of, |row, ring, revision| {
            render(row, ring, &linked, caller, now, revision)
        })
        .await
    }

    async fn approve(
        &self,
        caller: &Caller,
        message: api::ApproveConsentRequestRequest,
    ) -> Result<api::ApproveConsentRequestResponse, Refusal> {
        let mut v = Violations::new();
        let request: Option<ConsentRequestId> = wire::name(&mut v, "name", &message.name);
        let grants = parse_grants(&mut v, &message.grants);
        let notice = parse_notice(&mut v, message.notice.clone());
        let (key, (), token) = self.proved(caller, "consent.approve", &message, v.check()).await?;
        let request = request.ok_or(Reason::FieldInvalid)?;
        let command = ApproveRequest {
            caller: caller.clone(),
            account: person(caller)?,
            request,
            grants,
            is_written: self.is_written(&notice).await?,
            notice,
            etag: message.etag,
            dry_run: message.dry_run,
            token,
            issuer: self.issuer(),
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
        };
        if message.dry_run {
            return self.would_approve(caller, command).await;
        }
        let (request, consents, ring) = match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(Approved { request, consents, key }) => {
                let ring = Ring::of(&request.owner, key);
                (request, consents, ring)
            }
            Outcome::Known(_) => self.approved(request).await?,
        };
        let linked = self.linked(caller, std::slice::from_ref(&request)).await?;
        let (now, revision) = (self.now(), self.revision(request_id(&request.id)?.slot()));
        let shown = consents
            .iter()
            .map(|row| wire::consent::render(row, &ring, caller, now, revision.clone()));
        Ok(api::ApproveConsentRequestResponse {
            consents: shown.collect::<Result<_, _>>()?,
            consent_request: Some(render(&request, &ring, &linked, caller, now, revision)?),
        })
    }

    /// What an approval would make: no request id is used up, and what is shown has no name, for it does not exist.
    async fn would_approve(
        &self,
        caller: &Caller,
        command: ApproveRequest,
    ) -> Result<api::ApproveConsentRequestResponse, Refusal> {
        let name = command.request.name();
        let Approved { request, consents, key } = self.store.apply(command).await?;
        let ring = Ring::of(&request.owner, key);
        let shown = consents.iter().map(|row| {
            let shown = wire::consent::render(row, &ring, caller, self.now(), String::new())?;
            Ok(api::Consent {
                name: String::new(),
                etag: String::new(),
                ..shown
            })
        });
        Ok(api::ApproveConsentRequestResponse {
            consents: shown.collect::<Result<_, Refusal>>()?,
            consent_request: Some(self.read_request(caller, &name).await?),
        })
    }

    /// What an earlier approval made, as it is now.
    async fn approved(&self, id: ConsentRequestId) -> Result<(RequestRow, Vec<ConsentRow>, Ring), Refusal> {
        let read = self.store.snapshot(move |r| {
            let Some(request) = r.get::<RequestRow>(id.slot(), id.as_bytes())? else {
                return Ok(None);
            };
            let keys: Vec<_> = request
                .record
                .consents
                .iter()
                .map(|key| (id.slot(), key.clone()))
                .collect();
            Ok(Some((request.record, r.many::<ConsentRow>(&keys)?)))
        });
        let (request, consents) = read.await?.ok_or_else(|| broken("an approved request"))?;
        let mut consents: Vec<_> = consents.into_iter().map(|stored| stored.record).collect();
        consents.sort_by_key(|row| request.consents.iter().position(|id| *id == row.id));
        let ring = self.ring(vec![(id.slot(), request.owner.clone())]).await?;
        self.store.confirm().await?;
        Ok((request, consents, ring))
    }

    async fn cancel(
        &self,
        caller: &Caller,
        message: api::CancelConsentRequestRequest,
    ) -> Result<api::ConsentRequest, Refusal> {
        let key = self.request_key(caller, "consent.cancel_request", &message.request_id, &message);
        let mut v = Violations::new();
        let request: Option<ConsentRequestId> = wire::name(&mut v, "name", &message.name);
        let (key, ()) = Refusal::both(key, v.check())?;
        let request = request.ok_or(Reason::FieldInvalid)?;
        let command = CancelRequest {
            caller: caller.clone(),
            request,
            etag: message.etag,
        };
        self.store.run(command, Some(key)).await?;
        self.show_request(caller, &request).await
    }

    async fn deny(
        &self,
        caller: &Caller,
        message: api::DenyConsentRequestRequest,
    ) -> Result<api::ConsentRequest, Refusal> {
        let key = self.request_key(caller, "consent.deny", &message.request_id, &message);
        let mut v = Violations::new();
        let request: Option<ConsentRequestId> = wire::name(&mut v, "name", &message.name);
        check_deny_reason(&mut v, &message.reason);
        let (key, ()) = Refusal::both(key, v.check())?;
        let request = request.ok_or(Reason::FieldInvalid)?;
        let command = DenyRequest {
            caller: caller.clone(),
            account: person(caller)?,
            request,
            reason: message.reason,
            etag: message.etag,
            vault: self.vault.clone(),
        };
        self.store.run(command, Some(key)).await?;
        self.show_request(caller, &request).await
    }
}

fn retired() -> Refusal {
    Refusal {
        reason: Reason::NoticeMismatch,
        ..Refusal::field(
            "notice",
            "the notice is retired; name another one, or none for the built-in one",
        )
    }
}

const CREATE: &str = "consent.request";

/// The person who calls.
pub(super) fn person(caller: &Caller) -> Result<AccountId, Refusal> {
    caller.account().ok_or_else(|| Reason::CallerKind.into())
}

/// A required consent's name.
pub(super) fn consent(field: &'static str, name: &str) -> Result<ConsentId, Refusal> {
    let mut v = Violations::new();
    let id: Option<ConsentId> = wire::name(&mut v, field, name);
    v.check()?;
    id.ok_or_else(|| Reason::FieldInvalid.into())
}
