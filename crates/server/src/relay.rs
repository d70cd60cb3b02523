//! The relay brings every event of this service's feed to the audit log, exactly once in effect.
//!
//! It keeps no cursor of its own: the log knows, for each partition, the position and chain hash it has reached, and is
//! asked for them before anything is sent. Several replicas may relay the same feed; the log answers the later ones from
//! what it has. Partitions go each at its own pace: one that fails waits, and the others do not wait for it.
//!
//! A log ends with its half-year, and another one goes on in each partition where it ended: the relay asks which of the two
//! takes events before it asks where that one stands.

mod logs;
mod stretch;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sammati_kernel::Micros;
use sammati_store::{Head, Store};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::logs::Logs;
use self::stretch::{Failure, Next, Sender, Sent};
use crate::channel::Channel;

/// The log, as a consumer of the feed: nothing that it has not got is pruned.
pub const CONSUMER: &str = "audit";

/// How often the store is told what the log has.
const NOTE: Duration = Duration::from_secs(30);

/// How many calls are on their way at a time.
const AT_ONCE: usize = 8;

/// Partitions of one call: as many as the contract takes.
const TOGETHER: usize = 256;

/// How often partitions are sent that have events all the time: the first event after a while goes at once, and those that
/// then come fast go together, with those of other partitions, as many as there are by the next beat. A call costs about as
/// much as a dozen events; only what one call had no room for goes before.
const PACE: Duration = Duration::from_millis(200);

/// How long a partition waits after a failure that passes, and everybody at most between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a partition waits that the log refuses for a reason that does not pass by itself.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// The relay of one service.
pub struct Relay {
    sender: Sender,
    places: HashMap<i64, Place>,
    stats: Stats,
    begun: Instant,
    /// The partition of which events were sent last: the next turn begins after it.
    served: i64,
}

/// What came of a call, for each partition that it was about.
type Settled = Vec<(i64, Result<Sent, Failure>)>;

/// Where a partition stands.
#[derive(Debug, Default)]
struct Place {
    /// Where its feed stands; all else is about this epoch of it.
    head: Option<Head>,
    /// The position that the log expects next, as far as we know.
    next: i64,
    /// Whether the log itself said so: it is asked at first, and after each failure.
    told: bool,
    /// Since when it has had an event that the log is not known to have: no later than the oldest one's time.
    behind_since: Option<Micros>,
    /// Before when it is not tried again.
    not_before: Option<Instant>,
    /// Whether a call is on its way.
    busy: bool,
    /// Whether the log refused it for a reason that does not pass.
    stuck: bool,
    /// The position up to which the store knows that the log has all.
    noted: i64,
}

impl Place {
    /// Takes over where the log and the feed are by `now`.
    fn note_age(&mut self, now: Micros) {
        self.behind_since = self.is_behind().then(|| self.behind_since.unwrap_or(now));
    }

    /// The log has all before `next`; `last` is when the last event that was sent was committed.
    fn reached(&mut self, next: i64, last: Option<Micros>, now: Micros) {
        (self.next, self.told) = (next, true);
        // What is left was committed after what was sent.
        self.behind_since = last.or(self.behind_since);
        self.note_age(now);
    }

    fn is_behind(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.next > self.next)
    }
}

#[derive(Default, Clone)]
struct Stats {
    relayed: Counter,
    failures: Counter,
    behind: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    stuck: Gauge,
}

impl Stats {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "relay_events",
            "Events that the audit log took in",
            self.relayed.clone(),
        );
        registry.register(
            "relay_failures",
            "Calls to the audit log that failed",
            self.failures.clone(),
        );
        registry.register(
            "relay_behind",
            "Committed events that are not known to be in the log",
            self.behind.clone(),
        );
        registry.register(
            "relay_oldest_seconds",
            "How long the oldest of them has waited: alert above 1 for a minute; look whether audit is ready, and at the log",
            self.oldest.clone(),
        );
        registry.register(
            "relay_stuck_partitions",
            "Partitions that the audit log refuses for a reason that does not pass: alert above 0, the log says what to do",
            self.stuck.clone(),
        );
    }
}

impl Relay {
    /// Relays the feed of `store`, which is `service`'s, to the audit service behind `channel`.
    pub fn new(store: Store, channel: Channel, service: &'static str, registry: &mut Registry) -> Self {
        let stats = Stats::default();
        stats.register(registry);
        let logs = Logs::new(channel);
        Self {
            sender: Sender { store, logs, service },
            places: HashMap::new(),
            stats,
            begun: Instant::now(),
            served: -1,
        }
    }

    /// And to the log behind `next` once that has begun, where the first one ended.
    #[must_use]
    pub fn then(mut self, next: Option<Channel>) -> Self {
        self.sender.logs.extend(next);
        self
    }

    /// Runs until `shutdown`, waking at each commit.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut changes = self.sender.store.changes();
        let mut turn = VecDeque::new();
        let mut calls = FuturesUnordered::new();
        let mut note = tokio::time::interval(NOTE);
        note.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if turn.is_empty() {
                changes.borrow_and_update();
                turn = self.behind();
            }
            while calls.len() < AT_ONCE && !turn.is_empty() {
                calls.push(self.call(&mut turn));
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(settled) = calls.next() => {
                    for (partition, result) in settled {
                        self.settle(partition, result);
                    }
                }
                _ = changes.changed(), if calls.len() < AT_ONCE => {}
                _ = note.tick() => self.note().await,
                () = tokio::time::sleep_until(self.next_turn()) => {}
            }
        }
    }

    /// When to look again though nothing was committed: when a partition has waited long enough, or after a while.
    fn next_turn(&self) -> Instant {
        let now = Instant::now();
        let waiting = self.places.values().filter(|place| !place.busy && place.is_behind());
        let soonest = waiting
            .filter_map(|place| place.not_before)
            .filter(|then| *then > now)
            .min();
        soonest.unwrap_or(now + PAUSE).min(now + PAUSE)
    }

    /// Tells the store what the log has: events stay until it does.
    async fn note(&mut self) {
        let moved = |(partition, place): (&i64, &mut Place)| {
            let moves = place.told && place.next > place.noted;
            place.noted = place.next.max(place.noted);
            let epoch = place.head.as_ref().map(|head| head.epoch)?;
            moves.then_some((*partition, epoch, place.next))
        };
        let reached: Vec<_> = self.places.iter_mut().filter_map(moved).collect();
        if !reached.is_empty() && self.sender.store.advance_cursor(CONSUMER, reached).await.is_err() {
            // The next time all is told again.
            self.places.values_mut().for_each(|place| place.noted = 0);
        }
    }

    /// The partitions whose turn it is: they have events that the log is not known to have, are not being relayed, and
    /// need not wait. Each comes once in a turn, and those for which a call had no room come first in the next one, so
    /// that none starves another.
    fn behind(&mut self) -> VecDeque<i64> {
        let (now, mut events, mut turn) = (Instant::now(), 0, VecDeque::new());
        let clock = self.sender.store.clock().now();
        let mut oldest = clock;
        for (partition, head) in self.sender.store.heads() {
            let place = self.places.entry(partition).or_default();
            let is_same = place.head.as_ref().is_some_and(|known| known.epoch == head.epoch);
            if !is_same && !place.busy {
                // After a restore the log is asked anew.
                *place = Place::default();
            }
            let behind = (head.next - place.next).max(0);
            if is_same || !place.busy {
                place.head = Some(head);
            }
            events += behind;
            place.note_age(clock);
            oldest = oldest.min(place.behind_since.unwrap_or(clock));
            // Another replica may have brought them.
            place.stuck &= behind > 0;
            if behind > 0 && !place.busy && place.not_before.is_none_or(|then| then <= now) {
                turn.push_back(partition);
            }
        }
        self.stats.behind.set(events);
        self.stats.oldest.set(clock.since(oldest).as_secs_f64());
        self.count_stuck();
        begin_after(self.served, turn)
    }

    /// Begins the next call: the question where the log stands in the partition whose turn it is; or, if that is known, the
    /// next stretch of it and of all others whose turn it is too.
    fn call(&mut self, turn: &mut VecDeque<i64>) -> impl Future<Output = Settled> + use<> {
        let (mut asked, mut sent) = (None, Vec::new());
        let mut others = VecDeque::new();
        while let Some(partition) = turn.pop_front() {
            let place = self.places.entry(partition).or_default();
            let Some(head) = place.head.clone() else { continue };
            match place.told {
                false if sent.is_empty() && asked.is_none() => asked = Some((partition, head)),
                true if asked.is_none() && sent.len() < TOGETHER => sent.push(Next {
                    partition,
                    epoch: head.epoch,
                    from: place.next,
                }),
                _ => {
                    others.push_back(partition);
                    continue;
                }
            }
            place.busy = true;
        }
        *turn = others;
        let sender = self.sender.clone();
        async move {
            match asked {
                Some((partition, head)) => vec![(partition, sender.ask(partition, head).await)],
                None => sender.send(sent).await,
            }
        }
    }

    /// Takes over what came of a call.
    fn settle(&mut self, partition: i64, result: Result<Sent, Failure>) {
        let beat = self.beat();
        let place = self.places.entry(partition).or_default();
        place.busy = false;
        let failure = match result {
            Ok(sent) => {
                self.stats.relayed.inc_by(sent.events);
                if sent.events > 0 {
                    self.served = partition;
                }
                let went_back = sent.next < place.next;
                // That it told where it stands is not that it takes what comes then.
                place.stuck &= !place.told;
                place.reached(sent.next, sent.last, self.sender.store.clock().now());
                // What was committed since waits for the next beat, however much it is: a call of its own for a few
                // events would be taken from those who commit them.
                place.not_before = (sent.events > 0 && !sent.more).then_some(beat);
                if went_back {
                    self.ask_again();
                }
                return self.count_stuck();
            }
            Err(failure) => failure,
        };
        self.stats.failures.inc();
        // Whatever went wrong, the log knows best where it stands.
        place.told = false;
        place.stuck = !failure.passes();
        place.not_before = Some(Instant::now() + if place.stuck { LONG_PAUSE } else { PAUSE });
        let epoch = place.head.as_ref().map_or(0, |head| head.epoch);
        failure.report(self.sender.service, partition, epoch, place.next);
        self.count_stuck();
    }

    /// The next time at which partitions are sent together.
    fn beat(&self) -> Instant {
        let beats = self.begun.elapsed().as_millis() / PACE.as_millis() + 1;
        self.begun + PACE * u32::try_from(beats).unwrap_or(u32::MAX)
    }

    /// The log has less of a partition than it had told: its database was restored. What it lost of the others would
    /// otherwise be sent only with their next event.
    fn ask_again(&mut self) {
        tracing::error!(
            "the audit log lost events that it had: it was restored; sending again what is still in the feed"
        );
        for place in self.places.values_mut().filter(|place| !place.busy) {
            (place.next, place.told) = (0, false);
        }
    }

    fn count_stuck(&self) {
        let stuck = self.places.values().filter(|place| place.stuck).count();
        self.stats.stuck.set(i64::try_from(stuck).unwrap_or(i64::MAX));
    }
}

/// A turn of partitions, ascending, that begins after `served`.
fn begin_after(served: i64, mut turn: VecDeque<i64>) -> VecDeque<i64> {
    let at = turn.partition_point(|partition| *partition <= served);
    turn.rotate_left(at);
    turn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_begins_after_who_was_served_last() {
        let turn = |served| Vec::from(begin_after(served, VecDeque::from([0, 3, 4, 9])));
        assert_eq!(turn(-1), [0, 3, 4, 9]);
        assert_eq!(turn(3), [4, 9, 0, 3]);
        assert_eq!(turn(5), [9, 0, 3, 4]);
        assert_eq!(turn(9), [0, 3, 4, 9]);
        assert!(begin_after(3, VecDeque::new()).is_empty());
    }

    #[test]
    fn a_place_is_as_old_as_the_oldest_event_that_the_log_may_lack() {
        let mut place = Place {
            head: Some(Head {
                epoch: 1,
                next: 5,
                chain: Vec::new(),
            }),
            ..Place::default()
        };
        place.note_age(Micros(100));
        place.note_age(Micros(200));
        assert_eq!(place.behind_since, Some(Micros(100)));
        place.reached(0, None, Micros(210));
        assert_eq!(
            place.behind_since,
            Some(Micros(100)),
            "an answer without events makes none younger"
        );
        place.reached(3, Some(Micros(150)), Micros(220));
        assert_eq!(place.behind_since, Some(Micros(150)));
        place.reached(5, Some(Micros(160)), Micros(230));
        assert_eq!(place.behind_since, None);
    }
}
