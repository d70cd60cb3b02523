//! How much is in work at once? Bounds per class and per peer; what is above them is refused at once, never queued.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::{Request, Response, header};
use sammati_kernel::{Reason, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;

use crate::authz::{Class, Rule};
use crate::body;
use crate::config::Limits;
use crate::error;
use crate::layer::{Around, Inner};
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

struct Bound {
    all: Arc<Semaphore>,
    peer: usize,
}

impl Shed {
    pub(crate) fn new(limits: &Limits) -> Self {
        let bound = |n: usize| Bound {
            all: Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS))),
            peer: n.div_ceil(2),
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
        let mine = PeerPlace {
            load: connection.load.clone(),
            class,
        };
        if mine.load.calls[class].fetch_add(1, Ordering::Relaxed) >= self.0[class].peer {
            return Err(Reason::Overloaded.into());
        }
        let all = self.0[class]
            .all
            .clone()
            .try_acquire_owned()
            .map_err(|_| Reason::Overloaded)?;
        Ok(Place { _mine: mine, _all: all })
    }
}

/// Given back when dropped.
struct Place {
    _mine: PeerPlace,
    _all: OwnedSemaphorePermit,
}

struct PeerPlace {
    load: Arc<PeerLoad>,
    class: usize,
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        self.load.calls[self.class].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Around for Shed {
    async fn around<S: Inner>(self, mut inner: S, request: Request<Body>) -> Response<Body> {
        let place = match self.place(&request) {
            Ok(place) => place,
            Err(refusal) => return error::answer(refusal),
        };
        let streaming = request
            .extensions()
            .get::<Arc<Rule>>()
            .is_some_and(|rule| rule.streaming);
        let response = inner.ask(request).await;
        // A stream is in work until it was read to its end; a unary answer is not, however slowly it is fetched.
        if streaming {
            response.map(|stream| body::keeping(stream, place))
        } else {
            response
        }
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
