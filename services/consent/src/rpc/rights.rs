//! `RightsService`: what a person asks beside consent.

use std::sync::Arc;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::rights_service_server::RightsService;
use sammati_kernel::{AccountId, Caller, Reason, Refusal, RightsRequestId, Violations};
use sammati_server::{authz, error};
use sammati_store::Outcome;
use tonic::{Request, Response, Status};

use super::list::{self, Whose};
use super::request::person;
use super::{Core, Rpc, head};
use crate::policy;
use crate::rights::act::{ActOnRights, What};
use crate::rights::create::CreateRightsRequest;
use crate::rows::{self, ALL_RIGHTS, RightsRow};
use crate::wire;
use crate::wire::rights::{parse_answer, parse_ask, parse_close, render, states};

#[tonic::async_trait]
impl RightsService for Rpc {
    async fn create_rights_request(
        &self,
        request: Request<api::CreateRightsRequestRequest>,
    ) -> Result<Response<api::RightsRequest>, Status> {
        let caller = authz::caller(&request)?.clone();
        let asked = self.0.ask_rights(&caller, request.into_inner()).await;
        asked.map(Response::new).map_err(error::status)
    }

    async fn get_rights_request(
        &self,
        request: Request<api::GetRightsRequestRequest>,
    ) -> Result<Response<api::RightsRequest>, Status> {
        let caller = authz::caller(&request)?.clone();
        let read = self.0.read_rights(&caller, &request.into_inner().name).await;
        read.map(Response::new).map_err(error::status)
    }

    async fn list_rights_requests(
        &self,
        request: Request<api::ListRightsRequestsRequest>,
    ) -> Result<Response<api::ListRightsRequestsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .list_rights(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn answer_rights_request(
        &self,
        request: Request<api::AnswerRightsRequestRequest>,
    ) -> Result<Response<api::RightsRequest>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let key = self
            .0
            .request_key(&caller, "rights.answer", &message.request_id, &message);
        let asked = Refusal::both(key, parse_answer(&message));
        let acted = self.0.act_on_rights(&caller, asked, message.etag).await;
        acted.map(Response::new).map_err(error::status)
    }

    async fn close_rights_request(
        &self,
        request: Request<api::CloseRightsRequestRequest>,
    ) -> Result<Response<api::RightsRequest>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let key = self
            .0
            .request_key(&caller, "rights.close", &message.request_id, &message);
        let asked = Refusal::both(key, parse_close(&message));
        let acted = self.0.act_on_rights(&caller, asked, message.etag).await;
        acted.map(Response::new).map_err(error::status)
    }
}

/// What is done, and to which, under a request id.
type Asked = Result<(sammati_store::RequestKey, (RightsRequestId, What)), Refusal>;

impl Core {
    async fn ask_rights(
        &self,
        caller: &Caller,
        message: api::CreateRightsRequestRequest,
    ) -> Result<api::RightsRequest, Refusal> {
        let key = self.request_key(caller, "rights.open", &message.request_id, &message);
        let (key, asked) = Refusal::both(key, parse_ask(&message))?;
        let account = person(caller)?;
        // Before anybody is looked up: a repeat needs no one else to say the same again.
        if let Some(id) = self.store.known(&key).await? {
            return self.show_rights(caller, rows::id(&id)?).await;
        }
        if !asked.patient.is_empty() && self.place_at(&asked.patient).await?.subject != Some(account) {
            return Err(Refusal::field("patient", "no ABHA address of hers"));
        }
        let command = CreateRightsRequest {
            caller: caller.clone(),
            account,
            kind: asked.kind,
            against: asked.against,
            patient: asked.patient,
            about: message.about,
            text: message.text,
            directory: Arc::clone(&self.directory),
            vault: self.vault.clone(),
        };
        let id = match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(id) => id,
            Outcome::Known(bytes) => rows::id(&bytes)?,
        };
        self.show_rights(caller, id).await
    }

    async fn act_on_rights(&self, caller: &Caller, asked: Asked, etag: String) -> Result<api::RightsRequest, Refusal> {
        let (key, (request, what)) = asked?;
        let command = ActOnRights {
            caller: caller.clone(),
            request,
            what,
            etag,
            vault: self.vault.clone(),
        };
        self.store.run(command, Some(key)).await?;
        self.show_rights(caller, request).await
    }

    async fn read_rights(&self, caller: &Caller, name: &str) -> Result<api::RightsRequest, Refusal> {
        let mut v = Violations::new();
        let id = wire::name(&mut v, "name", name);
        v.check()?;
        self.show_rights(caller, id.ok_or(Reason::FieldInvalid)?).await
    }

    async fn show_rights(&self, caller: &Caller, id: RightsRequestId) -> Result<api::RightsRequest, Refusal> {
        let store = self.store.clone();
        let read = self.store.read(move |r| {
            let row = r.get::<RightsRow>(id.slot(), id.as_bytes())?;
            Ok((row.map(|stored| stored.record), head(r, &store, id.slot())?))
        });
        let (row, (partition, head)) = read.await?;
        let row = policy::may_see_rights(caller, row)?;
        let ring = self.ring(vec![(id.slot(), row.subject.clone())]).await?;
        render(&row, &ring, caller, self.now(), self.seal(partition, &head))
    }

    async fn list_rights(
        &self,
        caller: &Caller,
        mut message: api::ListRightsRequestsRequest,
    ) -> Result<api::ListRightsRequestsResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListRightsRequests", &message, size, &token);
        let asked = list::asked(page, |v| {
            let states = states(v, &message.states);
            Ok((states, whose(v, caller, &message.subject)?))
        });
        let (page, (states, source)) = asked.map_err(error::status)?;
        let now = self.now();
        let holds = move |row: &RightsRow| states.is_empty() || states.contains(&row.state_at(now));
        let rows = list::page::<RightsRow>(&self.store, vec![source], &page, holds).await;
        let (rows, next) = rows.map_err(error::status)?;
        let next_page_token = next.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        Ok(api::ListRightsRequestsResponse {
            rights_requests: self.show_all_rights(caller, &rows).await.map_err(error::status)?,
            next_page_token,
        })
    }

    pub(super) async fn show_all_rights(
        &self,
        caller: &Caller,
        rows: &[RightsRow],
    ) -> Result<Vec<api::RightsRequest>, Refusal> {
        // Another replica may have written the rows: their revisions must not be older than they are.
        self.store.confirm().await?;
        let ids = rows.iter().map(RightsRow::id).collect::<Result<Vec<_>, _>>()?;
        let owners = ids.iter().zip(rows).map(|(id, row)| (id.slot(), row.subject.clone()));
        let ring = self.ring(owners.collect()).await?;
        let now = self.now();
        let shown = ids
            .iter()
            .zip(rows)
            .map(|(id, row)| render(row, &ring, caller, now, self.revision(id.slot())));
        shown.collect()
    }
}

/// Whose a caller may list: a person hers, a participant those against it, an operator one person's or all.
fn whose(v: &mut Violations, caller: &Caller, name: &str) -> Result<Whose, Refusal> {
    if caller.is_operator() {
        let subject: Option<AccountId> = wire::optional_name(v, "subject", name);
        return Ok(subject.map_or_else(
            || Whose {
                column: "listed",
                value: ALL_RIGHTS.to_vec(),
            },
            Whose::subject,
        ));
    }
    match list::subject(v, caller, name)? {
        Some(account) => Ok(Whose::subject(account)),
        None => Ok(Whose {
            column: "against",
            // Of a person there is none, and what she named wrong is told.
            value: caller.participant().map(|id| id.name().into()).unwrap_or_default(),
        }),
    }
}
