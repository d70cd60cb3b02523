//! What a store counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Counters of one store.
#[derive(Debug, Clone)]
pub(crate) struct Stats {
    pub(crate) batches: Counter,
    pub(crate) commands: Counter,
    pub(crate) events: Counter,
    pub(crate) reruns: Counter,
    pub(crate) missed: Counter,
    pub(crate) pruned: Counter,
    pub(crate) pruned_rows: Counter,
    pub(crate) shed: Counter,
    pub(crate) remains: Counter,
    pub(crate) confirmations: Counter,
    pub(crate) confirmed: Counter,
    /// Commands of each batch.
    pub(crate) batch: Histogram,
    /// Seconds of each confirmation.
    pub(crate) confirmation: Histogram,
    /// Events that the feed keeps.
    pub(crate) feed: Gauge,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            batches: Counter::default(),
            commands: Counter::default(),
            events: Counter::default(),
            reruns: Counter::default(),
            missed: Counter::default(),
            pruned: Counter::default(),
            pruned_rows: Counter::default(),
            shed: Counter::default(),
            remains: Counter::default(),
            confirmations: Counter::default(),
            confirmed: Counter::default(),
            batch: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            confirmation: Histogram::new([
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 20.0,
            ]),
            feed: Gauge::default(),
        }
    }
}

impl Stats {
    /// A batch of so many commands, that appended so many events.
    pub(crate) fn committed(&self, commands: usize, events: usize) {
        self.batches.inc();
        self.batch
            .observe(f64::from(u32::try_from(commands).unwrap_or(u32::MAX)));
        self.commands.inc_by(commands as u64);
        self.events.inc_by(events as u64);
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("store_batches", "Batches committed", self.batches.clone());
        registry.register("store_commands", "Commands settled by a commit", self.commands.clone());
        registry.register("store_events", "Events appended to the feed", self.events.clone());
        registry.register(
            "store_reruns",
            "Batches run again after a passing failure",
            self.reruns.clone(),
        );
        registry.register(
            "store_missed_rows",
            "Batches that found a row of a locked partition changed; more than 0 is a bug",
            self.missed.clone(),
        );
        registry.register("store_pruned", "Events that left the feed", self.pruned.clone());
        registry.register(
            "store_pruned_rows",
            "Rows that left because they had outlived their use",
            self.pruned_rows.clone(),
        );
        registry.register(
            "store_shed",
            "Commands refused because a lane's queue was full",
            self.shed.clone(),
        );
        registry.register(
            "store_remains",
            "Times that a table could not be written anew after keys in it were destroyed: alert when rising",
            self.remains.clone(),
        );
        registry.register(
            "store_confirmations",
            "Statements that confirmed heads on the primary",
            self.confirmations.clone(),
        );
        registry.register(
            "store_confirmed",
            "Calls that a confirmation answered: by store_confirmations, how many share one",
            self.confirmed.clone(),
        );
        registry.register(
            "store_batch_commands",
            "Commands of each batch: near the largest, the database is what everybody waits for",
            self.batch.clone(),
        );
        registry.register(
            "store_confirmation_seconds",
            "How long the primary took to confirm the heads: checks wait for it. Alert on a p99 above 0.1",
            self.confirmation.clone(),
        );
        registry.register(
            "store_feed_events",
            "Events that the feed keeps, all above its floor: when it grows beyond a week's, a consumer has stopped",
            self.feed.clone(),
        );
    }
}
