//! Requests, consents, links, notifications and transfers.

use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::authorize_access_request::Target;
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_api::consent::v1::link_service_client::LinkServiceClient;
use sammati_api::types::v1 as types;
use sammati_tests::story::{Failure, Person};

use super::{Made, Stage, apart, made};

impl Stage {
    pub(super) async fn create_consent_request(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_people().await?;
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
            patient: one.address(),
            hips: vec!["participants/hospital".into()],
            requester: Some(requester),
            scope: Some(self.story.scope()),
            request_id: self.story.rid(),
            ..Default::default()
        };
        Ok(made(&self.story.clinic, request, |r| r.patient = other.address()))
    }

    /// She may name only requests that ask her: all live with her.
    pub(super) async fn approve_consent_request(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let asked = self.story.ask(&person, self.story.scope()).await?;
        let other = self.story.ask(&person, self.story.scope()).await?;
        Ok(made(&person.who, self.story.approval(&asked, None), |r| {
            r.name = other.name
        }))
    }

    pub(super) async fn deny_consent_request(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let asked = self.story.ask(&person, self.story.scope()).await?;
        let other = self.story.ask(&person, self.story.scope()).await?;
        let request = consent::DenyConsentRequestRequest {
            name: asked.name,
            reason: "I was never there".into(),
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    pub(super) async fn cancel_consent_request(&self) -> Result<Made, Failure> {
        let ask = async || {
            let person = self.person().await?;
            Ok(self.story.ask(&person, self.story.scope()).await?)
        };
        let (one, other) = apart(ask, |request| &request.name).await?;
        let request = consent::CancelConsentRequestRequest {
            name: one.name,
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.clinic, request, |r| r.name = other.name))
    }

    /// Two consents of one person: she may name only her own.
    async fn hers(&self) -> Result<(Person, consent::Consent, consent::Consent), Failure> {
        let person = self.person().await?;
        let one = self.story.consent(&person, self.story.scope()).await?;
        let other = self.story.consent(&person, self.story.scope()).await?;
        Ok((person, one, other))
    }

    pub(super) async fn pause_consent(&self) -> Result<Made, Failure> {
        let (person, one, other) = self.hers().await?;
        let request = consent::PauseConsentRequest {
            name: one.name,
            request_id: self.story.rid(),
            ..Default::default()
        };
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    pub(super) async fn resume_consent(&self) -> Result<Made, Failure> {
        let (person, one, other) = self.hers().await?;
        let pause = consent::PauseConsentRequest {
            name: one.name.clone(),
            request_id: self.story.rid(),
            ..Default::default()
        };
        ConsentServiceClient::new(person.who.consent())
            .pause_consent(pause)
            .await?;
        let request = consent::ResumeConsentRequest {
            name: one.name,
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    pub(super) async fn narrow_consent(&self) -> Result<Made, Failure> {
        let (person, one, other) = self.hers().await?;
        let scope = types::Scope {
            max_uses: 3,
            ..one.scope.unwrap_or_default()
        };
        let request = consent::NarrowConsentRequest {
            name: one.name,
            scope: Some(scope),
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    async fn granted(&self) -> Result<consent::Consent, Failure> {
        let person = self.person().await?;
        Ok(self.story.consent(&person, self.story.scope()).await?)
    }

    async fn two_granted(&self) -> Result<(consent::Consent, consent::Consent), Failure> {
        apart(async || self.granted().await, |granted| &granted.name).await
    }

    /// By an operator: a person may name only her own.
    pub(super) async fn revoke_consents(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_granted().await?;
        let request = consent::RevokeConsentsRequest {
            names: vec![one.name],
            reason: "done".into(),
            legal_basis: "Order 12 of 2026".into(),
            request_id: self.story.rid(),
            ..Default::default()
        };
        Ok(made(&self.story.operator, request, |r| r.names = vec![other.name]))
    }

    pub(super) async fn authorize_access(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_granted().await?;
        self.acknowledged(&one.name).await?;
        let request = consent::AuthorizeAccessRequest {
            target: Some(Target::Consent(one.name)),
            purpose: types::PurposeCode::Caremgt.into(),
            access_mode: types::AccessMode::View.into(),
            hi_types: vec![types::HiType::Prescription.into()],
            record_range: self.story.question("").record_range,
            request_id: self.story.rid(),
            ..Default::default()
        };
        Ok(made(&self.story.hospital, request, |r| {
            r.target = Some(Target::Consent(other.name));
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

    pub(super) async fn issue_link_token(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_people().await?;
        let other = self.link_token(&other);
        Ok(made(&self.story.hospital, self.link_token(&one), |r| {
            (r.identifier, r.demographics) = (other.identifier, other.demographics);
        }))
    }

    pub(super) async fn link_care_contexts(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_people().await?;
        let issue = async |person: &Person| {
            let mut client = LinkServiceClient::new(self.story.hospital.consent());
            let issued = client.issue_link_token(self.link_token(person)).await?;
            Ok::<_, Failure>(issued.into_inner().link_token)
        };
        let (link_token, other) = (issue(&one).await?, issue(&other).await?);
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
        Ok(made(&self.story.hospital, request, |r| r.link_token = other))
    }

    pub(super) async fn acknowledge_notifications(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_granted().await?;
        let (story, hospital) = (&self.story, &self.story.hospital);
        let other = story.notification(hospital, &other.name).await?;
        let request = consent::AcknowledgeNotificationsRequest {
            names: vec![story.notification(hospital, &one.name).await?.name],
            outcome: consent::acknowledge_notifications_request::Outcome::Ok.into(),
            request_id: story.rid(),
            ..Default::default()
        };
        Ok(made(hospital, request, |r| r.names = vec![other.name]))
    }

    pub(super) async fn create_transfer(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_granted().await?;
        self.acknowledged(&one.name).await?;
        self.acknowledged(&other.name).await?;
        Ok(made(&self.story.clinic, self.story.transfer(&one.name), |r| {
            r.consent = other.name;
        }))
    }

    async fn two_transfers(&self) -> Result<(consent::Transfer, consent::Transfer), Failure> {
        let open = async || {
            let granted = self.granted().await?;
            self.acknowledged(&granted.name).await?;
            Ok(self.story.open_transfer(self.story.transfer(&granted.name)).await?)
        };
        apart(open, |transfer| &transfer.name).await
    }

    /// Before it was taken on nothing can have flowed: the clinic gives it up.
    pub(super) async fn report_transfer(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_transfers().await?;
        let report = consent::TransferReport {
            outcome: consent::transfer_report::Outcome::Failed.into(),
            ..Default::default()
        };
        let request = consent::ReportTransferRequest {
            name: one.name,
            report: Some(report),
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.clinic, request, |r| r.name = other.name))
    }

    pub(super) async fn acknowledge_transfer(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_transfers().await?;
        let request = consent::AcknowledgeTransferRequest {
            name: one.name,
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.hospital, request, |r| r.name = other.name))
    }
}
