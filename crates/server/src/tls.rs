//! Who is at the other end? TLS with rustls and ring, client certificates, and the peer that one names.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use sammati_kernel::{ParticipantId, Peer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tower::Service;

use crate::channel::Channel;
use crate::config::ConfigError;
use crate::credentials::Credentials;
use crate::gather::Gathering;
use crate::shed::PeerLoad;

/// What is known of a connection, told once at its handshake. Found in the extensions of every request on it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The address at the other end.
    pub remote: IpAddr,
    /// Who that is, by its certificate.
    pub peer: Peer,
    /// The SPIFFE URI of the certificate, whoever it names.
    pub spiffe_id: Option<String>,
    /// The SHA-256 of the certificate's DER.
    pub certificate: Option<[u8; 32]>,
    /// Cancelled when it is to go: open streams end then.
    pub(crate) over: CancellationToken,
    /// The calls that the peer has in work.
    pub(crate) load: Arc<PeerLoad>,
}

impl Connection {
    /// The certificate's hash as in a token's `cnf`: base64url.
    pub fn x5t_s256(&self) -> Option<String> {
        self.certificate.map(|hash| URL_SAFE_NO_PAD.encode(hash))
    }
}

/// What a certificate says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) peer: Peer,
    pub(crate) spiffe_id: Option<String>,
    pub(crate) hash: [u8; 32],
}

/// Reads the one SPIFFE URI of a certificate that has verified already. A certificate without one, with several, or of
/// another trust domain has a hash and a URI, and is nobody of ours.
pub(crate) fn holder(certificate: &CertificateDer<'_>, trust_domain: &str) -> Holder {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, certificate).as_ref());
    let uris: Vec<String> = webpki::EndEntityCert::try_from(certificate)
        .map(|c| {
            c.valid_uri_names()
                .filter(|uri| uri.starts_with("spiffe://"))
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    let spiffe_id = match <[String; 1]>::try_from(uris) {
        Ok([only]) => Some(only),
        Err(_) => None,
    };
    let peer = spiffe_id
        .as_deref()
        .and_then(|uri| peer(uri, trust_domain))
        .unwrap_or(Peer::Anonymous);
    Holder { peer, spiffe_id, hash }
}

/// `spiffe://{trust domain}/{service|operator|participant}/{name}`.
pub(crate) fn peer(uri: &str, trust_domain: &str) -> Option<Peer> {
    let path = uri
        .strip_prefix("spiffe://")?
        .strip_prefix(trust_domain)?
        .strip_prefix('/')?;
    let (kind, name) = path.split_once('/')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return None;
    }
    match kind {
        "service" => Some(Peer::Service(name.to_owned())),
        "operator" => Some(Peer::Operator(name.to_owned())),
        "participant" => ParticipantId::parse(name).ok().map(Peer::Participant),
        _ => None,
    }
}

/// The services this one calls, by name. Channels connect when first used and again whenever they must.
#[derive(Clone)]
pub struct Peers {
    urls: BTreeMap<String, String>,
    credentials: Option<Arc<Credentials>>,
}

impl Peers {
    pub(crate) const fn new(urls: BTreeMap<String, String>, credentials: Option<Arc<Credentials>>) -> Self {
        Self { urls, credentials }
    }

    /// Whether `[peers]` names it.
    pub fn knows(&self, name: &str) -> bool {
        self.urls.contains_key(name)
    }

    /// Who serves what an operator's adapter does, as `kyc` or `messages`: a peer of that name, or the sandbox.
    pub fn provider(&self, name: &'static str) -> &'static str {
        if self.knows(name) { name } else { "sandbox" }
    }

    /// A channel to the service that goes on where `name` ends, if `[peers]` has one under `{name}_next`.
    ///
    /// # Errors
    /// When its URL is none.
    pub fn next(&self, name: &str) -> Result<Option<Channel>, ConfigError> {
        let next = format!("{name}_next");
        self.knows(&next).then(|| self.channel(&next)).transpose()
    }

    /// A channel to the service `name`, over which this service shows its own certificate. It does not connect yet.
    ///
    /// # Errors
    /// When `[peers]` does not name it, or its URL is none.
    pub fn channel(&self, name: &str) -> Result<Channel, ConfigError> {
        let url = self
            .urls
            .get(name)
            .ok_or_else(|| ConfigError(format!("peers.{name} is missing; it must be https://host:port")))?;
        let not_good =
            |error: tonic::transport::Error| ConfigError(format!("peers.{name} must be https://host:port: {error}"));
        let Some(credentials) = self.credentials.clone().filter(|_| url.starts_with("https://")) else {
            return Ok(bounded(Endpoint::from_shared(url.clone()).map_err(not_good)?)
                .connect_lazy()
                .into());
        };
        let endpoint = bounded(plain(url).map_err(not_good)?);
        Ok(endpoint
            .connect_with_connector_lazy(dialler(move || credentials.client()))
            .into())
    }
}

/// An endpoint that finds out by itself when the other side is gone.
fn bounded(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.urls.fmt(f)
    }
}

/// An endpoint for a [`dialler`]: to tonic it is plaintext, for tonic's own TLS keeps the certificate that it began with. The
/// other side reads `https` all the same.
///
/// # Errors
/// When the URL is none.
pub fn plain(url: &str) -> Result<Endpoint, tonic::transport::Error> {
    let origin = Endpoint::from_shared(url.to_owned())?.uri().clone();
    let endpoint = Endpoint::from_shared(url.replacen("https://", "http://", 1))?;
    Ok(endpoint.origin(origin))
}

/// Connects over TLS, with the certificate and authorities of the moment. What is said at once is written at once.
pub fn dialler(
    config: impl Fn() -> Arc<ClientConfig> + Send + 'static,
) -> impl Service<Uri, Response = TokioIo<Gathering<TlsStream<TcpStream>>>, Error = io::Error, Future: Send> + Send + 'static
{
    tower::service_fn(move |uri: Uri| {
        let connector = TlsConnector::from(config());
        async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let socket = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
            socket.set_nodelay(true)?;
            let stream = connector.connect(name, socket).await?;
            Ok(TokioIo::new(Gathering::new(stream)))
        }
    })
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::config::TlsConfig;

    #[tokio::test]
    async fn a_channel_shows_the_certificate_of_the_moment() {
        let folder = tempfile::tempdir().unwrap();
        let authority = sammati_testkit::Authority::new("sammati.test").unwrap();
        authority.write(folder.path()).unwrap();
        let renew = |path: &str| {
            let identity = authority.issue(path, &["127.0.0.1"]).unwrap();
            identity.write(folder.path(), "s").unwrap();
        };
        renew("service/consent");
        let credentials = Credentials::load(&TlsConfig::in_folder(folder.path())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let urls = [(
            "identity".to_owned(),
            format!("https://{}", listener.local_addr().unwrap()),
        )];
        let peers = Peers::new(urls.into(), Some(credentials.clone()));
        // A server of the first hour: it lets everybody in, looks at the certificate and hangs up.
        let acceptor = TlsAcceptor::from(credentials.server().0);
        let shown = async || {
            let (socket, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(socket).await.unwrap();
            let certificate = &stream.get_ref().1.peer_certificates().unwrap()[0];
            holder(certificate, "sammati.test").peer
        };
        let mut channel = peers.channel("identity").unwrap();
        let mut call = async || {
            // Hung up on, as it must be.
            let request = http::Request::new(tonic::body::Body::empty());
            let _ = std::future::poll_fn(|cx| channel.poll_ready(cx)).await;
            let _ = channel.call(request).await;
        };
        for name in ["consent", "audit"] {
            renew(&format!("service/{name}"));
            credentials.refresh().unwrap();
            let ((), peer) = tokio::join!(call(), shown());
            assert_eq!(peer, Peer::Service(name.to_owned()));
        }
    }

    #[tokio::test]
    async fn who_goes_on_is_named_beside_the_one_before() {
        let url = |name: &str| (name.to_owned(), "http://127.0.0.1:1".to_owned());
        let peers = Peers::new(["identity", "audit", "audit_next"].map(url).into(), None);
        assert!(peers.next("audit").unwrap().is_some());
        assert!(peers.next("identity").unwrap().is_none());
    }

    fn of(path: &str) -> Holder {
        let authority = sammati_testkit::Authority::new("sammati.test").unwrap();
        let identity = authority.issue(path, &["127.0.0.1"]).unwrap();
        holder(
            &CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap(),
            "sammati.test",
        )
    }

    #[test]
    fn a_certificate_names_its_holder() {
        assert_eq!(of("service/consent").peer, Peer::Service("consent".into()));
        assert_eq!(of("operator/asha").peer, Peer::Operator("asha".into()));
        assert_eq!(
            of("participant/IN27001").peer,
            Peer::Participant(ParticipantId::parse("IN27001").unwrap())
        );
        assert_eq!(
            of("operator/asha").spiffe_id.as_deref(),
            Some("spiffe://sammati.test/operator/asha")
        );
    }

    #[test]
    fn another_domain_or_shape_is_nobody() {
        for path in ["king/asha", "operator/", "operator/a/b", "operator", "participant/-x"] {
            assert_eq!(of(path).peer, Peer::Anonymous, "{path}");
        }
        for uri in [
            "spiffe://sammati.test.evil/operator/x",
            "spiffe://evil/operator/x",
            "https://sammati.test/operator/x",
        ] {
            assert_eq!(peer(uri, "sammati.test"), None, "{uri}");
        }
    }
}
