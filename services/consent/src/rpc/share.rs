//! `ProfileShareService`: scan and share.

use std::sync::Arc;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::profile_share_service_server::ProfileShareService;
use sammati_kernel::{Caller, Micros, ProfileShareId, Reason, Refusal, Violations};
use sammati_server::{authz, error};
use sammati_store::Outcome;
use tonic::{Request, Response, Status};

use super::request::person;
use super::{Core, Rpc, head};
use crate::policy;
use crate::rows::{self, ProfileShareRow};
use crate::share::{AcknowledgeShare, CreateShare};
use crate::wire;
use crate::wire::share::{parse, parse_acknowledge, render};

#[tonic::async_trait]
impl ProfileShareService for Rpc {
    async fn create_profile_share(
        &self,
        request: Request<api::CreateProfileShareRequest>,
    ) -> Result<Response<api::ProfileShare>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .share(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn get_profile_share(
        &self,
        request: Request<api::GetProfileShareRequest>,
    ) -> Result<Response<api::ProfileShare>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .read_share(&caller, &request.into_inner().name)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn acknowledge_profile_share(
        &self,
        request: Request<api::AcknowledgeProfileShareRequest>,
    ) -> Result<Response<api::ProfileShare>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .acknowledge_share(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Core {
    async fn share(
        &self,
        caller: &Caller,
        message: api::CreateProfileShareRequest,
    ) -> Result<api::ProfileShare, Refusal> {
        let key = self.request_key(caller, "share.create", &message.request_id, &message);
        let (key, (hip, who)) = Refusal::both(key, parse(&message, self.now()))?;
        if let Some(id) = self.store.known(&key).await? {
            return self.show_share(caller, rows::profile_share_id(&id)?).await;
        }
        let account = person(caller)?;
        let profile = message.profile.clone().unwrap_or_default();
        let demographics = profile.demographics.clone().unwrap_or_default();
        self.check_profile(account, &who, &demographics).await?;
        let command = CreateShare {
            caller: caller.clone(),
            account,
            hip,
            counter: message.counter,
            intent: message.intent,
            profile,
            directory: Arc::clone(&self.directory),
            vault: self.vault.clone(),
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_share(caller, outcome).await
    }

    async fn tell_share(
        &self,
        caller: &Caller,
        outcome: Outcome<ProfileShareRow>,
    ) -> Result<api::ProfileShare, Refusal> {
        let id = match outcome {
            Outcome::Fresh(row) => row.id,
            Outcome::Known(id) => id,
        };
        self.show_share(caller, rows::profile_share_id(&id)?).await
    }

    async fn read_share(&self, caller: &Caller, name: &str) -> Result<api::ProfileShare, Refusal> {
        let mut v = Violations::new();
        let id: Option<ProfileShareId> = wire::name(&mut v, "name", name);
        v.check()?;
        self.show_share(caller, id.ok_or(Reason::FieldInvalid)?).await
    }

    async fn show_share(&self, caller: &Caller, id: ProfileShareId) -> Result<api::ProfileShare, Refusal> {
        let store = self.store.clone();
        let read = self.store.read(move |r| {
            let row = r.get::<ProfileShareRow>(id.slot(), id.as_bytes())?;
            Ok((row.map(|stored| stored.record), head(r, &store, id.slot())?))
        });
        let (row, (partition, head)) = read.await?;
        let row = policy::may_see_share(caller, row)?;
        let ring = self.ring(vec![(id.slot(), row.subject.clone())]).await?;
        render(&row, &ring, self.now(), self.seal(partition, &head))
    }

    pub(super) async fn show_shares(
        &self,
        rows: &[ProfileShareRow],
        now: Micros,
    ) -> Result<Vec<api::ProfileShare>, Refusal> {
        let of = |row: &ProfileShareRow| Ok((row.id()?.slot(), row.subject.clone()));
        self.shown(rows, of, |row, ring, revision| render(row, ring, now, revision))
            .await
    }

    async fn acknowledge_share(
        &self,
        caller: &Caller,
        message: api::AcknowledgeProfileShareRequest,
    ) -> Result<api::ProfileShare, Refusal> {
        let key = self.request_key(caller, "share.acknowledge", &message.request_id, &message);
        let (key, share) = Refusal::both(key, parse_acknowledge(&message))?;
        let command = AcknowledgeShare {
            caller: caller.clone(),
            share,
            token_number: message.token_number,
            etag: message.etag,
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_share(caller, outcome).await
    }
}
