//! Callers: who holds the connection, and whose token it carries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

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

/// A connection to `url`, with the certificate called `name` if there is one; lazily made.
///
/// # Errors
/// When a certificate cannot be read.
pub fn channel(
    folder: &Path,
    name: Option<&str>,
    url: &str,
) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
    let read = |file: String| std::fs::read(folder.join(file));
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem".into())?))
        .domain_name("localhost");
    if let Some(name) = name {
        tls = tls.identity(Identity::from_pem(
            read(format!("{name}.pem"))?,
            read(format!("{name}-key.pem"))?,
        ));
    }
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(60))
        .tls_config(tls)?;
    Ok(endpoint.connect_lazy())
}
