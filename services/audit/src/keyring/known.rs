//! What memory knows of keys. In an embedded database, which this process alone writes, that is what there is; else it
//! saves the unwrapping, and which keys there are the database says each time, for another replica may have destroyed one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use sammati_kernel::{Reason, Refusal};
use sammati_store::{Command, Store};

use super::{Held, KeyId, LiveKeys};

/// How many names are known at most.
const CACHED: usize = 64 * 1024;

/// The keys of names whose present key lives, the present one last.
pub(super) struct Known {
    keys: Cache<KeyId, Arc<[Held]>>,
    /// Whether what is known of a name is all there is of it.
    is_whole: bool,
    /// How often a key was retired or destroyed: what was read before that is not known after it.
    changes: Mutex<u64>,
}

impl Known {
    /// Nothing yet, of the keys in `store`.
    pub(super) fn of(store: &Store) -> Self {
        Self {
            keys: Cache::new(CACHED),
            is_whole: store.path().is_some(),
            changes: Mutex::default(),
        }
    }

    /// What is known of a name.
    pub(super) fn get(&self, id: &[u8]) -> Option<Arc<[Held]>> {
        self.keys.get(id)
    }

    /// Takes those of `ids` for which the database need not be asked.
    pub(super) fn take(&self, ids: &mut BTreeSet<KeyId>) -> LiveKeys {
        let mut taken = LiveKeys::new();
        if self.is_whole {
            ids.retain(|id| match self.get(id) {
                Some(held) => {
                    taken.insert(id.clone(), held);
                    false
                }
                None => true,
            });
        }
        taken
    }

    /// To be told to [`Self::keep`] of what is read after it.
    pub(super) fn changes(&self) -> u64 {
        *self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was read of a name, unless something was retired or destroyed since `changes`.
    pub(super) fn keep(&self, id: &[u8], held: &Arc<[Held]>, changes: u64) {
        let now = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == changes {
            self.keys.insert(id.to_vec(), Arc::clone(held));
        }
    }

    /// Keeps nothing of a name.
    pub(super) fn remove(&self, id: &[u8]) {
        self.keys.remove(id);
    }

    /// The same, and nothing that was read of it until now.
    fn forget(&self, id: &[u8]) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        self.keys.remove(id);
    }

    /// Applies what retires or destroys keys of a name; whoever asked may go away meanwhile, and once it is done nothing
    /// of before is known any more.
    ///
    /// # Errors
    /// Those of the command.
    pub(super) async fn change<C: Command>(
        self: &Arc<Self>,
        store: &Store,
        id: &[u8],
        command: C,
    ) -> Result<C::Answer, Refusal> {
        let (known, store, id) = (Arc::clone(self), store.clone(), id.to_vec());
        let changed = tokio::spawn(async move {
            let applied = store.apply(command).await;
            known.forget(&id);
            applied
        });
        changed.await.map_err(|_| Refusal::new(Reason::Internal))?
    }
}
