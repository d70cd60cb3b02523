//! Stand-ins for the consent service: one that does nothing, with and without our server around it, and one that gives each
//! command its own transaction.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sammati_api::consent::v1::decision_service_server::{DecisionService, DecisionServiceServer};
use sammati_api::consent::v1::{self as consent, AuthorizeAccessRequest, CheckAccessRequest, Decision};
use sammati_consent::artefact::{ArtefactKey, ArtefactKeys};
use sammati_consent::directory::identity::{Follower, IdentityResolver};
use sammati_consent::recorded::Logs;
use sammati_consent::rows::MIGRATIONS;
use sammati_consent::{Consent, Parts, Rpc, Settings, background, served};
use sammati_server::messages::NoMessages;
use sammati_server::relay::Relay;
use sammati_server::{Built, IdentityFacts, Served, Service, Start, StartError};
use sammati_store::{Location, Options, Store};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{self, Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::measure::Failure;

/// Decides nothing: what the way to a handler costs, and nothing else. Same stack, mTLS and token as the consent
/// service's, for it has its name and its configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hollow;

#[tonic::async_trait]
impl DecisionService for Hollow {
    type StreamCheckAccessStream = tokio_stream::Empty<Result<consent::StreamCheckAccessResponse, Status>>;

    async fn batch_check_access(
        &self,
        _: Request<consent::BatchCheckAccessRequest>,
    ) -> Result<Response<consent::BatchCheckAccessResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn stream_check_access(
        &self,
        _: Request<tonic::Streaming<consent::StreamCheckAccessRequest>>,
    ) -> Result<Response<Self::StreamCheckAccessStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn explain_access(
        &self,
        _: Request<consent::ExplainAccessRequest>,
    ) -> Result<Response<consent::ExplainAccessResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn list_grantees(
        &self,
        _: Request<consent::ListGranteesRequest>,
    ) -> Result<Response<consent::ListGranteesResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn check_access(&self, _: Request<CheckAccessRequest>) -> Result<Response<Decision>, Status> {
        Ok(Response::new(Decision::default()))
    }

    async fn authorize_access(&self, _: Request<AuthorizeAccessRequest>) -> Result<Response<Decision>, Status> {
        Ok(Response::new(Decision::default()))
    }
}

impl Service for Hollow {
    const NAME: &'static str = "consent";
    const PEERS: &'static [&'static str] = Consent::PEERS;
    type Settings = Settings;

    async fn build(start: Start<Settings>) -> Result<Built, StartError> {
        let facts = IdentityFacts::follow(&start)?;
        let ready = facts.ready();
        Ok(Built::new(Served::new().add(DecisionServiceServer::new(Self)), Arc::new(facts)).ready(ready))
    }
}

/// [`Hollow`] behind tonic's own server, over mTLS, until it is dropped: no gate, trace, meter, deadline, token or rule.
pub(crate) struct Bare {
    /// Where it is.
    pub(crate) url: String,
    _server: JoinSet<Result<(), transport::Error>>,
}

impl Bare {
    /// With the certificates in `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self, Failure> {
        let read = |file: &str| std::fs::read(folder.join(file));
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("consent.pem")?, read("consent-key.pem")?))
            .client_ca_root(Certificate::from_pem(read("ca.pem")?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("https://{}", listener.local_addr()?);
        let router = Server::builder()
            .tls_config(tls)?
            .add_service(DecisionServiceServer::new(Hollow));
        let mut server = JoinSet::new();
        server.spawn(router.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
        Ok(Self { url, _server: server })
    }
}

/// The consent service, one transaction for each command: on Postgres on as many connections as a pool would have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PerRequest;

impl Service for PerRequest {
    const NAME: &'static str = "consent";
    const PEERS: &'static [&'static str] = Consent::PEERS;
    type Settings = Settings;

    async fn build(start: Start<Settings>) -> Result<Built, StartError> {
        let facts = IdentityFacts::follow(&start)?;
        let store = store(&start)?;
        let relay = start.metrics.with({
            let (store, audit) = (store.clone(), start.peers.channel("audit")?);
            move |registry| Relay::new(store, audit, Self::NAME, registry)
        });
        start.tasks.spawn(relay.run(start.shutdown.clone()));
        let rpc = Rpc::new(parts(&start, &facts, store.clone())?);
        start
            .tasks
            .spawn(background(rpc.clone(), store, start.shutdown.clone()));
        let ready = facts.ready();
        Ok(Built::new(served(&rpc), Arc::new(facts)).ready(ready))
    }
}

fn store(start: &Start<Settings>) -> Result<Store, StartError> {
    let url = start
        .config
        .database
        .as_ref()
        .map(|database| database.url.as_str())
        .unwrap_or_default();
    let location = Location::parse(url).map_err(StartError::Other)?;
    let key = start.config.secrets.key("lookup")?.derive("store");
    let options = Options {
        max_batch: 1,
        lanes: crate::store::POOL,
        ..Options::new(location, key)
    };
    Store::open(&options, Arc::clone(&start.clock), MIGRATIONS).map_err(StartError::other)
}

fn parts(start: &Start<Settings>, facts: &IdentityFacts, store: Store) -> Result<Parts, StartError> {
    let secrets = &start.config.secrets;
    let key = ArtefactKey {
        key: secrets.signing_key("artefact_key.pem")?,
        not_before: None,
        expire: None,
    };
    Ok(Parts {
        store,
        directory: Arc::new(Follower::new(facts.clone(), Duration::from_secs(30))),
        resolver: Arc::new(IdentityResolver::new(start.peers.channel("identity")?)),
        messages: Arc::new(NoMessages),
        logs: Logs::default(),
        artefact_keys: ArtefactKeys::new(key, Vec::new()),
        kek: secrets.key("kek")?,
        lookup: secrets.key("lookup")?,
        settings: start.config.service.clone(),
    })
}
