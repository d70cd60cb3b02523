//! The clinic asks, she gives and takes back, and both are told.

use std::collections::HashMap;
use std::time::Duration;

use sammati_api::consent::v1::artefact_service_client::ArtefactServiceClient;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::consent::v1::consent_service_client::ConsentServiceClient;
use sammati_api::consent::v1::notification_service_client::NotificationServiceClient;
use sammati_api::consent::v1::{self as consent, approve_consent_request_request::Grant};
use sammati_api::types::v1 as types;
use tonic::Status;

use super::{CARE, DAY, Person, Story, Who, at};

impl Story {
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

    /// How the clinic asks whoever has this address.
    pub fn asking(&self, address: &str, scope: types::Scope) -> consent::CreateConsentRequestRequest {
        let identifier = types::RequesterIdentifier {
            r#type: "REGNO".into(),
            value: "MH1001".into(),
            system: "https://www.nmc.org.in".into(),
        };
        consent::CreateConsentRequestRequest {
            patient: address.to_owned(),
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
        }
    }

    /// The clinic asks.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn ask(&self, person: &Person, scope: types::Scope) -> Result<consent::ConsentRequest, Status> {
        let request = self.asking(&person.address(), scope);
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
            request_id: self.rid(),
            ..Default::default()
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
        self.heard(who, |notification| notification.resource == resource).await
    }

    /// Word of the narrowing of a consent.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn narrowing(&self, who: &Who, consent: &str) -> Result<consent::Notification, Status> {
        let kind = consent::notification::Kind::ConsentNarrowed;
        self.heard(who, |n| n.resource == consent && n.kind() == kind).await
    }

    /// Word that a consent was taken back.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn withdrawal(&self, who: &Who, consent: &str) -> Result<consent::Notification, Status> {
        let kind = consent::notification::Kind::ConsentRevoked;
        self.heard(who, |n| n.resource == consent && n.kind() == kind).await
    }

    /// The first notification of `who` that is meant.
    pub(super) async fn heard(
        &self,
        who: &Who,
        is_meant: impl Fn(&consent::Notification) -> bool,
    ) -> Result<consent::Notification, Status> {
        use consent::watch_notifications_response::Item;
        let mut client = NotificationServiceClient::new(who.consent());
        let mut stream = client
            .watch_notifications(consent::WatchNotificationsRequest::default())
            .await?
            .into_inner();
        while let Some(answer) = stream.message().await? {
            if let Some(Item::Notification(notification)) = answer.item
                && is_meant(&notification)
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

    /// She pauses a consent.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn pause(&self, person: &Person, name: &str) -> Result<consent::Consent, Status> {
        let request = consent::PauseConsentRequest {
            name: name.to_owned(),
            request_id: self.rid(),
            ..Default::default()
        };
        let mut client = ConsentServiceClient::new(person.who.consent());
        Ok(client.pause_consent(request).await?.into_inner())
    }

    /// She takes a paused consent up again.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn resume(&self, person: &Person, name: &str) -> Result<consent::Consent, Status> {
        let request = consent::ResumeConsentRequest {
            name: name.to_owned(),
            etag: String::new(),
            request_id: self.rid(),
        };
        let mut client = ConsentServiceClient::new(person.who.consent());
        Ok(client.resume_consent(request).await?.into_inner())
    }

    /// She narrows a consent.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn narrow(&self, person: &Person, name: &str, scope: types::Scope) -> Result<consent::Consent, Status> {
        let request = consent::NarrowConsentRequest {
            name: name.to_owned(),
            scope: Some(scope),
            etag: String::new(),
            request_id: self.rid(),
        };
        let mut client = ConsentServiceClient::new(person.who.consent());
        Ok(client.narrow_consent(request).await?.into_inner())
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
        self.revoke_as(replica, person, self.revocation(names)).await
    }

    /// How she takes consents back.
    pub fn revocation(&self, names: &[&str]) -> consent::RevokeConsentsRequest {
        consent::RevokeConsentsRequest {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            reason: "I changed my mind".into(),
            request_id: self.rid(),
            ..Default::default()
        }
    }

    /// She takes consents back, by this very call.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn revoke_as(
        &self,
        replica: usize,
        person: &Person,
        request: consent::RevokeConsentsRequest,
    ) -> Result<consent::RevokeConsentsResponse, Status> {
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
}
