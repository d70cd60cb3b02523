//! What is counted.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::wire::Mended;

/// From 1 ms to a minute.
const LAG: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// The metrics of a log.
#[derive(Debug, Clone)]
pub(crate) struct Stats {
    leaves: Counter,
    lag: Histogram,
    withheld: Counter,
    cleared: Counter,
    /// Checkpoints that were signed.
    pub(crate) signed: Counter,
    /// 1 once this process froze the log, or found it frozen.
    pub(crate) frozen: Gauge,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            leaves: Counter::default(),
            lag: Histogram::new(LAG),
            withheld: Counter::default(),
            cleared: Counter::default(),
            signed: Counter::default(),
            frozen: Gauge::default(),
        }
    }
}

impl Stats {
    /// A leaf was appended, so long after its event was made.
    pub(crate) fn appended(&self, lag: Duration) {
        self.leaves.inc();
        self.lag.observe(lag.as_secs_f64());
    }

    /// Fields of a relayed stretch were not kept as they were sent.
    pub(crate) fn mended(&self, service: &str, fields: &[Mended]) {
        for Mended {
            partition,
            position,
            field,
            forbidden,
        } in fields
        {
            if *forbidden {
                self.withheld.inc();
                tracing::error!(
                    service,
                    partition,
                    position,
                    field,
                    "withheld from the log what looks like an Aadhaar number, VID, OTP or PID block; it is still in the \
                     service's own feed"
                );
            } else {
                self.cleared.inc();
                tracing::warn!(
                    service,
                    partition,
                    position,
                    field,
                    "a field of a relayed event was malformed or too large; the log keeps the event without it"
                );
            }
        }
    }

    /// Adds them to `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "audit_leaves",
            "Events answered with their place in the log",
            self.leaves.clone(),
        );
        registry.register(
            "audit_lag_seconds",
            "From an event's commit at its source to its leaf",
            self.lag.clone(),
        );
        registry.register(
            "audit_forbidden_fields",
            "Fields of relayed events withheld because they held an Aadhaar number, VID, OTP or PID shape: alert above 0",
            self.withheld.clone(),
        );
        registry.register(
            "audit_malformed_fields",
            "Fields of relayed events that were emptied because they were malformed or over a bound",
            self.cleared.clone(),
        );
        registry.register("audit_checkpoints", "Checkpoints signed", self.signed.clone());
        registry.register(
            "audit_frozen",
            "1: the log contradicts itself and takes nothing",
            self.frozen.clone(),
        );
    }
}
