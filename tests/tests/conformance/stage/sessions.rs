//! Sessions and participants.

use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::participant_service_client::ParticipantServiceClient;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_api::types::v1 as types;
use sammati_tests::story::Failure;

use super::{Made, Stage, apart, made, proved};

impl Stage {
    /// A request to log somebody in.
    async fn login(&self) -> Result<identity::CreateSessionRequest, Failure> {
        let person = self.person().await?;
        let identifier = types::identifier::Identifier::AbhaNumber(person.account.abha_number.clone());
        let subject = Subject::Identifier(types::Identifier {
            identifier: Some(identifier),
        });
        let (app, entry) = (&self.story.app, &person.entry);
        let proved = proved(&self.story, app, entry, Purpose::Login, Some(subject)).await?;
        Ok(identity::CreateSessionRequest {
            request_id: self.story.rid(),
            transaction: proved,
            candidate_index: None,
            audiences: vec!["identity".into(), "consent".into()],
            representation: String::new(),
        })
    }

    pub(super) async fn create_session(&self) -> Result<Made, Failure> {
        let (one, other) = apart(async || self.login().await, |login| &login.transaction).await?;
        Ok(made(&self.story.app, one, |r| r.transaction = other.transaction))
    }

    async fn session(&self) -> Result<identity::Session, Failure> {
        let mut client = SessionServiceClient::new(self.story.app.identity());
        Ok(client.create_session(self.login().await?).await?.into_inner())
    }

    async fn two_sessions(&self) -> Result<(identity::Session, identity::Session), Failure> {
        apart(async || self.session().await, |session| &session.account).await
    }

    pub(super) async fn refresh_session(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_sessions().await?;
        let request = identity::RefreshSessionRequest {
            request_id: self.story.rid(),
            refresh_token: one.refresh_token,
            audiences: vec!["identity".into(), "consent".into()],
        };
        Ok(made(&self.story.app, request, |r| {
            r.refresh_token = other.refresh_token
        }))
    }

    pub(super) async fn revoke_sessions(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_sessions().await?;
        let request = identity::RevokeSessionsRequest {
            request_id: self.story.rid(),
            names: vec![one.name],
            all_of: String::new(),
        };
        Ok(made(&self.story.operator, request, |r| r.names = vec![other.name]))
    }

    /// A certificate proves one participant.
    pub(super) fn create_participant_session(&self) -> Made {
        let request = identity::CreateParticipantSessionRequest {
            request_id: self.story.rid(),
            participant: "participants/hospital".into(),
            client_assertion: String::new(),
            roles: vec![types::ParticipantRole::Hip.into()],
            audiences: vec!["identity".into(), "consent".into()],
        };
        made(&self.story.hospital, request, |r| r.audiences.truncate(1))
    }

    fn participant(&self) -> identity::CreateParticipantRequest {
        let registration = identity::Registration {
            registry: "HFR".into(),
            id: "IN27".into(),
            verified: false,
        };
        let participant = identity::Participant {
            display_name: "A clinic".into(),
            roles: vec![types::ParticipantRole::Hip.into()],
            kind: identity::participant::Kind::Facility.into(),
            registrations: vec![registration],
            ..Default::default()
        };
        identity::CreateParticipantRequest {
            request_id: self.story.rid(),
            participant_id: self.unused(),
            participant: Some(participant),
        }
    }

    pub(super) async fn create_participant(&self) -> Result<Made, Failure> {
        let name = async || Ok(format!("participants/{}", self.unused()));
        let (one, other) = apart(name, |name| name).await?;
        let id = |name: &str| name.trim_start_matches("participants/").to_owned();
        let request = identity::CreateParticipantRequest {
            participant_id: id(&one),
            ..self.participant()
        };
        Ok(made(&self.story.operator, request, |r| r.participant_id = id(&other)))
    }

    /// The name of a new participant, PENDING or ACTIVE.
    async fn registered(&self, active: bool) -> Result<String, Failure> {
        let mut client = ParticipantServiceClient::new(self.story.operator.identity());
        let name = client.create_participant(self.participant()).await?.into_inner().name;
        if active {
            client.activate_participant(self.activation(&name)).await?;
        }
        Ok(name)
    }

    async fn two_registered(&self, active: bool) -> Result<(String, String), Failure> {
        apart(async || self.registered(active).await, |name| name).await
    }

    fn activation(&self, name: &str) -> identity::ActivateParticipantRequest {
        identity::ActivateParticipantRequest {
            request_id: self.story.rid(),
            name: name.to_owned(),
            etag: String::new(),
        }
    }

    pub(super) async fn update_participant(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_registered(true).await?;
        let participant = identity::Participant {
            name: one,
            languages: vec!["en".into(), "mr".into()],
            ..Default::default()
        };
        let request = identity::UpdateParticipantRequest {
            request_id: self.story.rid(),
            participant: Some(participant),
            update_mask: None,
            etag: String::new(),
        };
        Ok(made(&self.story.operator, request, |r| {
            r.participant.iter_mut().for_each(|p| p.name.clone_from(&other));
        }))
    }

    pub(super) async fn activate_participant(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_registered(false).await?;
        Ok(made(&self.story.operator, self.activation(&one), |r| r.name = other))
    }

    pub(super) async fn suspend_participant(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_registered(true).await?;
        let request = identity::SuspendParticipantRequest {
            request_id: self.story.rid(),
            name: one,
            etag: String::new(),
            reason: "closed".into(),
        };
        Ok(made(&self.story.operator, request, |r| r.name = other))
    }
}
