//! Is it well? Health (`grpc.health.v1`), `/metrics`, `/livez` and `/readyz`: plaintext, on a port of their own.

use http::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;

use crate::layer::Inner;
use crate::metrics::Metrics;
use crate::plain::{self, response, text};
use crate::run::Readiness;

/// The most connections at once: probes and one or two scrapers.
const CONNECTIONS: usize = 64;

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
        plain::serve(listener, CONNECTIONS, stop, move |request| self.clone().answer(request)).await;
    }

    async fn answer(mut self, request: Request<Body>) -> Response<Body> {
        let get = request.method() == Method::GET;
        match request.uri().path() {
            "/livez" if get => text(StatusCode::OK, "alive\n"),
            "/readyz" if get => self.readiness(),
            "/metrics" if get => response(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.metrics.text(),
            ),
            path if path.starts_with("/grpc.health.v1.Health/") => self.health.ask(request).await,
            _ => text(
                StatusCode::NOT_FOUND,
                "try /livez, /readyz, /metrics or grpc.health.v1\n",
            ),
        }
    }

    fn readiness(&self) -> Response<Body> {
        match &*self.ready.borrow() {
            Readiness::Ready => text(StatusCode::OK, "ready\n"),
            Readiness::NotReady(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        }
    }
}
