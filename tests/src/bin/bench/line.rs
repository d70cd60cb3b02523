//! A caller's connection, as cheap as HTTP/2 over TLS can be: heads written once, no task and no timer for a call. What a
//! comfortable client costs would be measured as the service's.

use std::net::SocketAddr;
use std::path::Path;
use std::task::Poll;

use futures::future::poll_fn;
use h2::RecvStream;
use h2::client::{self, ResponseFuture, SendRequest};
use http::{HeaderMap, HeaderValue, Request};
use prost::bytes::{BufMut, Bytes, BytesMut};
use rustls::pki_types::ServerName;
use sammati_server::Gathering;
use sammati_tests::caller::tls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::measure::Failure;

/// Window of one answer, and of all on a connection: neither is ever what is waited for.
const WINDOWS: (u32, u32) = (64 * 1024, 16 * 1024 * 1024);

/// One connection, and the method that is called over it.
pub(crate) struct Line {
    send: SendRequest<Bytes>,
    head: Request<()>,
}

/// What a caller brings: the folder of the certificates, the name of its own, a token.
pub(crate) struct Credential<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) token: &'a str,
}

impl Line {
    /// To the service at `url`, for calls of `path`.
    pub(crate) async fn open(url: &str, path: &str, credential: &Credential<'_>) -> Result<Self, Failure> {
        let at: SocketAddr = url.trim_start_matches("https://").parse()?;
        let socket = TcpStream::connect(at).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(tls(credential.folder, Some(credential.name))?)
            .connect(name, socket)
            .await?;
        let (send, connection) = client::Builder::new()
            .initial_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .handshake(Gathering::new(stream))
            .await?;
        tokio::spawn(connection);
        let head = Request::post(format!("{url}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", credential.token))
            .body(())?;
        Ok(Self {
            send: send.ready().await?,
            head,
        })
    }

    /// Sends a call, unless as many are open as the service allows on a connection.
    pub(crate) async fn try_call(
        &mut self,
        message: impl FnOnce() -> Bytes,
    ) -> Result<Option<ResponseFuture>, h2::Error> {
        if poll_fn(|cx| Poll::Ready(self.send.poll_ready(cx))).await?.is_pending() {
            return Ok(None);
        }
        let mut head = Request::new(());
        head.method_mut().clone_from(self.head.method());
        head.uri_mut().clone_from(self.head.uri());
        head.headers_mut().clone_from(self.head.headers());
        let (response, mut body) = self.send.send_request(head, false)?;
        body.send_data(message(), true)?;
        Ok(Some(response))
    }
}

/// A message with gRPC's prefix.
pub(crate) fn framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// Where an answer's status is: its headers, if it has nothing else, or its trailers.
pub(crate) async fn status(answer: ResponseFuture) -> Result<HeaderMap, h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    if head.headers.contains_key("grpc-status") {
        return Ok(head.headers);
    }
    read(&mut body).await?;
    Ok(body.trailers().await?.unwrap_or_default())
}

async fn read(body: &mut RecvStream) -> Result<(), h2::Error> {
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece?.len())?;
    }
    Ok(())
}

/// The code in a status; `None` for one that is not there.
pub(crate) fn code(status: &HeaderMap) -> Option<&HeaderValue> {
    status.get("grpc-status")
}
