//! How is it made? From configuration for a process, from parts for a test.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::identity::v1::account_service_server::AccountServiceServer;
use sammati_api::identity::v1::address_service_server::AddressServiceServer;
use sammati_api::identity::v1::feed_service_server::FeedServiceServer;
use sammati_api::identity::v1::participant_service_server::ParticipantServiceServer;
use sammati_api::identity::v1::representation_service_server::RepresentationServiceServer;
use sammati_api::identity::v1::session_service_server::SessionServiceServer;
use sammati_api::identity::v1::transaction_service_server::TransactionServiceServer;
use sammati_kernel::{AddressSuffix, Clock, Key, Micros, Refusal};
use sammati_server::authn::TokenFacts;
use sammati_server::messages::{Messages, RemoteMessages};
use sammati_server::page::PageTokens;
use sammati_server::relay::Relay;
use sammati_server::{Again, Built, Config, ConfigError, Database, Keeps, Served, Service, Start, StartError, upkeep};
use sammati_store::{Options, Store};
use serde::Deserialize;
use tokio::time::MissedTickBehavior;

use crate::account::{Erases, have_erased, purge};
use crate::again;
use crate::facts::Facts;
use crate::keyring::{ACTIVE, KeyRing};
use crate::lookup::Lookup;
use crate::password::Passwords;
use crate::providers::{Courier, Kyc, RemoteAudit, RemoteKyc};
use crate::representation::expire;
use crate::rows::{self, MIGRATIONS, PRUNING};
use crate::session::let_go;
use crate::tokens::Mint;
use crate::transaction::forget;
use crate::vault::Vault;

/// How often what is over is looked for.
const TIDY: Duration = Duration::from_secs(1);

/// `[service]`. Beside it `[secrets]` has the files `kek` and `lookup` (32-byte keys) and `token_key.pem` (Ed25519).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What follows the `@` of addresses: `abdm`, or `sbx` in a sandbox.
    pub address_suffix: String,
    /// The `iss` of tokens: the URL or name of this identity service.
    pub issuer: String,
    /// How long the sending of an OTP takes at least, in milliseconds, whether or not anybody is sent one. Longer than
    /// the message sender usually takes, so that nobody can tell from the time whose mobile is known.
    #[serde(default = "Settings::otp_floor_millis")]
    pub otp_floor_millis: u64,
}

impl Settings {
    const fn otp_floor_millis() -> u64 {
        500
    }
}

/// What identity is made from.
pub struct Parts {
    /// The database, opened with [`Identity::open`].
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Wraps data keys.
    pub kek: Key,
    /// Hashes what is looked up.
    pub lookup: Key,
    /// Sign and verify tokens.
    pub keys: KeyRing,
    /// The e-KYC agency.
    pub kyc: Kyc,
    /// The message sender.
    pub messages: Messages,
    /// How long the sending of an OTP takes at least.
    pub otp_floor: Duration,
    /// What follows the `@` of addresses.
    pub suffix: AddressSuffix,
    /// The `iss` of tokens.
    pub issuer: String,
    /// Erases the events of deleted accounts; without it they wait.
    pub audit: Option<Arc<dyn Erases>>,
}

/// The service. Clones share everything.
#[derive(Clone)]
pub struct Identity(pub(crate) Arc<Inner>);

/// What the handlers share.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) vault: Vault,
    pub(crate) lookup: Lookup,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) kyc: Kyc,
    pub(crate) courier: Courier,
    pub(crate) passwords: Passwords,
    pub(crate) suffix: AddressSuffix,
    pub(crate) issuer: String,
    pub(crate) facts: Arc<Facts>,
    pub(crate) pages: PageTokens,
    audit: Option<Arc<dyn Erases>>,
}

impl Identity {
    /// The database of the service, migrated.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(options: &Options, clock: Arc<dyn Clock>) -> Result<Store, StartError> {
        Store::open(options, clock, MIGRATIONS).map_err(StartError::other)
    }

    /// Makes it, with what the database says of ended sessions.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn new(parts: Parts) -> Result<Self, Refusal> {
        let keys = Arc::new(parts.keys);
        let issuer = parts.issuer.clone();
        let facts = Facts::load(&parts.store, Arc::clone(&keys), issuer, parts.clock.now()).await?;
        Ok(Self(Arc::new(Inner {
            pages: PageTokens::new(&parts.kek),
            vault: Vault::new(parts.kek),
            lookup: Lookup::new(parts.lookup),
            courier: Courier::new(parts.messages, parts.otp_floor),
            passwords: Passwords::new(),
            facts: Arc::new(facts),
            store: parts.store,
            clock: parts.clock,
            kyc: parts.kyc,
            suffix: parts.suffix,
            issuer: parts.issuer,
            audit: parts.audit,
            keys,
        })))
    }

    /// Its RPCs.
    pub fn served(&self) -> Served {
        Served::new()
            .add(TransactionServiceServer::new(self.clone()))
            .add(AccountServiceServer::new(self.clone()))
            .add(AddressServiceServer::new(self.clone()))
            .add(SessionServiceServer::new(self.clone()))
            .add(ParticipantServiceServer::new(self.clone()))
            .add(RepresentationServiceServer::new(self.clone()))
            .add(FeedServiceServer::new(self.clone()))
    }

    /// What its own tokens are judged by.
    pub fn token_facts(&self) -> Arc<dyn TokenFacts> {
        Arc::clone(&self.0.facts) as _
    }

    /// Keeps the facts true while other replicas commit, empties transactions and ends representations that are over; ends when `until` does.
    pub async fn follow(self, until: impl Future<Output = ()>) {
        tokio::select! {
            () = self.0.facts.follow(&self.0.store, self.0.clock.as_ref()) => {}
            () = self.0.tidy() => {}
            () = self.0.ask_audit() => {}
            () = until => {}
        }
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.0.store
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Micros {
        self.clock.now()
    }

    async fn tidy(&self) {
        let mut each = each();
        loop {
            each.tick().await;
            let store = &self.store;
            let done = tokio::join!(purge(store), forget(store), expire(store), let_go(store));
            for refusal in [done.0, done.1, done.2, done.3].into_iter().filter_map(Result::err) {
                let reason = refusal.reason.as_str();
                tracing::warn!(
                    reason,
                    "transactions, representations, sessions or deleted accounts whose time is over wait; trying again"
                );
            }
        }
    }

    /// Has the events of purged accounts erased, on its own: what is destroyed here does not wait for audit.
    async fn ask_audit(&self) {
        let Some(audit) = &self.audit else {
            return std::future::pending().await;
        };
        let mut each = each();
        loop {
            each.tick().await;
            if let Err(refusal) = have_erased(&self.store, audit.as_ref()).await {
                let reason = refusal.reason.as_str();
                tracing::warn!(reason, "events of deleted accounts wait to be erased; trying again");
            }
        }
    }

    pub(crate) fn mint(&self) -> Mint<'_> {
        Mint {
            issuer: &self.issuer,
            keys: &self.keys,
            lookup: &self.lookup,
        }
    }
}

/// The beat at which what is over is looked for.
fn each() -> tokio::time::Interval {
    let mut each = tokio::time::interval(TIDY);
    each.set_missed_tick_behavior(MissedTickBehavior::Delay);
    each
}

impl Service for Identity {
    const NAME: &'static str = "identity";
    const PEERS: &'static [&'static str] = &["audit", "audit_next", "kyc", "messages", "sandbox"];
    type Settings = Settings;

    fn keeps(config: &Config<Settings>) -> Result<Keeps, ConfigError> {
        let tables = rows::tables();
        Ok(Keeps {
            databases: vec![Database::of(config.database()?, Self::NAME, MIGRATIONS, tables)?],
            keys: vec!["kek", "lookup"],
            signing_keys: vec![ACTIVE.to_owned()],
            has_feed: true,
            ..Keeps::default()
        })
    }

    async fn again(lost: Again) -> Result<Vec<String>, Refusal> {
        again::again(lost).await
    }

    async fn build(start: Start<Settings>) -> Result<Built, StartError> {
        let suffix = AddressSuffix::parse(&start.config.service.address_suffix).ok_or_else(|| {
            ConfigError("service.address_suffix must be \"abdm\", or \"sbx\" in a sandbox".to_owned())
        })?;
        let (kek, lookup) = (start.config.secrets.key("kek")?, start.config.secrets.key("lookup")?);
        let options = start.config.database()?.options(kek.derive("store"))?;
        let store = Self::open(&options, Arc::clone(&start.clock))?;
        start.metrics.with(|registry| store.register_metrics(registry));
        let identity = Self::new(Parts {
            store,
            clock: Arc::clone(&start.clock),
            kek,
            lookup,
            keys: KeyRing::load(&start.config.secrets)?,
            kyc: Arc::new(RemoteKyc(start.peers.channel(start.peers.provider("kyc"))?)),
            messages: Arc::new(RemoteMessages(start.peers.channel(start.peers.provider("messages"))?)),
            otp_floor: Duration::from_millis(start.config.service.otp_floor_millis),
            suffix,
            issuer: start.config.service.issuer.clone(),
            audit: match start.peers.knows("audit") {
                true => Some(Arc::new(RemoteAudit::new(
                    start.peers.channel("audit")?,
                    Arc::clone(&start.clock),
                ))),
                false => None,
            },
        })
        .await
        .map_err(|refusal| StartError::other(refusal.reason.as_str()))?;
        let shutdown = start.shutdown.clone();
        start
            .tasks
            .spawn(identity.clone().follow(async move { shutdown.cancelled().await }));
        if start.peers.knows("audit") {
            let (store, channel) = (identity.store().clone(), start.peers.channel("audit")?);
            let next = start.peers.next("audit")?;
            let relay = start
                .metrics
                .with(|registry| Relay::new(store, channel, Self::NAME, registry));
            start.tasks.spawn(relay.then(next).run(start.shutdown.clone()));
        } else {
            tracing::warn!("peers.audit is not set: events stay in the feed until it is");
        }
        let pruning = upkeep(identity.store().clone(), PRUNING, start.shutdown.clone());
        start.tasks.spawn(pruning);
        let ready = identity.store().readiness();
        Ok(Built::new(identity.served(), identity.token_facts()).ready(ready))
    }
}
