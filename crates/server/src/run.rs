//! How does a service start and stop? One shape for all: configuration, admin port, build, serve, drain, end.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use sammati_kernel::{Clock, Refusal, SystemClock};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::{Bounds, Door};
use crate::authn::{Authenticate, TokenFacts};
use crate::authz::Table;
use crate::config::{Config, ConfigError};
use crate::credentials::Credentials;
use crate::gate::Gate;
use crate::life::Life;
use crate::metrics::Metrics;
use crate::plain::listen;
use crate::rate::{Limiter, Rates};
use crate::served::Served;
use crate::stack::{Parts, stack};
use crate::tls::Peers;
use crate::trace::Meter;
use crate::verbs::{Again, Keeps};

/// A service: its name, its settings, and how it is made.
pub trait Service: Sized + 'static {
    /// `identity`, `consent`, `audit` or `sandbox`: its SPIFFE name and the audience of its tokens.
    const NAME: &'static str;

    /// Whom it calls: all that may stand under `[peers]`.
    const PEERS: &'static [&'static str];

    /// The table `[service]` of its configuration; with `deny_unknown_fields`.
    type Settings: DeserializeOwned + Send + 'static;

    /// What it keeps, for the operator's verbs; also the place to refuse settings that are not good.
    ///
    /// # Errors
    /// What is not good in the configuration.
    fn keeps(_config: &Config<Self::Settings>) -> Result<Keeps, ConfigError> {
        Ok(Keeps::default())
    }

    /// Does again what its database lost in a restore and the log proves, as far as it took something away from somebody:
    /// time only takes away. Harmless when it is done twice. Tells what it did, a line for each.
    fn again(_again: Again) -> impl Future<Output = Result<Vec<String>, Refusal>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Opens what it needs and makes its RPCs. Health says NOT_SERVING until it returns.
    fn build(start: Start<Self::Settings>) -> impl Future<Output = Result<Built, StartError>> + Send;
}

/// What a service is made from.
pub struct Start<T> {
    /// The whole configuration.
    pub config: Config<T>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where to register metrics.
    pub metrics: Metrics,
    /// Cancelled when background tasks must end: after the last call was answered.
    pub shutdown: CancellationToken,
    /// Where to spawn background tasks: the process waits for them.
    pub tasks: TaskTracker,
    /// The services it calls.
    pub peers: Peers,
    /// What `/readyz` says until it serves.
    pub(crate) readiness: watch::Sender<Readiness>,
}

impl<T> Start<T> {
    /// Tells `/readyz` why building takes as long as it does.
    pub fn not_ready(&self, why: &str) {
        self.readiness.send_replace(Readiness::NotReady(why.to_owned()));
    }
}

/// Whether the service can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, and why.
    NotReady(String),
}

impl Readiness {
    /// Whether all are ready; if not, every reason.
    pub(crate) fn all<'a>(sources: impl IntoIterator<Item = &'a Self>) -> Self {
        let reasons: Vec<&str> = sources
            .into_iter()
            .filter_map(|source| match source {
                Self::Ready => None,
                Self::NotReady(why) => Some(why.as_str()),
            })
            .collect();
        if reasons.is_empty() {
            Self::Ready
        } else {
            Self::NotReady(reasons.join("; "))
        }
    }
}

impl From<Result<(), String>> for Readiness {
    fn from(said: Result<(), String>) -> Self {
        said.map_or_else(Self::NotReady, |()| Self::Ready)
    }
}

/// A service that was made.
pub struct Built {
    served: Served,
    token_facts: Arc<dyn TokenFacts>,
    ready: Vec<BoxStream<'static, Readiness>>,
    on_drained: Option<BoxFuture<'static, ()>>,
}

impl Built {
    /// RPCs, and what their tokens are judged by.
    pub fn new(served: Served, token_facts: Arc<dyn TokenFacts>) -> Self {
        Self {
            served,
            token_facts,
            ready: Vec::new(),
            on_drained: None,
        }
    }

    /// Ready only while `ready` says so, and all others that were named do; without any it is always ready. A store
    /// says it as `Result<(), String>`.
    #[must_use]
    pub fn ready<R>(mut self, ready: watch::Receiver<R>) -> Self
    where
        R: Into<Readiness> + Clone + Send + Sync + 'static,
    {
        self.ready.push(WatchStream::new(ready).map(Into::into).boxed());
        self
    }

    /// What to do last, after calls and background tasks have ended.
    #[must_use]
    pub fn on_drained(mut self, last: impl Future<Output = ()> + Send + 'static) -> Self {
        self.on_drained = Some(Box::pin(last));
        self
    }
}

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A method it serves does not say who may call it.
    #[error(transparent)]
    Access(#[from] sammati_api::access::AccessError),
    /// Its configuration is not good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It cannot listen.
    #[error("{key} = {address}: {error}")]
    Listen {
        /// `server.listen` or `server.admin_listen`.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// Anything else, as a sentence.
    #[error("{0}")]
    Other(String),
}

impl StartError {
    /// Anything else, as a sentence.
    pub fn other(what: impl std::fmt::Display) -> Self {
        Self::Other(what.to_string())
    }
}

/// The whole life of a service process: 0 after an orderly end, 2 for a bad configuration, 1 for anything else.
pub fn main<S: Service>(config: &Path) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::other)
        .and_then(|runtime| runtime.block_on(serve::<S>(config)));
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    // Not by the log: it may not have begun.
    let _ = writeln!(std::io::stderr(), "{} does not run: {error}", S::NAME);
    ExitCode::from(if matches!(error, StartError::Config(_)) { 2 } else { 1 })
}

/// Runs a service until SIGTERM or SIGINT.
///
/// # Errors
/// Why it did not start.
pub async fn serve<S: Service>(config: &Path) -> Result<(), StartError> {
    let config = Config::<S::Settings>::load(config)?;
    crate::log::init(&config.log)?;
    let listener = listen("server.listen", config.server.listen).await?;
    let admin = listen("server.admin_listen", config.server.admin_listen).await?;
    // Before the service is ready: a signal that comes while it starts must not be lost.
    let mut stop = pin!(stop_signal()?);
    let running = tokio::select! {
        () = &mut stop => return Ok(()),
        running = serve_on::<S>(config, listener, admin, Arc::new(SystemClock)) => running?,
    };
    // For people and scripts that wait for it; nobody may be reading.
    let _ = writeln!(std::io::stdout(), "ready: {} on {}", S::NAME, running.address);
    stop.await;
    tracing::info!("draining");
    running.shutdown().await;
    Ok(())
}

fn stop_signal() -> Result<impl Future<Output = ()>, StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::other)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::other)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A service that runs in this process.
#[derive(Debug)]
pub struct Running {
    /// Where its RPCs are.
    pub address: SocketAddr,
    /// Where health and metrics are.
    pub admin_address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Running {
    /// Drains and ends it; returns when nothing of it runs any more.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "the service did not end well");
        }
    }
}

/// Runs a service on given listeners and a given clock: the same path as [`serve`], for tests and for several services
/// in one process.
///
/// # Errors
/// Why it did not start.
pub async fn serve_on<S: Service>(
    config: Config<S::Settings>,
    listener: TcpListener,
    admin_listener: TcpListener,
    clock: Arc<dyn Clock>,
) -> Result<Running, StartError> {
    // An error means that it is installed already: there is only one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    config.expect_peers(S::PEERS)?;
    let address = listener.local_addr().map_err(StartError::other)?;
    let admin_address = admin_listener.local_addr().map_err(StartError::other)?;
    let credentials = config.server.tls.as_ref().map(Credentials::load).transpose()?;
    if credentials.is_none() && !config.server.insecure_plaintext && !address.ip().is_loopback() {
        return Err(StartError::other(format!(
            "plaintext is refused on {address}; set [server.tls]"
        )));
    }
    let metrics = Metrics::default();
    let start = Start {
        peers: Peers::new(config.peers.clone(), credentials.clone()),
        readiness: watch::Sender::new(Readiness::NotReady("starting".to_owned())),
        clock: clock.clone(),
        metrics: metrics.clone(),
        shutdown: CancellationToken::new(),
        tasks: TaskTracker::new(),
        config,
    };
    let server = start.config.server.clone();
    let mut life = Life::begin(&start, admin_listener, Duration::from_secs(server.drain_seconds));
    if let Some(credentials) = credentials.clone() {
        let shutdown = start.shutdown.clone();
        start
            .tasks
            .spawn(async move { shutdown.run_until_cancelled(credentials.follow()).await });
    }
    let built = S::build(start).await?;
    let names = built.served.names().to_vec();
    let meter = Meter::new(&metrics);
    let limiter = Limiter::new(
        Rates::of(&server.limits),
        clock.clone(),
        built.token_facts.clone(),
        &metrics,
    );
    let authenticate = Authenticate::new(S::NAME, clock, built.token_facts);
    let parts = Parts {
        meter: meter.clone(),
        limiter,
        authenticate: authenticate.clone(),
    };
    let gate = Gate::new(Table::new(&names)?, &server.limits, meter, authenticate);
    metrics.with(|registry| registry.register_collector(Box::new(gate.places())));
    let door = Door {
        listener,
        credentials,
        trust_domain: server.trust_domain.into(),
        bounds: Bounds::of(&server.limits),
        gate,
        stack: stack(parts, built.served.routes()?),
        draining: life.draining.clone(),
        closing: life.closing.clone(),
        open: life.open.clone(),
    };
    life.open.spawn(door.serve());
    life.on_drained = built.on_drained;
    life.follow(built.ready, names).await;
    let stop = CancellationToken::new();
    let ended = tokio::spawn(life.live(stop.clone()));
    Ok(Running {
        address,
        admin_address,
        stop,
        ended,
    })
}
