//! One call to the log: where it stands in a partition, or the next stretches of the feed.

use std::time::Duration;

use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::{
    AppendEventsRequest, AppendEventsResponse, RelayedEvent, RelayedEvents, RelayedStretches, SourceRange,
};
use sammati_kernel::{Code, Micros, Reason, Refusal};
use sammati_store::{FeedEvent, Head, Store};
use tokio::time::timeout;

use super::logs::Logs;
use crate::error::refusal_or;

/// The most events of one call, as the contract bounds them.
const MAX_EVENTS: i64 = 1000;

/// The bytes that the partitions of one call share.
const MAX_BYTES: usize = 1 << 20;

/// The most bytes of one call, in which each partition's first event goes though it is larger than its share: under the
/// 4 MiB that a message may have.
const MOST_BYTES: usize = 3 << 20;

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
    /// Whether the feed had more of them than the call had room for.
    pub more: bool,
}

impl Sent {
    const fn nothing(next: i64) -> Self {
        Self {
            next,
            events: 0,
            last: None,
            more: false,
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
        *reason == Reason::FeedGap || passing(*reason)
    }

    /// Says it to the operator.
    pub(super) fn report(&self, service: &str, partition: i64, epoch: i64, position: i64) {
        let nothing = Refusal::new(Reason::Internal);
        let (reason, refusal, todo) = match self {
            Self::Pruned => ("PRUNED", &nothing, PRUNED),
            Self::Lost => ("LOST", &nothing, RESTORED),
            Self::Refused(refusal) => (refusal.reason.as_str(), refusal, todo(refusal.reason)),
        };
        let said = refusal.message.as_ref();
        if self.passes() {
            tracing::warn!(
                service,
                partition,
                position,
                reason,
                said,
                "cannot relay events; trying again"
            );
            return;
        }
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
        Reason::LogSealed => "the audit log is sealed; open its successor, and name it under peers.audit_next",
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
    pub(super) logs: Logs,
    pub(super) service: &'static str,
}

impl Sender {
    /// Asks where the log stands in a partition: a stretch without events. In the first epoch that is where the head is,
    /// and nothing of the feed is read, however much of it was pruned; in a later one, where the epoch begins.
    pub(super) async fn ask(&self, partition: i64, head: Head) -> Result<Sent, Failure> {
        self.logs.look().await;
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

    /// Sends the next stretch of each of these partitions, in one call: of each as many events of one epoch as fit in.
    pub(super) async fn send(&self, places: Vec<Next>) -> Vec<(i64, Result<Sent, Failure>)> {
        let asked: Vec<_> = places
            .iter()
            .map(|next| (next.partition, (next.from - 1).max(0)))
            .collect();
        let mut room = Room::of(places.len());
        // No more than is sent, and the event before.
        let limit = room.share + 1;
        let feeds = match self.store.read(move |r| r.feeds(&asked, limit)).await {
            Ok(feeds) => feeds,
            Err(refusal) => return all(places.iter().map(|next| next.partition), &refusal),
        };
        let (mut stretches, mut done) = (Vec::new(), Vec::new());
        for (next, feed) in places.into_iter().zip(feeds) {
            match self.stretch(next, feed, &mut room) {
                Ok(Some(stretch)) => stretches.push(stretch),
                Ok(None) => done.push((next.partition, Ok(Sent::nothing(next.from)))),
                Err(failure) => done.push((next.partition, Err(failure))),
            }
        }
        done.extend(self.send_stretches(stretches).await);
        done
    }

    /// In one call; if that is refused, each in its own, so that one partition does not hold up the others.
    async fn send_stretches(&self, stretches: Vec<Stretch>) -> Vec<(i64, Result<Sent, Failure>)> {
        if stretches.len() > 1 {
            let sent = stretches.iter().map(|stretch| stretch.relayed.clone()).collect();
            match self.call(Batch::Stretches(RelayedStretches { stretches: sent })).await {
                Ok(answer) if answer.next_positions.len() == stretches.len() => {
                    let mut done = Vec::with_capacity(stretches.len());
                    for (stretch, next) in stretches.into_iter().zip(answer.next_positions) {
                        done.push((stretch.next.partition, self.sent(stretch, next).await));
                    }
                    return done;
                }
                Err(refusal) if passing(refusal.reason) => {
                    return all(stretches.iter().map(|stretch| stretch.next.partition), &refusal);
                }
                _ => {}
            }
        }
        let mut done = Vec::with_capacity(stretches.len());
        for mut stretch in stretches {
            let relayed = std::mem::take(&mut stretch.relayed);
            let result = match self.call(Batch::Relayed(relayed)).await {
                Ok(answer) => self.sent(stretch.clone(), answer.next_position).await,
                Err(refusal) => Err(refusal.into()),
            };
            done.push((stretch.next.partition, result));
        }
        done
    }

    /// What came of a stretch, by the position that the log expects then.
    async fn sent(&self, stretch: Stretch, next: i64) -> Result<Sent, Failure> {
        // Of an epoch that is over, the log may have events that the feed lost.
        let next = if stretch.is_older { next.min(stretch.end) } else { next };
        self.has(stretch.next.partition, stretch.next.epoch, next, stretch.end)
            .await?;
        Ok(Sent {
            next,
            events: u64::try_from(stretch.end - stretch.next.from).unwrap_or(0),
            last: stretch.last,
            more: stretch.more,
        })
    }

    /// The stretch of a feed that comes next, as much of it as there is room for. `feed` begins with the event before.
    fn stretch(&self, next: Next, mut feed: Vec<FeedEvent>, room: &mut Room) -> Result<Option<Stretch>, Failure> {
        let mut chain = NO_CHAIN.to_vec();
        if next.from > 0 {
            // The event before brings the chain hash.
            match feed.first() {
                None => return Ok(None),
                Some(event) if event.position == next.from - 1 => chain = feed.remove(0).chain,
                Some(_) => return Err(Failure::Pruned),
            }
        }
        let Some(first) = feed.first() else { return Ok(None) };
        if first.position != next.from {
            return Err(Failure::Pruned);
        }
        let epoch = first.epoch;
        let source = self.source(next.partition, epoch, next.from, chain);
        let (mut last, mut end, mut fitting) = (None, next.from, Vec::new());
        // As many as were asked for are not all.
        let mut more = i64::try_from(feed.len()).unwrap_or(i64::MAX) >= room.share;
        room.next_partition();
        for event in feed {
            if event.epoch != epoch || !room.takes(event.body.len()) {
                more = true;
                break;
            }
            (last, end) = (Some(Micros(event.time)), event.position + 1);
            fitting.push(RelayedEvent {
                position: event.position,
                body: event.body,
                chain: event.chain,
            });
        }
        if fitting.is_empty() {
            return Ok(None);
        }
        Ok(Some(Stretch {
            next,
            is_older: epoch != next.epoch,
            end,
            last,
            more,
            relayed: RelayedEvents {
                source: Some(source),
                events: fitting,
            },
        }))
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
        Ok(self.call(Batch::Relayed(relayed)).await?.next_position)
    }

    async fn call(&self, batch: Batch) -> Result<AppendEventsResponse, Refusal> {
        let request = AppendEventsRequest {
            batch: Some(batch),
            without_events: true,
            ..AppendEventsRequest::default()
        };
        let mut audit = self.logs.current();
        match timeout(DEADLINE, audit.append_events(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.logs.after(refusal_or(&status, Reason::StorageUnavailable))),
            Err(_) => Err(Refusal::from(Reason::Deadline)),
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

/// The same for all.
fn all(partitions: impl Iterator<Item = i64>, refusal: &Refusal) -> Vec<(i64, Result<Sent, Failure>)> {
    partitions
        .map(|partition| (partition, Err(Failure::Refused(refusal.clone()))))
        .collect()
}

/// Whether a refusal is about no event or partition, and may be over soon.
fn passing(reason: Reason) -> bool {
    [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded].contains(&reason.code())
}

/// From where on a partition is sent, and in which epoch its head is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    pub(super) partition: i64,
    pub(super) epoch: i64,
    pub(super) from: i64,
}

/// A stretch that is ready to be sent.
#[derive(Debug, Clone)]
struct Stretch {
    next: Next,
    /// Of an epoch before the head's.
    is_older: bool,
    /// The position after its last event.
    end: i64,
    /// When its last event was committed.
    last: Option<Micros>,
    /// As [`Sent::more`].
    more: bool,
    relayed: RelayedEvents,
}

/// What a call has room for: as much of one partition as of another, so that none starves the others.
#[derive(Debug)]
struct Room {
    /// Events of each partition.
    share: i64,
    /// Bytes of each partition, but for its first event.
    byte_share: usize,
    /// Of the call.
    total: Taken,
    /// Of the partition whose turn it is.
    own: Taken,
}

#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    events: i64,
    bytes: usize,
}

impl Taken {
    const fn and(self, bytes: usize) -> Self {
        Self {
            events: self.events + 1,
            bytes: self.bytes + bytes + 64,
        }
    }
}

impl Room {
    fn of(partitions: usize) -> Self {
        let partitions = partitions.max(1);
        Self {
            share: (MAX_EVENTS / i64::try_from(partitions).unwrap_or(i64::MAX)).max(1),
            byte_share: MAX_BYTES / partitions,
            total: Taken::default(),
            own: Taken::default(),
        }
    }

    /// What is taken from here on is another partition's.
    fn next_partition(&mut self) {
        self.own = Taken::default();
    }

    /// Takes an event of so many bytes, if there is room for it: the first of a partition as long as the call does not
    /// become too large, and the first of the call in any case.
    fn takes(&mut self, bytes: usize) -> bool {
        let (own, total) = (self.own.and(bytes), self.total.and(bytes));
        let is_shared = own.events <= self.share && (own.events == 1 || own.bytes <= self.byte_share);
        let fits = is_shared && total.events <= MAX_EVENTS && total.bytes <= MOST_BYTES;
        if fits || total.events == 1 {
            (self.own, self.total) = (own, total);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many events of so many bytes a call takes of each partition.
    fn taken(partitions: &[usize]) -> Vec<usize> {
        let mut room = Room::of(partitions.len());
        let of = |bytes: &usize| {
            room.next_partition();
            (0..2000).take_while(|_| room.takes(*bytes)).count()
        };
        partitions.iter().map(of).collect()
    }

    #[test]
    fn partitions_share_a_call() {
        assert_eq!(taken(&[10]), [1000]);
        assert_eq!(taken(&[10, 10, 10]), [333, 333, 333]);
        // One with large events leaves the others what is theirs.
        assert_eq!(taken(&[32 << 10, 100, 32 << 10, 100]), [7, 250, 7, 250]);
        assert_eq!(
            taken(&[(1 << 20) + 1, 10]),
            [1, 500],
            "the first goes though it is larger than its share"
        );
        assert_eq!(taken(&[5 << 20, 10]), [1, 0], "what no call has room for goes alone");
    }

    #[test]
    fn a_call_stays_smaller_than_a_message_may_be() {
        let taken = taken(&[33 << 10; 256]);
        assert_eq!(taken.iter().sum::<usize>(), 92);
        assert!(taken.iter().take(92).all(|events| *events == 1));
    }
}
