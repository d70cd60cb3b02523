//! Whose keys have ended or are ending: for each event about anybody else there is no row to read. That is known only of an
//! embedded database, which this process alone writes.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use sammati_kernel::Refusal;
use sammati_store::Store;

use super::tag_of;
use crate::rows::ErasureRow;

/// Rows of one look.
const LOOK: i64 = 1000;

/// The subjects of whom some key has ended, and a few that share a mark with one of them.
#[derive(Debug, Default)]
pub(crate) struct Ended(RwLock<Marks>);

#[derive(Debug, Default)]
struct Marks {
    /// Whether all are marked; while they are not, it may be anybody.
    is_whole: bool,
    tags: HashSet<[u8; 4]>,
}

impl Ended {
    /// Marks all of the log in `store`, if it has its database for itself.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn read(&self, store: &Store) -> Result<(), Refusal> {
        if store.path().is_none() {
            return Ok(());
        }
        let mut after = Vec::new();
        loop {
            let from = after.clone();
            let rows = store.read(move |r| r.scan::<ErasureRow>((0, &from), LOOK)).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.record.key);
            let ended = rows.iter().filter(|row| row.record.end().is_some());
            ended.for_each(|row| self.mark(&row.record.key));
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).is_whole = true;
        Ok(())
    }

    /// The key of this name is about to end. Whoever ends one does so where he tells what he reads: what is loaded after
    /// that knows of it.
    pub(crate) fn mark(&self, key: &[u8]) {
        if let Some(mark) = mark_of(key) {
            self.0.write().unwrap_or_else(PoisonError::into_inner).tags.insert(mark);
        }
    }

    /// Whether the key of this name may have ended.
    pub(crate) fn may_have(&self, key: &[u8]) -> bool {
        let marks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !marks.is_whole || mark_of(key).is_none_or(|mark| marks.tags.contains(&mark))
    }
}

/// The mark of the subject whose key it is; those of months have none.
fn mark_of(key: &[u8]) -> Option<[u8; 4]> {
    tag_of(key).first_chunk().copied()
}
