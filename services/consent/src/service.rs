//! How is it started? The settings, the keys, identity's facts, and the tasks that keep time and the log.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::consent::v1::artefact_service_server::ArtefactServiceServer;
use sammati_api::consent::v1::break_glass_service_server::BreakGlassServiceServer;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestServiceServer;
use sammati_api::consent::v1::consent_service_server::ConsentServiceServer;
use sammati_api::consent::v1::decision_service_server::DecisionServiceServer;
use sammati_api::consent::v1::link_service_server::LinkServiceServer;
use sammati_api::consent::v1::notice_service_server::NoticeServiceServer;
use sammati_api::consent::v1::notification_service_server::NotificationServiceServer;
use sammati_api::consent::v1::policy_service_server::PolicyServiceServer;
use sammati_api::consent::v1::profile_share_service_server::ProfileShareServiceServer;
use sammati_api::consent::v1::rights_service_server::RightsServiceServer;
use sammati_api::consent::v1::step_up_service_server::StepUpServiceServer;
use sammati_api::consent::v1::study_service_server::StudyServiceServer;
use sammati_api::consent::v1::subscription_service_server::SubscriptionServiceServer;
use sammati_api::consent::v1::transfer_service_server::TransferServiceServer;
use sammati_kernel::{Key, Micros, Refusal};
use sammati_server::messages::{Messages, NoMessages, RemoteMessages};
use sammati_server::relay::{CONSUMER, Relay};
use sammati_server::{
    Again, Built, Config, ConfigError, Database, IdentityFacts, Keeps, Served, Service, Start, StartError, upkeep,
};
use sammati_store::{Pruning, Store};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::again;
use crate::artefact::{ArtefactKey, ArtefactKeys};
use crate::closing::Closings;
use crate::directory::identity::{Follower, IdentityResolver};
use crate::directory::{Directory, Resolver};
use crate::recorded::Logs;
use crate::rows::{self, MIGRATIONS};
use crate::rpc::Rpc;
use crate::study;
use crate::sweep;
use crate::transfer::halt::Halts;

/// How often denials of checks are written.
const FLUSH: Duration = Duration::from_millis(500);

/// `[service]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The consent manager in artefacts, as `sbx`.
    pub consent_manager_id: String,
    /// How old identity's facts may be for a decision, in seconds.
    #[serde(default = "Settings::identity_stale_seconds")]
    pub identity_stale_seconds: u64,
    /// Memory for decisions, in bytes.
    #[serde(default = "Settings::cache_bytes")]
    pub cache_bytes: u64,
    /// What artefacts say of the log that holds their grant.
    #[serde(default = "Settings::log_origin")]
    pub log_origin: String,
    /// Where a person withdraws consent and uses her rights; the built-in notices name its pages, so it must stay.
    #[serde(default = "Settings::portal")]
    pub portal: String,
    /// When `artefact_key.pem` began to sign, seconds since 1970.
    pub artefact_key_since: Option<i64>,
    /// Keys that signed before it, newest first.
    #[serde(default)]
    pub retired_artefact_keys: Vec<RetiredKey>,
}

/// `[[service.retired_artefact_keys]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetiredKey {
    /// Its file in the folder of secrets.
    pub file: String,
    /// When it began to sign, seconds since 1970.
    pub since: i64,
    /// When it ended.
    pub until: i64,
}

impl Settings {
    const fn identity_stale_seconds() -> u64 {
        30
    }

    const fn cache_bytes() -> u64 {
        256 * 1024 * 1024
    }

    fn log_origin() -> String {
        "sammati.local/audit".to_owned()
    }

    fn portal() -> String {
        "https://portal.sammati.local".to_owned()
    }

    /// The defaults, of the consent manager `id`.
    pub fn of(id: &str) -> Self {
        Self {
            consent_manager_id: id.to_owned(),
            identity_stale_seconds: Self::identity_stale_seconds(),
            cache_bytes: Self::cache_bytes(),
            log_origin: Self::log_origin(),
            portal: Self::portal(),
            artefact_key_since: None,
            retired_artefact_keys: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let id = &self.consent_manager_id;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if !(2..=50).contains(&id.len()) || !id.bytes().all(plain) {
            return Err(ConfigError(
                "service.consent_manager_id must be 2 to 50 letters, digits, - and .".to_owned(),
            ));
        }
        if !self.portal.starts_with("https://") || self.portal.ends_with('/') {
            return Err(ConfigError(
                "service.portal must begin with https:// and not end with /".to_owned(),
            ));
        }
        Ok(())
    }
}

/// What the service is made of.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Identity's facts.
    pub directory: Arc<dyn Directory>,
    /// Who finds persons.
    pub resolver: Arc<dyn Resolver>,
    /// The message sender.
    pub messages: Messages,
    /// The logs that prove what is kept of a person.
    pub logs: Logs,
    /// The keys of artefacts and link tokens.
    pub artefact_keys: ArtefactKeys,
    /// The key that wraps data keys.
    pub kek: Key,
    /// The key of keyed hashes and sealed tokens.
    pub lookup: Key,
    /// The rest.
    pub settings: Settings,
}

/// The consent service.
#[derive(Debug, Clone, Copy)]
pub struct Consent;

impl Service for Consent {
    const NAME: &'static str = "consent";
    const PEERS: &'static [&'static str] = &["audit", "audit_next", "identity", "messages", "sandbox"];
    type Settings = Settings;

    fn keeps(config: &Config<Settings>) -> Result<Keeps, ConfigError> {
        config.service.check()?;
        let retired = config.service.retired_artefact_keys.iter().map(|key| key.file.clone());
        Ok(Keeps {
            databases: vec![Database::of(
                config.database()?,
                Self::NAME,
                MIGRATIONS,
                rows::tables(),
            )?],
            keys: vec!["kek", "lookup"],
            signing_keys: std::iter::once("artefact_key.pem".to_owned()).chain(retired).collect(),
            has_feed: true,
            ..Keeps::default()
        })
    }

    async fn again(lost: Again) -> Result<Vec<String>, Refusal> {
        again::again(lost).await
    }

    async fn build(start: Start<Settings>) -> Result<Built, StartError> {
        start.config.service.check()?;
        let facts = IdentityFacts::follow(&start)?;
        let parts = parts(&start, &facts)?;
        let store = parts.store.clone();
        let (audit, next) = (start.peers.channel("audit")?, start.peers.next("audit")?);
        let relay = start.metrics.with(|registry| {
            store.register_metrics(registry);
            Relay::new(store.clone(), audit, Self::NAME, registry).then(next)
        });
        start.tasks.spawn(relay.run(start.shutdown.clone()));
        let rule = Pruning {
            consumers: &[CONSUMER],
            ..Pruning::default()
        };
        let pruning = upkeep(store.clone(), rule, start.shutdown.clone());
        start.tasks.spawn(pruning);
        let rpc = Rpc::new(parts);
        start
            .tasks
            .spawn(background(rpc.clone(), store.clone(), start.shutdown.clone()));
        let ready = facts.ready();
        Ok(Built::new(served(&rpc), Arc::new(facts))
            .ready(ready)
            .ready(store.readiness()))
    }
}

/// The RPCs.
pub fn served(rpc: &Rpc) -> Served {
    Served::new()
        .add(ConsentRequestServiceServer::new(rpc.clone()))
        .add(ConsentServiceServer::new(rpc.clone()))
        .add(ArtefactServiceServer::new(rpc.clone()))
        .add(BreakGlassServiceServer::new(rpc.clone()))
        .add(DecisionServiceServer::new(rpc.clone()))
        .add(LinkServiceServer::new(rpc.clone()))
        .add(PolicyServiceServer::new(rpc.clone()))
        .add(ProfileShareServiceServer::new(rpc.clone()))
        .add(RightsServiceServer::new(rpc.clone()))
        .add(StepUpServiceServer::new(rpc.clone()))
        .add(StudyServiceServer::new(rpc.clone()))
        .add(SubscriptionServiceServer::new(rpc.clone()))
        .add(TransferServiceServer::new(rpc.clone()))
        .add(NoticeServiceServer::new(rpc.clone()))
        .add(NotificationServiceServer::new(rpc.clone()))
}

/// Expires what is due, cancels what a suspended participant has open, ends what was given to studies that are over, and writes the denials that wait, until `stop`;
/// then writes the last of them. None waits for another.
pub async fn background(rpc: Rpc, store: Store, stop: CancellationToken) {
    tokio::join!(
        keep_time(&store, Beat::new(&stop, sweep::EVERY)),
        halt(&rpc, Beat::new(&stop, sweep::EVERY)),
        close(&rpc, Beat::new(&stop, sweep::EVERY)),
        end_studies(&store, Beat::new(&stop, sweep::EVERY)),
        write_denials(&rpc, Beat::new(&stop, FLUSH)),
    );
    rpc.flush_denials(true).await;
}

async fn keep_time(store: &Store, mut beat: Beat<'_>) {
    while beat.next().await {
        if let Err(refusal) = sweep::sweep(store).await {
            tracing::warn!(reason = refusal.reason.as_str(), "expiries wait; trying again");
        }
    }
}

async fn end_studies(store: &Store, mut beat: Beat<'_>) {
    while beat.next().await {
        if let Err(refusal) = study::settle::sweep(store).await {
            tracing::warn!(reason = refusal.reason.as_str(), "ends of studies wait; trying again");
        }
    }
}

async fn halt(rpc: &Rpc, mut beat: Beat<'_>) {
    let mut halts = Halts::default();
    while beat.next().await {
        if let Err(refusal) = rpc.halt_transfers(&mut halts).await {
            tracing::warn!(
                reason = refusal.reason.as_str(),
                "transfers of suspended participants wait; trying again"
            );
        }
    }
}

async fn close(rpc: &Rpc, mut beat: Beat<'_>) {
    let mut closings = Closings::default();
    while beat.next().await {
        if let Err(refusal) = rpc.close_accounts(&mut closings).await {
            tracing::warn!(
                reason = refusal.reason.as_str(),
                "what belongs to deleted accounts waits; trying again"
            );
        }
    }
}

async fn write_denials(rpc: &Rpc, mut beat: Beat<'_>) {
    while beat.next().await {
        rpc.flush_denials(false).await;
    }
}

/// Every so often until the service stops.
struct Beat<'a> {
    tick: tokio::time::Interval,
    stop: &'a CancellationToken,
}

impl<'a> Beat<'a> {
    fn new(stop: &'a CancellationToken, every: Duration) -> Self {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { tick, stop }
    }

    /// Waits for the next time; false when there is none.
    async fn next(&mut self) -> bool {
        self.stop.run_until_cancelled(self.tick.tick()).await.is_some()
    }
}

fn parts(start: &Start<Settings>, facts: &IdentityFacts) -> Result<Parts, StartError> {
    let (config, settings) = (&start.config, start.config.service.clone());
    let (kek, lookup) = (config.secrets.key("kek")?, config.secrets.key("lookup")?);
    let bound = Duration::from_secs(settings.identity_stale_seconds);
    Ok(Parts {
        store: open_store(start, lookup.derive("store"))?,
        directory: Arc::new(Follower::new(facts.clone(), bound)),
        resolver: Arc::new(IdentityResolver::new(start.peers.channel("identity")?)),
        messages: messages(start)?,
        logs: Logs::new(
            [start.peers.channel("audit")?]
                .into_iter()
                .chain(start.peers.next("audit")?),
        ),
        artefact_keys: artefact_keys(start)?,
        kek,
        lookup,
        settings,
    })
}

/// It runs without a sender: only deep links are sent.
fn messages(start: &Start<Settings>) -> Result<Messages, ConfigError> {
    let sender = start.peers.provider("messages");
    if start.peers.knows(sender) {
        return Ok(Arc::new(RemoteMessages(start.peers.channel(sender)?)));
    }
    tracing::warn!("peers.messages is not set: SendDeepLink is refused until it is");
    Ok(Arc::new(NoMessages))
}

fn artefact_keys(start: &Start<Settings>) -> Result<ArtefactKeys, ConfigError> {
    let (secrets, settings) = (&start.config.secrets, &start.config.service);
    let active = ArtefactKey {
        key: secrets.signing_key("artefact_key.pem")?,
        not_before: settings.artefact_key_since.map(Micros::from_seconds),
        expire: None,
    };
    let retired = settings.retired_artefact_keys.iter().map(|retired| {
        Ok(ArtefactKey {
            key: secrets.signing_key(&retired.file)?,
            not_before: Some(Micros::from_seconds(retired.since)),
            expire: Some(Micros::from_seconds(retired.until)),
        })
    });
    Ok(ArtefactKeys::new(active, retired.collect::<Result<_, ConfigError>>()?))
}

fn open_store(start: &Start<Settings>, key: Key) -> Result<Store, StartError> {
    let options = start.config.database()?.options(key)?;
    Store::open(&options, Arc::clone(&start.clock), MIGRATIONS).map_err(StartError::other)
}
