//! Callers: who holds the connection, and whose token it carries.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use sammati_api::identity::v1 as identity;
use sammati_server::tls::{dialler, plain};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A connection that says whose token it carries.
pub type Wire = InterceptedService<Channel, Bearer>;

/// Where the services are, `https://127.0.0.1:port`, and the folder with the certificates.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Certificates: `ca.pem`, `{name}.pem`, `{name}-key.pem`.
    pub folder: PathBuf,
    /// The identity service.
    pub identity: String,
    /// The consent service; replicas beside it are in [`Addresses::consents`].
    pub consent: String,
    /// All replicas of the consent service, the first one included.
    pub consents: Vec<String>,
    /// All replicas of the identity service.
    pub identities: Vec<String>,
    /// The audit service.
    pub audit: String,
    /// The sandbox service.
    pub sandbox: String,
}

/// Puts `authorization: Bearer` on each call.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// With this token.
    pub fn new(token: &str) -> Self {
        Self(format!("Bearer {token}").parse().ok())
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A connection to `url`, with the certificate called `name` if there is one; lazily made, as services make theirs.
///
/// # Errors
/// When a certificate cannot be read.
pub fn channel(folder: &Path, name: Option<&str>, url: &str) -> Result<Channel, Failure> {
    let tls = tls(folder, name)?;
    let endpoint = plain(url)?
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(60));
    Ok(endpoint.connect_with_connector_lazy(dialler(move || tls.clone())))
}

/// TLS as a caller has it: the certificate called `name` if there is one, and the authority in `folder`.
///
/// # Errors
/// When a certificate cannot be read.
pub fn tls(folder: &Path, name: Option<&str>) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem"))?)?;
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match name {
        None => config.with_no_client_auth(),
        Some(name) => {
            let chain = CertificateDer::pem_file_iter(folder.join(format!("{name}.pem")))?;
            let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}-key.pem")))?;
            config.with_client_auth_cert(chain.collect::<Result<_, _>>()?, key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Who calls: a certificate, and for each service a token.
#[derive(Clone)]
pub struct Who {
    /// The name of the certificate.
    pub certificate: Option<String>,
    /// Tokens by audience.
    pub tokens: HashMap<String, String>,
    channels: HashMap<String, Channel>,
    addresses: Addresses,
}

impl Who {
    /// Somebody with this certificate and no token yet.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn new(
        addresses: &Addresses,
        certificate: Option<&str>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut channels = HashMap::new();
        let single = [&addresses.audit, &addresses.sandbox];
        for url in addresses.consents.iter().chain(&addresses.identities).chain(single) {
            channels.insert(url.clone(), channel(&addresses.folder, certificate, url)?);
        }
        let certificate = certificate.map(ToOwned::to_owned);
        Ok(Self {
            certificate,
            tokens: HashMap::new(),
            channels,
            addresses: addresses.clone(),
        })
    }

    /// The same caller, with other tokens.
    #[must_use]
    pub fn with(&self, tokens: &[identity::AccessToken]) -> Self {
        let tokens = tokens.iter().map(|t| (t.audience.clone(), t.token.clone())).collect();
        Self { tokens, ..self.clone() }
    }

    /// A connection to the service at `url`, with the token for `audience`.
    pub fn wire(&self, audience: &str, url: &str) -> Wire {
        let bearer = self
            .tokens
            .get(audience)
            .map_or_else(Bearer::default, |token| Bearer::new(token));
        Wire::new(self.channels[url].clone(), bearer)
    }

    /// The identity service.
    pub fn identity(&self) -> Wire {
        self.wire("identity", &self.addresses.identity)
    }

    /// The consent service.
    pub fn consent(&self) -> Wire {
        self.wire("consent", &self.addresses.consent)
    }

    /// The `n`th replica of the consent service, going round.
    pub fn consent_at(&self, n: usize) -> Wire {
        self.wire("consent", &self.addresses.consents[n % self.addresses.consents.len()])
    }

    /// The `n`th replica of the identity service, going round.
    pub fn identity_at(&self, n: usize) -> Wire {
        self.wire(
            "identity",
            &self.addresses.identities[n % self.addresses.identities.len()],
        )
    }

    /// The audit service.
    pub fn audit(&self) -> Wire {
        self.wire("audit", &self.addresses.audit)
    }

    /// The sandbox.
    pub fn sandbox(&self) -> Wire {
        self.wire("sandbox", &self.addresses.sandbox)
    }
}
