//! Whom does a service have messages sent by? The operator's adapter to an SMS gateway, or the sandbox.

use std::sync::Arc;

use sammati_api::provider::v1 as provider;
use sammati_api::provider::v1::message_sender_service_client::MessageSenderServiceClient;
use sammati_api::provider::v1::message_sender_service_server::MessageSenderService;
use tonic::{Request, Response, Status};

use crate::channel::Channel;

/// The sender, whoever it is.
pub type Messages = Arc<dyn MessageSenderService>;

/// The sender at the other end of a connection.
#[derive(Debug, Clone)]
pub struct RemoteMessages(pub Channel);

#[tonic::async_trait]
impl MessageSenderService for RemoteMessages {
    async fn send_message(
        &self,
        request: Request<provider::SendMessageRequest>,
    ) -> Result<Response<provider::SendMessageResponse>, Status> {
        MessageSenderServiceClient::new(self.0.clone())
            .send_message(request)
            .await
    }
}

/// Where `[peers]` names no sender: nothing can be sent.
#[derive(Debug, Clone, Copy)]
pub struct NoMessages;

#[tonic::async_trait]
impl MessageSenderService for NoMessages {
    async fn send_message(
        &self,
        _: Request<provider::SendMessageRequest>,
    ) -> Result<Response<provider::SendMessageResponse>, Status> {
        Err(Status::unavailable("peers.messages is not set"))
    }
}
