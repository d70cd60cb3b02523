//! How is a witness started?

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use sammati_log::checkpoint::Verifier;
use sammati_log::cosignature::Cosigner;
use sammati_server::authn::NoTokens;
use sammati_server::{Built, Config, ConfigError, Database, Keeps, Served, Service, Start, StartError, plain, upkeep};
use sammati_store::{Options, Pruning, Store};
use serde::Deserialize;

use super::book::{Book, MIGRATIONS, tables};

/// `[service]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The witness's name, as `witness.example/w1`; it stands before each of its signatures.
    pub name: String,
    /// Address and port of `add-checkpoint`, plain HTTP.
    pub witness_listen: SocketAddr,
    /// The logs that it witnesses.
    pub logs: Vec<KnownLog>,
}

/// A log that is witnessed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownLog {
    /// The first line of its checkpoints, if that is not the name of its key.
    pub origin: Option<String>,
    /// Its keys, `<name>+<id>+<key>`: one, or several while a key is replaced.
    pub vkeys: Vec<String>,
}

impl Settings {
    /// The logs by origin.
    fn logs(&self) -> Result<HashMap<String, Vec<Verifier>>, ConfigError> {
        let mut logs = HashMap::new();
        for log in &self.logs {
            let keys = log
                .vkeys
                .iter()
                .map(|vkey| Verifier::parse(vkey))
                .collect::<Result<Vec<_>, _>>();
            let keys = keys.map_err(|error| ConfigError(format!("service.logs.vkeys: {error}")))?;
            let first = keys.first().map(|key| key.name().to_owned());
            let first = first.ok_or_else(|| ConfigError("service.logs.vkeys: at least one".to_owned()))?;
            let origin = log.origin.clone().unwrap_or(first);
            if logs.insert(origin.clone(), keys).is_some() {
                return Err(ConfigError(format!("service.logs: {origin} stands there twice")));
            }
        }
        Ok(logs)
    }
}

/// The service.
#[derive(Debug, Clone, Copy)]
pub struct Witness;

impl Service for Witness {
    const NAME: &'static str = "witness";
    const PEERS: &'static [&'static str] = &[];
    type Settings = Settings;

    fn keeps(config: &Config<Settings>) -> Result<Keeps, ConfigError> {
        config.service.logs()?;
        let database = Database {
            partitions: Some(1),
            time_only_orders: true,
            ..Database::of(config.database()?, "witness", MIGRATIONS, tables())?
        };
        Ok(Keeps {
            databases: vec![database],
            keys: vec!["lookup"],
            signing_keys: vec!["witness_key.pem".to_owned()],
            ..Keeps::default()
        })
    }

    async fn build(start: Start<Settings>) -> Result<Built, StartError> {
        let (config, settings) = (&start.config, &start.config.service);
        let (_, der) = config.secrets.pkcs8("witness_key.pem")?;
        let cosigner = Cosigner::from_pkcs8(&settings.name, &der).map_err(StartError::other)?;
        let database = config.database()?;
        let key = config.secrets.key("lookup")?.derive("witness store");
        let options = Options {
            lanes: 1,
            partitions: Some(1),
            // What a checkpoint continues is no matter of time.
            time_only_orders: true,
            ..database.options_at(&database.url, key)?
        };
        let store = Store::open(&options, Arc::clone(&start.clock), MIGRATIONS).map_err(StartError::other)?;
        start.metrics.with(|registry| store.register_metrics(registry));
        start
            .tasks
            .spawn(upkeep(store.clone(), Pruning::default(), start.shutdown.clone()));
        let ready = store.readiness();
        let book = Arc::new(Book::new(store, cosigner, settings.logs()?));
        tracing::info!(vkey = book.vkey(), "logs that want cosignatures are given this key");
        let listener = plain::listen("service.witness_listen", settings.witness_listen).await?;
        start.tasks.spawn(super::serve(book, listener, start.shutdown.clone()));
        Ok(Built::new(Served::new(), Arc::new(NoTokens)).ready(ready))
    }
}
