//! `DecisionService`: may this happen, now?

use prost::Message;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_kernel::{Caller, ConsentId, Refusal};
use sammati_server::{authz, error};
use sammati_store::{Outcome, RequestKey};
use tonic::{Request, Response, Status};

use super::check::parties;
use super::{Core, Rpc};
use crate::decision::authorize::{Answer, Authorize, Candidates, Deciding};
use crate::decision::record::Decided;
use crate::route::{Place, Route};
use crate::rows::{ConsentRow, broken, consent_id};
use crate::subject::Held;
use crate::wire::decision::{Asked, Target, as_check, parse, render};

#[tonic::async_trait]
impl DecisionService for Rpc {
    async fn check_access(&self, request: Request<api::CheckAccessRequest>) -> Result<Response<api::Decision>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .check(&caller, request.get_ref())
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
}

impl Core {
    async fn authorize(&self, caller: &Caller, message: api::AuthorizeAccessRequest) -> Result<api::Decision, Refusal> {
        let key = self.request_key(caller, "access.authorize", &message.request_id, &message);
        let (key, asked) = Refusal::both(key, parse(&as_check(message), caller))?;
        self.directory.fresh()?;
        let (decided, consent) = match asked.target.clone() {
            Target::Consent(id) => self.authorize_consent(caller, asked, id, key).await?,
            Target::Person(person) => {
                let route = self.route(&key, &person, self.nobody(caller)).await?;
                self.authorize_person(caller, asked, route, key).await?
            }
        };
        self.tell(caller, decided, consent).await
    }

    async fn authorize_consent(
        &self,
        caller: &Caller,
        mut asked: Asked,
        id: ConsentId,
        key: RequestKey,
    ) -> Result<(Decided, Option<ConsentRow>), Refusal> {
        let parties = self.subjects.parties(id).await?;
        if let Some(parties) = &parties {
            self.hash(&mut asked, parties.subject.as_bytes(), &parties.hip);
        }
        let deciding = Deciding {
            slot: id.slot(),
            subject: parties.map(|parties| parties.subject),
            candidates: Candidates::Named(id),
            ..self.deciding(
                caller,
                asked,
                &Place {
                    slot: id.slot(),
                    owner: Vec::new(),
                    subject: None,
                },
            )
        };
        let outcome = self.store.run(Authorize { deciding, route: None }, Some(key)).await?;
        self.settled(outcome)
            .map(|settled| settled.map_or_else(|_| Err(broken("a route")), Ok))?
    }

    async fn authorize_person(
        &self,
        caller: &Caller,
        asked: Asked,
        mut route: Route,
        key: RequestKey,
    ) -> Result<(Decided, Option<ConsentRow>), Refusal> {
        loop {
            let deciding = self.about_person(caller, asked.clone(), &route.place)?;
            let outcome = self
                .store
                .run(
                    Authorize {
                        deciding,
                        route: Some(route.clone()),
                    },
                    Some(key.clone()),
                )
                .await?;
            match self.settled(outcome)? {
                Ok(settled) => return Ok(settled),
                Err(place) => route = Route::first(&self.lookup, &key, place),
            }
        }
    }

    fn about_person(&self, caller: &Caller, mut asked: Asked, place: &Place) -> Result<Deciding, Refusal> {
        let (requester, provider) = parties(&asked)?;
        let mut candidates = Candidates::None;
        if let Some(account) = place.subject {
            self.hash(&mut asked, account.as_bytes(), &provider);
            candidates = Candidates::Between(self.lookup.parties(account.as_bytes(), &provider, &requester));
        }
        Ok(Deciding {
            candidates,
            ..self.deciding(caller, asked, place)
        })
    }

    pub(super) fn deciding(&self, caller: &Caller, asked: Asked, place: &Place) -> Deciding {
        Deciding {
            slot: place.slot,
            subject: place.subject,
            candidates: Candidates::None,
            question: asked.question,
            caller: caller.clone(),
            directory: std::sync::Arc::clone(&self.directory),
            revision: self.revision(place.slot),
        }
    }

    /// A decision, new or known; or where an earlier attempt went.
    fn settled(&self, outcome: Outcome<Answer>) -> Result<Result<(Decided, Option<ConsentRow>), Place>, Refusal> {
        Ok(match outcome {
            Outcome::Fresh(Answer::Settled(settled)) => Ok((settled.decided, settled.consent)),
            Outcome::Fresh(Answer::Elsewhere(place)) => Err(place),
            Outcome::Known(bytes) => Ok((
                Decided::decode(bytes.as_slice()).map_err(|_| broken("a decision"))?,
                None,
            )),
        })
    }

    /// The decision as the caller reads it; of a repeat, with the consent as it is now, whose grant never changes.
    async fn tell(
        &self,
        caller: &Caller,
        decided: Decided,
        consent: Option<ConsentRow>,
    ) -> Result<api::Decision, Refusal> {
        if decided.consent.is_empty() {
            return Ok(render(&decided, None, caller, self.revision(self.callers_slot(caller))));
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
        let ring = self.ring(vec![(id.slot(), row.subject.clone())]).await?;
        let held = Held::of(&row, &ring)?;
        Ok(render(&decided, Some(&held), caller, self.revision(id.slot())))
    }
}
