//! What the lanes, the readers and the confirmation of one store share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use sammati_kernel::{Clock, Key};
use tokio::sync::watch;

use crate::sql::HeadRow;
use crate::{Location, Partitions, Revision};

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
}

/// A head, and the sealed revision that names it once somebody asked: every read tells one, few commits lie between.
struct Known {
    head: Head,
    sealed: OnceLock<String>,
}

pub(crate) struct Shared {
    pub(crate) location: Location,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) partitions: Partitions,
    pub(crate) key: Key,
    pub(crate) stats: Stats,
    heads: RwLock<HashMap<i64, Known>>,
    caches: Mutex<Vec<Arc<dyn Invalidate>>>,
    changed: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(location: Location, clock: Arc<dyn Clock>, partitions: Partitions, key: Key) -> Self {
        let (changed, _) = watch::channel(0);
        Self {
            location,
            clock,
            partitions,
            key,
            stats: Stats::default(),
            heads: RwLock::default(),
            caches: Mutex::default(),
            changed,
        }
    }

    pub(crate) fn add_cache(&self, cache: Arc<dyn Invalidate>) {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner).push(cache);
    }

    /// Takes over what a lane committed, or a confirmation saw.
    pub(crate) fn committed(&self, heads: &[HeadRow], subjects: &[Vec<u8>]) {
        {
            let caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
            for cache in caches.iter() {
                subjects.iter().for_each(|subject| cache.changed(subject));
            }
        }
        let mut moved = false;
        {
            let mut known = self.heads.write().unwrap_or_else(PoisonError::into_inner);
            for head in heads {
                let new = Head {
                    epoch: head.epoch,
                    next: head.next,
                    chain: head.chain.clone(),
                };
                let old = known.get(&head.partition).map(|known| &known.head);
                // A confirmation that began earlier may be told later: a head never goes back within its epoch.
                if old.is_none_or(|old| (old.epoch, old.next) < (new.epoch, new.next)) {
                    let sealed = OnceLock::new();
                    known.insert(head.partition, Known { head: new, sealed });
                    moved = true;
                }
            }
        }
        if moved {
            self.changed.send_modify(|n| *n += 1);
        }
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
        let Known { head, sealed } = heads.get(&partition)?;
        let seal = || Revision::of(partition, head).seal(&self.key);
        Some(sealed.get_or_init(seal).clone())
    }

    /// For each partition the position from which on nothing is known yet.
    pub(crate) fn applied(&self) -> Vec<(i64, i64)> {
        let known = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        self.partitions
            .all()
            .map(|p| (p, known.get(&p).map_or(0, |known| known.head.next)))
            .collect()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn watchers(&self) -> usize {
        self.changed.receiver_count()
    }
}

/// Counters of one store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats {
    pub(crate) batches: Counter,
    pub(crate) commands: Counter,
    pub(crate) events: Counter,
    pub(crate) reruns: Counter,
    pub(crate) shed: Counter,
    pub(crate) confirmations: Counter,
}

impl Stats {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("store_batches", "Batches committed", self.batches.clone());
        registry.register("store_commands", "Commands settled by a commit", self.commands.clone());
        registry.register("store_events", "Events appended to the feed", self.events.clone());
        registry.register(
            "store_reruns",
            "Batches run again after a passing failure",
            self.reruns.clone(),
        );
        registry.register(
            "store_shed",
            "Commands refused because a lane's queue was full",
            self.shed.clone(),
        );
        registry.register(
            "store_confirmations",
            "Statements that confirmed heads on the primary",
            self.confirmations.clone(),
        );
    }
}
