//! HTTP/2 over TLS without a gRPC client in between: headers as the test wants them, and what the server itself says.

use std::collections::HashMap;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::http::{HeaderMap, Request};
use tonic::{Code, Status};

use crate::world::World;

/// A connection.
pub(crate) struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Connects to `service`, with the certificate called `certificate` if there is one.
    pub(crate) async fn open(world: &World, service: &str, certificate: Option<&str>) -> Self {
        let socket = TcpStream::connect(address(world, service)).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(tls(world, certificate)));
        let stream = connector.connect(name, socket).await.expect("a handshake");
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Posts one message to `path`; what the server ended the call with, or why there is no answer.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        headers: &HashMap<&str, String>,
        message: &[u8],
    ) -> Result<(), Status> {
        let mut request = Request::post(format!("https://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(framed(message))).expect("a request");
        let lost = |error: hyper::Error| Status::unavailable(format!("no answer: {error}"));
        let response = self.0.send_request(request).await.map_err(lost)?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            return Err(Status::unknown(format!("HTTP {}", head.status)));
        }
        let collected = body.collect().await.map_err(lost)?;
        let ended = ended(&head.headers).or_else(|| collected.trailers().and_then(ended));
        match ended.unwrap_or_else(|| Status::unknown("neither headers nor trailers say how it ended")) {
            status if status.code() == Code::Ok => Ok(()),
            status => Err(status),
        }
    }
}

fn ended(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

/// `host:port` of a service.
pub(crate) fn address(world: &World, service: &str) -> String {
    world.url(service).trim_start_matches("https://").to_owned()
}

/// A message as gRPC frames it: uncompressed, with its length.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0], &length.to_be_bytes()[..], message].concat().into()
}

/// TLS as a client of the development authority.
pub(crate) fn tls(world: &World, certificate: Option<&str>) -> ClientConfig {
    let folder = &world.story.addresses.folder;
    let read = |file: String| CertificateDer::from_pem_file(folder.join(file)).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(read("ca.pem".into())).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}-key.pem"))).expect("a key");
            builder
                .with_client_auth_cert(vec![read(format!("{name}.pem"))], key)
                .expect("a certificate and its key")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
