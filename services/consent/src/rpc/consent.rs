//! `ConsentService`: the permission.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_kernel::{AccountId, Caller, ConsentId, Micros, Refusal};
use sammati_server::page::Page;
use sammati_server::{authz, error};
use sammati_store::Outcome;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::list::{self, Whose};
use super::request::consent;
use super::{Core, Rpc, head};
use crate::consent::revoke::{RevokeConsents, Revoked};
use crate::policy;
use crate::rows::ConsentRow;
use crate::wire::consent::{Filter, parse_revoke, render};

#[tonic::async_trait]
impl ConsentService for Rpc {
    type ExportConsentsStream = ReceiverStream<Result<api::ExportConsentsResponse, Status>>;

    async fn get_consent(&self, request: Request<api::GetConsentRequest>) -> Result<Response<api::Consent>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .get(&caller, &request.into_inner().name)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_consents(
        &self,
        request: Request<api::ListConsentsRequest>,
    ) -> Result<Response<api::ListConsentsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0.list(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn revoke_consents(
        &self,
        request: Request<api::RevokeConsentsRequest>,
    ) -> Result<Response<api::RevokeConsentsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .revoke(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn pause_consent(
        &self,
        request: Request<api::PauseConsentRequest>,
    ) -> Result<Response<api::Consent>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .pause(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn resume_consent(
        &self,
        request: Request<api::ResumeConsentRequest>,
    ) -> Result<Response<api::Consent>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .resume(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn get_receipt(&self, request: Request<api::GetReceiptRequest>) -> Result<Response<api::Receipt>, Status> {
        let caller = authz::caller(&request)?.clone();
        let given = self.0.receipt(&caller, request.get_ref()).await;
        given.map(Response::new).map_err(error::status)
    }

    async fn export_consents(
        &self,
        request: Request<api::ExportConsentsRequest>,
    ) -> Result<Response<Self::ExportConsentsStream>, Status> {
        let caller = authz::caller(&request)?.clone();
        let pages = self.0.export(&caller).await.map_err(error::status)?;
        Ok(Response::new(ReceiverStream::new(pages)))
    }

    async fn narrow_consent(
        &self,
        request: Request<api::NarrowConsentRequest>,
    ) -> Result<Response<api::Consent>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .narrow(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Core {
    pub(super) async fn get(&self, caller: &Caller, name: &str) -> Result<api::Consent, Refusal> {
        let (id, store) = (consent("name", name)?, self.store.clone());
        let read = self.store.read(move |r| {
            let row = r
                .get::<ConsentRow>(id.slot(), id.as_bytes())?
                .map(|stored| stored.record);
            Ok((row, head(r, &store, id.slot())?))
        });
        let (row, (partition, head)) = read.await?;
        let row = policy::may_see_consent(caller, row)?;
        let ring = self.ring(vec![(id.slot(), row.subject.clone())]).await?;
        render(&row, &ring, caller, self.now(), self.seal(partition, &head))
    }

    async fn list(
        &self,
        caller: &Caller,
        mut message: api::ListConsentsRequest,
    ) -> Result<api::ListConsentsResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListConsents", &message, size, &token);
        let asked = list::asked(page, |v| {
            let filter = Filter::parse(v, &message);
            Ok((filter, list::subject(v, caller, &message.subject)?))
        });
        let (page, (filter, subject)) = asked.map_err(error::status)?;
        let listed = self.consents(caller, filter, subject, &page).await;
        let (mut response, next) = listed.map_err(error::status)?;
        response.next_page_token = next.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        Ok(response)
    }

    async fn consents(
        &self,
        caller: &Caller,
        filter: Filter,
        subject: Option<AccountId>,
        page: &Page,
    ) -> Result<(api::ListConsentsResponse, Option<Vec<u8>>), Refusal> {
        let sources = match subject {
            Some(account) => vec![Whose::subject(account)],
            None => vec![Whose::participant("hip", caller)?, Whose::participant("hiu", caller)?],
        };
        let (now, counted) = (self.now(), filter.clone());
        let (rows, next) =
            list::page::<ConsentRow>(&self.store, sources, page, move |row| filter.holds(row, now)).await?;
        // Of one person, and once: a participant may have millions.
        let counts = match subject.filter(|_| page.after.is_none()) {
            Some(account) => {
                let count = move |row: &ConsentRow| {
                    let counts = counted.holds(row, now);
                    counts.then(|| format!("participants/{}", row.hip))
                };
                list::counts(&self.store, Whose::subject(account), count).await?
            }
            None => Vec::new(),
        };
        let hip_counts = counts
            .into_iter()
            .map(|(hip, consent_count)| api::HipCount { hip, consent_count })
            .collect();
        Ok((
            api::ListConsentsResponse {
                consents: self.show_consents(caller, &rows, now).await?,
                hip_counts,
                next_page_token: String::new(),
            },
            next,
        ))
    }

    pub(super) async fn show_consents(
        &self,
        caller: &Caller,
        rows: &[ConsentRow],
        now: Micros,
    ) -> Result<Vec<api::Consent>, Refusal> {
        let of = |row: &ConsentRow| Ok((row.id()?.slot(), row.subject.clone()));
        self.shown(rows, of, |row, ring, revision| render(row, ring, caller, now, revision))
            .await
    }

    async fn revoke(
        &self,
        caller: &Caller,
        message: api::RevokeConsentsRequest,
    ) -> Result<api::RevokeConsentsResponse, Refusal> {
        let names = parse_revoke(&message, caller);
        let (key, names, token) = self.proved(caller, "consent.revoke", &message, names).await?;
        let mut subject = None;
        for id in &names {
            // Whose a consent is never changes; whether the caller may is decided again under the lock.
            let parties = self
                .subjects
                .parties(*id)
                .await?
                .filter(|p| caller.is_operator() || caller.account() == Some(p.subject));
            let parties = parties.ok_or_else(|| policy::unavailable(caller))?;
            if *subject.get_or_insert(parties.subject) != parties.subject {
                return Err(crate::consent::revoke::several_persons());
            }
        }
        let command = RevokeConsents {
            caller: caller.clone(),
            subject: subject.ok_or_else(|| policy::unavailable(caller))?,
            names: names.clone(),
            reason: message.reason,
            legal_basis: message.legal_basis,
            etag: message.etag,
            token,
            vault: self.vault.clone(),
        };
        let (rows, changed_count) = match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(Revoked { consents, changed }) => (consents, changed),
            Outcome::Known(count) => (
                self.named(&names).await?,
                count.try_into().map_or(0, i32::from_be_bytes),
            ),
        };
        let (now, slot) = (self.now(), names[0].slot());
        let owner = rows.first().map(|row| (slot, row.subject.clone()));
        let ring = self.ring(owner.into_iter().collect()).await?;
        let revision = self.revision(slot);
        let shown = rows.iter().map(|row| render(row, &ring, caller, now, revision.clone()));
        Ok(api::RevokeConsentsResponse {
            consents: shown.collect::<Result<_, _>>()?,
            changed_count,
        })
    }

    /// Consents in the order of their names.
    async fn named(&self, names: &[ConsentId]) -> Result<Vec<ConsentRow>, Refusal> {
        let keys: Vec<_> = names.iter().map(|id| (id.slot(), id.to_vec())).collect();
        let rows = self.store.read(move |r| r.many::<ConsentRow>(&keys)).await?;
        // So that the revision is not older than what another replica wrote.
        self.store.confirm().await?;
        let mut rows: Vec<_> = rows.into_iter().map(|stored| stored.record).collect();
        rows.sort_by_key(|row| names.iter().position(|id| id.as_bytes().as_slice() == row.id));
        Ok(rows)
    }
}
