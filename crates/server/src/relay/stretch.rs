//! One call to the log about one partition: where it stands, or the next stretch of the feed.

use std::time::Duration;

use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::{AppendEventsRequest, RelayedEvent, RelayedEvents, SourceRange};
use sammati_kernel::{Code, Micros, Reason, Refusal};
use sammati_store::{FeedEvent, Head, Store};
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::error::refusal_or;

/// The most events of one call, as the contract bounds them.
const MAX_EVENTS: i64 = 1000;

/// The most bytes of one call, well under the 4 MiB that a message may have.
const MAX_BYTES: usize = 1 << 20;

/// How long one call may take: a log that hangs must not hold the places of other partitions.
const DEADLINE: Duration = Duration::from_secs(10);

/// The chain hash before the first event of a feed.
const NO_CHAIN: [u8; 32] = [0; 32];

/// What came of a call.
#[derive(Debug)]
pub(super) struct Sent {
    /// The position that the log expects next.
    pub next: i64,
    /// How many events were sent.
    pub events: u64,
    /// When the last of them was committed.
    pub last: Option<Micros>,
}

impl Sent {
    const fn nothing(next: i64) -> Self {
        Self {
            next,
            events: 0,
            last: None,
        }
    }
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// A refusal.
    Refused(Refusal),
    /// The log expects an event that is in the feed no more.
    Pruned,
    /// The log has events that are not in the feed.
    Lost,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Failure {
    /// Whether the same call may pass later, though nobody does anything.
    pub(super) fn passes(&self) -> bool {
        let Self::Refused(Refusal { reason, .. }) = self else {
            return false;
        };
        let passing = [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded];
        *reason == Reason::FeedGap || passing.contains(&reason.code())
    }

    /// Says it to the operator.
    pub(super) fn report(&self, service: &str, partition: i64, epoch: i64, position: i64) {
        let nothing = Refusal::new(Reason::Internal);
        let (reason, refusal, todo) = match self {
            Self::Pruned => ("PRUNED", &nothing, PRUNED),
            Self::Lost => ("LOST", &nothing, RESTORED),
            Self::Refused(refusal) => (refusal.reason.as_str(), refusal, todo(refusal.reason)),
        };
        if self.passes() {
            tracing::warn!(
                service,
                partition,
                position,
                reason,
                "cannot relay events; trying again"
            );
            return;
        }
        let said = refusal.message.as_ref();
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_ref()).collect();
        tracing::error!(
            service,
            partition,
            epoch,
            position,
            reason,
            said,
            ?fields,
            todo,
            "the audit log refuses this partition's events; none of them reach it until this is mended"
        );
    }
}

/// What an operator does when the log is behind what was pruned.
const PRUNED: &str = "the log expects an event that the feed has no more: audit's database was restored to an older state; \
                      restore its newest";

/// What an operator does when the log knows another history than the feed.
const RESTORED: &str = "the log knows another history of this partition: this service's database was restored to an older \
                        state or changed; stop the service and compare it with its backups";

/// What an operator does about a refusal that does not pass.
const fn todo(reason: Reason) -> &'static str {
    match reason {
        Reason::EventConflict => RESTORED,
        Reason::LogFrozen => "the audit log is frozen; see the audit service's own log",
        Reason::LogSealed => "the audit log is sealed; open its successor",
        _ => match reason.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                "the audit service does not take events from this certificate; check [server.tls] and [peers]"
            }
            _ => "the two services' versions do not understand each other; upgrade audit first",
        },
    }
}

/// What a call needs.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) store: Store,
    pub(super) audit: LogServiceClient<Channel>,
    pub(super) service: &'static str,
}

impl Sender {
    /// Asks where the log stands in a partition: a stretch without events. In the first epoch that is where the head is,
    /// and nothing of the feed is read, however much of it was pruned; in a later one, where the epoch begins.
    pub(super) async fn ask(&self, partition: i64, head: Head) -> Result<Sent, Failure> {
        let (first, chain) = match head.epoch {
            ..=1 => (head.next, head.chain.clone()),
            epoch => self.beginning(partition, epoch).await?,
        };
        let source = self.source(partition, head.epoch, first, chain);
        let next = match self.append(source, Vec::new()).await {
            // Events are missing there, perhaps of earlier epochs.
            Err(Failure::Refused(refusal)) if refusal.reason == Reason::FeedGap => expected(&refusal).ok_or(refusal)?,
            other => other?,
        };
        if next == head.next && first < next {
            // There is nothing to send; whether it is the same history is asked all the same.
            let source = self.source(partition, head.epoch, next, head.chain);
            self.append(source, Vec::new()).await?;
        }
        self.has(partition, head.epoch, next, head.next).await?;
        Ok(Sent::nothing(next))
    }

    /// Sends the stretch of a partition that begins at `from`: as many events of one epoch as fit in one call. The head is
    /// in `epoch`.
    pub(super) async fn send(&self, partition: i64, epoch: i64, from: i64) -> Result<Sent, Failure> {
        let before = (from - 1).max(0);
        let mut events = self.store.read(move |r| r.feed(partition, before, MAX_EVENTS)).await?;
        let mut chain = NO_CHAIN.to_vec();
        if from > 0 {
            // The event before brings the chain hash.
            match events.first() {
                None => return Ok(Sent::nothing(from)),
                Some(event) if event.position == before => chain = events.remove(0).chain,
                Some(_) => return Err(Failure::Pruned),
            }
        }
        let Some(first) = events.first() else {
            return Ok(Sent::nothing(from));
        };
        if first.position != from {
            return Err(Failure::Pruned);
        }
        let source = self.source(partition, first.epoch, from, chain);
        let is_older = first.epoch != epoch;
        let times: Vec<_> = events.iter().map(|event| Micros(event.time)).collect();
        let events = bounded(events);
        let last = events.len().checked_sub(1).and_then(|n| times.get(n).copied());
        let sent = events.len() as u64;
        let end = from.saturating_add(i64::try_from(sent).unwrap_or(i64::MAX));
        let next = self.append(source, events).await?;
        // Of an epoch that is over, the log may have events that the feed lost.
        let next = if is_older { next.min(end) } else { next };
        self.has(partition, epoch, next, end).await?;
        Ok(Sent {
            next,
            events: sent,
            last,
        })
    }

    /// The log has no event of a feed that the feed itself has not; `known` is how far that is known to reach.
    async fn has(&self, partition: i64, epoch: i64, next: i64, known: i64) -> Result<(), Failure> {
        if next <= known {
            return Ok(());
        }
        // Another replica may have committed and relayed more.
        let head = self.store.read(move |r| r.head(partition)).await?;
        match head.epoch == epoch && head.next < next {
            true => Err(Failure::Lost),
            false => Ok(()),
        }
    }

    fn source(&self, partition: i64, epoch: i64, first_position: i64, previous_chain: Vec<u8>) -> SourceRange {
        SourceRange {
            service: self.service.to_owned(),
            epoch,
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
            first_position,
            previous_chain,
        }
    }

    /// Sends a stretch; tells the position that the log expects next.
    async fn append(&self, source: SourceRange, events: Vec<RelayedEvent>) -> Result<i64, Failure> {
        let relayed = RelayedEvents {
            source: Some(source),
            events,
        };
        let request = AppendEventsRequest {
            batch: Some(Batch::Relayed(relayed)),
            with_checkpoint: false,
        };
        let mut audit = self.audit.clone();
        match timeout(DEADLINE, audit.append_events(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().next_position),
            Ok(Err(status)) => Err(refusal_or(&status, Reason::StorageUnavailable).into()),
            Err(_) => Err(Refusal::from(Reason::Deadline).into()),
        }
    }

    /// Where `epoch` begins in the feed of a partition, and the chain hash before it: found by halving, for epochs only
    /// grow. A feed that was pruned beyond it has no hash to give; the log, which has all that was pruned, needs none.
    async fn beginning(&self, partition: i64, epoch: i64) -> Result<(i64, Vec<u8>), Refusal> {
        let found = self.store.snapshot(move |r| {
            let (mut low, mut high) = (0, r.head(partition)?.next);
            while low < high {
                let middle = low + (high - low) / 2;
                match r.feed(partition, middle, 1)?.first() {
                    Some(event) if event.epoch < epoch => low = event.position + 1,
                    _ => high = middle,
                }
            }
            let before = match low {
                0 => None,
                _ => r.feed(partition, low - 1, 1)?.pop(),
            };
            let chain = before
                .filter(|event| event.position == low - 1)
                .map(|event| event.chain);
            Ok((low, chain.unwrap_or_else(|| NO_CHAIN.to_vec())))
        });
        found.await
    }
}

/// The position that a FEED_GAP names.
fn expected(refusal: &Refusal) -> Option<i64> {
    let said = refusal.metadata.iter().find(|(name, _)| *name == "expected_position")?;
    said.1.parse().ok()
}

/// As many of the first events as are of one epoch and fit in one call; always one.
fn bounded(events: Vec<FeedEvent>) -> Vec<RelayedEvent> {
    let epoch = events.first().map_or(0, |event| event.epoch);
    let mut bytes = 0;
    let fits = |event: &FeedEvent| {
        let first = bytes == 0;
        bytes += event.body.len() + 64;
        event.epoch == epoch && (first || bytes <= MAX_BYTES)
    };
    let relayed = |event: FeedEvent| RelayedEvent {
        position: event.position,
        body: event.body,
        chain: event.chain,
    };
    events.into_iter().take_while(fits).map(relayed).collect()
}
