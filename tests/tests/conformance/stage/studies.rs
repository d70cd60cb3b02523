//! Studies.

use sammati_api::consent::v1 as consent;
use sammati_tests::story::Failure;

use super::{Made, Stage, made};

impl Stage {
    pub(super) fn create_study(&self) -> Made {
        let request = self.story.study();
        made(&self.story.institute, request, |r| r.title = "Another".into())
    }

    pub(super) async fn activate_study(&self) -> Result<Made, Failure> {
        // All of a sponsor's live in one partition.
        let (one, other) = (self.story.described_study().await?, self.story.described_study().await?);
        let request = consent::ActivateStudyRequest {
            name: one.name,
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.operator, request, |r| r.name = other.name))
    }

    pub(super) async fn close_study(&self) -> Result<Made, Failure> {
        let (one, other) = (self.story.active_study().await?, self.story.active_study().await?);
        let request = consent::CloseStudyRequest {
            name: one.name,
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.institute, request, |r| r.name = other.name))
    }

    pub(super) async fn invite_subjects(&self) -> Result<Made, Failure> {
        let (study, (one, other)) = (self.story.active_study().await?, self.two_people().await?);
        let (mine, others) = (self.story.reference(), self.story.reference());
        self.story.link_as(&one, &mine).await?;
        self.story.link_as(&other, &others).await?;
        let request = self.story.inviting(&study.name, &mine);
        Ok(made(&self.story.hospital, request, |r| {
            r.patient_references = vec![others]
        }))
    }

    pub(super) async fn identify_subject(&self) -> Result<Made, Failure> {
        let (study, (one, other)) = (self.story.active_study().await?, self.two_people().await?);
        let mut pseudonyms = Vec::new();
        for person in [&one, &other] {
            let reference = self.story.reference();
            self.story.link_as(person, &reference).await?;
            let joined = self.story.joined(person, &study.name, &reference).await?;
            pseudonyms.push(joined.patient);
        }
        let others = pseudonyms.pop().unwrap_or_default();
        let request = consent::IdentifySubjectRequest {
            study: study.name,
            pseudonym: pseudonyms.pop().unwrap_or_default(),
            legal_basis: "Order 7".into(),
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.operator, request, |r| r.pseudonym = others))
    }
}
