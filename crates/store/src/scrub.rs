//! Does anything stay in the files of what was overwritten? On SQLite the write-ahead log is emptied, on Postgres the tables are
//! written anew.

use std::sync::Arc;

use sammati_kernel::{Reason, Refusal};

use crate::checkpoint;
use crate::rewrite::{Failed, clear};
use crate::{Record, Store};

impl Store {
    /// Lets nothing stay behind in the files of an embedded database of what was overwritten, now. Elsewhere
    /// [`Self::clear_remains`] does it, or the server's vacuum in its own time.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn scrub(&self) -> Result<(), Refusal> {
        // Before it begins: what is overwritten meanwhile may not be in it.
        let asked = self.shared.emptying.asked();
        self.readers.with(checkpoint::empty).await?;
        self.shared.emptying.done(asked);
        Ok(())
    }

    /// The same for whoever looks again and again. In vain, it is not tried again for half a minute, and refused meanwhile: it waits
    /// for all who read, and holds a connection that reads would have.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn try_scrub(&self) -> Result<(), Refusal> {
        let now = self.shared.clock.now();
        let emptying = &self.shared.emptying;
        if !emptying.may_begin(now) {
            return Err(Reason::StorageUnavailable.into());
        }
        let emptied = self.scrub().await;
        emptying.ended(now, emptied.is_ok());
        emptied
    }

    /// Something in this table was overwritten, now or before this process began, that is to be nowhere: SQLite may have it yet in
    /// its write-ahead log, Postgres where rows no longer point.
    pub fn leaves_remains<R: Record>(&self) {
        if self.shared.location.is_embedded() {
            self.shared.emptying.ask();
        } else {
            self.shared.remains.are_in(R::TABLE.name);
        }
    }

    /// Lets nothing stay behind in the files of what [`Self::leaves_remains`] named: on SQLite as [`Self::try_scrub`], on Postgres
    /// by writing each table anew: whoever reads or writes it meanwhile waits, a few seconds at most. False where that was tried in
    /// vain: somebody reads all the time or holds a table, the bound has passed or the database is away. Once a minute at most, what
    /// came since or was in vain waits for the next call after that. A warning says which, and `store_remains` counts it.
    pub async fn clear_remains(&self) -> bool {
        let (mut is_clear, now) = (true, self.shared.clock.now());
        let emptying = &self.shared.emptying;
        if emptying.is_asked_for() && emptying.may_begin(now) && self.try_scrub().await.is_err() {
            tracing::warn!(
                "destroyed keys may still be in the write-ahead log, which somebody reads or which cannot be written; trying again in half a minute"
            );
            self.shared.stats.remains.inc();
            is_clear = false;
        }
        for table in self.shared.remains.take(now) {
            let shared = Arc::clone(&self.shared);
            let task = tokio::task::spawn_blocking(move || clear(&shared.location, table));
            let done = task.await.unwrap_or(Err(Failed::ForNow));
            if done == Err(Failed::ForNow) {
                self.shared.remains.are_in(table);
            }
            if done.is_err() {
                self.shared.stats.remains.inc();
                is_clear = false;
            }
        }
        is_clear
    }
}
