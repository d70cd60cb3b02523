//! `StudyService`: consent for research.

use std::collections::BTreeSet;
use std::sync::Arc;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::study_service_server::StudyService;
use sammati_kernel::{AccountId, Caller, Micros, Reason, Refusal, StudyId, Violations};
use sammati_server::{authz, error};
use sammati_store::{Outcome, RequestKey};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::list::{self, Whose};
use super::{Core, Rpc, head};
use crate::policy;
use crate::rows::{self, EVERY, RequestRow, StudyRow};
use crate::study::create::CreateStudy;
use crate::study::moves::MoveStudy;
use crate::study::{State, Verb, settle};
use crate::wire;
use crate::wire::study::{parse_create, render};

/// Requests of hers that are looked through for the studies that asked her.
const ASKED: i64 = 1000;

#[tonic::async_trait]
impl StudyService for Rpc {
    async fn create_study(&self, request: Request<api::CreateStudyRequest>) -> Result<Response<api::Study>, Status> {
        let caller = authz::caller(&request)?.clone();
        let created = self.0.create_study(&caller, request.into_inner()).await;
        created.map(Response::new).map_err(error::status)
    }

    async fn get_study(&self, request: Request<api::GetStudyRequest>) -> Result<Response<api::Study>, Status> {
        let caller = authz::caller(&request)?.clone();
        let read = self.0.read_study(&caller, &request.into_inner().name).await;
        read.map(Response::new).map_err(error::status)
    }

    async fn list_studies(
        &self,
        request: Request<api::ListStudiesRequest>,
    ) -> Result<Response<api::ListStudiesResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .list_studies(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn activate_study(
        &self,
        request: Request<api::ActivateStudyRequest>,
    ) -> Result<Response<api::Study>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let key = self
            .0
            .request_key(&caller, "study.activate", &message.request_id, &message);
        let parsed = Refusal::both(key, name("name", &message.name));
        let moved = self.0.move_study(&caller, parsed, Verb::Activate, message.etag).await;
        moved.map(Response::new).map_err(error::status)
    }

    async fn close_study(&self, request: Request<api::CloseStudyRequest>) -> Result<Response<api::Study>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let key = self
            .0
            .request_key(&caller, "study.close", &message.request_id, &message);
        let parsed = Refusal::both(key, name("name", &message.name));
        let moved = self.0.move_study(&caller, parsed, Verb::Close, message.etag).await;
        moved.map(Response::new).map_err(error::status)
    }

    async fn invite_subjects(
        &self,
        request: Request<api::InviteSubjectsRequest>,
    ) -> Result<Response<api::InviteSubjectsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        let invited = self.0.invite(&caller, request.into_inner()).await;
        invited.map(Response::new).map_err(error::status)
    }

    type CheckCohortStream = ReceiverStream<Result<api::CheckCohortResponse, Status>>;

    async fn check_cohort(
        &self,
        request: Request<api::CheckCohortRequest>,
    ) -> Result<Response<Self::CheckCohortStream>, Status> {
        let caller = authz::caller(&request)?.clone();
        let told = self.check_cohort_of(&caller, request.get_ref()).await;
        told.map(Response::new).map_err(error::status)
    }

    type AuthorizeCohortStream = ReceiverStream<Result<api::AuthorizeCohortResponse, Status>>;

    async fn authorize_cohort(
        &self,
        request: Request<api::AuthorizeCohortRequest>,
    ) -> Result<Response<Self::AuthorizeCohortStream>, Status> {
        let caller = authz::caller(&request)?.clone();
        let told = self.authorize_cohort_of(&caller, request.get_ref()).await;
        told.map(Response::new).map_err(error::status)
    }

    async fn count_cohort(
        &self,
        request: Request<api::CountCohortRequest>,
    ) -> Result<Response<api::CountCohortResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        let counted = self.0.count_cohort(&caller, request.get_ref()).await;
        counted.map(Response::new).map_err(error::status)
    }

    async fn map_pseudonyms(
        &self,
        request: Request<api::MapPseudonymsRequest>,
    ) -> Result<Response<api::MapPseudonymsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        let mapped = self.0.map_pseudonyms(&caller, request.get_ref()).await;
        mapped.map(Response::new).map_err(error::status)
    }

    async fn identify_subject(
        &self,
        request: Request<api::IdentifySubjectRequest>,
    ) -> Result<Response<api::IdentifySubjectResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        let told = self.0.identify_subject(&caller, request.into_inner()).await;
        told.map(Response::new).map_err(error::status)
    }
}

/// The name of a study.
pub(super) fn name(field: &str, text: &str) -> Result<StudyId, Refusal> {
    let mut v = Violations::new();
    let id = wire::name(&mut v, field, text);
    v.check()?;
    id.ok_or_else(|| Reason::FieldInvalid.into())
}

impl Core {
    async fn create_study(&self, caller: &Caller, message: api::CreateStudyRequest) -> Result<api::Study, Refusal> {
        let key = self.request_key(caller, "study.create", &message.request_id, &message);
        let (key, described) = Refusal::both(key, parse_create(&message, &self.notices))?;
        let command = CreateStudy {
            caller: caller.clone(),
            sponsor: policy::participant(caller)?.clone(),
            described,
            directory: Arc::clone(&self.directory),
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_study(caller, outcome).await
    }

    async fn tell_study(&self, caller: &Caller, outcome: Outcome<StudyRow>) -> Result<api::Study, Refusal> {
        let id = match outcome {
            Outcome::Fresh(row) => row.id,
            Outcome::Known(id) => id,
        };
        self.show_study(caller, rows::study_id(&id)?).await
    }

    async fn read_study(&self, caller: &Caller, text: &str) -> Result<api::Study, Refusal> {
        self.show_study(caller, name("name", text)?).await
    }

    async fn show_study(&self, caller: &Caller, id: StudyId) -> Result<api::Study, Refusal> {
        let store = self.store.clone();
        let read = self.store.read(move |r| {
            let row = r.get::<StudyRow>(id.slot(), id.as_bytes())?;
            Ok((row.map(|stored| stored.record), head(r, &store, id.slot())?))
        });
        let (row, (partition, head)) = read.await?;
        let asked = match caller.account() {
            Some(account) => self.asked_by(account).await?.contains(id.as_bytes().as_slice()),
            None => false,
        };
        let row = policy::may_see_study(caller, row, asked, self.now())?;
        render(&row, self.now(), self.seal(partition, &head))
    }

    /// The studies that asked her.
    async fn asked_by(&self, account: AccountId) -> Result<BTreeSet<Vec<u8>>, Refusal> {
        let read = self
            .store
            .read(move |r| r.page::<RequestRow>("subject", account.as_bytes(), None, ASKED));
        let asked = read.await?.into_iter().map(|stored| stored.record.study);
        Ok(asked.filter(|study| !study.is_empty()).collect())
    }

    async fn list_studies(
        &self,
        caller: &Caller,
        mut message: api::ListStudiesRequest,
    ) -> Result<api::ListStudiesResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListStudies", &message, size, &token);
        let asked = list::asked(page, |v| {
            Ok(wire::states::<api::study::State>(v, "states", &message.states))
        });
        let (page, states) = asked.map_err(error::status)?;
        let (holds, now) = (self.visible(caller).await.map_err(error::status)?, self.now());
        let holds = move |row: &StudyRow| {
            (states.is_empty() || states.contains(&row.state_at(now).number())) && holds(row, now)
        };
        let source = Whose {
            column: "every",
            value: EVERY.to_vec(),
        };
        let rows = list::page::<StudyRow>(&self.store, vec![source], &page, holds).await;
        let (rows, next) = rows.map_err(error::status)?;
        let next_page_token = next.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        // Another replica may have written the rows: their revisions must not be older than they are.
        self.store.confirm().await.map_err(error::status)?;
        let shown = rows.iter().map(|row| render(row, now, self.revision(row.id()?.slot())));
        let studies: Result<_, Refusal> = shown.collect();
        Ok(api::ListStudiesResponse {
            studies: studies.map_err(error::status)?,
            next_page_token,
        })
    }

    /// Which studies a caller sees.
    async fn visible(&self, caller: &Caller) -> Result<Box<dyn Fn(&StudyRow, Micros) -> bool + Send + Sync>, Refusal> {
        if let Some(account) = caller.account() {
            let asked = self.asked_by(account).await?;
            return Ok(Box::new(move |row: &StudyRow, now: Micros| {
                asked.contains(&row.id) && row.state_at(now) == State::Active
            }));
        }
        if caller.is_operator() {
            return Ok(Box::new(|_: &StudyRow, _: Micros| true));
        }
        let me = policy::participant(caller)?.as_str().to_owned();
        Ok(Box::new(move |row: &StudyRow, _: Micros| {
            row.sponsor == me || row.has_node(&me)
        }))
    }

    async fn move_study(
        &self,
        caller: &Caller,
        parsed: Result<(RequestKey, StudyId), Refusal>,
        verb: Verb,
        etag: String,
    ) -> Result<api::Study, Refusal> {
        let (key, study) = parsed?;
        let command = MoveStudy {
            caller: caller.clone(),
            study,
            verb,
            etag,
            vault: self.vault.clone(),
        };
        let outcome = self.store.run(command, Some(key)).await?;
        if verb == Verb::Close {
            // Whatever becomes of this call: the clock goes on with what it leaves.
            settle::end_all(&self.store, study).await?;
        }
        self.tell_study(caller, outcome).await
    }
}
