//! Which events cannot be in the log yet: their ids need not be looked for among all that are. An id tells its time, so it is
//! enough to remember those of the last while. That is known only of an embedded database, which this process alone writes.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use sammati_kernel::Refusal;
use sammati_store::Store;

use crate::rows::{LeafRow, SLOT};

/// How many ids of the last while are remembered at most, and at least half as many.
const REMEMBERED: usize = 256 * 1024;

/// The time of ids that tell none: those of relayed events that had none of their own. They are always looked for.
const TIMELESS: [u8; 6] = [0xff; 6];

/// The ids that are in the log, or were about to be: of those, more than there are.
#[derive(Debug)]
pub(crate) struct Seen(Mutex<Ids>);

#[derive(Debug)]
struct Ids {
    reading: Reading,
    /// A time in milliseconds, as ids tell it: every id in the log that is of a later one is among those below.
    floor: [u8; 6],
    young: Generation,
    old: Generation,
    most: usize,
}

/// Whether what is in the log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It is not, and nothing is remembered.
    Not,
    /// It is being read: whatever comes is remembered.
    Begun,
    Done,
}

/// Ids that came one after the other, by what is random in them, and the newest time that one tells.
#[derive(Debug, Default)]
struct Generation {
    ids: HashSet<[u8; 8]>,
    newest: [u8; 6],
}

impl Default for Seen {
    /// Nothing is known: everything is looked for.
    fn default() -> Self {
        Self(Mutex::new(Ids {
            reading: Reading::Not,
            floor: [0; 6],
            young: Generation::default(),
            old: Generation::default(),
            most: REMEMBERED / 2,
        }))
    }
}

impl Seen {
    /// Begins with what is in the log in `store`, if it has its database for itself.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn read(&self, store: &Store) -> Result<(), Refusal> {
        if store.path().is_none() {
            return Ok(());
        }
        {
            let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if ids.reading == Reading::Done {
                return Ok(());
            }
            ids.reading = Reading::Begun;
        }
        let newest = store
            .read(|r| r.last_below::<LeafRow>(SLOT, "event_id", &TIMELESS))
            .await?;
        let newest = newest.map(|key| time_of(&key).unwrap_or(TIMELESS));
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.floor = ids.floor.max(newest.unwrap_or_default());
        ids.reading = Reading::Done;
        Ok(())
    }

    /// Whether no event with this key can be in the log. From here on one may be: it is told where a command says what it
    /// reads, so whoever comes later looks.
    pub(crate) fn is_new(&self, key: &[u8]) -> bool {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        time_of(key).is_some_and(|time| ids.note(time, key))
    }
}

impl Ids {
    fn note(&mut self, time: [u8; 6], key: &[u8]) -> bool {
        let is_noted = self.reading != Reading::Not && self.floor < time && time < TIMELESS;
        let Some(rest) = key.last_chunk().copied().filter(|_| is_noted) else {
            return false;
        };
        // Another one may be random alike and of another time, so it is remembered twice rather than not at all.
        let is_young = !self.young.ids.insert(rest);
        let is_new = !is_young && !self.old.ids.contains(&rest);
        self.young.newest = time.max(self.young.newest);
        if self.young.ids.len() >= self.most {
            self.floor = self.floor.max(self.old.newest);
            self.old = std::mem::take(&mut self.young);
        }
        is_new && self.reading == Reading::Done
    }
}

fn time_of(key: &[u8]) -> Option<[u8; 6]> {
    key.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use futures::future::join_all;
    use proptest::prelude::*;
    use sammati_kernel::Clock;

    use super::*;
    use crate::rows::event_key;
    use crate::testing::{logs, received};

    fn key(time: u8, id: u8) -> Vec<u8> {
        [[0, 0, 0, 0, 0, time], [7, 0, 0, 0, 0, 0]]
            .concat()
            .into_iter()
            .chain([0x80, 0, 0, id])
            .collect()
    }

    proptest! {
        /// Whatever the order in which events come, and however few ids are remembered: what is called new never was there.
        #[test]
        fn a1_no_event_is_new_twice(
            kept in prop::collection::vec((1_u8..20, 0_u8..10), 0..10),
            told in prop::collection::vec((1_u8..40, 0_u8..10), 0..200),
            most in 1_usize..20,
        ) {
            let newest = kept.iter().map(|(time, _)| *time).max().unwrap_or_default();
            let seen = Seen::default();
            {
                let mut ids = seen.0.lock().unwrap();
                (ids.most, ids.floor, ids.reading) = (most, time_of(&key(newest, 0)).unwrap(), Reading::Done);
            }
            let mut there: HashSet<_> = kept.iter().map(|(time, id)| key(*time, *id)).collect();
            for (time, id) in told {
                let key = key(time, id);
                let is_new = seen.is_new(&key);
                prop_assert!(!(is_new && there.contains(&key)));
                there.insert(key);
            }
        }
    }

    #[test]
    fn what_comes_in_the_order_of_its_time_is_not_looked_for() {
        let unread = Seen::default();
        assert!(!unread.is_new(&key(9, 9)), "nothing is known");
        let seen = Seen::default();
        {
            let mut ids = seen.0.lock().unwrap();
            (ids.most, ids.reading) = (4, Reading::Done);
        }
        for time in 1..100 {
            assert!(seen.is_new(&key(time, time)));
            assert!(!seen.is_new(&key(time, time)), "it may be there now");
        }
        assert!(!seen.is_new(&key(2, 0)), "it may have been forgotten");
        assert!(seen.is_new(&key(99, 0)), "a neighbour of the newest");
        let timeless = [&TIMELESS[..], &[0x70; 10]].concat();
        assert!(!seen.is_new(&timeless));
        assert!(seen.is_new(&key(100, 100)), "and it moved nothing");
    }

    /// However many bring an event at once it is there once, and after a start it is looked for.
    #[tokio::test(flavor = "multi_thread")]
    async fn a1_an_event_that_several_bring_is_there_once() {
        for replicas in logs().await {
            let log = &replicas.logs[0];
            let received = [received(replicas.clock.now())];
            let told = (0..20).map(|_| log.append("consent", &received, Vec::new()));
            for appended in join_all(told).await {
                assert_eq!(appended.unwrap().placed[0].index, 0);
            }
            let key = event_key(&received[0].event.event_id);
            let fresh = Seen::default();
            fresh.read(&log.store).await.unwrap();
            assert!(!fresh.is_new(&key));
            let mut later = u128::from_be_bytes(key.try_into().unwrap());
            later += 1 << 80;
            assert_eq!(fresh.is_new(&later.to_be_bytes()), log.store.path().is_some());
        }
    }
}
