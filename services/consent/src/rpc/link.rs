//! `LinkService`: which provider keeps records of whom.

use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::link_service_server::LinkService;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, LinkId, ParticipantId, Reason, Refusal, Slot};
use sammati_server::event::timestamp;
use sammati_server::page::Page;
use sammati_server::{authz, error};
use sammati_store::{Outcome, RequestKey};
use tonic::{Request, Response, Status};

use super::list::{self, Whose};
use super::{Core, Rpc};
use crate::link::add::LinkContexts;
use crate::link::announce::Announce;
use crate::link::issue::{IssueToken, Matched, is_blocked};
use crate::link::token::Parts;
use crate::policy;
use crate::rows::{CareContextRow, LinkRow, LinkTryRow, broken, link_id};
use crate::wire::discovery::parse_announce;
use crate::wire::link::{check_contexts, parse_issue, render};
use crate::wire::{self, Person};

/// How long a repeat gets the token again.
const AGAIN: Duration = Duration::from_secs(30);

#[tonic::async_trait]
impl LinkService for Rpc {
    async fn issue_link_token(
        &self,
        request: Request<api::IssueLinkTokenRequest>,
    ) -> Result<Response<api::IssueLinkTokenResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .issue(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn link_care_contexts(
        &self,
        request: Request<api::LinkCareContextsRequest>,
    ) -> Result<Response<api::Link>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .link(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_links(
        &self,
        request: Request<api::ListLinksRequest>,
    ) -> Result<Response<api::ListLinksResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .list_links_of(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn announce_care_contexts(
        &self,
        request: Request<api::AnnounceCareContextsRequest>,
    ) -> Result<Response<api::AnnounceCareContextsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .announce(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn send_deep_link(
        &self,
        request: Request<api::SendDeepLinkRequest>,
    ) -> Result<Response<api::SendDeepLinkResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .send_deep_link(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn create_discovery(
        &self,
        request: Request<api::CreateDiscoveryRequest>,
    ) -> Result<Response<api::Discovery>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .discover(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn get_discovery(
        &self,
        request: Request<api::GetDiscoveryRequest>,
    ) -> Result<Response<api::Discovery>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .read_discovery(&caller, &request.into_inner().name)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn answer_discovery(
        &self,
        request: Request<api::AnswerDiscoveryRequest>,
    ) -> Result<Response<api::Discovery>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .answer_discovery(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn select_care_contexts(
        &self,
        request: Request<api::SelectCareContextsRequest>,
    ) -> Result<Response<api::Discovery>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .select(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn confirm_care_contexts(
        &self,
        request: Request<api::ConfirmCareContextsRequest>,
    ) -> Result<Response<api::Discovery>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .confirm_contexts(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Core {
    async fn issue(
        &self,
        caller: &Caller,
        message: api::IssueLinkTokenRequest,
    ) -> Result<api::IssueLinkTokenResponse, Refusal> {
        let key = self.request_key(caller, "link.issue_token", &message.request_id, &message);
        let (key, (person, demographics)) = Refusal::both(key, parse_issue(&message, self.now()))?;
        let hip = policy::participant(caller)?.clone();
        // Before anybody is looked up: a repeat needs no one else to say the same again.
        let parts = match self.store.known(&key).await? {
            Some(bytes) => bytes,
            None => self.attempt(caller, &hip, &person, demographics, key).await?,
        };
        let parts = Parts::decode(&parts).ok_or_else(|| broken("a link token's parts"))?;
        let again = self.now().since(parts.issued) <= AGAIN;
        let link_token = if again {
            self.link_tokens.make(&self.keys, &hip, &parts)?
        } else {
            String::new()
        };
        Ok(api::IssueLinkTokenResponse {
            link_token,
            expire_time: Some(timestamp(parts.expire())),
        })
    }

    async fn attempt(
        &self,
        caller: &Caller,
        hip: &ParticipantId,
        person: &Person,
        demographics: types::Demographics,
        key: RequestKey,
    ) -> Result<Vec<u8>, Refusal> {
        let (attempt, matched) = self.matched(hip, person, demographics).await?;
        let command = IssueToken {
            caller: caller.clone(),
            hip: hip.clone(),
            attempt,
            matched,
        };
        Ok(match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(parts) => parts.encode(),
            Outcome::Known(bytes) => bytes,
        })
    }

    /// Under what a try is counted, and whether it is she. Tries are counted by person, so that two of her identifiers
    /// are no two counts; by identifier only where it is nobody's. During that block identity is not asked.
    async fn matched(
        &self,
        hip: &ParticipantId,
        person: &Person,
        demographics: types::Demographics,
    ) -> Result<([u8; 32], Matched), Refusal> {
        let spelled = self.lookup.link_try(hip, &person.text_or_number());
        let tries = self
            .store
            .read(move |r| r.get::<LinkTryRow>(Slot::of_hash(&spelled), &spelled));
        if tries.await?.is_some_and(|tries| is_blocked(&tries.record, self.now())) {
            return Ok((spelled, Matched::NotAsked));
        }
        let found = match person {
            Person::Ask(identifier) => self.resolver.resolve(identifier.clone(), Some(demographics)).await?,
            Person::Account(_) => None,
        };
        let Some(found) = found else {
            return Ok((spelled, Matched::Nobody));
        };
        let hers = self.lookup.link_try(hip, &found.account.name());
        let matched = if found.fits && found.active {
            Matched::Person(found.account)
        } else {
            Matched::Nobody
        };
        Ok((hers, matched))
    }

    async fn link(&self, caller: &Caller, message: api::LinkCareContextsRequest) -> Result<api::Link, Refusal> {
        let key = self.request_key(caller, "link.add", &message.request_id, &message);
        let (key, _) = Refusal::both(key, check_contexts(&message))?;
        let hip = policy::participant(caller)?.clone();
        let token = self.link_tokens.read(&self.keys, &hip, &message.link_token)?;
        let command = LinkContexts {
            caller: caller.clone(),
            hip,
            token,
            patient_reference: message.patient_reference,
            care_contexts: message.care_contexts,
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
        };
        let id: LinkId = match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(row) => link_id(&row.id)?,
            Outcome::Known(id) => link_id(&id)?,
        };
        let row = self
            .store
            .read(move |r| r.get::<LinkRow>(id.slot(), id.as_bytes()))
            .await?;
        let row = row.ok_or_else(|| broken("a link"))?.record;
        self.show_links(caller, &[row])
            .await?
            .pop()
            .ok_or_else(|| broken("a link"))
    }

    async fn announce(
        &self,
        caller: &Caller,
        message: api::AnnounceCareContextsRequest,
    ) -> Result<api::AnnounceCareContextsResponse, Refusal> {
        let key = self.request_key(caller, "link.announce", &message.request_id, &message);
        let (key, (link, hi_types)) = Refusal::both(key, parse_announce(&message))?;
        let command = Announce {
            caller: caller.clone(),
            link,
            references: message.care_context_references,
            hi_types,
            lookup: self.lookup.clone(),
        };
        let notified_count = match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(count) => count,
            Outcome::Known(count) => count.try_into().map_or(0, i32::from_be_bytes),
        };
        Ok(api::AnnounceCareContextsResponse { notified_count })
    }

    async fn list_links_of(
        &self,
        caller: &Caller,
        mut message: api::ListLinksRequest,
    ) -> Result<api::ListLinksResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListLinks", &message, size, &token);
        let asked = list::asked(page, |v| Ok(wire::optional_participant(v, "hip", &message.hip)));
        let (page, hip) = asked.map_err(error::status)?;
        let (links, next) = self.links(caller, hip, &page).await.map_err(error::status)?;
        let next_page_token = next.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        Ok(api::ListLinksResponse { links, next_page_token })
    }

    async fn links(
        &self,
        caller: &Caller,
        hip: Option<ParticipantId>,
        page: &Page,
    ) -> Result<(Vec<api::Link>, Option<Vec<u8>>), Refusal> {
        let source = match caller.account() {
            Some(account) => Whose::subject(account),
            None if hip.as_ref().is_some_and(|hip| Some(hip) != caller.participant()) => {
                return Err(Reason::NotAvailable.into());
            }
            None => Whose::participant("hip", caller)?,
        };
        let keep = move |row: &LinkRow| hip.as_ref().is_none_or(|hip| hip.as_str() == row.hip);
        let (rows, next) = list::page::<LinkRow>(&self.store, vec![source], page, keep).await?;
        Ok((self.show_links(caller, &rows).await?, next))
    }

    pub(super) async fn show_links(&self, caller: &Caller, rows: &[LinkRow]) -> Result<Vec<api::Link>, Refusal> {
        let ids = rows.iter().map(|row| link_id(&row.id)).collect::<Result<Vec<_>, _>>()?;
        let ring = self
            .ring(
                ids.iter()
                    .zip(rows)
                    .map(|(id, row)| (id.slot(), row.subject.clone()))
                    .collect(),
            )
            .await?;
        let asked = ids.clone();
        let read = self.store.read(move |r| {
            asked
                .iter()
                .map(|id| r.group::<CareContextRow>(id.slot(), "link", id.as_bytes()))
                .collect::<Result<Vec<_>, _>>()
        });
        let contexts = read.await?;
        // Another replica may have written the rows: their revisions must not be older than they are.
        self.store.confirm().await?;
        let shown = rows.iter().zip(contexts).zip(&ids).map(|((row, contexts), id)| {
            let contexts: Vec<_> = contexts.into_iter().map(|stored| stored.record).collect();
            render(row, &contexts, &ring, caller, self.revision(id.slot()))
        });
        shown.collect()
    }
}
