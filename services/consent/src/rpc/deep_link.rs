//! `LinkService.SendDeepLink`: an SMS that leaves after its commit.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_kernel::{Caller, LinkId, Reason, Refusal};
use sammati_server::error::refusal_of;
use sammati_store::Outcome;
use tonic::Request;

use super::Core;
use crate::link::deep_link::{SendDeepLink, message};
use crate::policy;
use crate::rows::link_id;
use crate::wire::link::parse_deep_link;

impl Core {
    pub(super) async fn send_deep_link(
        &self,
        caller: &Caller,
        request: api::SendDeepLinkRequest,
    ) -> Result<api::SendDeepLinkResponse, Refusal> {
        let key = self.request_key(caller, "link.send_deep_link", &request.request_id, &request);
        let (key, (mobile, language)) = Refusal::both(key, parse_deep_link(&request))?;
        let hip = policy::participant(caller)?.clone();
        let command = SendDeepLink {
            caller: caller.clone(),
            hip: hip.clone(),
            attempt: self.lookup.deep_link(&mobile),
            directory: Arc::clone(&self.directory),
        };
        let id: LinkId = match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(id) => id,
            Outcome::Known(id) => link_id(&id)?,
        };
        let name = self.directory.participant(&hip).map(|party| party.display_name);
        let message = message(id, &mobile, &language, &hip, &name.unwrap_or_default(), &self.portal);
        let Err(status) = self.messages.send_message(Request::new(message)).await else {
            return Ok(api::SendDeepLinkResponse {});
        };
        // That the gateway knows no such mobile is told to nobody.
        if refusal_of(&status).is_some_and(|refusal| refusal.reason == Reason::RecipientInvalid) {
            return Ok(api::SendDeepLinkResponse {});
        }
        tracing::warn!(code = ?status.code(), "a deep link could not be handed to the message sender");
        Err(Refusal::new(Reason::MessageUnavailable)
            .saying("the message could not be sent; repeat the same call, with the same request_id, in a minute")
            .retry_after(Duration::from_secs(60)))
    }
}
