//! She shows her PIN for one call.

use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::account_service_client::AccountServiceClient;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::identity::v1::set_credential_request::Credential;
use sammati_api::identity::v1::transaction_service_client::TransactionServiceClient;
use sammati_api::identity::v1::verify_transaction_request::Proof;
use tonic::Status;

use super::{Person, Story, Who};

impl Story {
    /// Sets her PIN on the strength of a VERIFIED transaction.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn set_pin(&self, person: &Person, transaction: &str, pin: &str) -> Result<identity::Account, Status> {
        let request = identity::SetCredentialRequest {
            request_id: self.rid(),
            name: person.account.name.clone(),
            transaction: transaction.to_owned(),
            credential: Some(Credential::Pin(pin.to_owned())),
            ..Default::default()
        };
        let mut client = AccountServiceClient::new(person.who.identity());
        Ok(client.set_credential(request).await?.into_inner())
    }

    /// A VERIFIED step-up for one call.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn step_up(&self, who: &Who, bound: identity::BoundAction, pin: &str) -> Result<String, Status> {
        let mut client = TransactionServiceClient::new(who.identity());
        let create = identity::CreateTransactionRequest {
            request_id: self.rid(),
            purpose: identity::transaction::Purpose::StepUp.into(),
            factor: identity::Factor::Pin.into(),
            bound_to: Some(bound),
            ..Default::default()
        };
        let name = client.create_transaction(create).await?.into_inner().name;
        let verify = identity::VerifyTransactionRequest {
            request_id: self.rid(),
            name,
            etag: String::new(),
            proof: Some(Proof::Pin(pin.to_owned())),
        };
        Ok(client.verify_transaction(verify).await?.into_inner().name)
    }

    /// The token for one call.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn action_token(&self, who: &Who, bound: identity::BoundAction, pin: &str) -> Result<String, Status> {
        let request = identity::AuthorizeActionRequest {
            request_id: self.rid(),
            transaction: self.step_up(who, bound, pin).await?,
            etag: String::new(),
        };
        let mut client = SessionServiceClient::new(who.identity());
        Ok(client.authorize_action(request).await?.into_inner().token)
    }
}
