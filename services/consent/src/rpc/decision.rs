//! `DecisionService`: may this happen, now?

use std::sync::Arc;

use prost::Message;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_kernel::{Caller, ConsentId, PurposeCode, Refusal, StudyId};
use sammati_server::{authz, error};
use sammati_store::Outcome;
use tonic::{Request, Response, Status, Streaming};

use super::check::parties;
use super::many::Answers;
use super::{Core, Rpc};
use crate::decision::authorize::{Authorize, Candidates, Deciding, Settled};
use crate::decision::record::Decided;
use crate::place::Place;
use crate::rows::{ConsentRow, broken, consent_id};
use crate::study::known::ActiveUntil;
use crate::subject::Held;
use crate::vault::Ring;
use crate::wire::decision::{Asked, Target, as_check, parse, render};

#[tonic::async_trait]
impl DecisionService for Rpc {
    async fn check_access(&self, request: Request<api::CheckAccessRequest>) -> Result<Response<api::Decision>, Status> {
        let caller = authz::caller(&request)?;
        self.0
            .check(caller, request.get_ref())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn authorize_access(
        &self,
        request: Request<api::AuthorizeAccessRequest>,
    ) -> Result<Response<api::Decision>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .authorize(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn batch_check_access(
        &self,
        request: Request<api::BatchCheckAccessRequest>,
    ) -> Result<Response<api::BatchCheckAccessResponse>, Status> {
        let caller = authz::caller(&request)?;
        if let Some(allowance) = authz::allowance(&request) {
            // It was counted as one call.
            let more = request.get_ref().checks.len().saturating_sub(1);
            allowance.more_checks(more).map_err(error::status)?;
        }
        let decided = self.0.check_all(caller, request.get_ref()).await;
        decided.map(Response::new).map_err(error::status)
    }

    type StreamCheckAccessStream = Answers;

    async fn stream_check_access(
        &self,
        request: Request<Streaming<api::StreamCheckAccessRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let caller = authz::caller(&request)?.clone();
        let allowance = authz::allowance(&request);
        Ok(Response::new(self.answer_within(
            allowance,
            caller,
            request.into_inner(),
        )))
    }

    async fn explain_access(
        &self,
        request: Request<api::ExplainAccessRequest>,
    ) -> Result<Response<api::ExplainAccessResponse>, Status> {
        let caller = authz::caller(&request)?;
        let explained = self.0.explain(caller, request.get_ref()).await;
        explained.map(Response::new).map_err(error::status)
    }

    async fn list_grantees(
        &self,
        request: Request<api::ListGranteesRequest>,
    ) -> Result<Response<api::ListGranteesResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0.grantees(&caller, request.into_inner()).await.map(Response::new)
    }
}

impl Core {
    async fn authorize(&self, caller: &Caller, message: api::AuthorizeAccessRequest) -> Result<api::Decision, Refusal> {
        let key = self.request_key(caller, "access.authorize", &message.request_id, &message);
        let (key, asked) = Refusal::both(key, parse(&as_check(message), caller))?;
        let outcome = match self.deciding_on(caller, &asked).await {
            // Whether it is a repeat is found under the lock.
            Ok(deciding) => self.store.run(Authorize(deciding), Some(key)).await?,
            // A repeat needs nobody else to say the same again.
            Err(refusal) => Outcome::Known(self.store.known(&key).await?.ok_or(refusal)?),
        };
        let (decided, consent) = settled(outcome)?;
        self.tell(caller, decided, consent, &asked).await
    }

    /// What is decided under the lock, once it is known whom the question means.
    async fn deciding_on(&self, caller: &Caller, asked: &Asked) -> Result<Deciding, Refusal> {
        self.directory.fresh()?;
        match asked.target.clone() {
            Target::Consent(id) => self.about_consent(caller, asked.clone(), id).await,
            Target::Person(person) => {
                let found = self.find(&person).await?;
                let place = found.map_or_else(|| self.nobody(caller), Place::person);
                self.about_person(caller, asked.clone(), &place).await
            }
        }
    }

    async fn about_consent(&self, caller: &Caller, mut asked: Asked, id: ConsentId) -> Result<Deciding, Refusal> {
        let parties = self.subjects.parties(id).await?;
        let study = parties.as_ref().and_then(|parties| parties.study);
        let studies = self.studies_now(study.into_iter().collect()).await?;
        if let Some(parties) = &parties {
            self.hash(&mut asked, parties.subject.as_bytes(), &parties.hip);
        }
        let place = Place {
            slot: id.slot(),
            owner: Vec::new(),
            subject: parties.map(|parties| parties.subject),
        };
        Ok(Deciding {
            candidates: Candidates::Named(id),
            studies,
            ..self.deciding(caller, asked, &place)
        })
    }

    async fn about_person(&self, caller: &Caller, mut asked: Asked, place: &Place) -> Result<Deciding, Refusal> {
        let (requester, provider) = parties(&asked)?;
        let mut studies = ActiveUntil::new();
        // For nothing else is anything given to a study.
        if let Some(account) = place
            .subject
            .filter(|_| asked.question.purpose == Some(PurposeCode::Dsrch))
        {
            // What she gave through another replica a moment ago counts.
            self.store.confirm().await?;
            let hers = self.subjects.get(account).await?;
            let given = hers.consents.iter().filter_map(|held| held.granted.study);
            studies = self.studies_now(given.collect()).await?;
        }
        let mut candidates = Candidates::None;
        if let Some(account) = place.subject {
            self.hash(&mut asked, account.as_bytes(), &provider);
            candidates = Candidates::Between(self.lookup.parties(account.as_bytes(), &provider, &requester));
        }
        Ok(Deciding {
            candidates,
            studies,
            ..self.deciding(caller, asked, place)
        })
    }

    /// Until when studies are active: no less new than all that was answered before.
    async fn studies_now(&self, studies: Vec<StudyId>) -> Result<ActiveUntil, Refusal> {
        if !studies.is_empty() {
            self.store.confirm().await?;
        }
        self.studies.active_until(studies).await
    }

    pub(super) fn deciding(&self, caller: &Caller, asked: Asked, place: &Place) -> Deciding {
        Deciding {
            slot: place.slot,
            subject: place.subject,
            candidates: Candidates::None,
            question: asked.question,
            caller: caller.clone(),
            directory: Arc::clone(&self.directory),
            revision: self.revision(place.slot),
            studies: ActiveUntil::new(),
        }
    }

    /// The decision as the caller reads it; of a repeat, what the consent grants only if it is still the same version.
    async fn tell(
        &self,
        caller: &Caller,
        decided: Decided,
        consent: Option<ConsentRow>,
        asked: &Asked,
    ) -> Result<api::Decision, Refusal> {
        if decided.consent.is_empty() {
            return Ok(render(
                &decided,
                None,
                None,
                caller,
                self.revision(self.callers_slot(caller)),
            ));
        }
        let id = consent_id(&decided.consent)?;
        let row = match consent {
            Some(row) => row,
            None => {
                let read = self
                    .store
                    .read(move |r| r.get::<ConsentRow>(id.slot(), id.as_bytes()))
                    .await?;
                read.ok_or_else(|| broken("a decided consent"))?.record
            }
        };
        // Her key opens the care contexts that are named, and nothing else is shown of her.
        let ring = if row.scope.names_care_contexts() {
            self.ring(vec![(id.slot(), row.subject.clone())]).await?
        } else {
            Ring::default()
        };
        let held = Held::of(&row, &ring)?;
        let part = self.part(&decided, Some(&held), asked);
        let decision = render(&decided, Some(&held), part, caller, self.revision(id.slot()));
        self.sign(decision, &decided, Some(&held), asked)
    }
}

/// A decision, new or known.
fn settled(outcome: Outcome<Settled>) -> Result<(Decided, Option<ConsentRow>), Refusal> {
    match outcome {
        Outcome::Fresh(settled) => Ok((settled.decided, settled.consent)),
        Outcome::Known(bytes) => {
            let decided = Decided::decode(bytes.as_slice()).map_err(|_| broken("a decision"))?;
            Ok((decided, None))
        }
    }
}
