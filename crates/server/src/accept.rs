//! How does a connection begin and end? Accepting, handshakes that cannot block, HTTP/2 within bounds, draining.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use sammati_kernel::Peer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use crate::config::Limits;
use crate::credentials::Credentials;
use crate::gate::Gate;
use crate::gather::Gathering;
use crate::layer::Inner;
use crate::shed::Loads;
use crate::stay::Stay;
use crate::tls::{Connection, holder};
use crate::turn::{Calls, in_turn};
use crate::unasked::read_out;
use crate::unread::noted;

/// How long a connection may be open before its first call; one that never makes any is told to go, then closed.
const FIRST_CALL: Duration = Duration::from_secs(30);

/// How long it has to go.
const GOODBYE: Duration = Duration::from_secs(5);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections at once; a peer gets half of them.
    pub(crate) connections: usize,
    /// How long a connection may stay.
    pub(crate) stay: Duration,
    /// How long a TLS handshake may take.
    pub(crate) handshake: Duration,
    /// How long a piece of an answer may wait for its reader.
    pub(crate) unread: Duration,
}

impl Bounds {
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            connections: limits.connections,
            stay: Duration::from_secs(limits.connection_seconds.max(1)),
            handshake: Duration::from_secs(limits.handshake_seconds),
            unread: Duration::from_secs(limits.unread_seconds),
        }
    }
}

/// Everything that a listener needs.
pub(crate) struct Door<S> {
    pub(crate) listener: TcpListener,
    pub(crate) credentials: Option<Arc<Credentials>>,
    pub(crate) trust_domain: Arc<str>,
    pub(crate) bounds: Bounds,
    pub(crate) gate: Gate,
    pub(crate) stack: S,
    /// Stops accepting and lets calls in work finish.
    pub(crate) draining: CancellationToken,
    /// Closes what is still open.
    pub(crate) closing: CancellationToken,
    /// The connections.
    pub(crate) open: TaskTracker,
}

impl<S: Inner> Door<S> {
    /// Accepts until draining begins. Never waits for any one connection.
    pub(crate) async fn serve(self) {
        let places = Arc::new(Semaphore::new(self.bounds.connections.min(Semaphore::MAX_PERMITS)));
        let loads = Arc::new(Loads::default());
        loop {
            let accepted = tokio::select! {
                () = self.draining.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (socket, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The connection is gone already, or the process has no file handles left: those come back.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                tracing::warn!(%remote, "connection closed: too many are open");
                continue;
            };
            let guest = self.guest(loads.clone());
            let closing = self.closing.clone();
            self.open.spawn(async move {
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = guest.welcome(socket, remote) => {}
                }
                drop(place);
            });
        }
    }

    fn guest(&self, loads: Arc<Loads>) -> Guest<S> {
        let tls = self.credentials.as_ref().map(|c| c.server());
        Guest {
            tls: tls.map(|(tls, believed)| (TlsAcceptor::from(tls), believed)),
            trust_domain: self.trust_domain.clone(),
            gate: self.gate.clone(),
            stack: self.stack.clone(),
            draining: self.draining.clone(),
            loads,
            bounds: self.bounds,
        }
    }
}

/// One connection.
struct Guest<S> {
    /// With what is cancelled when it believes other authorities.
    tls: Option<(TlsAcceptor, CancellationToken)>,
    trust_domain: Arc<str>,
    gate: Gate,
    stack: S,
    draining: CancellationToken,
    loads: Arc<Loads>,
    bounds: Bounds,
}

impl<S: Inner> Guest<S> {
    async fn welcome(self, socket: TcpStream, remote: SocketAddr) {
        // Without it a small answer may wait for an acknowledgement; with an error the connection is dead anyway.
        let _ = socket.set_nodelay(true);
        let Some((tls, believed)) = &self.tls else {
            let connection = self.connection(None, remote);
            let stay = Stay::new(self.bounds.stay, &[], CancellationToken::new(), connection.over.clone());
            return self.talk(socket, connection, stay).await;
        };
        let handshake = tokio::select! {
            () = self.draining.cancelled() => return,
            handshake = timeout(self.bounds.handshake, tls.accept(socket)) => handshake,
        };
        match handshake {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let connection = self.connection(certificates.first(), remote);
                let stay = Stay::new(
                    self.bounds.stay,
                    certificates,
                    believed.clone(),
                    connection.over.clone(),
                );
                self.talk(stream, connection, stay).await;
            }
            Ok(Err(error)) => tracing::debug!(%remote, %error, "handshake failed"),
            Err(_) => tracing::debug!(%remote, "handshake not finished in time"),
        }
    }

    fn connection(&self, certificate: Option<&CertificateDer<'_>>, remote: SocketAddr) -> Connection {
        let holder = certificate.map(|certificate| holder(certificate, &self.trust_domain));
        let remote = remote.ip();
        let key = match &holder {
            Some(holder) => holder.spiffe_id.clone().unwrap_or_else(|| format!("{:?}", holder.hash)),
            None => remote.to_string(),
        };
        Connection {
            remote,
            over: self.draining.child_token(),
            load: self.loads.of(&key),
            certificate: holder.as_ref().map(|h| h.hash),
            peer: holder.as_ref().map_or(Peer::Anonymous, |h| h.peer.clone()),
            spiffe_id: holder.and_then(|h| h.spiffe_id),
        }
    }

    async fn talk<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: I, connection: Connection, stay: Stay) {
        let Some(seat) = connection.load.seat(self.bounds.connections.div_ceil(2)) else {
            return tracing::warn!(remote = %connection.remote, "connection closed: its peer has too many");
        };
        let connection = Arc::new(connection);
        let called = Arc::new(AtomicBool::new(false));
        let calls = Calls::new(self.bounds.unread);
        let (gate, stack, seen, answered) = (self.gate, self.stack, called.clone(), calls.answered());
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            seen.store(true, Ordering::Relaxed);
            let admitted = gate.admit(&connection, &mut request);
            // Given up unread, if it is refused: before the refusal is sent.
            let mut request = request.map(read_out);
            let place = match admitted {
                Ok(place) => place,
                Err(refusal) => {
                    answered.store(true, Ordering::Relaxed);
                    return ready(Ok::<_, Infallible>(refusal)).left_future();
                }
            };
            request.extensions_mut().insert(connection.clone());
            let mut stack = stack.clone();
            let call = async move {
                let response = stack.ask(request.map(Body::new)).await;
                Ok(place.answered(response).map(noted))
            };
            call.right_future()
        });
        let mut talk = pin!(http2(calls.clone()).serve_connection(TokioIo::new(Gathering::new(io)), service));
        let mut first_call = pin!(sleep(FIRST_CALL));
        let mut over = pin!(stay.until_over());
        let (mut draining, mut leaving) = (false, false);
        loop {
            tokio::select! {
                ended = in_turn(talk.as_mut(), &calls) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended");
                    }
                    break;
                }
                () = &mut over, if !draining => {
                    draining = true;
                    talk.as_mut().graceful_shutdown();
                }
                () = &mut first_call, if !called.load(Ordering::Relaxed) => match (called.load(Ordering::Relaxed), leaving) {
                    (true, _) => {}
                    (false, true) => break,
                    (false, false) => {
                        leaving = true;
                        talk.as_mut().graceful_shutdown();
                        first_call.as_mut().reset(Instant::now() + GOODBYE);
                    }
                },
            }
        }
        drop(seat);
    }
}

/// HTTP/2 with bounds on all that a caller may make us hold.
fn http2(calls: Calls) -> http2::Builder<Calls> {
    let mut builder = http2::Builder::new(calls);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_frame_size(16 * 1024)
        .max_header_list_size(16 * 1024)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024)
        // A peer that is gone is found out without its help.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        // Streams opened and reset at once (CVE-2023-44487) end the connection.
        .max_pending_accept_reset_streams(64)
        .max_local_error_reset_streams(256);
    builder
}
