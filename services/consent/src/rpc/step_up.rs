//! `StepUpService`: what needs her PIN.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::step_up::Action;
use sammati_api::consent::v1::step_up_service_server::StepUpService;
use sammati_kernel::{AccountId, Caller, Refusal, Violations};
use sammati_server::event::timestamp;
use sammati_server::{authz, error};
use tonic::{Request, Response, Status};

use super::request::person;
use super::{Core, Rpc, head};
use crate::rows::{self, StepUpRow};
use crate::step_up::set::{SetStepUp, name};

#[tonic::async_trait]
impl StepUpService for Rpc {
    async fn get_step_up(&self, request: Request<api::GetStepUpRequest>) -> Result<Response<api::StepUp>, Status> {
        let caller = authz::caller(&request)?.clone();
        let account = person(&caller).map_err(error::status)?;
        self.0.step_up(account).await.map(Response::new).map_err(error::status)
    }

    async fn set_step_up(&self, request: Request<api::SetStepUpRequest>) -> Result<Response<api::StepUp>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .set_step_up(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Core {
    pub(super) async fn step_up(&self, account: AccountId) -> Result<api::StepUp, Refusal> {
        let store = self.store.clone();
        let read = self.store.read(move |r| {
            let row = r.get::<StepUpRow>(account.slot(), account.as_bytes())?;
            Ok((row, head(r, &store, account.slot())?))
        });
        let (row, (partition, head)) = read.await?;
        let row = row.map_or_else(|| StepUpRow::of(account.as_bytes()), |stored| stored.record);
        Ok(api::StepUp {
            name: name(account),
            actions: row.actions,
            update_time: rows::time(row.updated).map(timestamp),
            etag: rows::etag(row.version),
            revision: self.seal(partition, &head),
        })
    }

    async fn set_step_up(&self, caller: &Caller, message: api::SetStepUpRequest) -> Result<api::StepUp, Refusal> {
        let mut v = Violations::new();
        let actions = actions(&mut v, &message.actions);
        if message.action_token.is_empty() {
            v.add(
                "action_token",
                "the token of AuthorizeAction at identity, made for this call",
            );
        }
        let account = person(caller)?;
        let (key, (), token) = self.proved(caller, "consent.set_step_up", &message, v.check()).await?;
        let Some(token) = token else {
            // A repeat.
            return self.step_up(account).await;
        };
        let command = SetStepUp {
            caller: caller.clone(),
            account,
            actions,
            etag: message.etag,
            token,
        };
        self.store.run(command, Some(key)).await?;
        self.step_up(account).await
    }
}

/// Each once, in order. Taking back never asks more of her than giving does (DPDP s.6(4)).
fn actions(v: &mut Violations, given: &[i32]) -> Vec<i32> {
    let mut actions = given.to_vec();
    actions.sort_unstable();
    let before = actions.len();
    actions.dedup();
    let known = |n: &i32| Action::try_from(*n).is_ok_and(|action| action != Action::Unspecified);
    if actions.len() != before || !actions.iter().all(known) {
        v.add("actions", "ACTION_APPROVE and ACTION_REVOKE, each once");
    } else if actions == [i32::from(Action::Revoke)] {
        v.add("actions", "ACTION_REVOKE only together with ACTION_APPROVE");
    }
    actions
}
