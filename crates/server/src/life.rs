//! In which order does a service begin and end? Admin port first and last, background tasks after the last call.

use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, select_all};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::admin::Admin;
use crate::run::{Readiness, Start};

/// How long background tasks may take to end once they are told to.
const BACKGROUND: Duration = Duration::from_secs(10);

/// The parts of a running service that end one after another. Dropped before its end, as when building fails, it takes
/// background tasks and the admin port along.
pub(crate) struct Life {
    pub(crate) draining: CancellationToken,
    pub(crate) closing: CancellationToken,
    background: CancellationToken,
    admin: CancellationToken,
    pub(crate) open: TaskTracker,
    tasks: TaskTracker,
    drain: Duration,
    health: HealthReporter,
    readiness: watch::Sender<Readiness>,
    pub(crate) on_drained: Option<BoxFuture<'static, ()>>,
}

impl Drop for Life {
    fn drop(&mut self) {
        for token in [&self.draining, &self.closing, &self.background, &self.admin] {
            token.cancel();
        }
    }
}

impl Life {
    /// The admin port comes first, so that what takes long to start can be watched starting.
    pub(crate) fn begin<T>(start: &Start<T>, listener: TcpListener, drain: Duration) -> Self {
        let (health, health_server) = tonic_health::server::health_reporter();
        let readiness = start.readiness.clone();
        let ready = readiness.subscribe();
        let admin = CancellationToken::new();
        let page = Admin {
            metrics: start.metrics.clone(),
            ready,
            health: Routes::new(health_server).prepare(),
        };
        tokio::spawn(page.serve(listener, admin.clone()));
        Self {
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            background: start.shutdown.clone(),
            admin,
            open: TaskTracker::new(),
            tasks: start.tasks.clone(),
            drain,
            health,
            readiness,
            on_drained: None,
        }
    }

    /// Tells health and `/readyz` what the service says of itself, by each of its sources, until draining.
    /// What it returns shows the first word and borrows nothing: a `Life` is not to be shared.
    pub(crate) fn follow(
        &self,
        mut sources: Vec<BoxStream<'static, Readiness>>,
        names: Vec<&'static str>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let sign = Sign {
            health: self.health.clone(),
            readiness: self.readiness.clone(),
            names,
        };
        let (open, draining) = (self.open.clone(), self.draining.clone());
        async move {
            // A source's first word is there at once, and its last stays true when it ends.
            let mut latest = Vec::new();
            for source in &mut sources {
                latest.push(source.next().await.unwrap_or(Readiness::Ready));
            }
            sign.show(Readiness::all(&latest)).await;
            let mut news = select_all(
                sources
                    .into_iter()
                    .enumerate()
                    .map(|(n, s)| s.map(move |now| (n, now)).boxed()),
            );
            open.spawn(async move {
                while let Some(Some((source, now))) = draining.run_until_cancelled(news.next()).await {
                    latest[source] = now;
                    sign.show(Readiness::all(&latest)).await;
                }
            });
        }
    }

    /// Serves until `stop`, then ends everything in its order.
    pub(crate) async fn live(mut self, stop: CancellationToken) {
        stop.cancelled().await;
        let sign = Sign {
            health: self.health.clone(),
            readiness: self.readiness.clone(),
            names: Vec::new(),
        };
        self.draining.cancel();
        self.open.close();
        sign.show(Readiness::NotReady("draining".to_owned())).await;
        if timeout(self.drain, self.open.wait()).await.is_err() {
            tracing::warn!("calls still in work are cut off");
        }
        self.closing.cancel();
        self.open.wait().await;
        self.background.cancel();
        self.tasks.close();
        if timeout(BACKGROUND, self.tasks.wait()).await.is_err() {
            tracing::warn!("background tasks have not ended");
        }
        if let Some(last) = self.on_drained.take() {
            last.await;
        }
    }
}

/// What probes see.
struct Sign {
    health: HealthReporter,
    readiness: watch::Sender<Readiness>,
    names: Vec<&'static str>,
}

impl Sign {
    async fn show(&self, now: Readiness) {
        let status = if now == Readiness::Ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.health.set_service_status("", status).await;
        for name in &self.names {
            self.health.set_service_status(*name, status).await;
        }
        self.readiness.send_replace(now);
    }
}
