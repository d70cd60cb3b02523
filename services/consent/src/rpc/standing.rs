//! `PolicyService`: what she decides beforehand.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_kernel::{Caller, PolicyId, Reason, Refusal, Violations};
use sammati_server::{authz, error};
use sammati_store::{Outcome, RequestKey};
use tonic::{Request, Response, Status};

use super::list::{self, Whose};
use super::request::person;
use super::{Core, Rpc};
use crate::policy;
use crate::rows::{self, PolicyRow, broken};
use crate::standing::Verb;
use crate::standing::create::CreatePolicy;
use crate::standing::switch::SwitchPolicy;
use crate::step_up::Token;
use crate::wire;
use crate::wire::standing::{parse, render, states};

#[tonic::async_trait]
impl PolicyService for Rpc {
    async fn create_policy(&self, request: Request<api::CreatePolicyRequest>) -> Result<Response<api::Policy>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .create_policy(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_policies(
        &self,
        request: Request<api::ListPoliciesRequest>,
    ) -> Result<Response<api::ListPoliciesResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .list_policies(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn enable_policy(&self, request: Request<api::EnablePolicyRequest>) -> Result<Response<api::Policy>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let id = parse_policy(&message.name);
        let asked = self.0.proved(&caller, "policy.enable", &message, id).await;
        self.0
            .switch_policy(&caller, asked, message.etag, Verb::Enable)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn disable_policy(
        &self,
        request: Request<api::DisablePolicyRequest>,
    ) -> Result<Response<api::Policy>, Status> {
        let caller = authz::caller(&request)?.clone();
        let message = request.into_inner();
        let key = self
            .0
            .request_key(&caller, "policy.disable", &message.request_id, &message);
        let asked = Refusal::both(key, parse_policy(&message.name)).map(|(key, id)| (key, id, None));
        self.0
            .switch_policy(&caller, asked, message.etag, Verb::Disable)
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Core {
    async fn create_policy(&self, caller: &Caller, message: api::CreatePolicyRequest) -> Result<api::Policy, Refusal> {
        let account = person(caller)?;
        let wanted = parse(&message, account, &self.lookup);
        let (key, wanted, token) = self.proved(caller, "policy.create", &message, wanted).await?;
        let command = CreatePolicy {
            caller: caller.clone(),
            account,
            wanted,
            token,
            vault: self.vault.clone(),
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_policy(caller, outcome).await
    }

    async fn switch_policy(
        &self,
        caller: &Caller,
        asked: Result<(RequestKey, PolicyId, Option<Token>), Refusal>,
        etag: String,
        verb: Verb,
    ) -> Result<api::Policy, Refusal> {
        let (key, policy, token) = asked?;
        let command = SwitchPolicy {
            caller: caller.clone(),
            policy,
            verb,
            etag,
            token,
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_policy(caller, outcome).await
    }

    /// A policy as a command left it, or, to a repeat, as it is now.
    async fn tell_policy(&self, caller: &Caller, outcome: Outcome<PolicyRow>) -> Result<api::Policy, Refusal> {
        let row = match outcome {
            Outcome::Fresh(row) => row,
            Outcome::Known(id) => {
                let id = rows::policy_id(&id)?;
                let row = self
                    .store
                    .read(move |r| r.get::<PolicyRow>(id.slot(), id.as_bytes()))
                    .await?;
                let row = row.map(|stored| stored.record);
                policy::may_switch(caller, row)?
            }
        };
        let shown = self.show_policies(&[row]).await?;
        shown.into_iter().next().ok_or_else(|| broken("a policy"))
    }

    pub(super) async fn show_policies(&self, rows: &[PolicyRow]) -> Result<Vec<api::Policy>, Refusal> {
        let of = |row: &PolicyRow| Ok((row.id()?.slot(), row.subject.clone()));
        self.shown(rows, of, render).await
    }

    async fn list_policies(
        &self,
        caller: &Caller,
        mut message: api::ListPoliciesRequest,
    ) -> Result<api::ListPoliciesResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListPolicies", &message, size, &token);
        let asked = list::asked(page, |v| {
            let states = states(v, &message.states);
            Ok((states, list::subject(v, caller, &message.subject)?))
        });
        let (page, (states, subject)) = asked.map_err(error::status)?;
        let account = subject.ok_or_else(|| error::status(Reason::NotAvailable.into()))?;
        let holds = move |row: &PolicyRow| states.is_empty() || states.contains(&row.state());
        let sources = vec![Whose::subject(account)];
        let rows = list::page::<PolicyRow>(&self.store, sources, &page, holds).await;
        let (rows, next) = rows.map_err(error::status)?;
        let next_page_token = next.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        Ok(api::ListPoliciesResponse {
            policies: self.show_policies(&rows).await.map_err(error::status)?,
            next_page_token,
        })
    }
}

fn parse_policy(name: &str) -> Result<PolicyId, Refusal> {
    let mut v = Violations::new();
    let id: Option<PolicyId> = wire::name(&mut v, "name", name);
    v.check()?;
    id.ok_or_else(|| Reason::FieldInvalid.into())
}
