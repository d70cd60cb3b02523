//! What those who take part do, in one step each.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::link_service_server::LinkService;
use sammati_api::consent::v1::notification_service_server::NotificationService;
use sammati_api::types::v1 as types;
use sammati_kernel::Caller;
use tonic::Status;

use super::*;

impl World {
    pub(crate) fn asks(&self, address: &str) -> api::CreateConsentRequestRequest {
        api::CreateConsentRequestRequest {
            patient: address.to_owned(),
            hips: vec!["participants/hospital".into()],
            requester: Some(professional()),
            scope: Some(self.scope()),
            request_id: self.request_id(),
            ..Default::default()
        }
    }

    pub(crate) fn scope(&self) -> types::Scope {
        types::Scope {
            purpose: Some(types::Purpose {
                code: types::PurposeCode::Caremgt.into(),
                ..Default::default()
            }),
            hi_types: vec![
                types::HiType::Prescription.into(),
                types::HiType::DiagnosticReport.into(),
            ],
            access_mode: types::AccessMode::View.into(),
            record_range: Some(types::TimeRange {
                from: self.at(-365 * DAY),
                to: self.at(0),
            }),
            erase_time: self.at(30 * DAY),
            frequency: Some(types::Frequency {
                unit: types::FrequencyUnit::Hour.into(),
                value: 0,
                repeats: 0,
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn create(
        &self,
        message: api::CreateConsentRequestRequest,
    ) -> Result<api::ConsentRequest, Status> {
        self.rpc()
            .create_consent_request(by(&participant("clinic"), message))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) fn approval(&self, request: &api::ConsentRequest) -> api::ApproveConsentRequestRequest {
        api::ApproveConsentRequestRequest {
            name: request.name.clone(),
            notice: request.notice.clone(),
            request_id: self.request_id(),
            ..Default::default()
        }
    }

    pub(crate) async fn approve(
        &self,
        she: &Caller,
        message: api::ApproveConsentRequestRequest,
    ) -> Result<api::ApproveConsentRequestResponse, Status> {
        self.rpc()
            .approve_consent_request(by(she, message))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn revoke(&self, she: &Caller, names: &[&str]) -> Result<api::RevokeConsentsResponse, Status> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let message = api::RevokeConsentsRequest {
            names,
            request_id: self.request_id(),
            ..Default::default()
        };
        self.rpc()
            .revoke_consents(by(she, message))
            .await
            .map(tonic::Response::into_inner)
    }

    /// A consent of hers, granted as asked and acknowledged by the hospital.
    pub(crate) async fn granted(
        &self,
        address: &str,
        change: impl FnOnce(&mut types::Scope),
    ) -> (Caller, api::Consent) {
        let granted = self.unacknowledged(address, change).await;
        self.acknowledge_all("hospital").await;
        granted
    }

    /// The same before the hospital acknowledged.
    pub(crate) async fn unacknowledged(
        &self,
        address: &str,
        change: impl FnOnce(&mut types::Scope),
    ) -> (Caller, api::Consent) {
        let she = self.she(self.person(address));
        let mut ask = self.asks(address);
        change(ask.scope.as_mut().unwrap());
        let request = self.create(ask).await.unwrap();
        let approved = self.approve(&she, self.approval(&request)).await.unwrap();
        (she, approved.consents.into_iter().next().unwrap())
    }

    /// Takes in everything up to now.
    pub(crate) async fn acknowledge_all(&self, who: &str) -> i32 {
        let seen = self.notifications(&participant(who)).await;
        let names = seen.iter().map(|n| n.name.as_str()).collect::<Vec<_>>();
        if names.is_empty() {
            return 0;
        }
        self.acknowledge(who, &names).await
    }

    /// Takes in what is named.
    pub(crate) async fn acknowledge(&self, who: &str, names: &[&str]) -> i32 {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let outcome = api::acknowledge_notifications_request::Outcome::Ok.into();
        let message = api::AcknowledgeNotificationsRequest {
            names,
            outcome,
            request_id: self.request_id(),
            ..Default::default()
        };
        self.rpc()
            .acknowledge_notifications(by(&participant(who), message))
            .await
            .unwrap()
            .into_inner()
            .acknowledged_count
    }

    /// Everything there is for a caller, up to the first sign of life.
    pub(crate) async fn notifications(&self, caller: &Caller) -> Vec<api::Notification> {
        use api::watch_notifications_response::Item;
        use tokio_stream::StreamExt;
        let mut stream = self
            .rpc()
            .watch_notifications(by(caller, Default::default()))
            .await
            .unwrap()
            .into_inner();
        let mut all = Vec::new();
        while let Some(Item::Notification(n)) = stream.next().await.unwrap().unwrap().item {
            all.push(n);
        }
        all
    }

    pub(crate) async fn link_token(&self, address: &str, year: i32) -> Result<api::IssueLinkTokenResponse, Status> {
        self.link_token_of("hospital", address, year).await
    }

    pub(crate) async fn link_token_of(
        &self,
        hip: &str,
        address: &str,
        year: i32,
    ) -> Result<api::IssueLinkTokenResponse, Status> {
        self.issue(hip, self.tries(address, year)).await
    }

    pub(crate) fn tries(&self, address: &str, year: i32) -> api::IssueLinkTokenRequest {
        let identifier = types::identifier::Identifier::AbhaAddress(address.to_owned());
        api::IssueLinkTokenRequest {
            identifier: Some(types::Identifier {
                identifier: Some(identifier),
            }),
            demographics: Some(types::Demographics {
                name: "Asha Rao".into(),
                gender: types::Gender::F.into(),
                year_of_birth: year,
                mobile: None,
            }),
            request_id: self.request_id(),
        }
    }

    pub(crate) async fn issue(
        &self,
        hip: &str,
        message: api::IssueLinkTokenRequest,
    ) -> Result<api::IssueLinkTokenResponse, Status> {
        self.rpc()
            .issue_link_token(by(&participant(hip), message))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) fn links(&self, token: &str, references: &[&str]) -> api::LinkCareContextsRequest {
        let context = |reference: &&str| types::CareContextRef {
            patient_reference: "MRN-17".into(),
            care_context_reference: (*reference).to_owned(),
            hi_type: types::HiType::Prescription.into(),
            display: "OPD visit".into(),
        };
        api::LinkCareContextsRequest {
            link_token: token.to_owned(),
            patient_reference: "MRN-17".into(),
            care_contexts: references.iter().map(context).collect(),
            request_id: self.request_id(),
        }
    }

    pub(crate) async fn link(&self, token: &str, references: &[&str]) -> Result<api::Link, Status> {
        self.link_of("hospital", self.links(token, references)).await
    }

    pub(crate) async fn link_of(&self, hip: &str, message: api::LinkCareContextsRequest) -> Result<api::Link, Status> {
        self.rpc()
            .link_care_contexts(by(&participant(hip), message))
            .await
            .map(tonic::Response::into_inner)
    }

    /// Links care contexts of a person to the hospital.
    pub(crate) async fn linked(&self, address: &str, references: &[&str]) {
        let token = self.link_token(address, 1990).await.unwrap().link_token;
        self.link(&token, references).await.unwrap();
    }
}
