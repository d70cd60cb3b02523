//! Makes, for each mutation, the real object it is about and a good request about it: what a walk by descriptors alone
//! cannot know.

use std::sync::Mutex;
use std::time::Duration;

use prost::Message;
use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::link_service_client::LinkServiceClient;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::participant_service_client::ParticipantServiceClient;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::identity::v1::set_credential_request::Credential;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_api::identity::v1::transaction_service_client::TransactionServiceClient;
use sammati_api::identity::v1::verify_transaction_request::Proof;
use sammati_api::sandbox::v1 as sandbox;
use sammati_api::types::v1 as types;
use sammati_kernel::ManualClock;
use sammati_tests::story::{Failure, Person, Story, Who, at};

/// A password that the rules accept.
pub(crate) const PASSWORD: &str = "Rq7!vTz2#Lm";

/// One mutation that is about to be made. A request id is kept beside what the request is about, so the other request
/// is about the same.
pub(crate) struct Made {
    /// Who makes it.
    pub(crate) who: Who,
    /// The request.
    pub(crate) request: Vec<u8>,
    /// Another one with the same `request_id`.
    pub(crate) other: Vec<u8>,
}

fn made<M: Message + Clone>(who: &Who, request: M, change: impl FnOnce(&mut M)) -> Made {
    let mut other = request.clone();
    change(&mut other);
    Made {
        who: who.clone(),
        request: request.encode_to_vec(),
        other: other.encode_to_vec(),
    }
}

/// Where mutations are made.
pub(crate) struct Stage {
    pub(crate) story: Story,
    pub(crate) clock: ManualClock,
    /// People of the register who are not enrolled yet.
    pub(crate) register: Mutex<Vec<sandbox::Person>>,
}

impl Stage {
    fn entry(&self) -> sandbox::Person {
        self.register
            .lock()
            .expect("no panic before")
            .pop()
            .expect("the register has more people")
    }

    async fn person(&self) -> Result<Person, Failure> {
        Ok(self.story.enrol(&self.entry()).await?)
    }

    /// The request that the method with this full name is called with; `None` for a method that is not known here.
    pub(crate) async fn make(&self, method: &str) -> Result<Option<Made>, Failure> {
        let made = match crate::sample::short(method) {
            "TransactionService.CreateTransaction" => self.create_transaction(),
            "TransactionService.ResendOtp" => self.resend_otp().await?,
            "TransactionService.VerifyTransaction" => self.verify_transaction().await?,
            "AccountService.CreateAccount" => self.create_account().await?,
            "AccountService.SetCredential" => self.set_credential().await?,
            "AddressService.CreateAddress" => self.create_address().await?,
            "AddressService.SetPreferredAddress" => self.set_preferred_address().await?,
            "SessionService.CreateSession" => self.create_session().await?,
            "SessionService.RefreshSession" => self.refresh_session().await?,
            "SessionService.RevokeSessions" => self.revoke_sessions().await?,
            "SessionService.CreateParticipantSession" => self.create_participant_session(),
            "ParticipantService.CreateParticipant" => self.create_participant(),
            "ParticipantService.UpdateParticipant" => self.update_participant().await?,
            "ParticipantService.ActivateParticipant" => self.activate_participant().await?,
            "ParticipantService.SuspendParticipant" => self.suspend_participant().await?,
            "ConsentRequestService.CreateConsentRequest" => self.create_consent_request().await?,
            "ConsentRequestService.ApproveConsentRequest" => self.approve_consent_request().await?,
            "ConsentRequestService.DenyConsentRequest" => self.deny_consent_request().await?,
            "ConsentService.RevokeConsents" => self.revoke_consents().await?,
            "DecisionService.AuthorizeAccess" => self.authorize_access().await?,
            "LinkService.IssueLinkToken" => self.issue_link_token().await?,
            "LinkService.LinkCareContexts" => self.link_care_contexts().await?,
            "NotificationService.AcknowledgeNotifications" => self.acknowledge_notifications().await?,
            "TransferService.CreateTransfer" => self.create_transfer().await?,
            "TransferService.AcknowledgeTransfer" => self.acknowledge_transfer().await?,
            _ => return Ok(None),
        };
        Ok(Some(made))
    }

    fn create_transaction(&self) -> Made {
        let stamp = types::ConsentStamp {
            code: "abha-enrollment".into(),
            version: "1.4".into(),
            language: "en".into(),
            notice: String::new(),
            accepted_time: at(self.story.clock.now()),
        };
        let request = identity::CreateTransactionRequest {
            request_id: self.story.rid(),
            purpose: Purpose::Enrol.into(),
            factor: identity::Factor::AadhaarOtp.into(),
            consent: Some(stamp),
            subject: Some(Subject::Aadhaar(self.entry().aadhaar)),
        };
        made(&self.story.app, request, |r| {
            r.consent.iter_mut().for_each(|c| c.language = "hi".into())
        })
    }

    async fn challenged(&self) -> Result<(identity::Transaction, sandbox::Person), Failure> {
        let entry = self.entry();
        let Made { request, .. } = self.create_transaction();
        let mut request = identity::CreateTransactionRequest::decode(&request[..])?;
        request.subject = Some(Subject::Aadhaar(entry.aadhaar.clone()));
        let mut client = TransactionServiceClient::new(self.story.app.identity());
        Ok((client.create_transaction(request).await?.into_inner(), entry))
    }

    async fn resend_otp(&self) -> Result<Made, Failure> {
        let (transaction, _) = self.challenged().await?;
        // A resend is accepted after a minute; who is known by then is known anew within seconds.
        self.clock.advance(Duration::from_secs(61));
        let request = identity::ResendOtpRequest {
            request_id: self.story.rid(),
            name: transaction.name.clone(),
            etag: String::new(),
        };
        Ok(made(&self.story.app, request, |r| r.etag = transaction.etag))
    }

    async fn verify_transaction(&self) -> Result<Made, Failure> {
        let (transaction, entry) = self.challenged().await?;
        let request = identity::VerifyTransactionRequest {
            request_id: self.story.rid(),
            name: transaction.name,
            etag: String::new(),
            proof: Some(Proof::Otp(self.story.otp(&entry.mobile).await?)),
        };
        Ok(made(&self.story.app, request, |r| r.etag = "\"1\"".into()))
    }

    async fn create_account(&self) -> Result<Made, Failure> {
        let transaction = self.story.prove_aadhaar(0, &self.entry()).await?;
        let request = identity::CreateAccountRequest {
            request_id: self.story.rid(),
            transaction: transaction.name,
            chosen_address: None,
            audiences: vec!["identity".into(), "consent".into()],
        };
        Ok(made(&self.story.app, request, |r| r.audiences.truncate(1)))
    }

    async fn set_credential(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let request = self.credential(&person, PASSWORD).await?;
        Ok(made(&person.who, request, |r| {
            r.credential = Some(Credential::Clear(true))
        }))
    }

    /// A good request to set her password.
    pub(crate) async fn credential(
        &self,
        person: &Person,
        password: &str,
    ) -> Result<identity::SetCredentialRequest, Failure> {
        let proved = proved(&self.story, &person.who, &person.entry, Purpose::SetCredential, None).await?;
        Ok(identity::SetCredentialRequest {
            request_id: self.story.rid(),
            name: person.account.name.clone(),
            etag: String::new(),
            transaction: proved,
            credential: Some(Credential::Password(password.into())),
        })
    }

    async fn create_address(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let request = identity::CreateAddressRequest {
            request_id: self.story.rid(),
            account: person.account.name.clone(),
            local_part: self.local_part(),
            preferred: true,
            ..Default::default()
        };
        Ok(made(&person.who, request, |r| r.preferred = false))
    }

    /// One that nobody has.
    fn local_part(&self) -> String {
        let digits: String = self
            .story
            .rid()
            .chars()
            .rev()
            .filter(char::is_ascii_alphanumeric)
            .take(8)
            .collect();
        format!("w{digits}x")
    }

    async fn set_preferred_address(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let before = person.address();
        let account = self.story.claim_address(&person, &self.local_part()).await?;
        let after = account
            .addresses
            .iter()
            .find(|a| a.preferred)
            .map(|a| a.address.clone())
            .ok_or("none preferred")?;
        let request = identity::SetPreferredAddressRequest {
            request_id: self.story.rid(),
            account: account.name,
            etag: String::new(),
            address: before,
        };
        Ok(made(&person.who, request, |r| r.address = after))
    }

    /// A request to log somebody in.
    async fn login(&self) -> Result<identity::CreateSessionRequest, Failure> {
        let person = self.person().await?;
        let identifier = types::identifier::Identifier::AbhaNumber(person.account.abha_number.clone());
        let subject = Subject::Identifier(types::Identifier {
            identifier: Some(identifier),
        });
        let proved = proved(
            &self.story,
            &self.story.app,
            &person.entry,
            Purpose::Login,
            Some(subject),
        )
        .await?;
        Ok(identity::CreateSessionRequest {
            request_id: self.story.rid(),
            transaction: proved,
            candidate_index: None,
            audiences: vec!["identity".into(), "consent".into()],
        })
    }

    async fn create_session(&self) -> Result<Made, Failure> {
        Ok(made(&self.story.app, self.login().await?, |r| r.audiences.truncate(1)))
    }

    async fn refresh_session(&self) -> Result<Made, Failure> {
        let login = self.login().await?;
        let mut client = SessionServiceClient::new(self.story.app.identity());
        let session = client.create_session(login).await?.into_inner();
        let request = identity::RefreshSessionRequest {
            request_id: self.story.rid(),
            refresh_token: session.refresh_token,
            audiences: vec!["identity".into(), "consent".into()],
        };
        Ok(made(&self.story.app, request, |r| r.audiences.truncate(1)))
    }

    async fn revoke_sessions(&self) -> Result<Made, Failure> {
        let login = self.login().await?;
        let mut client = SessionServiceClient::new(self.story.app.identity());
        let session = client.create_session(login).await?.into_inner();
        let request = identity::RevokeSessionsRequest {
            request_id: self.story.rid(),
            names: vec![session.name],
            all_of: String::new(),
        };
        Ok(made(&self.story.operator, request, |r| {
            r.names.clear();
            r.all_of = session.account;
        }))
    }

    fn create_participant_session(&self) -> Made {
        let request = identity::CreateParticipantSessionRequest {
            request_id: self.story.rid(),
            participant: "participants/hospital".into(),
            client_assertion: String::new(),
            roles: vec![types::ParticipantRole::Hip.into()],
            audiences: vec!["identity".into(), "consent".into()],
        };
        made(&self.story.hospital, request, |r| r.audiences.truncate(1))
    }

    fn participant(&self) -> identity::CreateParticipantRequest {
        let registration = identity::Registration {
            registry: "HFR".into(),
            id: "IN27".into(),
            verified: false,
        };
        let participant = identity::Participant {
            display_name: "A clinic".into(),
            roles: vec![types::ParticipantRole::Hip.into()],
            kind: identity::participant::Kind::Facility.into(),
            registrations: vec![registration],
            ..Default::default()
        };
        identity::CreateParticipantRequest {
            request_id: self.story.rid(),
            participant_id: self.local_part(),
            participant: Some(participant),
        }
    }

    fn create_participant(&self) -> Made {
        let change = |r: &mut identity::CreateParticipantRequest| {
            r.participant.iter_mut().for_each(|p| p.display_name.push('2'));
        };
        made(&self.story.operator, self.participant(), change)
    }

    /// The name of a new participant, PENDING or ACTIVE.
    async fn registered(&self, active: bool) -> Result<String, Failure> {
        let mut client = ParticipantServiceClient::new(self.story.operator.identity());
        let name = client.create_participant(self.participant()).await?.into_inner().name;
        if active {
            client.activate_participant(self.activation(&name)).await?;
        }
        Ok(name)
    }

    fn activation(&self, name: &str) -> identity::ActivateParticipantRequest {
        let (request_id, etag) = (self.story.rid(), String::new());
        identity::ActivateParticipantRequest {
            request_id,
            name: name.to_owned(),
            etag,
        }
    }

    async fn update_participant(&self) -> Result<Made, Failure> {
        let participant = identity::Participant {
            name: self.registered(true).await?,
            languages: vec!["en".into(), "mr".into()],
            ..Default::default()
        };
        let request = identity::UpdateParticipantRequest {
            request_id: self.story.rid(),
            participant: Some(participant),
            update_mask: None,
            etag: String::new(),
        };
        Ok(made(&self.story.operator, request, |r| {
            r.participant.iter_mut().for_each(|p| p.languages.truncate(1))
        }))
    }

    async fn activate_participant(&self) -> Result<Made, Failure> {
        let request = self.activation(&self.registered(false).await?);
        Ok(made(&self.story.operator, request, |r| r.etag = "\"1\"".into()))
    }

    async fn suspend_participant(&self) -> Result<Made, Failure> {
        let request = identity::SuspendParticipantRequest {
            request_id: self.story.rid(),
            name: self.registered(true).await?,
            etag: String::new(),
            reason: "closed".into(),
        };
        Ok(made(&self.story.operator, request, |r| r.reason = "moved".into()))
    }

    async fn create_consent_request(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let identifier = types::RequesterIdentifier {
            r#type: "REGNO".into(),
            value: "MH1001".into(),
            system: "https://www.nmc.org.in".into(),
        };
        let requester = types::Requester {
            name: "Dr Meera Joshi".into(),
            identifier: Some(identifier),
            verified: false,
        };
        let request = consent::CreateConsentRequestRequest {
            patient: person.address(),
            hips: vec!["participants/hospital".into()],
            requester: Some(requester),
            scope: Some(self.story.scope()),
            request_id: self.story.rid(),
            ..Default::default()
        };
        Ok(made(&self.story.clinic, request, |r| r.language = "hi".into()))
    }

    async fn approve_consent_request(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let asked = self.story.ask(&person, self.story.scope()).await?;
        Ok(made(&person.who, self.story.approval(&asked, None), |r| {
            r.grants.clear()
        }))
    }

    async fn deny_consent_request(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let asked = self.story.ask(&person, self.story.scope()).await?;
        let request = consent::DenyConsentRequestRequest {
            name: asked.name,
            reason: "I was never there".into(),
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&person.who, request, |r| r.reason.clear()))
    }

    async fn granted(&self) -> Result<(Person, consent::Consent), Failure> {
        let person = self.person().await?;
        let granted = self.story.consent(&person, self.story.scope()).await?;
        Ok((person, granted))
    }

    async fn revoke_consents(&self) -> Result<Made, Failure> {
        let (person, granted) = self.granted().await?;
        let request = consent::RevokeConsentsRequest {
            names: vec![granted.name],
            reason: "done".into(),
            request_id: self.story.rid(),
            ..Default::default()
        };
        Ok(made(&person.who, request, |r| r.reason.clear()))
    }

    async fn authorize_access(&self) -> Result<Made, Failure> {
        let (_, granted) = self.granted().await?;
        self.acknowledged(&granted.name).await?;
        let request = consent::AuthorizeAccessRequest {
            target: Some(consent::authorize_access_request::Target::Consent(granted.name)),
            purpose: types::PurposeCode::Caremgt.into(),
            access_mode: types::AccessMode::View.into(),
            hi_types: vec![types::HiType::Prescription.into()],
            record_range: self.story.question("").record_range,
            request_id: self.story.rid(),
            ..Default::default()
        };
        Ok(made(&self.story.hospital, request, |r| {
            r.access_mode = types::AccessMode::Store.into()
        }))
    }

    /// The hospital has taken the grant in.
    async fn acknowledged(&self, consent: &str) -> Result<(), Failure> {
        let notification = self.story.notification(&self.story.hospital, consent).await?;
        Ok(self.story.acknowledge(&self.story.hospital, &notification.name).await?)
    }

    fn link_token(&self, person: &Person) -> consent::IssueLinkTokenRequest {
        let names = person.entry.names.clone().unwrap_or_default();
        let words = [names.first, names.middle, names.last];
        let demographics = types::Demographics {
            name: words
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" "),
            gender: person.entry.gender,
            year_of_birth: person.entry.birth.unwrap_or_default().year,
            mobile: None,
        };
        let number = types::identifier::Identifier::AbhaNumber(person.account.abha_number.clone());
        consent::IssueLinkTokenRequest {
            identifier: Some(types::Identifier {
                identifier: Some(number),
            }),
            demographics: Some(demographics),
            request_id: self.story.rid(),
        }
    }

    async fn issue_link_token(&self) -> Result<Made, Failure> {
        let request = self.link_token(&self.person().await?);
        let change =
            |r: &mut consent::IssueLinkTokenRequest| r.demographics.iter_mut().for_each(|d| d.year_of_birth += 1);
        Ok(made(&self.story.hospital, request, change))
    }

    async fn link_care_contexts(&self) -> Result<Made, Failure> {
        let issue = self.link_token(&self.person().await?);
        let mut client = LinkServiceClient::new(self.story.hospital.consent());
        let link_token = client.issue_link_token(issue).await?.into_inner().link_token;
        let context = types::CareContextRef {
            patient_reference: "MRN-1".into(),
            // A hospital's care context is linked once, to whomever.
            care_context_reference: format!("visit {}", self.story.rid()),
            hi_type: types::HiType::Prescription.into(),
            display: "Visit".into(),
        };
        let request = consent::LinkCareContextsRequest {
            link_token,
            patient_reference: "MRN-1".into(),
            care_contexts: vec![context],
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.hospital, request, |r| {
            r.care_contexts[0].display.clear()
        }))
    }

    async fn acknowledge_notifications(&self) -> Result<Made, Failure> {
        let (_, granted) = self.granted().await?;
        let notification = self.story.notification(&self.story.hospital, &granted.name).await?;
        let request = consent::AcknowledgeNotificationsRequest {
            names: vec![notification.name],
            outcome: consent::acknowledge_notifications_request::Outcome::Ok.into(),
            request_id: self.story.rid(),
            ..Default::default()
        };
        let change = |r: &mut consent::AcknowledgeNotificationsRequest| {
            r.outcome = consent::acknowledge_notifications_request::Outcome::Error.into();
        };
        Ok(made(&self.story.hospital, request, change))
    }

    async fn create_transfer(&self) -> Result<Made, Failure> {
        let (_, granted) = self.granted().await?;
        self.acknowledged(&granted.name).await?;
        Ok(made(&self.story.clinic, self.story.transfer(&granted.name), |r| {
            r.push_uri.push_str("/other")
        }))
    }

    async fn acknowledge_transfer(&self) -> Result<Made, Failure> {
        let (_, granted) = self.granted().await?;
        self.acknowledged(&granted.name).await?;
        let opened = self.story.open_transfer(self.story.transfer(&granted.name)).await?;
        let request = consent::AcknowledgeTransferRequest {
            name: opened.name,
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.hospital, request, |r| r.etag = opened.etag))
    }
}

/// A VERIFIED transaction by an OTP to her mobile.
pub(crate) async fn proved(
    story: &Story,
    who: &Who,
    entry: &sandbox::Person,
    purpose: Purpose,
    subject: Option<Subject>,
) -> Result<String, Failure> {
    let mut client = TransactionServiceClient::new(who.identity());
    let create = identity::CreateTransactionRequest {
        request_id: story.rid(),
        purpose: purpose.into(),
        factor: identity::Factor::MobileOtp.into(),
        consent: None,
        subject,
    };
    let transaction = client.create_transaction(create).await?.into_inner();
    let verify = identity::VerifyTransactionRequest {
        request_id: story.rid(),
        name: transaction.name,
        etag: String::new(),
        proof: Some(Proof::Otp(story.otp(&entry.mobile).await?)),
    };
    Ok(client.verify_transaction(verify).await?.into_inner().name)
}
