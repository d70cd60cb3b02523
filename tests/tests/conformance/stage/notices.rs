//! Notices, and what she asks about her rights.

use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::close_rights_request_request::Outcome;
use sammati_api::consent::v1::notice_service_client::NoticeServiceClient;
use sammati_api::consent::v1::rights_request::Kind;
use sammati_api::consent::v1::rights_service_client::RightsServiceClient;
use sammati_api::types::v1 as types;
use sammati_tests::story::{Failure, Person};

use super::{Made, Stage, apart, made};

impl Stage {
    fn notice(&self) -> consent::CreateNoticeRequest {
        let text = consent::NoticeText {
            language: "en".into(),
            title: "Your prescriptions".into(),
            body: "Why: your doctor asks.".into(),
            goods_or_services: "Your treatment".into(),
            withdraw_uri: "https://clinic.example/consents".into(),
            rights_uri: "https://clinic.example/rights".into(),
            board_uri: "https://clinic.example/board".into(),
        };
        consent::CreateNoticeRequest {
            purposes: vec![types::PurposeCode::Caremgt.into()],
            items: vec![types::HiType::Prescription.into()],
            texts: vec![text],
            request_id: self.story.rid(),
            ..Default::default()
        }
    }

    /// All of an owner's live with it.
    pub(super) fn create_notice(&self) -> Made {
        made(&self.story.clinic, self.notice(), |r| {
            r.items = vec![types::HiType::Invoice.into()];
        })
    }

    /// The name of a notice of the clinic's.
    pub(crate) async fn published(&self) -> Result<String, Failure> {
        let mut client = NoticeServiceClient::new(self.story.clinic.consent());
        Ok(client.create_notice(self.notice()).await?.into_inner().name)
    }

    pub(super) async fn retire_notice(&self) -> Result<Made, Failure> {
        let (one, other) = (self.published().await?, self.published().await?);
        let request = consent::RetireNoticeRequest {
            name: one,
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.clinic, request, |r| r.name = other))
    }

    fn rights_asking(&self, person: &Person) -> consent::CreateRightsRequestRequest {
        consent::CreateRightsRequestRequest {
            kind: Kind::Grievance.into(),
            against: "participants/clinic".into(),
            text: "I was never there".into(),
            about: Vec::new(),
            patient: person.address(),
            request_id: self.story.rid(),
        }
    }

    /// She asks only for herself.
    pub(super) async fn create_rights_request(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        Ok(made(&person.who, self.rights_asking(&person), |r| {
            r.kind = Kind::Access.into();
        }))
    }

    async fn rights_asked(&self, person: &Person) -> Result<String, Failure> {
        let mut client = RightsServiceClient::new(person.who.consent());
        Ok(client
            .create_rights_request(self.rights_asking(person))
            .await?
            .into_inner()
            .name)
    }

    fn rights_answer(&self, name: String) -> consent::AnswerRightsRequestRequest {
        consent::AnswerRightsRequestRequest {
            name,
            text: "You were not".into(),
            request_id: self.story.rid(),
            ..Default::default()
        }
    }

    pub(super) async fn answer_rights_request(&self) -> Result<Made, Failure> {
        let ask = async || self.rights_asked(&self.person().await?).await;
        let (one, other) = apart(ask, |name| name).await?;
        Ok(made(&self.story.clinic, self.rights_answer(one), |r| r.name = other))
    }

    pub(super) async fn close_rights_request(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let (one, other) = (self.rights_asked(&person).await?, self.rights_asked(&person).await?);
        let mut client = RightsServiceClient::new(self.story.clinic.consent());
        for name in [&one, &other] {
            client.answer_rights_request(self.rights_answer(name.clone())).await?;
        }
        let request = consent::CloseRightsRequestRequest {
            name: one,
            outcome: Outcome::Satisfied.into(),
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&person.who, request, |r| r.name = other))
    }
}
