//! How is the sandbox made? Only on purpose: its configuration must say that this is a simulation.

use std::sync::Arc;

use sammati_api::provider::v1::kyc_provider_service_server::KycProviderServiceServer;
use sammati_api::provider::v1::message_sender_service_server::MessageSenderServiceServer;
use sammati_api::sandbox::v1::sandbox_service_server::SandboxServiceServer;
use sammati_kernel::Key;
use sammati_server::authn::NoTokens;
use sammati_server::page::PageTokens;
use sammati_server::{Built, Config, ConfigError, Keeps, Served, Service, Start, StartError};
use serde::Deserialize;

use crate::agency::Agency;
use crate::inbox::Inbox;
use crate::people::{DEFAULT_COUNT, Register};
use crate::rpc::Handlers;

/// The most people there may be: their mobiles and numbers are distinct up to far more, their memory is not free.
const MOST_PEOPLE: usize = 100_000;

/// `[service]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Must be true: says that the operator knows that this is a simulation.
    #[serde(default)]
    pub sandbox: bool,
    /// Which people there are.
    #[serde(default = "Settings::seed")]
    pub seed: u64,
    /// How many, 1 to 100,000.
    #[serde(default = "Settings::people")]
    pub people: usize,
}

impl Settings {
    const fn seed() -> u64 {
        1
    }

    const fn people() -> usize {
        DEFAULT_COUNT
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !self.sandbox {
            return Err(ConfigError(
                "the sandbox makes up people and shows their OTPs to operators, so it must never run by mistake; if this is \
                 a laptop or a test system, write sandbox = true under [service]"
                    .to_owned(),
            ));
        }
        if !(1..=MOST_PEOPLE).contains(&self.people) {
            return Err(ConfigError(format!("service.people must be 1 to {MOST_PEOPLE}")));
        }
        Ok(())
    }
}

/// The service.
#[derive(Debug, Clone, Copy)]
pub struct Sandbox;

impl Service for Sandbox {
    const NAME: &'static str = "sandbox";
    const PEERS: &'static [&'static str] = &[];
    type Settings = Settings;

    fn keeps(config: &Config<Settings>) -> Result<Keeps, ConfigError> {
        config.service.check()?;
        Ok(Keeps::default())
    }

    async fn build(start: Start<Settings>) -> Result<Built, StartError> {
        let settings = &start.config.service;
        settings.check()?;
        tracing::warn!(
            people = settings.people,
            "this is a simulation: invented people, and OTPs for operators to read"
        );
        // State ends with the process, so page tokens may end with it too.
        let key = Key::generate().map_err(|_| StartError::other("the system has no randomness to give"))?;
        let handlers = Handlers {
            agency: Arc::new(Agency::new(Register::from_seed(settings.seed, settings.people))),
            inbox: Arc::new(Inbox::default()),
            clock: start.clock,
            pages: PageTokens::new(&key),
        };
        let served = Served::new()
            .add(KycProviderServiceServer::new(handlers.clone()))
            .add(MessageSenderServiceServer::new(handlers.clone()))
            .add(SandboxServiceServer::new(handlers));
        // Operators and identity come by certificate alone.
        Ok(Built::new(served, Arc::new(NoTokens)))
    }
}
