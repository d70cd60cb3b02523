//! A study: an institute asks patients of the hospital, whom it knows by pseudonyms.

use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::consent::v1::link_service_client::LinkServiceClient;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::study_service_client::StudyServiceClient;
use sammati_api::types::v1 as types;
use tonic::Status;

use super::{DAY, Person, Story, at};

/// What stands for a document.
const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

impl Story {
    /// How the institute describes a study at the hospital.
    pub fn study(&self) -> consent::CreateStudyRequest {
        let until = at(self.clock.now().plus(DAY * 30));
        let mut scope = self.scope();
        scope.purpose = Some(types::Purpose {
            code: types::PurposeCode::Dsrch.into(),
            ..Default::default()
        });
        scope.access_mode = types::AccessMode::Query.into();
        scope.max_uses = 3;
        consent::CreateStudyRequest {
            title: "Anaemia in Pune".into(),
            ethics_approval: Some(consent::EthicsApproval {
                body: "Ethics committee of City Hospital".into(),
                number: "IEC/2026/17".into(),
                sha256: DIGEST.into(),
                until_time: until,
            }),
            scope: Some(scope),
            protocol_sha256: DIGEST.into(),
            nodes: vec!["participants/hospital".into()],
            investigator: self.asking("", self.scope()).requester,
            request_id: self.rid(),
            ..Default::default()
        }
    }

    /// A study in state DRAFT.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn described_study(&self) -> Result<consent::Study, Status> {
        let mut client = StudyServiceClient::new(self.institute.consent());
        Ok(client.create_study(self.study()).await?.into_inner())
    }

    /// A study in state ACTIVE.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn active_study(&self) -> Result<consent::Study, Status> {
        let activate = consent::ActivateStudyRequest {
            name: self.described_study().await?.name,
            etag: String::new(),
            request_id: self.rid(),
        };
        let mut client = StudyServiceClient::new(self.operator.consent());
        Ok(client.activate_study(activate).await?.into_inner())
    }

    /// A reference that the hospital has given nobody yet.
    pub fn reference(&self) -> String {
        format!("MRN-{}", self.rid())
    }

    /// The hospital links her under a reference of its.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn link_as(&self, person: &Person, reference: &str) -> Result<consent::Link, Status> {
        let mut client = LinkServiceClient::new(self.hospital.consent());
        let token = client
            .issue_link_token(self.described(person))
            .await?
            .into_inner()
            .link_token;
        let context = types::CareContextRef {
            patient_reference: reference.to_owned(),
            care_context_reference: format!("visit {}", self.rid()),
            hi_type: types::HiType::DiagnosticReport.into(),
            display: "Blood count".into(),
        };
        let request = consent::LinkCareContextsRequest {
            link_token: token,
            patient_reference: reference.to_owned(),
            care_contexts: vec![context],
            request_id: self.rid(),
        };
        Ok(client.link_care_contexts(request).await?.into_inner())
    }

    /// How the hospital asks a patient of its.
    pub fn inviting(&self, study: &str, reference: &str) -> consent::InviteSubjectsRequest {
        consent::InviteSubjectsRequest {
            study: study.to_owned(),
            patient_references: vec![reference.to_owned()],
            language: "en".into(),
            request_id: self.rid(),
        }
    }

    /// It asks her, and she takes part.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn joined(&self, person: &Person, study: &str, reference: &str) -> Result<consent::Consent, Status> {
        let mut client = StudyServiceClient::new(self.hospital.consent());
        client.invite_subjects(self.inviting(study, reference)).await?;
        let mut client = ConsentRequestServiceClient::new(person.who.consent());
        let list = consent::ListConsentRequestsRequest {
            states: vec![consent::consent_request::State::Requested.into()],
            ..Default::default()
        };
        let asked = client.list_consent_requests(list).await?.into_inner().consent_requests;
        let asked = asked.into_iter().find(|request| request.study == study);
        let asked = asked.ok_or_else(|| Status::internal("she was not asked"))?;
        let approved = self.approve(person, &asked, None).await?.consents;
        approved
            .into_iter()
            .next()
            .ok_or_else(|| Status::internal("an approval without a consent"))
    }

    /// The hospital authorizes its cohort.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn run(
        &self,
        study: &str,
        run: &str,
    ) -> Result<(Vec<consent::CohortMember>, consent::CohortManifest), Status> {
        let mut client = StudyServiceClient::new(self.hospital.consent());
        let request = consent::AuthorizeCohortRequest {
            study: study.to_owned(),
            run: run.to_owned(),
        };
        let mut stream = client.authorize_cohort(request).await?.into_inner();
        let (mut members, mut manifest) = (Vec::new(), None);
        while let Some(part) = stream.message().await? {
            members.extend(part.members);
            manifest = part.manifest;
        }
        let manifest = manifest.ok_or_else(|| Status::internal("a run without a manifest"))?;
        Ok((members, manifest))
    }

    /// Word to the institute that somebody took her consent back.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn withdrawn(&self, pseudonym: &str) -> Result<consent::Notification, Status> {
        let revoked = |n: &consent::Notification| n.kind() == Kind::ConsentRevoked && n.pseudonym == pseudonym;
        self.heard(&self.institute, revoked).await
    }

    /// The institute counts.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn counted(&self, study: &str) -> Result<consent::CountCohortResponse, Status> {
        let mut client = StudyServiceClient::new(self.institute.consent());
        let request = consent::CountCohortRequest {
            study: study.to_owned(),
        };
        Ok(client.count_cohort(request).await?.into_inner())
    }
}
