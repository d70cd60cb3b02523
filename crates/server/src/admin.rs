//! Is it well? Health (`grpc.health.v1`), `/metrics`, `/livez` and `/readyz`: plaintext, on a port of their own.

use std::convert::Infallible;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;

use crate::layer::Inner;
use crate::metrics::Metrics;
use crate::run::Readiness;

/// The most connections at once: probes and one or two scrapers.
const CONNECTIONS: usize = 64;

/// A connection is closed after this; probes open new ones.
const CONNECTION_LIFE: Duration = Duration::from_secs(3600);

/// What the admin port shows.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) metrics: Metrics,
    pub(crate) ready: watch::Receiver<Readiness>,
    pub(crate) health: Routes,
}

impl Admin {
    /// Serves until `stop`.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = open.join_next() => continue,
                accepted = listener.accept(), if open.len() < CONNECTIONS => accepted,
            };
            let Ok((socket, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let admin = self.clone();
            open.spawn(async move {
                let service = service_fn(move |request| admin.clone().answer(request));
                let mut server = auto::Builder::new(TokioExecutor::new());
                server
                    .http1()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10));
                server
                    .http2()
                    .timer(TokioTimer::new())
                    .keep_alive_interval(Duration::from_secs(20));
                // Whatever went wrong on a probe's connection, the probe tries again.
                let _ = timeout(CONNECTION_LIFE, server.serve_connection(TokioIo::new(socket), service)).await;
            });
        }
    }

    async fn answer(mut self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let get = request.method() == Method::GET;
        Ok(match request.uri().path() {
            "/livez" if get => text(StatusCode::OK, "text/plain", "alive\n".to_owned()),
            "/readyz" if get => self.readiness(),
            "/metrics" if get => text(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.metrics.text(),
            ),
            path if path.starts_with("/grpc.health.v1.Health/") => self.health.ask(request.map(Body::new)).await,
            _ => text(
                StatusCode::NOT_FOUND,
                "text/plain",
                "try /livez, /readyz, /metrics or grpc.health.v1\n".to_owned(),
            ),
        })
    }

    fn readiness(&self) -> Response<Body> {
        match &*self.ready.borrow() {
            Readiness::Ready => text(StatusCode::OK, "text/plain", "ready\n".to_owned()),
            Readiness::NotReady(why) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "text/plain",
                format!("not ready: {why}\n"),
            ),
        }
    }
}

fn text(code: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
