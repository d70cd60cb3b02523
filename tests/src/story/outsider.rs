//! A party to nothing, which proves itself by signed assertions.

use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::participant_service_client::ParticipantServiceClient;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::types::v1 as types;
use sammati_kernel::jws::SigningKey;
use serde_json::json;
use tonic::Status;

use super::{Failure, Story, Who, audiences};

/// A participant of every role. Its certificate is not registered, so that a signed assertion must prove it.
pub struct Outsider {
    key: SigningKey,
    certificate: &'static str,
}

impl Outsider {
    const NAME: &'static str = "participants/outsider";

    /// Registers and activates it.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn register(story: &Story) -> Result<Self, Failure> {
        Self::behind(story, "outsider").await
    }

    /// The same, for one that comes with somebody else's certificate.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn behind(story: &Story, certificate: &'static str) -> Result<Self, Failure> {
        use types::ParticipantRole as Role;
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| "no randomness")?;
        let key = SigningKey::from_pkcs8(pkcs8.as_ref()).map_err(|error| error.to_string())?;
        let roles = [Role::Hip, Role::Hiu, Role::Locker, Role::PhrApp, Role::Researcher]
            .map(i32::from)
            .to_vec();
        let jwk = identity::ParticipantKey {
            kid: key.kid().to_owned(),
            jwk: key.public().to_jwk(),
            ..Default::default()
        };
        let registration = identity::Registration {
            registry: "HFR".into(),
            id: "IN2799999".into(),
            verified: false,
        };
        let participant = identity::Participant {
            display_name: "Elsewhere".into(),
            roles,
            kind: identity::participant::Kind::Facility.into(),
            registrations: vec![registration],
            keys: vec![jwk],
            // As any receiver: so that a transfer of its is judged by its consent, not by where it goes.
            transfer_origins: vec!["https://clinic.example".into()],
            ..Default::default()
        };
        let mut client = ParticipantServiceClient::new(story.operator.identity());
        let create = identity::CreateParticipantRequest {
            request_id: story.rid(),
            participant_id: "outsider".into(),
            participant: Some(participant),
        };
        client.create_participant(create).await?;
        let activate = identity::ActivateParticipantRequest {
            request_id: story.rid(),
            name: Self::NAME.into(),
            etag: String::new(),
        };
        client.activate_participant(activate).await?;
        Ok(Self { key, certificate })
    }

    /// A fresh assertion of its, good once and for a minute.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn assertion(&self, story: &Story) -> Result<String, Failure> {
        self.assertion_called(story, &story.rid())
    }

    /// One made now whose `jti` the caller chose: what a `jti` may be used for does not hang on how old the assertion is.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn assertion_called(&self, story: &Story, jti: &str) -> Result<String, Failure> {
        let now = story.clock.now().seconds();
        let claims = json!({"iss": Self::NAME, "sub": Self::NAME, "aud": "identity", "jti": jti, "iat": now});
        Ok(self.key.sign("JWT", &claims)?)
    }

    /// Opens a session in `role` with an assertion.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn opened(
        &self,
        story: &Story,
        role: types::ParticipantRole,
        assertion: &str,
    ) -> Result<identity::Session, Status> {
        let who = self.who(story).map_err(|error| Status::internal(error.to_string()))?;
        let request = identity::CreateParticipantSessionRequest {
            request_id: story.rid(),
            participant: Self::NAME.into(),
            client_assertion: assertion.to_owned(),
            roles: vec![role.into()],
            audiences: audiences(),
        };
        let mut client = SessionServiceClient::new(who.identity());
        Ok(client.create_participant_session(request).await?.into_inner())
    }

    /// A session of it in `role`.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn session(&self, story: &Story, role: types::ParticipantRole) -> Result<Who, Failure> {
        let session = self.opened(story, role, &self.assertion(story)?).await?;
        Ok(self.who(story)?.with(&session.access_tokens))
    }

    fn who(&self, story: &Story) -> Result<Who, Failure> {
        Who::new(&story.addresses, Some(self.certificate))
    }
}
