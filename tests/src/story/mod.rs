//! One story, step by step: the calls that a hospital, a clinic, an app, a person and an operator make.

mod asking;
mod deciding;
mod emergency;
mod enrolling;
mod outsider;
mod proving;
mod representing;
mod step_up;
mod studying;

use std::sync::Arc;

use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::participant_service_client::ParticipantServiceClient;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::sandbox::v1 as sandbox;
use sammati_api::types::v1 as types;
use sammati_kernel::{Clock, Micros, Seed, Slot, TransactionId};
use std::time::Duration;
use tonic::{Code, Status};

use crate::caller::Addresses;
pub use crate::caller::Who;
pub use outsider::Outsider;
pub use proving::count;

/// Anything that ends a step.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The purpose that the story is about.
pub const CARE: types::PurposeCode = types::PurposeCode::Caremgt;

/// The people of the story and what they need.
pub struct Story {
    /// Where it happens.
    pub addresses: Addresses,
    /// The time it tells.
    pub clock: Arc<dyn Clock>,
    /// The operator.
    pub operator: Who,
    /// A patient app.
    pub app: Who,
    /// A hospital: a HIP.
    pub hospital: Who,
    /// A clinic: a HIU.
    pub clinic: Who,
    /// An institute: a research body.
    pub institute: Who,
}

/// A person who was enrolled.
#[derive(Clone)]
pub struct Person {
    /// Her account, with contact data.
    pub account: identity::Account,
    /// Whether the number was issued now.
    pub is_new: bool,
    /// She herself, through the app.
    pub who: Who,
    /// As the register has her.
    pub entry: sandbox::Person,
}

impl Person {
    /// Her preferred address.
    pub fn address(&self) -> String {
        let preferred = self.account.addresses.iter().find(|a| a.preferred);
        preferred
            .or(self.account.addresses.first())
            .map(|a| a.address.clone())
            .unwrap_or_default()
    }
}

/// A fresh request id, made at the clock's time.
pub fn request_id(clock: &dyn Clock) -> String {
    let seed = Seed::draw().expect("the system has randomness");
    let id: TransactionId = seed.id("request", clock.now(), Slot::new(0));
    id.to_string()
}

/// A time on the wire.
pub fn at(time: Micros) -> Option<prost_types::Timestamp> {
    Some(sammati_server::event::timestamp(time))
}

const DAY: Duration = Duration::from_secs(86_400);

impl Story {
    /// Connects everybody; nobody is registered yet.
    ///
    /// # Errors
    /// When a certificate is missing.
    pub fn new(addresses: &Addresses, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let who = |name| Who::new(addresses, Some(name));
        Ok(Self {
            operator: who("operator")?,
            app: who("app")?,
            hospital: who("hospital")?,
            clinic: who("clinic")?,
            institute: who("institute")?,
            addresses: addresses.clone(),
            clock,
        })
    }

    /// A fresh request id.
    pub fn rid(&self) -> String {
        request_id(self.clock.as_ref())
    }

    /// Registers and activates the participant whose certificate is `name`; one that exists already is left as it is.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn register(&self, name: &str, display: &str, role: types::ParticipantRole) -> Result<(), Status> {
        let mut client = ParticipantServiceClient::new(self.operator.identity());
        let kind = match role {
            types::ParticipantRole::PhrApp => identity::participant::Kind::App,
            types::ParticipantRole::Researcher => identity::participant::Kind::ResearchBody,
            _ => identity::participant::Kind::Facility,
        };
        let registration = identity::Registration {
            registry: "HFR".into(),
            id: format!("IN27100{:05}", name.len()),
            verified: false,
        };
        let participant = identity::Participant {
            display_name: display.to_owned(),
            roles: vec![role.into()],
            kind: kind.into(),
            registrations: vec![registration],
            spiffe_id: format!("spiffe://sammati.local/participant/{name}"),
            transfer_origins: vec![format!("https://{name}.example")],
            grievance_contact: format!("mailto:grievance@{name}.example"),
            languages: vec!["en".into(), "hi".into()],
            ..Default::default()
        };
        let create = identity::CreateParticipantRequest {
            request_id: self.rid(),
            participant_id: name.to_owned(),
            participant: Some(participant),
        };
        match client.create_participant(create).await {
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            other => other?,
        };
        let name = format!("participants/{name}");
        client
            .activate_participant(identity::ActivateParticipantRequest {
                request_id: self.rid(),
                name,
                etag: String::new(),
            })
            .await?;
        Ok(())
    }

    /// Opens a session for the participant whose certificate is `name`, in `role`.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn session(&self, who: &Who, role: types::ParticipantRole) -> Result<Who, Status> {
        let name = who.certificate.clone().unwrap_or_default();
        let request = identity::CreateParticipantSessionRequest {
            request_id: self.rid(),
            participant: format!("participants/{name}"),
            roles: vec![role.into()],
            audiences: audiences(),
            ..Default::default()
        };
        let bare = who.with(&[]);
        let session = SessionServiceClient::new(bare.identity())
            .create_participant_session(request)
            .await?
            .into_inner();
        Ok(who.with(&session.access_tokens))
    }

    /// Registers hospital, clinic, institute and app, and opens their sessions.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn open(&mut self) -> Result<(), Status> {
        use types::ParticipantRole as Role;
        self.register("hospital", "City Hospital, Pune", Role::Hip).await?;
        self.register("clinic", "Lake Clinic, Nagpur", Role::Hiu).await?;
        self.register("institute", "Institute of Public Health, Delhi", Role::Researcher)
            .await?;
        self.register("app", "My Records", Role::PhrApp).await?;
        self.renew().await
    }

    /// Opens new sessions for hospital, clinic, institute and app: their tokens live five minutes.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn renew(&mut self) -> Result<(), Status> {
        use types::ParticipantRole as Role;
        self.hospital = self.session(&self.hospital, Role::Hip).await?;
        self.clinic = self.session(&self.clinic, Role::Hiu).await?;
        self.institute = self.session(&self.institute, Role::Researcher).await?;
        self.app = self.session(&self.app, Role::PhrApp).await?;
        Ok(())
    }
}

fn audiences() -> Vec<String> {
    ["identity", "consent", "audit"].map(ToOwned::to_owned).to_vec()
}

/// The reason that a refusal gives, or its code's name for what is not ours.
pub fn reason(status: &Status) -> String {
    sammati_server::error::refusal_of(status)
        .map_or_else(|| format!("{:?}", status.code()), |r| r.reason.as_str().to_owned())
}
