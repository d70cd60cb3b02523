//! The relay brings every event of this service's feed to the audit log, exactly once in effect.
//!
//! It keeps no cursor of its own: the log knows, for each partition, the position and chain hash it has reached, and
//! says so when it is asked for too much or too little. Several replicas may relay the same feed; the log answers the
//! later ones from what it has.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::{AppendEventsRequest, RelayedEvent, RelayedEvents, SourceRange};
use sammati_kernel::{Reason, Refusal};
use sammati_store::{FeedEvent, Store};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::error::refusal_of;

/// The most events of one call, as the contract bounds them.
const MAX_EVENTS: i64 = 1000;

/// The most bytes of one call, well under the 4 MiB that a message may have.
const MAX_BYTES: usize = 1 << 20;

/// How many partitions are relayed at a time.
const AT_ONCE: usize = 8;

/// How long to wait after a failure, and at most between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// The relay of one service.
pub struct Relay {
    store: Store,
    audit: LogServiceClient<Channel>,
    service: &'static str,
    /// For each partition the position that the log expects next, as far as we know.
    reached: HashMap<i64, i64>,
    stats: Stats,
}

#[derive(Default, Clone)]
struct Stats {
    relayed: Counter,
    failures: Counter,
    behind: Gauge,
}

impl Relay {
    /// Relays the feed of `store`, which is `service`'s, to the audit service behind `channel`.
    pub fn new(store: Store, channel: Channel, service: &'static str, registry: &mut Registry) -> Self {
        let stats = Stats::default();
        registry.register(
            "relay_events",
            "Events that the audit log took in",
            stats.relayed.clone(),
        );
        registry.register(
            "relay_failures",
            "Calls to the audit log that failed",
            stats.failures.clone(),
        );
        registry.register(
            "relay_behind",
            "Committed events that are not known to be in the log",
            stats.behind.clone(),
        );
        Self {
            store,
            audit: LogServiceClient::new(channel),
            service,
            reached: HashMap::new(),
            stats,
        }
    }

    /// Runs until `shutdown`, waking at each commit.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut changes = self.store.changes();
        while !shutdown.is_cancelled() {
            changes.borrow_and_update();
            let failed = self.round().await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
                _ = changes.changed(), if !failed => {}
            }
        }
    }

    /// Relays whatever is there, until the log has it all or something fails; tells whether something failed.
    async fn round(&mut self) -> bool {
        loop {
            let heads = self.store.heads();
            let behind: Vec<_> = heads
                .into_iter()
                .filter_map(|(partition, head)| {
                    let from = self.reached.get(&partition).copied().unwrap_or(0);
                    (from < head.next).then_some((partition, from, head.next - from))
                })
                .collect();
            self.stats.behind.set(behind.iter().map(|(_, _, n)| n).sum());
            if behind.is_empty() {
                return false;
            }
            let stretches: Vec<_> = {
                let this = &*self;
                let sends = behind
                    .into_iter()
                    .map(|(p, from, _)| async move { (p, this.stretch(p, from).await) });
                futures::stream::iter(sends).buffer_unordered(AT_ONCE).collect().await
            };
            let mut failed = false;
            for (partition, reached) in stretches {
                match reached {
                    Ok(next) => {
                        self.reached.insert(partition, next);
                    }
                    Err(refusal) => {
                        failed = true;
                        self.stats.failures.inc();
                        tracing::warn!(
                            partition,
                            reason = refusal.reason.as_str(),
                            "cannot relay events; trying again"
                        );
                    }
                }
            }
            if failed {
                return true;
            }
        }
    }

    /// Sends one stretch of a partition from `from` on; tells what the log expects next.
    async fn stretch(&self, partition: i64, from: i64) -> Result<i64, Refusal> {
        let before = (from - 1).max(0);
        let mut events = self.store.read(move |r| r.feed(partition, before, MAX_EVENTS)).await?;
        let previous_chain = if from > 0 && !events.is_empty() {
            events.remove(0).chain
        } else {
            vec![0; 32]
        };
        let Some(first) = events.first() else { return Ok(from) };
        let source = SourceRange {
            service: self.service.to_owned(),
            epoch: first.epoch,
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
            first_position: from,
            previous_chain,
        };
        let events = bounded(events);
        let sent = events.len() as u64;
        let relayed = RelayedEvents {
            source: Some(source),
            events,
        };
        let request = AppendEventsRequest {
            batch: Some(Batch::Relayed(relayed)),
            with_checkpoint: false,
        };
        match self.audit.clone().append_events(request).await {
            Ok(answer) => {
                self.stats.relayed.inc_by(sent);
                Ok(answer.into_inner().next_position)
            }
            Err(status) => {
                let refusal = refusal_of(&status).unwrap_or_else(|| Reason::StorageUnavailable.into());
                expected(&refusal).ok_or(refusal)
            }
        }
    }
}

/// The position that a FEED_GAP names.
fn expected(refusal: &Refusal) -> Option<i64> {
    let gap = (refusal.reason == Reason::FeedGap).then_some(&refusal.metadata)?;
    gap.iter()
        .find(|(name, _)| *name == "expected_position")?
        .1
        .parse()
        .ok()
}

/// As many of the first events as fit in one call; always one.
fn bounded(events: Vec<FeedEvent>) -> Vec<RelayedEvent> {
    let mut bytes = 0;
    let fits = |event: &FeedEvent| {
        let first = bytes == 0;
        bytes += event.body.len() + 64;
        first || bytes <= MAX_BYTES
    };
    let relayed = |event: FeedEvent| RelayedEvent {
        position: event.position,
        body: event.body,
        chain: event.chain,
    };
    events.into_iter().take_while(fits).map(relayed).collect()
}
