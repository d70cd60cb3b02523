//! What can be asked of it? One short function for each RPC of the three services.

use std::sync::Arc;

use sammati_api::provider::v1 as provider;
use sammati_api::provider::v1::kyc_provider_service_server::KycProviderService;
use sammati_api::provider::v1::message_sender_service_server::MessageSenderService;
use sammati_api::sandbox::v1 as api;
use sammati_api::sandbox::v1::sandbox_service_server::SandboxService;
use sammati_kernel::{Clock, Refusal, Seed};
use sammati_server::authz;
use sammati_server::error::{internal, status};
use sammati_server::page::PageTokens;
use tonic::{Request, Response, Status};

use crate::agency::Agency;
use crate::inbox::Inbox;
use crate::wire;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Handlers {
    pub(crate) agency: Arc<Agency>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pages: PageTokens,
}

#[tonic::async_trait]
impl KycProviderService for Handlers {
    async fn start_kyc(
        &self,
        request: Request<provider::StartKycRequest>,
    ) -> Result<Response<provider::StartKycResponse>, Status> {
        let ask = wire::Ask::read(&request.into_inner()).map_err(status)?;
        let seed = Seed::draw().map_err(|_| internal("no randomness"))?;
        let now = self.clock.now();
        let started = self
            .agency
            .start(ask.transaction, ask.send, ask.whom.as_ref(), now, &seed);
        let started = started.map_err(status)?;
        if let Some(sent) = &started.sent {
            self.inbox.take(wire::otp_message(&ask, &started.mobile, sent, now));
        }
        Ok(Response::new(wire::started(&started)))
    }

    async fn complete_kyc(
        &self,
        request: Request<provider::CompleteKycRequest>,
    ) -> Result<Response<provider::CompleteKycResponse>, Status> {
        let answer = wire::Answer::read(request.into_inner()).map_err(status)?;
        let verdict = self.agency.complete(
            answer.transaction,
            &answer.number,
            answer.attempt,
            answer.otp.expose(),
            self.clock.now(),
        );
        Ok(Response::new(wire::verdict(verdict.map_err(status)?)))
    }
}

#[tonic::async_trait]
impl MessageSenderService for Handlers {
    async fn send_message(
        &self,
        request: Request<provider::SendMessageRequest>,
    ) -> Result<Response<provider::SendMessageResponse>, Status> {
        let message = wire::message(request.into_inner(), self.clock.now()).map_err(status)?;
        let accept_time = self.inbox.take(message);
        Ok(Response::new(provider::SendMessageResponse { accept_time }))
    }
}

#[tonic::async_trait]
impl SandboxService for Handlers {
    async fn list_people(
        &self,
        request: Request<api::ListPeopleRequest>,
    ) -> Result<Response<api::ListPeopleResponse>, Status> {
        let caller = authz::caller(&request)?;
        let asked = request.get_ref();
        let query = api::ListPeopleRequest::default();
        let page = self
            .pages
            .page(caller, "ListPeople", &query, asked.page_size, &asked.page_token);
        let page = page.map_err(status)?;
        let all = self.agency.people();
        let from = usize::try_from(number(page.after.as_deref()).map_err(status)?.unwrap_or(0)).unwrap_or(usize::MAX);
        let people = all.iter().skip(from).take(page.size).map(wire::person).collect();
        let next = from.saturating_add(page.size);
        let next_page_token = if next < all.len() {
            page.next(&(next as u64).to_be_bytes())?
        } else {
            String::new()
        };
        Ok(Response::new(api::ListPeopleResponse {
            people,
            next_page_token,
        }))
    }

    async fn list_messages(
        &self,
        request: Request<api::ListMessagesRequest>,
    ) -> Result<Response<api::ListMessagesResponse>, Status> {
        let caller = authz::caller(&request)?;
        let asked = request.get_ref();
        let filter = wire::recipient_filter(&asked.recipient);
        let query = api::ListMessagesRequest {
            recipient: asked.recipient.clone(),
            ..Default::default()
        };
        let page = self
            .pages
            .page(caller, "ListMessages", &query, asked.page_size, &asked.page_token);
        let ((), page) = Refusal::both(filter, page).map_err(status)?;
        let before = number(page.after.as_deref()).map_err(status)?;
        let found = self.inbox.read(&asked.recipient, before, page.size);
        let next_page_token = found
            .last
            .map(|last| page.next(&last.to_be_bytes()))
            .transpose()?
            .unwrap_or_default();
        Ok(Response::new(api::ListMessagesResponse {
            messages: found.messages,
            next_page_token,
        }))
    }
}

/// The number in a page token of ours.
fn number(after: Option<&[u8]>) -> Result<Option<u64>, Refusal> {
    after
        .map(|bytes| bytes.try_into().map(u64::from_be_bytes))
        .transpose()
        .map_err(|_| Refusal::field("page_token", "a next_page_token of the same list and filters"))
}
