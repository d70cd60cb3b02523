//! What a lane takes on: bounded in commands, in bytes, and, once it is half full, in what any one slot may have waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sammati_kernel::{Reason, Refusal, SLOTS, Slot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in pieces of this many.
const PIECE: usize = 1024;

/// A slot may have this part of a lane's queue once the queue is half full.
const SHARE: usize = 8;

/// The gate of one lane.
pub(crate) struct Gate {
    pieces: Arc<Semaphore>,
    most: usize,
    queue: usize,
    waiting: Arc<[AtomicU32]>,
}

impl Gate {
    /// For a queue of `queue` commands of `bytes` in all.
    pub(crate) fn new(queue: usize, bytes: usize) -> Self {
        let most = (bytes / PIECE).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            pieces: Arc::new(Semaphore::new(most)),
            most,
            queue,
            waiting: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// A place for one command of about `bytes`, while `free` others still fit into the queue.
    pub(crate) fn admit(&self, slot: Slot, bytes: usize, free: usize) -> Result<Ticket, Refusal> {
        let place = Place {
            waiting: Arc::clone(&self.waiting),
            slot: usize::from(slot.number()),
        };
        let waiting = usize::try_from(self.waiting[place.slot].fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
        if free < self.queue / 2 && waiting >= (self.queue / SHARE).max(1) {
            return Err(overloaded());
        }
        // What is larger than the whole bound is taken only while it is alone.
        let pieces = bytes.div_ceil(PIECE).clamp(1, self.most);
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.pieces)
            .try_acquire_many_owned(pieces)
            .map_err(|_| overloaded())?;
        Ok(Ticket {
            _place: place,
            _permit: permit,
        })
    }

    /// The bytes of all that has a place, in whole pieces.
    pub(crate) fn taken(&self) -> usize {
        (self.most - self.pieces.available_permits()) * PIECE
    }
}

/// Given back when the command is answered.
pub(crate) struct Ticket {
    _place: Place,
    _permit: OwnedSemaphorePermit,
}

struct Place {
    waiting: Arc<[AtomicU32]>,
    slot: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting[self.slot].fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a caller is told whose command finds no room.
pub(crate) fn overloaded() -> Refusal {
    Refusal::new(Reason::Overloaded).retry_after(Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_bounds_bytes_and_gives_them_back() {
        let gate = Gate::new(100, 10 * PIECE);
        let first = gate.admit(Slot::new(1), 6 * PIECE, 100).ok();
        assert!(first.is_some() && gate.admit(Slot::new(2), 5 * PIECE, 99).is_err());
        drop(first);
        let whole = gate.admit(Slot::new(2), 50 * PIECE, 100).ok();
        assert!(
            whole.is_some() && gate.admit(Slot::new(3), 1, 99).is_err(),
            "one that is too large goes alone"
        );
    }

    #[test]
    fn a_hot_slot_leaves_room_for_the_rest() {
        let gate = Gate::new(16, 1 << 20);
        let early: Vec<_> = (0..8).map_while(|n| gate.admit(Slot::new(7), 1, 16 - n).ok()).collect();
        assert_eq!(early.len(), 8, "while the queue is empty anybody may use it");
        assert_eq!(
            gate.admit(Slot::new(7), 1, 7).err().map(|e| e.reason),
            Some(Reason::Overloaded)
        );
        assert!(gate.admit(Slot::new(8), 1, 7).is_ok());
        drop(early);
        assert!(gate.admit(Slot::new(7), 1, 7).is_ok());
    }
}
