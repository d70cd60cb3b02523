//! Who waits for a confirmation, and when the next one begins.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sammati_kernel::{Reason, Refusal};
use tokio::sync::oneshot;

use crate::gate::overloaded;

/// The most who wait for one confirmation.
pub(super) const MOST: usize = 16 * 1024;

/// Told when it is confirmed, or why it is not.
pub(super) type Waiter = oneshot::Sender<Result<(), Refusal>>;

/// How long the thread that confirms lets others come before it takes those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// Until so many wait.
    pub(super) until: usize,
    /// And no longer than this.
    pub(super) at_most: Duration,
}

impl Rest {
    /// Not at all.
    pub(super) const NONE: Self = Self {
        until: 1,
        at_most: Duration::ZERO,
    };
}

/// Where callers ask. The thread ends with the last of these.
pub(super) struct Asking(Arc<Place>);

/// Those who asked, for the thread.
pub(super) struct Waiting(Arc<Place>);

#[derive(Default)]
struct Place {
    state: Mutex<State>,
    come: Condvar,
}

#[derive(Default)]
struct State {
    waiters: Vec<Waiter>,
    /// Who makes it so many wakes the thread; nobody else does.
    wakes: usize,
    /// One of the ends is gone.
    is_closed: bool,
}

/// Both ends.
pub(super) fn waiting() -> (Asking, Waiting) {
    let place = Arc::<Place>::default();
    (Asking(Arc::clone(&place)), Waiting(place))
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// Joins those who wait.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when too many do; UNAVAILABLE when the thread is gone.
    pub(super) fn ask(&self, waiter: Waiter) -> Result<(), Refusal> {
        let mut state = self.0.state();
        if state.is_closed {
            return Err(Reason::StorageUnavailable.into());
        }
        if state.waiters.len() >= MOST {
            return Err(overloaded());
        }
        state.waiters.push(waiter);
        let wakes = state.waiters.len() == state.wakes;
        drop(state);
        if wakes {
            self.0.come.notify_one();
        }
        Ok(())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.come.notify_one();
    }
}

impl Drop for Waiting {
    /// Whoever waits is told that nobody will tell.
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_closed = true;
        state.waiters.clear();
    }
}

impl Waiting {
    /// All who wait after this rest, and one at least; `None` when nobody can come any more.
    pub(super) fn take(&self, rest: Rest) -> Option<Vec<Waiter>> {
        let mut state = self.0.state();
        state.wakes = rest.until;
        let rests = |state: &mut State| !state.is_closed && state.waiters.len() < rest.until;
        let rested = self.0.come.wait_timeout_while(state, rest.at_most, rests);
        (state, _) = rested.unwrap_or_else(PoisonError::into_inner);
        state.wakes = 1;
        let idles = |state: &mut State| !state.is_closed && state.waiters.is_empty();
        let mut state = self
            .0
            .come
            .wait_while(state, idles)
            .unwrap_or_else(PoisonError::into_inner);
        let waiters = std::mem::take(&mut state.waiters);
        (!waiters.is_empty()).then_some(waiters)
    }
}
