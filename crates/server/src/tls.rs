//! Who is at the other end? TLS with rustls and ring, client certificates, and the peer that one names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sammati_kernel::{ParticipantId, Peer};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::config::{ConfigError, TlsConfig, read};
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
fn peer(uri: &str, trust_domain: &str) -> Option<Peer> {
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

/// The server's side: HTTP/2 only; a client certificate may be absent, one that is shown must verify.
///
/// # Errors
/// Which file is not good, and what it must hold.
pub(crate) fn server(config: &TlsConfig) -> Result<Arc<rustls::ServerConfig>, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&config.certificate, "server.tls.certificate")?;
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|error| unreadable("server.tls.key", &config.key, "a private key, PEM", &error))?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(&config.client_ca, "server.tls.client_ca")? {
        roots.add(authority).map_err(|error| {
            unreadable(
                "server.tls.client_ca",
                &config.client_ca,
                "certificates of authorities",
                &error,
            )
        })?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| {
            unreadable(
                "server.tls.client_ca",
                &config.client_ca,
                "certificates of authorities",
                &error,
            )
        })?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError(format!("TLS cannot be set up: {error}")))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| {
            unreadable(
                "server.tls.key",
                &config.key,
                "the key of server.tls.certificate",
                &error,
            )
        })?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(tls))
}

fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(key, path, "certificates, PEM", &error))?;
    if found.is_empty() {
        return Err(unreadable(key, path, "certificates, PEM", &"there is none"));
    }
    Ok(found)
}

fn unreadable(key: &str, path: &Path, wanted: &str, why: &dyn std::fmt::Display) -> ConfigError {
    ConfigError(format!("{key}: the file {} must hold {wanted}: {why}", path.display()))
}

/// The services this one calls, by name. Channels connect when first used and again whenever they must.
#[derive(Clone)]
pub struct Peers {
    urls: BTreeMap<String, String>,
    tls: Option<ClientTlsConfig>,
}

impl Peers {
    /// # Errors
    /// When a TLS file cannot be read.
    pub(crate) fn new(urls: BTreeMap<String, String>, tls: Option<&TlsConfig>) -> Result<Self, ConfigError> {
        let tls = tls.map(client).transpose()?;
        Ok(Self { urls, tls })
    }

    /// Whether `[peers]` names it.
    pub fn knows(&self, name: &str) -> bool {
        self.urls.contains_key(name)
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
        let mut endpoint = Endpoint::from_shared(url.clone())
            .map_err(not_good)?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true);
        if url.starts_with("https://")
            && let Some(tls) = &self.tls
        {
            endpoint = endpoint.tls_config(tls.clone()).map_err(not_good)?;
        }
        Ok(endpoint.connect_lazy())
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.urls.fmt(f)
    }
}

/// The client's side: only our own authorities are believed, not the machine's.
fn client(config: &TlsConfig) -> Result<ClientTlsConfig, ConfigError> {
    let identity = Identity::from_pem(
        read(&config.certificate, "server.tls.certificate")?,
        read(&config.key, "server.tls.key")?,
    );
    let authority = Certificate::from_pem(read(&config.client_ca, "server.tls.client_ca")?);
    Ok(ClientTlsConfig::new().ca_certificate(authority).identity(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

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
