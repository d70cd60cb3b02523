//! What is counted, and how is it read? One registry per service, written out as OpenMetrics text.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::{Metric, Registry};

/// The registry of a service. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Counts `metric` under `sammati_{name}`; keep a clone of it to move it.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.with(|registry| registry.register(format!("sammati_{name}"), help, metric));
    }

    /// For a part that registers on its own, as the store.
    pub fn with<R>(&self, f: impl FnOnce(&mut Registry) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of them, as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.with(
            |registry| match prometheus_client::encoding::text::encode(&mut text, registry) {
                Ok(()) => text,
                Err(std::fmt::Error) => String::from("# EOF\n"),
            },
        )
    }
}
