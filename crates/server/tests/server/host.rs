//! A service whose handlers do what the test says, and clients for it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};

use base64::Engine;
use futures::{Stream, StreamExt};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::feed_service_server::{FeedService, FeedServiceServer};
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::identity::v1::session_service_server::{SessionService, SessionServiceServer};
use sammati_kernel::jws::{PublicKey, SigningKey};
use sammati_kernel::{ManualClock, Micros, ParticipantId, Refusal};
use sammati_server::authn::TokenFacts;
use sammati_server::rate::Rates;
use sammati_server::token::{self, Claims};
use sammati_server::{Built, Config, Running, Served, Service, Start, StartError, authz, error, serve_on};
use sammati_testkit::{Authority, Identity};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status};

/// What `page_size` makes ListKeys do.
pub(crate) const PANIC: i32 = 13;
pub(crate) const WAIT: i32 = 77;

pub(crate) type Feed = mpsc::UnboundedReceiver<Result<api::WatchChangesResponse, Status>>;

/// The test's hand on the handlers.
#[derive(Clone, Default)]
pub(crate) struct Controls {
    pub(crate) entered: Arc<Notify>,
    pub(crate) release: Arc<Notify>,
    /// The streams that WatchChanges gives, one per call.
    pub(crate) feeds: Arc<Mutex<Vec<Feed>>>,
    /// The resume tokens that WatchChanges was called with.
    pub(crate) resumed: Arc<Mutex<Vec<String>>>,
    pub(crate) ended: Arc<Mutex<HashSet<String>>>,
    pub(crate) key: Option<PublicKey>,
    /// What every participant's row says.
    pub(crate) rates: Arc<Mutex<Rates>>,
    pub(crate) storage: Source,
    pub(crate) feed: Source,
}

/// Something that the service's readiness hangs on; well until the test says otherwise.
#[derive(Clone)]
pub(crate) struct Source(watch::Sender<Result<(), String>>);

impl Source {
    pub(crate) fn say(&self, now: Result<(), String>) {
        self.0.send_modify(|said| *said = now);
    }
}

impl Default for Source {
    fn default() -> Self {
        Self(watch::Sender::new(Ok(())))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    #[serde(skip)]
    controls: Controls,
}

pub(crate) struct Fake(pub(crate) Controls);

impl Service for Fake {
    const NAME: &'static str = "identity";
    const PEERS: &'static [&'static str] = &[];
    type Settings = Settings;

    async fn build(start: Start<Settings>) -> Result<Built, StartError> {
        let controls = start.config.service.controls;
        let served = Served::new()
            .add(SessionServiceServer::new(Self(controls.clone())))
            .add(FeedServiceServer::new(Self(controls.clone())));
        let (storage, feed) = (controls.storage.0.subscribe(), controls.feed.0.subscribe());
        Ok(Built::new(served, Arc::new(controls)).ready(storage).ready(feed))
    }
}

impl TokenFacts for Controls {
    fn key(&self, kid: &str) -> Option<PublicKey> {
        self.key.clone().filter(|key| key.kid == kid)
    }

    fn issuer(&self) -> Option<&str> {
        Some("identity")
    }

    fn ended(&self, claims: &Claims) -> bool {
        claims
            .sid
            .as_ref()
            .is_some_and(|sid| self.ended.lock().unwrap().contains(sid))
    }

    fn rates(&self, _: &ParticipantId) -> Rates {
        *self.rates.lock().unwrap()
    }
}

#[tonic::async_trait]
impl SessionService for Fake {
    async fn list_keys(
        &self,
        request: Request<api::ListKeysRequest>,
    ) -> Result<Response<api::ListKeysResponse>, Status> {
        match request.get_ref().page_size {
            PANIC => panic!("as the test wishes"),
            WAIT => {
                // It is waited for before the test knows of it: as many are let go as are told to, at once too.
                let mut release = pin!(self.0.release.notified());
                release.as_mut().enable();
                self.0.entered.notify_one();
                release.await;
            }
            n if n < 0 => return Err(error::status(Refusal::field("page_size", "at least 0"))),
            _ => {}
        }
        // Answers who it takes the caller for.
        let next_page_token = authz::caller(&request)?.id();
        Ok(Response::new(api::ListKeysResponse {
            keys: Vec::new(),
            next_page_token,
        }))
    }

    async fn exchange_token(
        &self,
        request: Request<api::ExchangeTokenRequest>,
    ) -> Result<Response<api::AccessToken>, Status> {
        let audience = authz::caller(&request)?.id();
        Ok(Response::new(api::AccessToken {
            audience,
            ..Default::default()
        }))
    }

    async fn revoke_sessions(
        &self,
        _: Request<api::RevokeSessionsRequest>,
    ) -> Result<Response<api::RevokeSessionsResponse>, Status> {
        Ok(Response::new(api::RevokeSessionsResponse { revoked_count: 1 }))
    }

    async fn create_session(&self, _: Request<api::CreateSessionRequest>) -> Result<Response<api::Session>, Status> {
        Ok(Response::new(api::Session::default()))
    }

    async fn refresh_session(&self, _: Request<api::RefreshSessionRequest>) -> Result<Response<api::Session>, Status> {
        Ok(Response::new(api::Session::default()))
    }

    async fn create_participant_session(
        &self,
        _: Request<api::CreateParticipantSessionRequest>,
    ) -> Result<Response<api::Session>, Status> {
        Ok(Response::new(api::Session::default()))
    }

    async fn authorize_action(
        &self,
        _: Request<api::AuthorizeActionRequest>,
    ) -> Result<Response<api::ActionToken>, Status> {
        Ok(Response::new(api::ActionToken::default()))
    }
}

#[tonic::async_trait]
impl FeedService for Fake {
    type WatchChangesStream = Pin<Box<dyn Stream<Item = Result<api::WatchChangesResponse, Status>> + Send>>;

    async fn watch_changes(
        &self,
        request: Request<api::WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        self.0.resumed.lock().unwrap().push(request.into_inner().resume_token);
        self.0.entered.notify_one();
        let feed = self.0.feeds.lock().unwrap().pop();
        let feed = feed.ok_or_else(|| error::internal("no feed left"))?;
        Ok(Response::new(
            futures::stream::unfold(feed, |mut feed| async { Some((feed.recv().await?, feed)) }).boxed(),
        ))
    }
}

/// A running service with its certificates, keys and clock.
pub(crate) struct Host {
    pub(crate) running: Running,
    pub(crate) controls: Controls,
    pub(crate) clock: ManualClock,
    pub(crate) signing: SigningKey,
    pub(crate) authority: Authority,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref()).unwrap()
}

impl Host {
    /// Serves TLS; `more` is added to `[server]`.
    pub(crate) async fn tls(more: &str) -> Self {
        Self::start(&format!(
            "{more}\n[server.tls]\ncertificate = \"s.pem\"\nkey = \"s-key.pem\"\nclient_ca = \"ca.pem\"\nreload_seconds = 1"
        ))
        .await
    }

    pub(crate) async fn plaintext(more: &str) -> Self {
        Self::start(more).await
    }

    async fn start(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("sammati.test").unwrap();
        authority.write(directory.path()).unwrap();
        authority
            .issue("service/identity", &["127.0.0.1"])
            .unwrap()
            .write(directory.path(), "s")
            .unwrap();
        let signing = signing_key();
        let controls = Controls {
            key: Some(signing.public()),
            ..Controls::default()
        };
        let clock = ManualClock::at(Micros::from_seconds(1_000_000));
        let mut config: Config<Settings> = config(more, directory.path());
        config.service.controls = controls.clone();
        let running = serve_on::<Fake>(config, port().await, port().await, Arc::new(clock.clone()))
            .await
            .unwrap();
        Self {
            running,
            controls,
            clock,
            signing,
            authority,
            directory,
        }
    }

    /// A certificate of the host's authority.
    pub(crate) fn certificate(&self, path: &str) -> Identity {
        self.authority.issue(path, &[]).unwrap()
    }

    /// A TLS channel that shows `identity`, if any.
    pub(crate) async fn channel(&self, identity: Option<&Identity>) -> Channel {
        self.channel_to(self.running.address, identity).await
    }

    /// The same to another service with a certificate of the host's authority.
    pub(crate) async fn channel_to(&self, address: SocketAddr, identity: Option<&Identity>) -> Channel {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.authority.pem()));
        if let Some(identity) = identity {
            tls = tls.identity(tonic::transport::Identity::from_pem(
                &identity.cert_pem,
                &identity.key_pem,
            ));
        }
        let url = format!("https://{address}");
        Endpoint::from_shared(url)
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    /// The certificate that the service shows.
    pub(crate) async fn shown(&self) -> CertificateDer<'static> {
        let socket = TcpStream::connect(self.running.address).await.unwrap();
        let name = self.running.address.ip().into();
        let stream = TlsConnector::from(self.tls_of_callers())
            .connect(name, socket)
            .await
            .unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    }

    /// TLS of callers who show no certificate.
    pub(crate) fn tls_of_callers(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap())
            .unwrap();
        let mut tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(tls)
    }

    pub(crate) async fn sessions(&self, path: &str) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel(Some(&self.certificate(path))).await)
    }

    pub(crate) async fn anonymous(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel(None).await)
    }

    /// Claims of a participant in the role HIP, good for 300 s.
    pub(crate) fn claims(&self) -> Claims {
        let now = sammati_kernel::Clock::now(&self.clock).seconds();
        Claims {
            iss: "identity".into(),
            aud: "identity".into(),
            sub: "participants/IN27001".into(),
            sid: Some("0192f0c1-7b1a-7000-8000-000000000001".into()),
            roles: vec!["HIP".into()],
            app: None,
            auth_time: None,
            iat: now,
            nbf: None,
            exp: now + 300,
            jti: "1".into(),
            cnf: None,
            act: None,
            rep: None,
        }
    }

    pub(crate) fn token(&self, claims: &Claims) -> String {
        token::issue(&self.signing, claims).unwrap()
    }
}

/// The hash of a certificate, as `cnf` has it.
pub(crate) fn x5t(identity: &Identity) -> String {
    let der = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &der))
}

pub(crate) fn config<S: serde::de::DeserializeOwned>(more: &str, directory: &Path) -> Config<S> {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ntrust_domain = \"sammati.test\"\n{more}\n[service]\n"
    );
    Config::parse(&text, &directory.join("identity.toml")).unwrap()
}

pub(crate) async fn port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// `message` with the bearer token `token`.
pub(crate) fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

pub(crate) fn keys(page_size: i32) -> api::ListKeysRequest {
    api::ListKeysRequest {
        page_size,
        page_token: String::new(),
    }
}

/// The code and reason of a refusal.
pub(crate) fn reason<T>(answer: Result<Response<T>, Status>) -> (tonic::Code, &'static str) {
    let status = answer.map(|_| ()).expect_err("a refusal");
    let refusal = error::refusal_of(&status).unwrap_or_else(|| panic!("without ErrorInfo: {status:?}"));
    (status.code(), refusal.reason.as_str())
}
