//! She gets a number and an address, and logs in; the hospital links her records.

use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::link_service_client::LinkServiceClient;
use sammati_api::identity::v1::account_service_client::AccountServiceClient;
use sammati_api::identity::v1::address_service_client::AddressServiceClient;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::identity::v1::transaction_service_client::TransactionServiceClient;
use sammati_api::identity::v1::{
    self as identity, create_transaction_request::Subject, verify_transaction_request::Proof,
};
use sammati_api::sandbox::v1 as sandbox;
use sammati_api::sandbox::v1::sandbox_service_client::SandboxServiceClient;
use sammati_api::types::v1 as types;
use tonic::Status;

use super::{Person, Story, Who, at, audiences};

impl Story {
    /// The people of the sandbox's register.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn people(&self) -> Result<Vec<sandbox::Person>, Status> {
        let mut client = SandboxServiceClient::new(self.operator.sandbox());
        let request = sandbox::ListPeopleRequest {
            page_size: 1000,
            page_token: String::new(),
        };
        Ok(client.list_people(request).await?.into_inner().people)
    }

    /// The same, however many there are.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn whole_register(&self) -> Result<Vec<sandbox::Person>, Status> {
        let mut client = SandboxServiceClient::new(self.operator.sandbox());
        let (mut people, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = sandbox::ListPeopleRequest {
                page_size: 1000,
                page_token,
            };
            let page = client.list_people(request).await?.into_inner();
            people.extend(page.people);
            if page.next_page_token.is_empty() {
                return Ok(people);
            }
            page_token = page.next_page_token;
        }
    }

    /// The newest OTP that was sent to `mobile`.
    ///
    /// # Errors
    /// The service's refusal, or NOT_FOUND when there is none.
    pub async fn otp(&self, mobile: &str) -> Result<String, Status> {
        let mut client = SandboxServiceClient::new(self.operator.sandbox());
        let request = sandbox::ListMessagesRequest {
            recipient: mobile.to_owned(),
            ..Default::default()
        };
        let messages = client.list_messages(request).await?.into_inner().messages;
        let newest = messages
            .iter()
            .find_map(|message| message.parameters.get("otp").cloned());
        newest.ok_or_else(|| Status::not_found("no OTP was sent to this mobile"))
    }

    /// Starts an Aadhaar enrolment and proves it with the OTP; tells the transaction.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn prove_aadhaar(
        &self,
        replica: usize,
        entry: &sandbox::Person,
    ) -> Result<identity::Transaction, Status> {
        let transaction = self.challenge(replica, self.enrolment(entry)).await?;
        let otp = self.otp(&entry.mobile).await?;
        self.verify(replica, self.verification(&transaction.name, &otp)).await
    }

    /// How an Aadhaar enrolment of somebody begins.
    pub fn enrolment(&self, entry: &sandbox::Person) -> identity::CreateTransactionRequest {
        let consent = types::ConsentStamp {
            code: "abha-enrollment".into(),
            version: "1.4".into(),
            language: "en".into(),
            accepted_time: at(self.clock.now()),
            ..Default::default()
        };
        identity::CreateTransactionRequest {
            request_id: self.rid(),
            purpose: identity::transaction::Purpose::Enrol.into(),
            factor: identity::Factor::AadhaarOtp.into(),
            consent: Some(consent),
            subject: Some(Subject::Aadhaar(entry.aadhaar.clone())),
            bound_to: None,
        }
    }

    /// How a transaction is proved by an OTP.
    pub fn verification(&self, transaction: &str, otp: &str) -> identity::VerifyTransactionRequest {
        identity::VerifyTransactionRequest {
            request_id: self.rid(),
            name: transaction.to_owned(),
            etag: String::new(),
            proof: Some(Proof::Otp(otp.to_owned())),
        }
    }

    /// Begins a proof on the `n`th replica: an OTP is sent.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn challenge(
        &self,
        replica: usize,
        request: identity::CreateTransactionRequest,
    ) -> Result<identity::Transaction, Status> {
        let mut client = TransactionServiceClient::new(self.app.identity_at(replica));
        Ok(client.create_transaction(request).await?.into_inner())
    }

    /// Ends a proof on the `n`th replica.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn verify(
        &self,
        replica: usize,
        request: identity::VerifyTransactionRequest,
    ) -> Result<identity::Transaction, Status> {
        let mut client = TransactionServiceClient::new(self.app.identity_at(replica));
        Ok(client.verify_transaction(request).await?.into_inner())
    }

    /// Enrols somebody of the register.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn enrol(&self, entry: &sandbox::Person) -> Result<Person, Status> {
        self.enrol_at(0, entry).await
    }

    /// Enrols somebody on the `n`th replica.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn enrol_at(&self, replica: usize, entry: &sandbox::Person) -> Result<Person, Status> {
        let transaction = self.prove_aadhaar(replica, entry).await?;
        self.create_account(replica, entry, &transaction.name, &self.rid())
            .await
    }

    /// Makes the account that a proven transaction stands for.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn create_account(
        &self,
        replica: usize,
        entry: &sandbox::Person,
        transaction: &str,
        rid: &str,
    ) -> Result<Person, Status> {
        let mut client = AccountServiceClient::new(self.app.identity_at(replica));
        let create = identity::CreateAccountRequest {
            request_id: rid.to_owned(),
            transaction: transaction.to_owned(),
            chosen_address: None,
            audiences: audiences(),
        };
        let created = client.create_account(create).await?.into_inner();
        let tokens = created.session.unwrap_or_default().access_tokens;
        let account = created.account.unwrap_or_default();
        Ok(Person {
            account,
            is_new: created.is_new,
            who: self.app.with(&tokens),
            entry: entry.clone(),
        })
    }

    /// She logs in again by an OTP to her mobile: a fresh proof, and tokens for five more minutes.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn log_in(&self, person: &Person) -> Result<Person, Status> {
        Ok(Person {
            who: self.log_in_for(person, "").await?,
            ..person.clone()
        })
    }

    /// The same, to act under a representation if one is named.
    pub(super) async fn log_in_for(&self, person: &Person, representation: &str) -> Result<Who, Status> {
        let session = self.open_session(person, representation).await?;
        Ok(self.app.with(&session.access_tokens))
    }

    /// The session that she opens so, under a representation if one is named.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn open_session(&self, person: &Person, representation: &str) -> Result<identity::Session, Status> {
        let number = types::identifier::Identifier::AbhaNumber(person.account.abha_number.clone());
        let create = identity::CreateTransactionRequest {
            request_id: self.rid(),
            purpose: identity::transaction::Purpose::Login.into(),
            factor: identity::Factor::MobileOtp.into(),
            consent: None,
            subject: Some(Subject::Identifier(types::Identifier {
                identifier: Some(number),
            })),
            bound_to: None,
        };
        let transaction = self.challenge(0, create).await?;
        let otp = self.otp(&person.entry.mobile).await?;
        self.verify(0, self.verification(&transaction.name, &otp)).await?;
        let request = identity::CreateSessionRequest {
            request_id: self.rid(),
            transaction: transaction.name,
            audiences: audiences(),
            representation: representation.to_owned(),
            ..Default::default()
        };
        Ok(SessionServiceClient::new(self.app.identity())
            .create_session(request)
            .await?
            .into_inner())
    }

    /// Claims an address and makes it the preferred one.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn claim_address(&self, person: &Person, local_part: &str) -> Result<identity::Account, Status> {
        let request = identity::CreateAddressRequest {
            request_id: self.rid(),
            account: person.account.name.clone(),
            local_part: local_part.to_owned(),
            preferred: true,
            ..Default::default()
        };
        Ok(AddressServiceClient::new(person.who.identity())
            .create_address(request)
            .await?
            .into_inner())
    }

    /// How the hospital, or she herself, describes her: her number, and what stands on her card.
    pub fn described(&self, person: &Person) -> consent::IssueLinkTokenRequest {
        let entry = &person.entry;
        let names = entry.names.clone().unwrap_or_default();
        let name = [names.first, names.middle, names.last]
            .into_iter()
            .filter(|n| !n.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let demographics = types::Demographics {
            name,
            gender: entry.gender,
            year_of_birth: entry.birth.unwrap_or_default().year,
            mobile: None,
        };
        let number = types::identifier::Identifier::AbhaNumber(person.account.abha_number.clone());
        consent::IssueLinkTokenRequest {
            identifier: Some(types::Identifier {
                identifier: Some(number),
            }),
            demographics: Some(demographics),
            request_id: self.rid(),
        }
    }

    /// The hospital links `references` of hers.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn link(&self, person: &Person, references: &[&str]) -> Result<consent::Link, Status> {
        let mut client = LinkServiceClient::new(self.hospital.consent());
        let issue = self.described(person);
        let token = client.issue_link_token(issue).await?.into_inner().link_token;
        let contexts = references.iter().map(|reference| types::CareContextRef {
            patient_reference: "MRN-1001".into(),
            care_context_reference: (*reference).to_owned(),
            hi_type: types::HiType::Prescription.into(),
            display: format!("Visit {reference}"),
        });
        let request = consent::LinkCareContextsRequest {
            link_token: token,
            patient_reference: "MRN-1001".into(),
            care_contexts: contexts.collect(),
            request_id: self.rid(),
        };
        Ok(client.link_care_contexts(request).await?.into_inner())
    }
}
