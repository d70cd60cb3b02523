//! What is counted.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::wire::Mended;

/// From 1 ms to a minute.
const LAG: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Whose counter it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Witness {
    witness: String,
}

impl Witness {
    fn of(name: &str) -> Self {
        Self {
            witness: name.to_owned(),
        }
    }
}

/// The metrics of a log.
#[derive(Debug, Clone)]
pub(crate) struct Stats {
    leaves: Counter,
    lag: Histogram,
    withheld: Counter,
    cleared: Counter,
    /// How often what was destroyed could not be driven out of the table of keys.
    pub(crate) remains: Counter,
    /// Checkpoints that were signed.
    pub(crate) signed: Counter,
    cosignatures: Family<Witness, Counter>,
    witness_failures: Family<Witness, Counter>,
    cosigned_size: Gauge,
    /// 1 once this process froze the log, or found it frozen.
    pub(crate) frozen: Gauge,
    sealed: Gauge,
    left: Gauge,
    successor: Gauge,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            leaves: Counter::default(),
            lag: Histogram::new(LAG),
            withheld: Counter::default(),
            cleared: Counter::default(),
            remains: Counter::default(),
            signed: Counter::default(),
            cosignatures: Family::default(),
            witness_failures: Family::default(),
            cosigned_size: Gauge::default(),
            frozen: Gauge::default(),
            sealed: Gauge::default(),
            left: Gauge::default(),
            successor: Gauge::default(),
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

    /// A witness cosigned.
    pub(crate) fn witness_cosigned(&self, witness: &str) {
        self.cosignatures.get_or_create(&Witness::of(witness)).inc();
    }

    /// A witness was asked in vain.
    pub(crate) fn witness_failed(&self, witness: &str) {
        self.witness_failures.get_or_create(&Witness::of(witness)).inc();
    }

    /// The newest checkpoint with as many cosignatures as readers ask for has this size.
    pub(crate) fn cosigned(&self, size: Option<u64>) {
        self.cosigned_size
            .set(size.and_then(|size| i64::try_from(size).ok()).unwrap_or(0));
    }

    /// The log's half-year ends in so many seconds, and whether another log goes on then.
    pub(crate) fn turns(&self, left: i64, goes_on: bool) {
        self.left.set(left);
        self.successor.set(i64::from(goes_on));
    }

    /// The log is sealed.
    pub(crate) fn turned(&self) {
        self.turns(0, true);
        self.sealed.set(1);
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
        registry.register(
            "audit_key_remains",
            "Times that the table of keys could not be written anew after keys were destroyed: alert when rising",
            self.remains.clone(),
        );
        registry.register("audit_checkpoints", "Checkpoints signed", self.signed.clone());
        registry.register(
            "audit_cosignatures",
            "Cosignatures of witnesses, by witness",
            self.cosignatures.clone(),
        );
        registry.register(
            "audit_witness_failures",
            "Witnesses asked for a cosignature in vain, by witness",
            self.witness_failures.clone(),
        );
        registry.register(
            "audit_cosigned_size",
            "Size of the newest checkpoint that enough witnesses cosigned; 0 without witnesses",
            self.cosigned_size.clone(),
        );
        registry.register(
            "audit_frozen",
            "1: the log contradicts itself and takes nothing",
            self.frozen.clone(),
        );
        registry.register(
            "audit_sealed",
            "1: the log has ended, and another one takes the events",
            self.sealed.clone(),
        );
        registry.register(
            "audit_half_year_left_seconds",
            "Until the log's half-year is over, below 0 when it is; 0 once the log is sealed",
            self.left.clone(),
        );
        registry.register(
            "audit_successor_waits",
            "1: a log waits to go on when the half-year is over, or does; 0: this one would take events beyond it",
            self.successor.clone(),
        );
    }
}
