//! Answers that are held on their way.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What a line's connections ask before they pass an answer on.
#[derive(Debug, Default)]
pub(super) struct Holder {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    holding: bool,
    waiting: usize,
}

impl Holder {
    /// Returns when answers may pass.
    pub(super) fn pass(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting += 1;
        self.changed.notify_all();
        while state.holding {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
    }

    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.set(true);
        Held(Arc::clone(self))
    }

    fn set(&self, holding: bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).holding = holding;
        self.changed.notify_all();
    }
}

/// While it lives, the server is asked, does what it is asked, and its answers do not come through.
#[derive(Debug)]
pub struct Held(Arc<Holder>);

impl Held {
    /// Blocks until an answer waits.
    pub fn wait_for_one(&self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.waiting == 0 {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
