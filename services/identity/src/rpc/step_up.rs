//! AuthorizeAction: what a step-up leads to.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use sammati_api::identity::v1 as api;
use sammati_kernel::{Caller, Micros, Reason, Refusal};
use sammati_server::action::{self, ActionClaims, LIFE};
use sammati_server::event::timestamp;
use sammati_store::Outcome;

use crate::account::time_of;
use crate::rows::TransactionRow;
use crate::service::Inner;
use crate::tokens::may_repeat;
use crate::transaction::StepUp;
use crate::vault::broken;

impl Inner {
    pub(crate) async fn authorize_action(
        &self,
        caller: &Caller,
        request: api::AuthorizeActionRequest,
    ) -> Result<api::ActionToken, Refusal> {
        let key = self.request::<StepUp>(caller, &request.request_id, &request);
        let (key, transaction) = Refusal::both(key, self.transaction_id("transaction", &request.transaction))?;
        let (row, _) = self.transaction(caller, transaction).await?;
        let step_up = StepUp {
            caller: caller.clone(),
            transaction,
            etag: request.etag,
        };
        let (made, fresh) = match self.store.run(step_up, Some(key)).await? {
            Outcome::Fresh(made) => (made, true),
            Outcome::Known(bytes) => (time_of(&bytes).ok_or_else(|| broken("an outcome without time"))?, false),
        };
        let token = if fresh || may_repeat(made, self.now()) {
            self.action_token(caller, &row, made)?
        } else {
            String::new()
        };
        Ok(api::ActionToken {
            token,
            expire_time: Some(timestamp(Micros::from_seconds(made.plus(LIFE).seconds()))),
            bound_to: row.bound_to,
        })
    }

    /// Derived from the transaction: one transaction leads to one token, however often it is asked for.
    fn action_token(&self, caller: &Caller, row: &TransactionRow, made: Micros) -> Result<String, Refusal> {
        let bound = row.bound_to.clone().ok_or_else(|| broken("a step-up for nothing"))?;
        let service = action::service_of(&bound.method).ok_or_else(|| broken("a step-up for no method"))?;
        let session = caller.session().ok_or(Reason::CallerKind)?;
        let claims = ActionClaims {
            iss: self.issuer.clone(),
            aud: service.to_owned(),
            sub: caller.id(),
            sid: session.to_string(),
            iat: made.seconds(),
            exp: made.plus(LIFE).seconds(),
            jti: B64.encode(&self.lookup.action_id(&row.id)[..16]),
            method: bound.method,
            resource: bound.resource,
            body_sha256: bound.body_sha256,
        };
        action::issue(self.keys.active(), &claims).map_err(|_| Reason::Internal.into())
    }
}
