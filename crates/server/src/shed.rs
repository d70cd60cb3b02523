//! How much is in work at once? Bounds per class and per peer; what is above them is refused at once, never queued. For
//! unary calls the bound also follows the time that they take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::{Request, Response, header};
use sammati_kernel::{Reason, Refusal};
use tokio::time::Instant;
use tonic::body::Body;

use crate::authz::{Class, Rule};
use crate::body;
use crate::config::Limits;
use crate::error;
use crate::layer::{Around, Inner};
use crate::pace::Pace;
use crate::tls::Connection;

/// How many bounds there are.
const BOUNDS: usize = 6;
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

/// The layer.
#[derive(Clone)]
pub(crate) struct Shed(Arc<[Bound; BOUNDS]>);

/// The calls of one class that are in work, and how many may be; a peer may have half of them.
struct Bound {
    calls: AtomicUsize,
    pace: Pace,
}

impl Shed {
    pub(crate) fn new(limits: &Limits) -> Self {
        let bound = |most: usize| Bound {
            calls: AtomicUsize::new(0),
            pace: Pace::new(most),
        };
        Self(Arc::new(bounds(limits).map(bound)))
    }

    /// A place for one call, or the refusal of it.
    fn place(&self, request: &Request<Body>) -> Result<Place, Refusal> {
        let extensions = request.extensions();
        let (Some(connection), Some(rule)) = (extensions.get::<Arc<Connection>>(), extensions.get::<Arc<Rule>>())
        else {
            return Err(Reason::Internal.into());
        };
        let credential = connection.certificate.is_some() || request.headers().contains_key(header::AUTHORIZATION);
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
            load: connection.load.clone(),
            class,
            come: extensions
                .get::<Arrived>()
                .map_or_else(Instant::now, |arrived| arrived.0),
            worked: false,
        };
        // Both are counted before either is judged: the place gives both back.
        let mine = place.load.calls[class].fetch_add(1, Ordering::Relaxed);
        let all = self.0[class].calls.fetch_add(1, Ordering::Relaxed);
        let most = self.0[class].pace.most();
        if mine >= most.div_ceil(2) || all >= most {
            return Err(Reason::Overloaded.into());
        }
        Ok(place)
    }
}

/// When a call came, in the extensions of its request: before it waited for a processor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived(pub(crate) Instant);

/// In the extensions of an answer: no handler was asked, for too many calls are in work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooMany;

/// Given back when dropped.
struct Place {
    bounds: Arc<[Bound; BOUNDS]>,
    load: Arc<PeerLoad>,
    class: usize,
    come: Instant,
    /// Whether it was worked on to its end: how long that took tells how many calls there is time for.
    worked: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.calls[self.class].fetch_sub(1, Ordering::Relaxed);
        let bound = &self.bounds[self.class];
        let in_work = bound.calls.fetch_sub(1, Ordering::Relaxed);
        if self.worked {
            let now = Instant::now();
            bound
                .pace
                .answered(now, now.saturating_duration_since(self.come), in_work);
        }
    }
}

impl Around for Shed {
    async fn around<S: Inner>(self, mut inner: S, request: Request<Body>) -> Response<Body> {
        let mut place = match self.place(&request) {
            Ok(place) => place,
            Err(refusal) => {
                let mut answer = error::answer(refusal);
                answer.extensions_mut().insert(TooMany);
                return answer;
            }
        };
        let streaming = request
            .extensions()
            .get::<Arc<Rule>>()
            .is_some_and(|rule| rule.streaming);
        let response = inner.ask(request).await;
        // A stream is in work until it was read to its end; a unary answer is not, however slowly it is fetched.
        if streaming {
            return response.map(|stream| body::keeping(stream, place));
        }
        place.worked = true;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
