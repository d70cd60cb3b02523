//! An emergency: a professional opens records without her word.

use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::break_glass::{Emergency, Outcome};
use sammati_api::consent::v1::break_glass_service_client::BreakGlassServiceClient;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::participant_service_client::ParticipantServiceClient;
use sammati_api::types::v1 as types;
use tonic::Status;

use super::{Person, Story, Who};

impl Story {
    /// A new professional with a verified registration.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn professional(&self) -> Result<types::Requester, Status> {
        let id: String = self.rid().chars().filter(char::is_ascii_alphanumeric).collect();
        let number = format!("MH{}", &id[id.len() - 10..]);
        let registration = identity::Registration {
            registry: "https://www.nmc.org.in".into(),
            id: number.clone(),
            verified: false,
        };
        let participant = identity::Participant {
            display_name: "Dr Meera Joshi".into(),
            roles: vec![types::ParticipantRole::Hiu.into()],
            kind: identity::participant::Kind::Professional.into(),
            registrations: vec![registration],
            ..Default::default()
        };
        let mut client = ParticipantServiceClient::new(self.operator.identity());
        let created = client
            .create_participant(identity::CreateParticipantRequest {
                request_id: self.rid(),
                participant_id: format!("dr-{number}"),
                participant: Some(participant),
            })
            .await?
            .into_inner();
        let activate = identity::ActivateParticipantRequest {
            request_id: self.rid(),
            name: created.name,
            etag: String::new(),
        };
        client.activate_participant(activate).await?;
        Ok(types::Requester {
            name: "Dr Meera Joshi".into(),
            identifier: Some(types::RequesterIdentifier {
                r#type: "REGNO".into(),
                value: number,
                system: "https://www.nmc.org.in".into(),
            }),
            verified: false,
        })
    }

    /// How her records at the hospital are opened.
    pub fn emergency(&self, person: &Person, requester: &types::Requester) -> consent::OpenBreakGlassRequest {
        consent::OpenBreakGlassRequest {
            patient: person.address(),
            hips: vec!["participants/hospital".into()],
            requester: Some(requester.clone()),
            hi_types: vec![types::HiType::Prescription.into()],
            emergency: Emergency::Unconscious.into(),
            reason: "brought in unconscious and alone".into(),
            request_id: self.rid(),
        }
    }

    /// The clinic opens them, for a professional whom consent has heard of: see [`Story::until_known`].
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn break_glass(&self, person: &Person, requester: &types::Requester) -> Result<consent::Consent, Status> {
        let mut client = BreakGlassServiceClient::new(self.clinic.consent());
        let opened = client.open_break_glass(self.emergency(person, requester)).await?;
        let opened = opened.into_inner().consents.into_iter().next();
        opened.ok_or_else(|| Status::internal("an opening without consent"))
    }

    /// What is said of an opening.
    pub fn review(&self, consent: &str, outcome: Outcome) -> consent::ReviewBreakGlassRequest {
        consent::ReviewBreakGlassRequest {
            name: consent.to_owned(),
            etag: String::new(),
            outcome: outcome.into(),
            comment: "nobody was brought in that night".into(),
            request_id: self.rid(),
        }
    }

    /// Says it.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn reviewed(&self, who: &Who, consent: &str, outcome: Outcome) -> Result<consent::Consent, Status> {
        let mut client = BreakGlassServiceClient::new(who.consent());
        let review = self.review(consent, outcome);
        Ok(client.review_break_glass(review).await?.into_inner())
    }
}
