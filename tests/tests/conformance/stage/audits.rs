//! Erasures and what holds them back.

use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::retention_service_client::RetentionServiceClient;
use sammati_api::types::v1::RetentionClass;
use sammati_tests::story::Failure;

use super::{Made, Stage, made};

impl Stage {
    /// By an operator; each answer is the same as long as nothing happens to her.
    pub(super) async fn erase_subject(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_people().await?;
        let request = audit::EraseSubjectRequest {
            request_id: self.story.rid(),
            subject: one.account.name,
            classes: vec![RetentionClass::AadhaarAuth.into()],
            legal_basis: "an order".to_owned(),
        };
        Ok(made(&self.story.operator, request, |r| r.subject = other.account.name))
    }

    /// Of months long before the first event.
    pub(super) fn expire_class(&self) -> Made {
        let request = audit::ExpireClassRequest {
            request_id: self.story.rid(),
            class: RetentionClass::Access.into(),
            month: "2015-01".to_owned(),
            legal_basis: "an order".to_owned(),
        };
        made(&self.story.operator, request, |r| r.month = "2015-02".to_owned())
    }

    /// Of one that nobody is.
    fn hold(&self) -> audit::CreateLegalHoldRequest {
        audit::CreateLegalHoldRequest {
            request_id: self.story.rid(),
            subject: format!("accounts/{}", self.story.rid()),
            classes: Vec::new(),
            legal_basis: "an order".to_owned(),
        }
    }

    pub(super) fn create_legal_hold(&self) -> Made {
        made(&self.story.operator, self.hold(), |r| {
            r.classes = vec![RetentionClass::Admin.into()];
        })
    }

    pub(super) async fn lift_legal_hold(&self) -> Result<Made, Failure> {
        let mut client = RetentionServiceClient::new(self.story.operator.audit());
        let one = client.create_legal_hold(self.hold()).await?.into_inner();
        let other = client.create_legal_hold(self.hold()).await?.into_inner();
        let request = audit::LiftLegalHoldRequest {
            request_id: self.story.rid(),
            name: one.name,
            legal_basis: "an order".to_owned(),
        };
        Ok(made(&self.story.operator, request, |r| r.name = other.name))
    }
}
