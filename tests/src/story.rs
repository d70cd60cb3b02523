//! One story, step by step: the calls that a hospital, a clinic, an app, a person and an operator make.

use std::collections::HashMap;
use std::time::Duration;

use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::consent::v1::artefact_service_client::ArtefactServiceClient;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_api::consent::v1::decision_service_client::DecisionServiceClient;
use sammati_api::consent::v1::link_service_client::LinkServiceClient;
use sammati_api::consent::v1::notification_service_client::NotificationServiceClient;
use sammati_api::consent::v1::transfer_service_client::TransferServiceClient;
use sammati_api::consent::v1::{self as consent, approve_consent_request_request::Grant, check_access_request};
use sammati_api::identity::v1::account_service_client::AccountServiceClient;
use sammati_api::identity::v1::address_service_client::AddressServiceClient;
use sammati_api::identity::v1::participant_service_client::ParticipantServiceClient;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::identity::v1::transaction_service_client::TransactionServiceClient;
use sammati_api::identity::v1::{
    self as identity, create_transaction_request::Subject, verify_transaction_request::Proof,
};
use sammati_api::sandbox::v1 as sandbox;
use sammati_api::sandbox::v1::sandbox_service_client::SandboxServiceClient;
use sammati_api::types::v1 as types;
use sammati_kernel::{Clock, Micros, Seed, Slot, TransactionId};
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::caller::{Addresses, Bearer, Wire, channel};

/// Anything that ends a step.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The purpose that the story is about.
pub const CARE: types::PurposeCode = types::PurposeCode::Caremgt;

/// Who calls: a certificate, and for each service a token.
#[derive(Clone)]
pub struct Who {
    /// The name of the certificate.
    pub certificate: Option<String>,
    /// Tokens by audience.
    pub tokens: HashMap<String, String>,
    channels: HashMap<String, Channel>,
    addresses: Addresses,
}

impl Who {
    /// Somebody with this certificate and no token yet.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn new(addresses: &Addresses, certificate: Option<&str>) -> Result<Self, Failure> {
        let mut channels = HashMap::new();
        let single = [&addresses.audit, &addresses.sandbox];
        for url in addresses.consents.iter().chain(&addresses.identities).chain(single) {
            channels.insert(url.clone(), channel(&addresses.folder, certificate, url)?);
        }
        let certificate = certificate.map(ToOwned::to_owned);
        Ok(Self {
            certificate,
            tokens: HashMap::new(),
            channels,
            addresses: addresses.clone(),
        })
    }

    /// The same caller, with other tokens.
    #[must_use]
    pub fn with(&self, tokens: &[identity::AccessToken]) -> Self {
        let tokens = tokens.iter().map(|t| (t.audience.clone(), t.token.clone())).collect();
        Self { tokens, ..self.clone() }
    }

    /// A connection to the service at `url`, with the token for `audience`.
    pub fn wire(&self, audience: &str, url: &str) -> Wire {
        let bearer = self
            .tokens
            .get(audience)
            .map_or_else(Bearer::default, |token| Bearer::new(token));
        Wire::new(self.channels[url].clone(), bearer)
    }

    /// The identity service.
    pub fn identity(&self) -> Wire {
        self.wire("identity", &self.addresses.identity)
    }

    /// The consent service.
    pub fn consent(&self) -> Wire {
        self.wire("consent", &self.addresses.consent)
    }

    /// The `n`th replica of the consent service, going round.
    pub fn consent_at(&self, n: usize) -> Wire {
        self.wire("consent", &self.addresses.consents[n % self.addresses.consents.len()])
    }

    /// The `n`th replica of the identity service, going round.
    pub fn identity_at(&self, n: usize) -> Wire {
        self.wire(
            "identity",
            &self.addresses.identities[n % self.addresses.identities.len()],
        )
    }

    /// The audit service.
    pub fn audit(&self) -> Wire {
        self.wire("audit", &self.addresses.audit)
    }

    /// The sandbox.
    pub fn sandbox(&self) -> Wire {
        self.wire("sandbox", &self.addresses.sandbox)
    }
}

/// The people of the story and what they need.
pub struct Story {
    /// Where it happens.
    pub addresses: Addresses,
    /// The time it tells.
    pub clock: Arc<dyn Clock>,
    /// The operator.
    pub operator: Who,
    /// A patient app.
    pub app: Who,
    /// A hospital: a HIP.
    pub hospital: Who,
    /// A clinic: a HIU.
    pub clinic: Who,
}

/// A person who was enrolled.
#[derive(Clone)]
pub struct Person {
    /// Her account, with contact data.
    pub account: identity::Account,
    /// Whether the number was issued now.
    pub is_new: bool,
    /// She herself, through the app.
    pub who: Who,
    /// As the register has her.
    pub entry: sandbox::Person,
}

impl Person {
    /// Her preferred address.
    pub fn address(&self) -> String {
        let preferred = self.account.addresses.iter().find(|a| a.preferred);
        preferred
            .or(self.account.addresses.first())
            .map(|a| a.address.clone())
            .unwrap_or_default()
    }
}

/// A fresh request id, made at the clock's time.
pub fn request_id(clock: &dyn Clock) -> String {
    let seed = Seed::draw().expect("the system has randomness");
    let id: TransactionId = seed.id("request", clock.now(), Slot::new(0));
    id.to_string()
}

/// A time on the wire.
pub fn at(time: Micros) -> Option<prost_types::Timestamp> {
    Some(sammati_server::event::timestamp(time))
}

const DAY: Duration = Duration::from_secs(86_400);

impl Story {
    /// Connects everybody; nobody is registered yet.
    ///
    /// # Errors
    /// When a certificate is missing.
    pub fn new(addresses: &Addresses, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let who = |name| Who::new(addresses, Some(name));
        Ok(Self {
            operator: who("operator")?,
            app: who("app")?,
            hospital: who("hospital")?,
            clinic: who("clinic")?,
            addresses: addresses.clone(),
            clock,
        })
    }

    /// A fresh request id.
    pub fn rid(&self) -> String {
        request_id(self.clock.as_ref())
    }

    /// Registers and activates the participant whose certificate is `name`; one that exists already is left as it is.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn register(&self, name: &str, display: &str, role: types::ParticipantRole) -> Result<(), Status> {
        let mut client = ParticipantServiceClient::new(self.operator.identity());
        let kind = if role == types::ParticipantRole::PhrApp {
            identity::participant::Kind::App
        } else {
            identity::participant::Kind::Facility
        };
        let registration = identity::Registration {
            registry: "HFR".into(),
            id: format!("IN27100{:05}", name.len()),
            verified: false,
        };
        let participant = identity::Participant {
            display_name: display.to_owned(),
            roles: vec![role.into()],
            kind: kind.into(),
            registrations: vec![registration],
            spiffe_id: format!("spiffe://sammati.local/participant/{name}"),
            transfer_origins: vec![format!("https://{name}.example")],
            grievance_contact: format!("mailto:grievance@{name}.example"),
            languages: vec!["en".into(), "hi".into()],
            ..Default::default()
        };
        let create = identity::CreateParticipantRequest {
            request_id: self.rid(),
            participant_id: name.to_owned(),
            participant: Some(participant),
        };
        match client.create_participant(create).await {
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            other => other?,
        };
        let name = format!("participants/{name}");
        client
            .activate_participant(identity::ActivateParticipantRequest {
                request_id: self.rid(),
                name,
                etag: String::new(),
            })
            .await?;
        Ok(())
    }

    /// Opens a session for the participant whose certificate is `name`, in `role`.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn session(&self, who: &Who, role: types::ParticipantRole) -> Result<Who, Status> {
        let name = who.certificate.clone().unwrap_or_default();
        let request = identity::CreateParticipantSessionRequest {
            request_id: self.rid(),
            participant: format!("participants/{name}"),
            roles: vec![role.into()],
            audiences: audiences(),
            ..Default::default()
        };
        let bare = Who {
            tokens: HashMap::new(),
            ..who.clone()
        };
        let session = SessionServiceClient::new(bare.identity())
            .create_participant_session(request)
            .await?
            .into_inner();
        Ok(who.with(&session.access_tokens))
    }

    /// Registers hospital, clinic and app, and opens their sessions.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn open(&mut self) -> Result<(), Status> {
        use types::ParticipantRole as Role;
        self.register("hospital", "City Hospital, Pune", Role::Hip).await?;
        self.register("clinic", "Lake Clinic, Nagpur", Role::Hiu).await?;
        self.register("app", "My Records", Role::PhrApp).await?;
        self.renew().await
    }

    /// Opens new sessions for hospital, clinic and app: their tokens live five minutes.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn renew(&mut self) -> Result<(), Status> {
        use types::ParticipantRole as Role;
        self.hospital = self.session(&self.hospital, Role::Hip).await?;
        self.clinic = self.session(&self.clinic, Role::Hiu).await?;
        self.app = self.session(&self.app, Role::PhrApp).await?;
        Ok(())
    }

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
        let mut client = TransactionServiceClient::new(self.app.identity_at(replica));
        let consent = types::ConsentStamp {
            code: "abha-enrollment".into(),
            version: "1.4".into(),
            language: "en".into(),
            accepted_time: at(self.clock.now()),
            ..Default::default()
        };
        let create = identity::CreateTransactionRequest {
            request_id: self.rid(),
            purpose: identity::transaction::Purpose::Enrol.into(),
            factor: identity::Factor::AadhaarOtp.into(),
            consent: Some(consent),
            subject: Some(Subject::Aadhaar(entry.aadhaar.clone())),
        };
        let transaction = client.create_transaction(create).await?.into_inner();
        let otp = self.otp(&entry.mobile).await?;
        let verify = identity::VerifyTransactionRequest {
            request_id: self.rid(),
            name: transaction.name,
            etag: String::new(),
            proof: Some(Proof::Otp(otp)),
        };
        Ok(client.verify_transaction(verify).await?.into_inner())
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
        let mut client = TransactionServiceClient::new(self.app.identity());
        let number = types::identifier::Identifier::AbhaNumber(person.account.abha_number.clone());
        let create = identity::CreateTransactionRequest {
            request_id: self.rid(),
            purpose: identity::transaction::Purpose::Login.into(),
            factor: identity::Factor::MobileOtp.into(),
            consent: None,
            subject: Some(Subject::Identifier(types::Identifier {
                identifier: Some(number),
            })),
        };
        let transaction = client.create_transaction(create).await?.into_inner();
        let proof = Some(Proof::Otp(self.otp(&person.entry.mobile).await?));
        let verify = identity::VerifyTransactionRequest {
            request_id: self.rid(),
            name: transaction.name.clone(),
            etag: String::new(),
            proof,
        };
        client.verify_transaction(verify).await?;
        let request = identity::CreateSessionRequest {
            request_id: self.rid(),
            transaction: transaction.name,
            audiences: audiences(),
            ..Default::default()
        };
        let session = SessionServiceClient::new(self.app.identity())
            .create_session(request)
            .await?
            .into_inner();
        Ok(Person {
            who: self.app.with(&session.access_tokens),
            ..person.clone()
        })
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

    /// The hospital links `references` of hers.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn link(&self, person: &Person, references: &[&str]) -> Result<consent::Link, Status> {
        let mut client = LinkServiceClient::new(self.hospital.consent());
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
        let issue = consent::IssueLinkTokenRequest {
            identifier: Some(types::Identifier {
                identifier: Some(types::identifier::Identifier::AbhaNumber(
                    person.account.abha_number.clone(),
                )),
            }),
            demographics: Some(demographics),
            request_id: self.rid(),
        };
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

    /// What the clinic asks for: two kinds of record of the last ten years, until tomorrow.
    pub fn scope(&self) -> types::Scope {
        let now = self.clock.now();
        types::Scope {
            purpose: Some(types::Purpose {
                code: CARE.into(),
                ..Default::default()
            }),
            hi_types: vec![
                types::HiType::Prescription.into(),
                types::HiType::DiagnosticReport.into(),
            ],
            access_mode: types::AccessMode::View.into(),
            record_range: self.range(3650, Duration::from_secs(3600)),
            erase_time: at(now.plus(DAY)),
            frequency: Some(types::Frequency {
                unit: types::FrequencyUnit::Hour.into(),
                value: 0,
                repeats: 0,
            }),
            max_uses: 0,
            bind_requester: false,
            care_contexts: Vec::new(),
        }
    }

    /// The records of `days` days, up to `until` ago.
    fn range(&self, days: u32, until: Duration) -> Option<types::TimeRange> {
        let end = self.clock.now().minus(until);
        Some(types::TimeRange {
            from: at(end.minus(DAY * days)),
            to: at(end),
        })
    }

    /// What is asked of a consent: a year of records, well inside what the clinic's scope has.
    pub fn asked_range(&self) -> Option<types::TimeRange> {
        self.range(365, DAY)
    }

    /// The clinic asks.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn ask(&self, person: &Person, scope: types::Scope) -> Result<consent::ConsentRequest, Status> {
        let identifier = types::RequesterIdentifier {
            r#type: "REGNO".into(),
            value: "MH1001".into(),
            system: "https://www.nmc.org.in".into(),
        };
        let request = consent::CreateConsentRequestRequest {
            patient: person.address(),
            hips: vec!["participants/hospital".into()],
            requester: Some(types::Requester {
                name: "Dr Meera Joshi".into(),
                identifier: Some(identifier),
                verified: false,
            }),
            scope: Some(scope),
            language: "en".into(),
            request_id: self.rid(),
            ..Default::default()
        };
        Ok(ConsentRequestServiceClient::new(self.clinic.consent())
            .create_consent_request(request)
            .await?
            .into_inner())
    }

    /// How she would approve `request`: for the hospital, within `scope`, or as asked.
    pub fn approval(
        &self,
        request: &consent::ConsentRequest,
        scope: Option<types::Scope>,
    ) -> consent::ApproveConsentRequestRequest {
        consent::ApproveConsentRequestRequest {
            name: request.name.clone(),
            grants: vec![Grant {
                hip: "participants/hospital".into(),
                scope,
            }],
            notice: request.notice.clone(),
            etag: String::new(),
            request_id: self.rid(),
        }
    }

    /// She approves.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn approve(
        &self,
        person: &Person,
        request: &consent::ConsentRequest,
        scope: Option<types::Scope>,
    ) -> Result<consent::ApproveConsentRequestResponse, Status> {
        let approval = self.approval(request, scope);
        Ok(ConsentRequestServiceClient::new(person.who.consent())
            .approve_consent_request(approval)
            .await?
            .into_inner())
    }

    /// A consent, from nothing but a person: asked for, given as asked.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn consent(&self, person: &Person, scope: types::Scope) -> Result<consent::Consent, Status> {
        let request = self.ask(person, scope).await?;
        let approved = self.approve(person, &request, None).await?;
        approved
            .consents
            .into_iter()
            .next()
            .ok_or_else(|| Status::internal("an approval without a consent"))
    }

    /// The first notifications of the hospital or the clinic, until one is about `resource`; tells that one.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn notification(&self, who: &Who, resource: &str) -> Result<consent::Notification, Status> {
        use consent::watch_notifications_response::Item;
        let mut client = NotificationServiceClient::new(who.consent());
        let mut stream = client
            .watch_notifications(consent::WatchNotificationsRequest::default())
            .await?
            .into_inner();
        while let Some(answer) = stream.message().await? {
            if let Some(Item::Notification(notification)) = answer.item
                && notification.resource == resource
            {
                return Ok(notification);
            }
        }
        Err(Status::unavailable("the stream of notifications ended"))
    }

    /// `who` acknowledges a notification.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn acknowledge(&self, who: &Who, notification: &str) -> Result<(), Status> {
        let request = consent::AcknowledgeNotificationsRequest {
            names: vec![notification.to_owned()],
            outcome: consent::acknowledge_notifications_request::Outcome::Ok.into(),
            request_id: self.rid(),
            ..Default::default()
        };
        NotificationServiceClient::new(who.consent())
            .acknowledge_notifications(request)
            .await?;
        Ok(())
    }

    /// What the clinic asks about a consent: prescriptions of the last year, to view.
    pub fn question(&self, consent: &str) -> consent::CheckAccessRequest {
        consent::CheckAccessRequest {
            target: Some(check_access_request::Target::Consent(consent.to_owned())),
            provider: "participants/hospital".into(),
            purpose: CARE.into(),
            access_mode: types::AccessMode::View.into(),
            hi_types: vec![types::HiType::Prescription.into()],
            record_range: self.asked_range(),
            ..Default::default()
        }
    }

    /// The clinic asks whether it may.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn check(
        &self,
        replica: usize,
        question: consent::CheckAccessRequest,
    ) -> Result<consent::Decision, Status> {
        let mut client = DecisionServiceClient::new(self.clinic.consent_at(replica));
        Ok(client.check_access(question).await?.into_inner())
    }

    /// The hospital, about to release records to the clinic, asks and takes a use.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn authorize(&self, replica: usize, consent: &str) -> Result<consent::Decision, Status> {
        let mut client = DecisionServiceClient::new(self.hospital.consent_at(replica));
        let request = consent::AuthorizeAccessRequest {
            target: Some(consent::authorize_access_request::Target::Consent(consent.to_owned())),
            requester: "participants/clinic".into(),
            purpose: CARE.into(),
            access_mode: types::AccessMode::View.into(),
            hi_types: vec![types::HiType::Prescription.into()],
            record_range: self.asked_range(),
            request_id: self.rid(),
            ..Default::default()
        };
        Ok(client.authorize_access(request).await?.into_inner())
    }

    /// The clinic's transfer under a consent.
    pub fn transfer(&self, consent: &str) -> consent::CreateTransferRequest {
        let content = r#"{"cryptoAlg":"ECDH","curve":"Curve25519","dhPublicKey":{"expiry":"2099-01-01T00:00:00.000Z","parameters":"Curve25519/32byte random key","keyValue":"BB8sjdkY8VLbIyhRBSwS8uJGzBQQ3zLTWAGiTjGfWSkSLVPfVMQwOsm2cvvZ1LjsyVIBiJ0mT5gS8XfUGnD+MZ8="},"nonce":"6uj1RdDUbcpI3lVMZvijkMC8Te20O4Bcyz0SyivX8Eg="}"#;
        let expire_time = at(self.clock.now().plus(Duration::from_secs(3600)));
        consent::CreateTransferRequest {
            consent: consent.to_owned(),
            hi_types: vec![types::HiType::Prescription.into()],
            record_range: self.asked_range(),
            user: None,
            push_uri: "https://clinic.example/push".into(),
            key_material: Some(consent::KeyMaterial {
                content: content.into(),
                expire_time,
            }),
            request_id: self.rid(),
        }
    }

    /// The clinic opens a transfer.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn open_transfer(&self, request: consent::CreateTransferRequest) -> Result<consent::Transfer, Status> {
        Ok(TransferServiceClient::new(self.clinic.consent())
            .create_transfer(request)
            .await?
            .into_inner())
    }

    /// She takes consents back.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn revoke(
        &self,
        replica: usize,
        person: &Person,
        names: &[&str],
    ) -> Result<consent::RevokeConsentsResponse, Status> {
        let request = consent::RevokeConsentsRequest {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            reason: "I changed my mind".into(),
            request_id: self.rid(),
            ..Default::default()
        };
        Ok(ConsentServiceClient::new(person.who.consent_at(replica))
            .revoke_consents(request)
            .await?
            .into_inner())
    }

    /// The artefact of a consent, as `who` may have it.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn artefact(&self, who: &Who, consent: &str) -> Result<consent::Artefact, Status> {
        let request = consent::GetArtefactRequest {
            consent: consent.to_owned(),
            ..Default::default()
        };
        Ok(ArtefactServiceClient::new(who.consent())
            .get_artefact(request)
            .await?
            .into_inner())
    }

    /// The keys that artefacts verify with, by kid, as JWKs.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn artefact_keys(&self) -> Result<HashMap<String, String>, Status> {
        let mut client = ArtefactServiceClient::new(self.clinic.consent());
        let keys = client
            .list_keys(consent::ListKeysRequest::default())
            .await?
            .into_inner()
            .keys;
        Ok(keys.into_iter().map(|key| (key.kid, key.jwk)).collect())
    }

    /// Her audit trail: events about her, newest first.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn trail(&self, person: &Person) -> Result<Vec<sammati_api::audit::v1::LogEvent>, Status> {
        let request = sammati_api::audit::v1::ListEventsRequest {
            page_size: 1000,
            ..Default::default()
        };
        Ok(LogServiceClient::new(person.who.audit())
            .list_events(request)
            .await?
            .into_inner()
            .events)
    }

    /// The proof of one event, waiting for it to arrive.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn proof(&self, who: &Who, event_id: &str) -> Result<sammati_api::audit::v1::InclusionProof, Status> {
        let request = sammati_api::audit::v1::GetProofRequest {
            event: Some(sammati_api::audit::v1::get_proof_request::Event::EventId(
                event_id.to_owned(),
            )),
            wait: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            ..Default::default()
        };
        Ok(ProofServiceClient::new(who.audit())
            .get_proof(request)
            .await?
            .into_inner())
    }

    /// The log and the key that its checkpoints verify with.
    ///
    /// # Errors
    /// The service's refusal, or NOT_FOUND when there is no log yet.
    pub async fn log(&self) -> Result<sammati_api::audit::v1::Log, Status> {
        let mut client = LogServiceClient::new(self.operator.audit());
        let logs = client
            .list_logs(sammati_api::audit::v1::ListLogsRequest::default())
            .await?
            .into_inner()
            .logs;
        logs.into_iter()
            .next()
            .ok_or_else(|| Status::not_found("there is no log yet"))
    }
}

fn audiences() -> Vec<String> {
    ["identity", "consent", "audit"].map(ToOwned::to_owned).to_vec()
}

/// The reason that a refusal gives, or its code's name for what is not ours.
pub fn reason(status: &Status) -> String {
    sammati_server::error::refusal_of(status)
        .map_or_else(|| format!("{:?}", status.code()), |r| r.reason.as_str().to_owned())
}
