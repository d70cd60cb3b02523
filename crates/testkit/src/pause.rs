//! Work that stands still for as long as a test wants: a read that is open, a transaction that does not end.

use std::sync::mpsc::{Receiver, Sender, channel};

/// The test's end. What is paused goes on when this is dropped.
#[derive(Debug)]
pub struct Pause {
    reached: Receiver<()>,
    _go: Sender<()>,
}

/// The other end, within the work.
#[derive(Debug)]
pub struct Paused {
    reached: Sender<()>,
    go: Receiver<()>,
}

/// Both ends.
pub fn pause() -> (Pause, Paused) {
    let ((told, reached), (go, waits)) = (channel(), channel());
    (
        Pause { reached, _go: go },
        Paused {
            reached: told,
            go: waits,
        },
    )
}

impl Pause {
    /// Waits, blocking, until the work stands still.
    ///
    /// # Panics
    /// When the work ended before.
    pub fn until_reached(&self) {
        self.reached.recv().expect("the work ended before it stood still");
    }
}

impl Paused {
    /// Here the work stands still, its thread blocked, until the other end is dropped.
    pub fn here(&self) {
        // Nobody waits any more: it goes on.
        let _ = self.reached.send(());
        let _ = self.go.recv();
    }
}
