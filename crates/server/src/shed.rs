//! How much is in work at once? Bounds per class and per peer; what is above them is refused at once, never queued. For
//! unary calls the bound also follows the time that they take; for streams, which are open as long as somebody reads
//! them, it is what is configured.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::Response;
use tokio::time::Instant;
use tonic::body::Body;

use crate::authz::{Class, Rule};
use crate::body;
use crate::config::Limits;
use crate::pace::Pace;

/// How many bounds there are.
const BOUNDS: usize = 6;

/// What they are called, in the configuration and in metrics.
const NAMES: [&str; BOUNDS] = ["check", "write", "login", "admin", "anonymous", "stream"];
const ANONYMOUS: usize = 4;
const STREAM: usize = 5;

const fn bounds(limits: &Limits) -> [usize; BOUNDS] {
    [
        limits.check,
        limits.write,
        limits.login,
        limits.admin,
        limits.anonymous,
        limits.stream,
    ]
}

/// The calls one peer has in work, over all its connections, and how many those are.
#[derive(Debug, Default)]
pub(crate) struct PeerLoad {
    calls: [AtomicUsize; BOUNDS],
    connections: AtomicUsize,
}

impl PeerLoad {
    /// A seat for one more connection of the peer, unless it has `seats` already.
    pub(crate) fn seat(self: &Arc<Self>, seats: usize) -> Option<Seat> {
        let seat = Seat(self.clone());
        (self.connections.fetch_add(1, Ordering::Relaxed) < seats).then_some(seat)
    }
}

/// Given back when dropped.
pub(crate) struct Seat(Arc<PeerLoad>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The loads of all peers that are connected.
#[derive(Debug, Default)]
pub(crate) struct Loads(Mutex<HashMap<String, Weak<PeerLoad>>>);

impl Loads {
    /// The load of the peer named `key`, shared by all its connections.
    pub(crate) fn of(&self, key: &str) -> Arc<PeerLoad> {
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(load) = loads.get(key).and_then(Weak::upgrade) {
            return load;
        }
        loads.retain(|_, load| load.strong_count() > 0);
        let load = Arc::new(PeerLoad::default());
        loads.insert(key.to_owned(), Arc::downgrade(&load));
        load
    }
}

/// The bounds of a server, and what is in work under each.
#[derive(Clone)]
pub(crate) struct Shed(Arc<[Bound; BOUNDS]>);

/// The calls of one class that are in work, and how many may be; a peer may have half of them.
struct Bound {
    calls: AtomicUsize,
    pace: Pace,
}

impl Bound {
    /// One more came at `now`: how many there were, and how many may be.
    fn comes(&self, now: Instant) -> (usize, usize) {
        let all = self.calls.fetch_add(1, Ordering::AcqRel);
        if all == 0 {
            self.pace.begins(now);
        }
        (all, self.pace.most())
    }

    /// One leaves at `now`, `taken` after it had come if it was worked on to its end.
    fn leaves(&self, now: Instant, taken: Option<Duration>) {
        self.pace.leaves(now);
        let in_work = self.calls.fetch_sub(1, Ordering::AcqRel);
        if let Some(taken) = taken {
            self.pace.answered(now, taken, in_work);
        }
    }
}

impl Shed {
    pub(crate) fn new(limits: &Limits) -> Self {
        let bounds = bounds(limits);
        let bound = |class: usize| Bound {
            calls: AtomicUsize::new(0),
            pace: match class {
                STREAM => Pace::fixed(bounds[class]),
                _ => Pace::new(bounds[class]),
            },
        };
        Self(Arc::new(std::array::from_fn(bound)))
    }

    /// What each class is called, how many of its calls are in work, and how many may be.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (&'static str, usize, usize)> {
        let now = Instant::now();
        let told = move |(name, bound): (&'static str, &Bound)| {
            let in_work = bound.calls.load(Ordering::Relaxed);
            (name, in_work, bound.pace.most_at(now, in_work))
        };
        NAMES.into_iter().zip(self.0.iter()).map(told)
    }

    /// A place for one call that came at `come`, unless there are too many.
    pub(crate) fn place(&self, load: &Arc<PeerLoad>, rule: &Rule, credential: bool, come: Instant) -> Option<Place> {
        let class = match (credential, rule.streaming, rule.class) {
            (false, ..) => ANONYMOUS,
            (true, true, _) => STREAM,
            (true, false, Class::Check) => 0,
            (true, false, Class::Write) => 1,
            (true, false, Class::Login) => 2,
            (true, false, Class::Admin) => 3,
        };
        let place = Place {
            bounds: self.0.clone(),
            load: load.clone(),
            class,
            come,
            worked: false,
            streaming: rule.streaming,
        };
        // Both are counted before either is judged: the place gives both back.
        let mine = load.calls[class].fetch_add(1, Ordering::Relaxed);
        let bound = &self.0[class];
        let (all, most) = bound.comes(come);
        if mine >= most.div_ceil(2) || all >= most {
            bound.pace.refused();
            return None;
        }
        Some(place)
    }
}

/// Given back when dropped.
pub(crate) struct Place {
    bounds: Arc<[Bound; BOUNDS]>,
    load: Arc<PeerLoad>,
    class: usize,
    /// Before it waited for a processor.
    come: Instant,
    /// Whether it was worked on to its end: how long that took tells how many calls there is time for.
    worked: bool,
    streaming: bool,
}

impl Place {
    /// The call was answered. A stream is in work until it was read to its end; a unary answer is not, however slowly it
    /// is fetched.
    pub(crate) fn answered(mut self, response: Response<Body>) -> Response<Body> {
        if self.streaming {
            return response.map(|stream| body::keeping(stream, self));
        }
        self.worked = true;
        response
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.calls[self.class].fetch_sub(1, Ordering::Relaxed);
        let now = Instant::now();
        let taken = self.worked.then(|| now.saturating_duration_since(self.come));
        self.bounds[self.class].leaves(now, taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Table;

    #[test]
    fn one_peer_may_have_half_of_all_open_streams_from_the_first_on() {
        let table = Table::new(&["sammati.identity.v1.FeedService"]).unwrap();
        let watch = table.rule("/sammati.identity.v1.FeedService/WatchChanges");
        let limits = Limits::default();
        let (shed, load) = (Shed::new(&limits), Arc::new(PeerLoad::default()));
        let open = |_| shed.place(&load, &watch, true, Instant::now());
        let watches: Vec<_> = (0..limits.stream).map_while(open).collect();
        assert_eq!(watches.len(), limits.stream / 2);
        assert!(watches.len() > 256);
        let other = Arc::new(PeerLoad::default());
        assert!(shed.place(&other, &watch, true, Instant::now()).is_some());
    }

    #[test]
    fn a_peer_has_one_load_while_it_is_connected() {
        let loads = Loads::default();
        let first = loads.of("a");
        assert!(Arc::ptr_eq(&first, &loads.of("a")));
        assert!(!Arc::ptr_eq(&first, &loads.of("b")));
        let seat = first.seat(1);
        assert!(seat.is_some() && first.seat(1).is_none());
        drop(seat);
        assert!(first.seat(1).is_some());
        drop(first);
        assert_eq!(loads.of("a").calls[0].load(Ordering::Relaxed), 0);
    }

    fn bound(pace: Pace) -> Bound {
        Bound {
            calls: AtomicUsize::new(0),
            pace,
        }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// `calls` of a flood come at `at` and take `took`; the last of them is given up by its caller then.
    fn flood(bound: &Bound, at: Instant, calls: usize, took: Duration) {
        for _ in 0..calls {
            bound.comes(at);
        }
        for _ in 1..calls {
            bound.leaves(at + took, Some(took));
        }
        bound.leaves(at + took, None);
    }

    #[test]
    fn after_a_rest_as_many_are_let_in_as_at_first_whatever_became_of_the_last_call() {
        let (bound, at) = (bound(Pace::new(1024)), Instant::now());
        bound.comes(at);
        bound.leaves(at + millis(100), Some(millis(2)));
        flood(&bound, at + millis(100), 500, millis(200));
        assert_eq!(bound.pace.most(), 64, "500 that wait for each other are too many");
        bound.pace.refused();
        let rest = at + Duration::from_secs(3600);
        assert_eq!(bound.comes(rest), (0, 512), "the first to come finds it so");
        bound.leaves(rest + millis(150), Some(millis(150)));
        assert_eq!(
            bound.pace.most(),
            512,
            "who was refused before the rest asks for nothing after it"
        );
    }

    #[test]
    fn a_rest_ends_when_a_call_comes_not_when_one_is_answered() {
        let (bound, at) = (bound(Pace::new(1024)), Instant::now());
        bound.comes(at);
        bound.leaves(at + millis(100), Some(millis(1)));
        // 99 ms of work after which nothing is for 900 ms, and then one that hangs.
        flood(&bound, at + millis(100), 4001, millis(99));
        bound.comes(at + millis(1099));
        bound.comes(at + millis(1299));
        bound.pace.refused();
        bound.leaves(at + millis(1300), Some(millis(1)));
        assert_eq!(bound.pace.most(), 93, "of 4,001 in the 300 ms in which there was work");
    }

    #[test]
    fn after_a_rest_streams_are_as_many_as_ever() {
        let (bound, at) = (bound(Pace::fixed(1024)), Instant::now());
        bound.comes(at);
        bound.leaves(at, None);
        assert_eq!(bound.comes(at + Duration::from_secs(3600)), (0, 1024));
    }
}
