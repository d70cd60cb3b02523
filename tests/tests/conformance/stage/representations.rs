//! Representations.

use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::representation::Kind;
use sammati_tests::story::{Failure, Person};

use super::{Made, Stage, apart, made};

impl Stage {
    /// By an operator: a person may name only herself.
    pub(super) async fn create_representation(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_people().await?;
        let request = self.story.guardianship(&one, &self.person().await?);
        Ok(made(&self.story.operator, request, |r| {
            r.principal = other.account.name
        }))
    }

    /// A nominee of somebody's.
    async fn proposed(&self, to: &Person) -> Result<identity::Representation, Failure> {
        let principal = self.person().await?;
        let nominee = identity::CreateRepresentationRequest {
            kind: Kind::Nominee.into(),
            period: None,
            ..self.story.delegation(to, &[sammati_api::types::v1::Power::Read])
        };
        Ok(self.story.propose(&principal.who, nominee).await?)
    }

    async fn two_proposed(&self) -> Result<(Person, identity::Representation, identity::Representation), Failure> {
        let to = self.person().await?;
        let (one, other) = apart(async || self.proposed(&to).await, |r| &r.name).await?;
        Ok((to, one, other))
    }

    pub(super) async fn accept_representation(&self) -> Result<Made, Failure> {
        let (to, one, other) = self.two_proposed().await?;
        let request = identity::AcceptRepresentationRequest {
            request_id: self.story.rid(),
            name: one.name,
            etag: String::new(),
        };
        Ok(made(&to.who, request, |r| r.name = other.name))
    }

    pub(super) async fn activate_representation(&self) -> Result<Made, Failure> {
        let (to, one, other) = self.two_proposed().await?;
        for proposed in [&one, &other] {
            self.story.accept(&to, &proposed.name).await?;
        }
        let request = identity::ActivateRepresentationRequest {
            request_id: self.story.rid(),
            name: one.name,
            etag: String::new(),
            evidence: Some(self.story.evidence("DEATH_CERTIFICATE")),
        };
        Ok(made(&self.story.operator, request, |r| r.name = other.name))
    }

    pub(super) async fn end_representation(&self) -> Result<Made, Failure> {
        let (_, one, other) = self.two_proposed().await?;
        let request = identity::EndRepresentationRequest {
            request_id: self.story.rid(),
            name: one.name,
            etag: String::new(),
        };
        Ok(made(&self.story.operator, request, |r| r.name = other.name))
    }
}
