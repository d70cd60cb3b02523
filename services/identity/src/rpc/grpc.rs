//! The contract's services: each RPC takes the caller from the stack, and its refusals become statuses.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use sammati_api::identity::v1::account_service_server::AccountService;
use sammati_api::identity::v1::address_service_server::AddressService;
use sammati_api::identity::v1::feed_service_server::FeedService;
use sammati_api::identity::v1::participant_service_server::ParticipantService;
use sammati_api::identity::v1::representation_service_server::RepresentationService;
use sammati_api::identity::v1::session_service_server::SessionService;
use sammati_api::identity::v1::transaction_service_server::TransactionService;
use sammati_api::identity::v1::{
    AcceptRepresentationRequest, AccessToken, Account, ActionToken, ActivateParticipantRequest,
    ActivateRepresentationRequest, AuthorizeActionRequest, CreateAccountRequest, CreateAccountResponse,
    CreateAddressRequest, CreateParticipantRequest, CreateParticipantSessionRequest, CreateRepresentationRequest,
    CreateSessionRequest, CreateTransactionRequest, DeleteAccountRequest, EndRepresentationRequest,
    ExchangeTokenRequest, GetAccountRequest, GetParticipantRequest, ListKeysRequest, ListKeysResponse,
    ListRepresentationsRequest, ListRepresentationsResponse, Participant, RefreshSessionRequest, Representation,
    ResendOtpRequest, ResolveSubjectRequest, ResolveSubjectResponse, RevokeSessionsRequest, RevokeSessionsResponse,
    Session, SetCredentialRequest, SetPreferredAddressRequest, SuggestAddressesRequest, SuggestAddressesResponse,
    SuspendParticipantRequest, Transaction, UpdateParticipantRequest, VerifyTransactionRequest, WatchChangesRequest,
    WatchChangesResponse,
};
use sammati_server::authz;
use sammati_server::error::status;
use tonic::{Request, Response, Status};

use super::participant_sessions::Certificate;
use crate::service::Identity;

/// RPCs that pass on the caller and the message.
macro_rules! rpcs {
    ($service:ident { $($rpc:ident($request:ty) -> $response:ty;)* }) => {
        #[tonic::async_trait]
        impl $service for Identity {
            $(async fn $rpc(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                let caller = authz::caller(&request)?.clone();
                self.0.$rpc(&caller, request.into_inner()).await.map(Response::new).map_err(status)
            })*
        }
    };
}

rpcs! { TransactionService {
    create_transaction(CreateTransactionRequest) -> Transaction;
    resend_otp(ResendOtpRequest) -> Transaction;
    verify_transaction(VerifyTransactionRequest) -> Transaction;
} }

rpcs! { AccountService {
    create_account(CreateAccountRequest) -> CreateAccountResponse;
    get_account(GetAccountRequest) -> Account;
    set_credential(SetCredentialRequest) -> Account;
    delete_account(DeleteAccountRequest) -> Account;
    resolve_subject(ResolveSubjectRequest) -> ResolveSubjectResponse;
} }

rpcs! { AddressService {
    suggest_addresses(SuggestAddressesRequest) -> SuggestAddressesResponse;
    create_address(CreateAddressRequest) -> Account;
    set_preferred_address(SetPreferredAddressRequest) -> Account;
} }

rpcs! { ParticipantService {
    create_participant(CreateParticipantRequest) -> Participant;
    get_participant(GetParticipantRequest) -> Participant;
    update_participant(UpdateParticipantRequest) -> Participant;
    activate_participant(ActivateParticipantRequest) -> Participant;
    suspend_participant(SuspendParticipantRequest) -> Participant;
} }

rpcs! { RepresentationService {
    create_representation(CreateRepresentationRequest) -> Representation;
    accept_representation(AcceptRepresentationRequest) -> Representation;
    activate_representation(ActivateRepresentationRequest) -> Representation;
    end_representation(EndRepresentationRequest) -> Representation;
    list_representations(ListRepresentationsRequest) -> ListRepresentationsResponse;
} }

#[tonic::async_trait]
impl SessionService for Identity {
    async fn create_session(&self, request: Request<CreateSessionRequest>) -> Result<Response<Session>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .create_session(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(status)
    }

    async fn refresh_session(&self, request: Request<RefreshSessionRequest>) -> Result<Response<Session>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .refresh_session(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(status)
    }

    async fn revoke_sessions(
        &self,
        request: Request<RevokeSessionsRequest>,
    ) -> Result<Response<RevokeSessionsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .revoke_sessions(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(status)
    }

    async fn create_participant_session(
        &self,
        request: Request<CreateParticipantSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        let connection = authz::connection(&request)?;
        let certificate = Certificate {
            spiffe_id: connection.spiffe_id.clone(),
            x5t_s256: connection.x5t_s256(),
        };
        let peer = connection.peer.clone();
        let opened = self
            .0
            .create_participant_session(&peer, certificate, request.into_inner())
            .await;
        opened.map(Response::new).map_err(status)
    }

    async fn exchange_token(&self, request: Request<ExchangeTokenRequest>) -> Result<Response<AccessToken>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .exchange_token(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(status)
    }

    async fn authorize_action(
        &self,
        request: Request<AuthorizeActionRequest>,
    ) -> Result<Response<ActionToken>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .authorize_action(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(status)
    }

    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .list_keys(&caller, request.get_ref())
            .map(Response::new)
            .map_err(status)
    }
}

#[tonic::async_trait]
impl FeedService for Identity {
    type WatchChangesStream = Pin<Box<dyn Stream<Item = Result<WatchChangesResponse, Status>> + Send>>;

    async fn watch_changes(
        &self,
        request: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let stream = Arc::clone(&self.0)
            .watch_changes(request.into_inner())
            .await
            .map_err(status)?;
        Ok(Response::new(Box::pin(stream)))
    }
}
