//! Others act for her: proposed, accepted, logged in.

use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::representation::Kind;
use sammati_api::identity::v1::representation_service_client::RepresentationServiceClient;
use sammati_api::types::v1 as types;
use sammati_api::types::v1::Power;
use tonic::Status;

use super::{Person, Story, Who};

/// An account, as an identifier.
fn account(person: &Person) -> types::Identifier {
    types::Identifier {
        identifier: Some(types::identifier::Identifier::Account(person.account.name.clone())),
    }
}

impl Story {
    /// A request of hers for a delegate, for thirty days.
    pub fn delegation(&self, to: &Person, powers: &[Power]) -> identity::CreateRepresentationRequest {
        identity::CreateRepresentationRequest {
            request_id: self.rid(),
            kind: Kind::Delegate.into(),
            representative: Some(account(to)),
            powers: powers.iter().map(|power| i32::from(*power)).collect(),
            period: Some(prost_types::Duration {
                seconds: 30 * 24 * 3600,
                nanos: 0,
            }),
            ..Default::default()
        }
    }

    /// A request of the operator's for a lawful guardian, with every power.
    pub fn guardianship(&self, of: &Person, to: &Person) -> identity::CreateRepresentationRequest {
        identity::CreateRepresentationRequest {
            request_id: self.rid(),
            principal: of.account.name.clone(),
            kind: Kind::DisabilityGuardian.into(),
            representative: Some(account(to)),
            powers: (1..=5).collect(),
            evidence: Some(self.evidence("COURT_ORDER")),
            ..Default::default()
        }
    }

    /// A document that an operator looked at.
    pub fn evidence(&self, kind: &str) -> identity::Evidence {
        identity::Evidence {
            r#type: kind.to_owned(),
            sha256: vec![7; 32],
            checked_by: String::new(),
        }
    }

    /// What was proposed, by whoever may.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn propose(
        &self,
        who: &Who,
        request: identity::CreateRepresentationRequest,
    ) -> Result<identity::Representation, Status> {
        let mut client = RepresentationServiceClient::new(who.identity());
        Ok(client.create_representation(request).await?.into_inner())
    }

    /// Accepts it.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn accept(&self, by: &Person, name: &str) -> Result<identity::Representation, Status> {
        let request = identity::AcceptRepresentationRequest {
            request_id: self.rid(),
            name: name.to_owned(),
            etag: String::new(),
        };
        let mut client = RepresentationServiceClient::new(by.who.identity());
        Ok(client.accept_representation(request).await?.into_inner())
    }

    /// Logs in to act under a representation.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn act(&self, who: &Person, representation: &str) -> Result<Who, Status> {
        self.log_in_for(who, representation).await
    }

    /// Makes `by` the lawful guardian of `of`, and logs in as such; tells the representation.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn represent(&self, of: &Person, by: &Person) -> Result<(String, Who), Status> {
        let proposed = self.propose(&self.operator, self.guardianship(of, by)).await?;
        let accepted = self.accept(by, &proposed.name).await?;
        let who = self.act(by, &accepted.name).await?;
        Ok((accepted.name, who))
    }
}
