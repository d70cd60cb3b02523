//! How is it started? The settings, the two databases, the key, and the task that signs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1::log_service_server::LogServiceServer;
use sammati_api::audit::v1::proof_service_server::ProofServiceServer;
use sammati_api::audit::v1::retention_service_server::RetentionServiceServer;
use sammati_api::audit::v1::subject_service_server::SubjectServiceServer;
use sammati_kernel::{AccountId, Clock, Key, Reason};
use sammati_log::cosignature::Witness;
use sammati_server::config::DatabaseConfig;
use sammati_server::post::Post;
use sammati_server::{
    Built, Config, ConfigError, Database, IdentityFacts, Keeps, Served, Service, Start, StartError, plain, upkeep,
};
use sammati_store::verbs::Remark;
use sammati_store::{Location, Options, Pruning, Store};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::erase::Rounds;
use crate::http;
use crate::keyring::Keyring;
use crate::log::{Log, SERVICE};
use crate::rows::{self, KEY_MIGRATIONS, MIGRATIONS};
use crate::rpc::Rpc;
use crate::turn::{self, Turn};
use crate::waiting::Waiting;
use crate::witnesses::Witnesses;

/// How often the log is signed while it grows.
const SIGN_EVERY: Duration = Duration::from_secs(1);

/// How often what is due is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// The key that `log_key.pem` replaces, while readers change over.
const PREVIOUS_KEY: &str = "log_key.previous.pem";

/// `[service]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the origin of the log begins with, as `sammati.local/audit`; the half-year is added.
    pub origin: String,
    /// The database of payload keys, apart from the log's so that its backups can be short-lived:
    /// `sqlite:{path}`, relative to the log's own file, or `postgres://…` with the password and authority of `[database]`.
    pub keys_database: String,
    /// Address and port of the log over plain HTTP, for mirrors and monitors (`c2sp.org/tlog-tiles`). Without it the log
    /// is read by RPC alone.
    pub tiles_listen: Option<SocketAddr>,
    /// Who cosigns its checkpoints, and remembers them.
    #[serde(default)]
    pub witnesses: Vec<WitnessedBy>,
    /// How many of them the log's readers ask for: it signs nothing after a start before it has heard from so many.
    #[serde(default)]
    pub witnesses_required: usize,
    /// The database of the log that this one goes on from, as `sqlite:{path}` or `postgres://…` with the password and
    /// authority of `[database]`. This one waits until that is sealed, and begins where it ended.
    pub follows: Option<String>,
    /// The database of the log that goes on from this one, said in the same way. This one is sealed when its half-year is over,
    /// if that one waits for it.
    pub followed_by: Option<String>,
    /// The file, among the secrets, of the authorities (PEM) that the certificates of witnesses are of.
    #[serde(default = "Settings::witness_authorities")]
    pub witness_authorities: String,
}

/// A witness of the log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessedBy {
    /// Its key, `<name>+<id>+<key>`, of type 0x04.
    pub vkey: String,
    /// Its submission prefix: `/add-checkpoint` is put behind it.
    pub url: String,
}

impl Settings {
    fn witness_authorities() -> String {
        "witness_ca.pem".to_owned()
    }

    /// The witnesses, ready to be asked.
    fn witnesses(&self, config: &Config<Self>) -> Result<Witnesses, ConfigError> {
        let bad = |why: String| Err(ConfigError(format!("service.witnesses: {why}")));
        let mut all: Vec<(Witness, Post)> = Vec::new();
        for known in &self.witnesses {
            let key =
                Witness::parse(&known.vkey).map_err(|error| ConfigError(format!("service.witnesses: {error}")))?;
            let url = format!("{}/add-checkpoint", known.url.trim_end_matches('/'));
            let authorities = match url.starts_with("https://") {
                true => Some(config.secrets.pem(&self.witness_authorities)?),
                false => None,
            };
            let post = Post::new(&url, authorities.as_ref().map(|pem| pem.as_slice()))?;
            if post.is_open() && !config.server.insecure_plaintext {
                return bad(format!(
                    "{url} is plaintext over the network, and whoever is between could freeze the log; make it https, or \
                     set server.insecure_plaintext = true"
                ));
            }
            if all.iter().any(|(other, _)| other.name() == key.name()) {
                return bad(format!("{} stands there twice", key.name()));
            }
            all.push((key, post));
        }
        let required = self.witnesses_required;
        if all.is_empty() != (required == 0) || required > all.len() {
            let most = all.len();
            return Err(ConfigError(format!(
                "service.witnesses_required must be 1 to {most}, the number of witnesses"
            )));
        }
        Ok(Witnesses::new(all, required))
    }
}

/// What the service is made of.
pub struct Parts {
    /// The database of the log, one partition.
    pub store: Store,
    /// The database of payload keys, one partition.
    pub keys: Store,
    /// What the log's origin begins with.
    pub origin: String,
    /// The log's signing key, Ed25519 in PKCS#8 DER.
    pub log_key: Zeroizing<Vec<u8>>,
    /// The key that wraps payload keys.
    pub kek: Key,
    /// The key of keyed hashes and page tokens.
    pub lookup: Key,
}

/// The audit service.
#[derive(Debug, Clone, Copy)]
pub struct Audit;

impl Service for Audit {
    const NAME: &'static str = SERVICE;
    const PEERS: &'static [&'static str] = &["identity"];
    type Settings = Settings;

    fn keeps(config: &Config<Settings>) -> Result<Keeps, ConfigError> {
        let database = config.database()?;
        let witnesses = config.service.witnesses(config)?;
        let log = Database {
            partitions: Some(1),
            time_only_orders: true,
            more: Some(crate::fsck::log(witnesses.keys())),
            archive: Some(crate::archive::archive),
            ..Database::of(database, "log", MIGRATIONS, rows::log_tables())?
        };
        let ends = (follows(config)?, followed_by(config)?);
        let own = log.location.clone();
        let unseen = Remark::warn(
            "no witness cosigns the log: a rollback of its database would not be seen by it, only by whoever kept a checkpoint",
            "name witnesses that others run under service.witnesses, and service.witnesses_required",
        );
        let seen = format!(
            "{} of the log's witnesses are required",
            config.service.witnesses_required
        );
        let remark = match config.service.witnesses.is_empty() {
            true => unseen,
            false => Remark::ok(seen),
        };
        let keys = Database {
            suffix: ".payload-keys",
            location: database.location_at(&keys_url(&config.service.keys_database, &database.url)?)?,
            partitions: Some(1),
            time_only_orders: true,
            ..Database::of(database, "payload keys", KEY_MIGRATIONS, rows::key_tables())?
        };
        Ok(Keeps {
            // The keys last: a key is there before the first payload that it seals.
            databases: vec![log, keys],
            keys: vec!["kek", "lookup"],
            signing_keys: vec!["log_key.pem".to_owned()],
            // The log tells nobody of itself.
            has_feed: false,
            remarks: vec![("witnesses", remark)],
            looks: Some(Box::new(move || {
                let remarks = turn::remarks(&own, ends.0.as_ref(), ends.1.as_ref());
                remarks.into_iter().map(|remark| ("half-year", remark)).collect()
            })),
        })
    }

    async fn build(start: Start<Settings>) -> Result<Built, StartError> {
        let parts = parts(&start)?;
        start.metrics.with(|registry| {
            parts.store.register_metrics(registry);
            parts
                .keys
                .register_metrics(registry.sub_registry_with_prefix("audit_keys"));
        });
        let facts = IdentityFacts::follow(&start)?;
        let witnesses = start.config.service.witnesses(&start.config)?;
        if witnesses.is_empty() {
            tracing::warn!(
                log = parts.origin,
                "no witness cosigns this log: a rollback of its database would not be seen by it, only by whoever kept a \
                 checkpoint"
            );
        }
        let previous_key = match start.config.secrets.has(PREVIOUS_KEY) {
            true => Some(start.config.secrets.pkcs8(PREVIOUS_KEY)?.1),
            false => None,
        };
        let beside = Beside {
            witnesses,
            previous_key,
            follows: follows(&start.config)?,
        };
        let tiles = match start.config.service.tiles_listen {
            Some(address) => Some(plain::listen("service.tiles_listen", address).await?),
            None => None,
        };
        if let Some(before) = &beside.follows {
            // What would keep it from beginning is told now, and not when events wait for it.
            let previous = beside.previous_key.as_ref().map(|der| der.as_slice());
            Log::check(&parts.origin, &parts.log_key, previous).map_err(StartError::other)?;
            let waiting = Waiting::new(parts.store.clone(), before.clone());
            let begins = waiting.until_it_can_begin(|why| start.not_ready(why)).await;
            begins.map_err(StartError::other)?;
        }
        let log = open_with(&parts, beside).await?;
        start.metrics.with(|registry| log.register_metrics(registry));
        // Before it takes anything: another log may have begun to.
        let mut turn = Turn::new(Arc::clone(&log), followed_by(&start.config)?);
        turn.try_round().await;
        start.tasks.spawn(turn.keep(start.shutdown.clone()));
        if let Some(listener) = tiles {
            start
                .tasks
                .spawn(http::serve(Arc::clone(&log), listener, start.shutdown.clone()));
        }
        start.tasks.spawn(sign(Arc::clone(&log), start.shutdown.clone()));
        let known = facts.clone();
        let purged = move || known.deleted_accounts();
        start
            .tasks
            .spawn(sweep(Arc::clone(&log), purged, start.shutdown.clone()));
        start.tasks.spawn(cosign(Arc::clone(&log), start.shutdown.clone()));
        start.tasks.spawn({
            let (log, stop) = (Arc::clone(&log), start.shutdown.clone());
            async move { log.follow(stop).await }
        });
        let ready = facts.ready();
        for store in [&parts.store, &parts.keys] {
            let pruning = upkeep(store.clone(), Pruning::default(), start.shutdown.clone());
            start.tasks.spawn(pruning);
        }
        let built = Built::new(served(log, &parts.lookup), Arc::new(facts)).ready(ready);
        Ok(built.ready(parts.store.readiness()).ready(parts.keys.readiness()))
    }
}

/// Opens the log of `parts`.
///
/// # Errors
/// When the key or origin is not the one it was begun with.
pub async fn open(parts: &Parts) -> Result<Arc<Log>, StartError> {
    open_with(parts, Beside::default()).await
}

/// What a log may have beside its parts.
#[derive(Default)]
pub struct Beside {
    /// Who cosigns.
    pub witnesses: Witnesses,
    /// The key that the present one replaces; both sign while it is there.
    pub previous_key: Option<Zeroizing<Vec<u8>>>,
    /// The database of the log that it goes on from.
    pub follows: Option<Location>,
}

/// The same with witnesses, or while its key is replaced.
///
/// # Errors
/// As [`open`].
pub async fn open_with(parts: &Parts, beside: Beside) -> Result<Arc<Log>, StartError> {
    let keyring = Keyring::new(parts.keys.clone(), &parts.kek);
    let log = Log::open(
        parts.store.clone(),
        keyring,
        &parts.origin,
        &parts.log_key,
        beside.previous_key.as_ref().map(|der| der.as_slice()),
        &parts.lookup,
        beside.follows,
    )
    .await;
    log.map(|log| Arc::new(log.witnessed(beside.witnesses)))
        .map_err(StartError::other)
}

/// The RPCs over `log`.
pub fn served(log: Arc<Log>, lookup: &Key) -> Served {
    let rpc = Rpc::new(log, lookup);
    Served::new()
        .add(LogServiceServer::new(rpc.clone()))
        .add(ProofServiceServer::new(rpc.clone()))
        .add(SubjectServiceServer::new(rpc.clone()))
        .add(RetentionServiceServer::new(rpc))
}

/// Erases again what a restore brought back, then what is due, until `stop`. `deleted` tells the accounts that are deleted,
/// and whether their data is destroyed.
async fn sweep(log: Arc<Log>, deleted: impl Fn() -> Vec<(AccountId, bool)> + Send, stop: CancellationToken) {
    let mut each = tokio::time::interval(SWEEP_EVERY);
    each.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut rounds = Rounds::default();
    while stop.run_until_cancelled(each.tick()).await.is_some() {
        let purged = deleted().into_iter().filter(|(_, purged)| *purged).map(|(id, _)| id);
        if let Err(refusal) = rounds.round(&log, purged.collect()).await {
            tracing::warn!(
                reason = refusal.reason.as_str(),
                "not all that is due is erased yet; trying again"
            );
        }
    }
}

/// Signs the log each second if it grew, until `stop`.
pub async fn sign(log: Arc<Log>, stop: CancellationToken) {
    let mut each = tokio::time::interval(SIGN_EVERY);
    each.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = each.tick() => {}
        }
        if let Err(refusal) = log.newest().await {
            // A frozen log was reported when it froze; what storage does not let us do now is tried again.
            if refusal.reason != Reason::LogFrozen {
                tracing::warn!(
                    reason = refusal.reason.as_str(),
                    "the log could not be signed; trying again"
                );
            }
        }
    }
}

/// Has the log cosigned each second if it was signed or a witness is behind, until `stop`.
async fn cosign(log: Arc<Log>, stop: CancellationToken) {
    if log.witnesses.is_empty() {
        return;
    }
    let mut each = tokio::time::interval(SIGN_EVERY);
    each.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(each.tick()).await.is_some() {
        match log.cosign().await {
            Ok(()) => {}
            // It was reported when it froze.
            Err(refusal) if refusal.reason == Reason::LogFrozen => {}
            Err(refusal) => tracing::warn!(reason = refusal.reason.as_str(), "no cosignatures; trying again"),
        }
    }
}

fn parts(start: &Start<Settings>) -> Result<Parts, StartError> {
    let config = &start.config;
    let (kek, lookup) = (config.secrets.key("kek")?, config.secrets.key("lookup")?);
    let database = config.database()?;
    let keys_url = keys_url(&config.service.keys_database, &database.url)?;
    let clock = &start.clock;
    let store = open_store(database, &database.url, lookup.derive("log store"), clock, MIGRATIONS)?;
    let keys = open_store(database, &keys_url, lookup.derive("key store"), clock, KEY_MIGRATIONS)?;
    let (_, log_key) = config.secrets.pkcs8("log_key.pem")?;
    Ok(Parts {
        store,
        keys,
        origin: config.service.origin.clone(),
        log_key,
        kek,
        lookup,
    })
}

/// The database that this log goes on from.
fn follows(config: &Config<Settings>) -> Result<Option<Location>, ConfigError> {
    another(config, "service.follows", config.service.follows.as_ref())
}

/// The database of the log that goes on from this one.
fn followed_by(config: &Config<Settings>) -> Result<Option<Location>, ConfigError> {
    let (before, next) = (&config.service.follows, &config.service.followed_by);
    let database = config.database()?;
    let [before, after] = [before, next].map(|url| url.as_ref().map(|url| database.anchored(url)));
    if after.is_some() && before == after {
        let what = "service.followed_by must be another database than service.follows";
        return Err(ConfigError(what.to_owned()));
    }
    another(config, "service.followed_by", next.as_ref())
}

/// The database of another log.
fn another(config: &Config<Settings>, key: &str, url: Option<&String>) -> Result<Option<Location>, ConfigError> {
    let Some(url) = url else { return Ok(None) };
    let database = config.database()?;
    let url = database.anchored(url);
    if url == database.url {
        return Err(ConfigError(format!("{key} must be another database than database.url")));
    }
    database.location_at(&url).map(Some)
}

/// A log is one partition, and so is the database of its keys: one lane. A log goes on whatever its clock does: nothing of it is
/// over by the time of its head, and what is not taken in is not proved.
fn open_store(
    config: &DatabaseConfig,
    url: &str,
    key: Key,
    clock: &Arc<dyn Clock>,
    migrations: sammati_store::EmbeddedMigrations,
) -> Result<Store, StartError> {
    let options = Options {
        lanes: 1,
        partitions: Some(1),
        time_only_orders: true,
        ..config.options_at(url, key)?
    };
    Store::open(&options, Arc::clone(clock), migrations).map_err(StartError::other)
}

/// Where the key database is; a relative file lies beside that of the log.
fn keys_url(keys: &str, log: &str) -> Result<String, ConfigError> {
    let url = match (keys.strip_prefix("sqlite:"), log.strip_prefix("sqlite:")) {
        (Some(file), Some(log)) => {
            let folder = Path::new(log).parent().unwrap_or(Path::new(""));
            format!("sqlite:{}", folder.join(file).display())
        }
        (None, None) => keys.to_owned(),
        _ => {
            let what = "service.keys_database must be of the same kind as database.url: both files or both Postgres";
            return Err(ConfigError(what.to_owned()));
        }
    };
    if url == log {
        return Err(ConfigError(
            "service.keys_database must be another database than database.url".to_owned(),
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(service: &str) -> Config<Settings> {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ntrust_domain = \"sammati.test\"\n\
             [database]\nurl = \"sqlite:2026h2.db\"\n[service]\norigin = \"sammati.test/audit\"\n\
             keys_database = \"sqlite:keys.db\"\n{service}"
        );
        Config::parse(&text, Path::new("conf/audit.toml")).unwrap()
    }

    #[test]
    fn the_logs_before_and_after_lie_where_all_paths_of_the_configuration_start() {
        let config = config("follows = \"sqlite:2026h1.db\"\nfollowed_by = \"sqlite:/var/2027h1.db\"");
        for (found, wanted) in [
            (follows(&config), "conf/2026h1.db"),
            (followed_by(&config), "/var/2027h1.db"),
        ] {
            let Some(Location::Sqlite(path)) = found.unwrap() else {
                panic!("no file")
            };
            assert_eq!(path, Path::new(wanted));
        }
    }

    #[test]
    fn a_log_does_not_follow_itself() {
        assert!(follows(&config("follows = \"sqlite:2026h2.db\"")).is_err());
        let both = "follows = \"sqlite:other.db\"\nfollowed_by = \"sqlite:other.db\"";
        assert!(followed_by(&config(both)).is_err());
    }
}
