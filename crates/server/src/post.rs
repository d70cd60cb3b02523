//! Small HTTP requests to others: one POST at a time to one place, over a connection that is kept while it serves.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::ConfigError;

/// How long one exchange may take, the connection included.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// What a body is made of.
type Content = Full<std::io::Cursor<Vec<u8>>>;

/// Where requests are sent.
pub struct Post {
    uri: Uri,
    tls: Option<TlsConnector>,
    kept: Mutex<Option<SendRequest<Content>>>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: StatusCode,
    /// The body.
    pub body: Vec<u8>,
}

impl Post {
    /// To `url`. With https its certificate must be of an authority in `authorities`, PEM.
    ///
    /// # Errors
    /// When the URL is none, or https and no authority is given.
    pub fn new(url: &str, authorities: Option<&[u8]>) -> Result<Self, ConfigError> {
        let bad = |why: &str| ConfigError(format!("{url}: {why}"));
        let uri: Uri = url.parse().map_err(|_| bad("that is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => {
                let pem = authorities.ok_or_else(|| bad("https needs the authorities to believe"))?;
                Some(connector(pem).map_err(|why| bad(&why))?)
            }
            _ => return Err(bad("it must begin with https:// or http://")),
        };
        if uri.host().is_none() {
            return Err(bad("it names no host"));
        }
        Ok(Self {
            uri,
            tls,
            kept: Mutex::new(None),
        })
    }

    /// Whether what is sent can be read and changed on its way by others than this machine.
    pub fn is_open(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        self.tls.is_none() && !["127.0.0.1", "localhost", "[::1]"].contains(&host)
    }

    /// Sends `body`.
    ///
    /// # Errors
    /// A sentence, when there was no answer in time.
    pub async fn send(&self, body: Vec<u8>) -> Result<Answer, String> {
        let exchanged = timeout(PATIENCE, self.exchange(body)).await;
        exchanged.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
    }

    async fn exchange(&self, body: Vec<u8>) -> Result<Answer, String> {
        let mut kept = self.kept.lock().await;
        // One that was closed meanwhile is found out only by using it: then once more on a new one.
        if let Some(mut sender) = kept.take()
            && sender.ready().await.is_ok()
            && let Ok(answer) = self.over(&mut sender, body.clone()).await
        {
            *kept = Some(sender);
            return Ok(answer);
        }
        let mut sender = self.connect().await?;
        let answer = self.over(&mut sender, body).await?;
        *kept = Some(sender);
        Ok(answer)
    }

    async fn over(&self, sender: &mut SendRequest<Content>, body: Vec<u8>) -> Result<Answer, String> {
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, host)
            .body(Full::new(std::io::Cursor::new(body)))
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes().to_vec();
        Ok(Answer { status, body })
    }

    async fn connect(&self) -> Result<SendRequest<Content>, String> {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let socket = TcpStream::connect((host, port)).await;
        let socket = socket.map_err(|error| error.to_string())?;
        match &self.tls {
            None => begin(socket).await,
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
                let stream = tls.connect(name, socket).await.map_err(|error| error.to_string())?;
                begin(stream).await
            }
        }
    }
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Post({})", self.uri)
    }
}

async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<SendRequest<Content>, String> {
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // It ends when the sender is dropped, and tells the sender what went wrong.
    tokio::spawn(connection);
    Ok(sender)
}

fn connector(pem: &[u8]) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("the file of authorities has no certificate".to_owned());
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
