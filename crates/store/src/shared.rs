//! What the lanes, the readers and the confirmation of one store share.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use sammati_kernel::{Clock, Key, Micros};
use tokio::sync::watch;

use crate::checkpoint::Emptying;
use crate::dial::Dial;
use crate::durable::Commits;
use crate::error::Error;
use crate::heads::HeadRow;
use crate::rewrite::Remains;
use crate::room::Room;
use crate::setup::FileLock;
use crate::stats::Stats;
use crate::{Partitions, Revision, clock};

/// Where a partition's feed stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Counts restores: whoever holds another epoch reloads.
    pub epoch: i64,
    /// The position that the next event will have.
    pub next: i64,
    /// The hash chain over all events before `next`.
    pub chain: Vec<u8>,
}

/// Told of every subject whose state changed, before anybody is answered.
pub(crate) trait Invalidate: Send + Sync {
    fn changed(&self, subject: &[u8]);
    /// Nothing that was known can be relied on.
    fn clear(&self);
}

/// What this process knows of one partition.
struct Known {
    /// When it was last committed to.
    time: i64,
    /// The furthest head that was seen.
    head: Head,
    /// The caches have been told of every event before this position. It may lie before the head: a commit of this
    /// process follows upon events of other replicas that only a confirmation brings.
    applied: i64,
    /// The revision that names the head, once somebody asked: every read tells one, few commits lie between.
    sealed: OnceLock<String>,
}

/// A head that was reached, with the position from which on its events are told of.
pub(crate) struct Reached {
    pub(crate) head: HeadRow,
    pub(crate) from: i64,
}

pub(crate) struct Shared {
    pub(crate) location: Dial,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) partitions: Partitions,
    pub(crate) key: Key,
    pub(crate) stats: Stats,
    pub(crate) room: Room,
    pub(crate) remains: Remains,
    pub(crate) emptying: Emptying,
    pub(crate) commits: Commits,
    /// From which time on request ids lie in the order of their times, in microseconds.
    requests_from: AtomicI64,
    /// As [`crate::Options::time_only_orders`].
    pub(crate) time_only_orders: bool,
    /// The time of the newest commit that is known, in microseconds.
    latest: AtomicI64,
    /// Whether this process is the one that finishes what an epoch was opened for.
    pub(crate) recovers: bool,
    heads: RwLock<HashMap<i64, Known>>,
    caches: Mutex<Vec<Arc<dyn Invalidate>>>,
    beside: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    changed: watch::Sender<u64>,
    /// Whether the database serves, as the last confirmation found it.
    pub(crate) readiness: watch::Sender<Result<(), String>>,
    /// Held for as long as anything may still write: a lane outlives the last store by its batch.
    _lock: Option<FileLock>,
}

impl Shared {
    pub(crate) fn new(
        location: Dial,
        clock: Arc<dyn Clock>,
        partitions: Partitions,
        key: Key,
        lock: Option<FileLock>,
    ) -> Self {
        let (changed, _) = watch::channel(0);
        Self {
            location,
            clock,
            partitions,
            key,
            stats: Stats::default(),
            room: Room::default(),
            remains: Remains::default(),
            emptying: Emptying::default(),
            commits: Commits::default(),
            requests_from: AtomicI64::new(i64::MAX),
            time_only_orders: false,
            latest: AtomicI64::new(i64::MIN),
            recovers: false,
            heads: RwLock::default(),
            caches: Mutex::default(),
            beside: Mutex::default(),
            changed,
            readiness: watch::channel(Ok(())).0,
            _lock: lock,
        }
    }

    /// Of a database of four partitions, early in 1970.
    #[cfg(test)]
    pub(crate) fn in_test(location: crate::Location) -> Arc<Self> {
        let clock = Arc::new(sammati_kernel::ManualClock::at(Micros::from_seconds(1)));
        let (partitions, key) = (Partitions::new(4).unwrap(), Key::from_bytes([1; 32]));
        Arc::new(Self::new(Dial::new(location), clock, partitions, key, None))
    }

    /// From which time on request ids lie in the order of their times.
    pub(crate) fn requests_from(&self) -> Micros {
        Micros(self.requests_from.load(Ordering::SeqCst))
    }

    /// What the database says of it; `None` is never.
    pub(crate) fn requests_are_from(&self, time: Option<i64>) {
        self.requests_from.store(time.unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Refuses to decide by a clock that commits are ahead of, of what was `committed` and of all that is known.
    pub(crate) fn expect_past(&self, committed: impl IntoIterator<Item = i64>) -> Result<(), Error> {
        if self.time_only_orders {
            return Ok(());
        }
        let known = self.latest.load(Ordering::SeqCst);
        let latest = committed.into_iter().fold(known, i64::max);
        clock::expect_past(self.clock.as_ref(), Micros(latest))
    }

    /// Tells whoever asks for readiness; true if that changed.
    pub(crate) fn tell(&self, now: Result<(), String>) -> bool {
        self.readiness.send_if_modified(|known| {
            let changes = *known != now;
            *known = now;
            changes
        })
    }

    pub(crate) fn add_cache(&self, cache: Arc<dyn Invalidate>) {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner).push(cache);
    }

    pub(crate) fn beside<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let known = beside.get(&TypeId::of::<T>()).cloned();
        if let Some(known) = known.and_then(|known| known.downcast().ok()) {
            return known;
        }
        let made = Arc::new(make());
        beside.insert(TypeId::of::<T>(), Arc::clone(&made) as _);
        made
    }

    /// Takes over what a lane committed or a confirmation saw: first the caches, then the heads.
    pub(crate) fn reached(&self, heads: &[Reached], subjects: &[Vec<u8>]) {
        if heads.iter().any(|reached| self.is_lost(reached)) {
            tracing::error!("the database is behind what it had told, or was restored: dropping all that is cached");
            self.each_cache(|cache| cache.clear());
        }
        self.each_cache(|cache| subjects.iter().for_each(|subject| cache.changed(subject)));
        let mut moved = false;
        {
            let mut known = self.heads.write().unwrap_or_else(PoisonError::into_inner);
            for reached in heads {
                moved |= take(&mut known, reached);
            }
            let latest = known.values().map(|known| known.time).max();
            self.latest.store(latest.unwrap_or(i64::MIN), Ordering::SeqCst);
        }
        if moved {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Whether a head is in an epoch that this process has not been in.
    pub(crate) fn opens_epoch(&self, head: &HeadRow) -> bool {
        let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        let known = heads.get(&head.partition);
        known.is_some_and(|known| head.epoch > known.head.epoch)
    }

    /// Whether a head denies what this process was told before: another epoch, or fewer events than were applied.
    fn is_lost(&self, Reached { head, from }: &Reached) -> bool {
        let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        let known = heads.get(&head.partition);
        known.is_some_and(|known| begins_anew(&known.head, head, *from))
    }

    fn each_cache(&self, tell: impl Fn(&dyn Invalidate)) {
        let caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        caches.iter().for_each(|cache| tell(cache.as_ref()));
    }

    pub(crate) fn head(&self, partition: i64) -> Option<Head> {
        self.heads
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&partition)
            .map(|known| known.head.clone())
    }

    /// The revision that names a partition's head, sealed; `None` before the head is known.
    pub(crate) fn sealed_revision(&self, partition: i64) -> Option<String> {
        let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        let Known { head, sealed, .. } = heads.get(&partition)?;
        let seal = || Revision::of(partition, head).seal(&self.key);
        Some(sealed.get_or_init(seal).clone())
    }

    /// For each partition the position from which on the caches have not been told of every event.
    pub(crate) fn applied(&self) -> Vec<(i64, i64)> {
        let known = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        self.partitions
            .all()
            .map(|p| (p, known.get(&p).map_or(0, |known| known.applied)))
            .collect()
    }

    /// Whether the caches know of everything that the revision names.
    pub(crate) fn has_applied(&self, revision: &Revision) -> bool {
        let known = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&revision.partition);
        known.is_some_and(|known| known.head.epoch == revision.epoch && known.applied >= revision.next)
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How often any head moved.
    pub(crate) fn moves(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Whether anybody wants to know of what other replicas do, or whether the database serves.
    pub(crate) fn is_watched(&self) -> bool {
        self.changed.receiver_count() > 0 || self.readiness.receiver_count() > 0
    }
}

/// Whether a partition is not the one that was known: restored, short of what it had told, or pruned beyond what was seen
/// of it.
const fn begins_anew(known: &Head, now: &HeadRow, from: i64) -> bool {
    now.epoch > known.epoch || (now.epoch == known.epoch && (now.next < from || now.floor > from))
}

/// Takes one head over; tells whether it moved. What was seen earlier may be told later: within an epoch a head goes
/// back only when the database did.
fn take(known: &mut HashMap<i64, Known>, Reached { head: row, from }: &Reached) -> bool {
    let head = Head {
        epoch: row.epoch,
        next: row.next,
        chain: row.chain.clone(),
    };
    let Some(old) = known.get_mut(&row.partition) else {
        let (applied, sealed) = (row.next, OnceLock::new());
        let time = row.time;
        known.insert(
            row.partition,
            Known {
                time,
                head,
                applied,
                sealed,
            },
        );
        return true;
    };
    let begins_anew = begins_anew(&old.head, row, *from);
    if row.epoch < old.head.epoch {
        return false;
    }
    if begins_anew {
        (old.applied, old.time) = (row.next, row.time);
    } else if *from <= old.applied {
        old.applied = old.applied.max(row.next);
    }
    old.time = old.time.max(row.time);
    let moves = begins_anew || old.head.next < row.next;
    if moves {
        (old.head, old.sealed) = (head, OnceLock::new());
    }
    moves
}
