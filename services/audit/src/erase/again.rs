//! After a restore: what was erased is erased again, and what was to be is booked again.
//!
//! The log and the keys are kept in two databases, and each remembers for the other. A key database that is older than the
//! log brings keys back that the log knows were destroyed; a log that is older brings payloads and look-ups back, and
//! forgets the record, of keys that are gone. What was only booked identity remembers, which never forgets a deleted account.

use std::sync::Arc;

use sammati_kernel::{AccountId, Micros, Reason, Refusal, Seed, Slot};
use sammati_server::event::system;
use sammati_store::{Command, Keys, View};

use super::number;
use crate::append::Known;
use crate::keyring;
use crate::log::{Log, Own, SERVICE};
use crate::retention::CLASSES;
use crate::rows::{ErasureRow, PayloadKeyRow, Running, SLOT};

/// Rows of one look.
const LOOK: i64 = 1000;

impl Log {
    /// Erases again whatever was erased and is there, and draws the lines again of what is booked; each whatever becomes of
    /// the others. Tells how many keys it was about.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`: the first.
    pub async fn erase_again(&self) -> Result<usize, Refusal> {
        let mut again = Again::default();
        let destroyed = self.destroy_again(&mut again).await;
        again.note(destroyed.map(|()| false));
        let cleared = self.clear_again(&mut again).await;
        again.note(cleared.map(|()| false));
        self.clear_remains().await;
        if again.keys > 0 {
            tracing::warn!(
                again = again.keys,
                "a restore had brought back what was erased, or undone what is booked; both are as they were"
            );
        }
        again.refused.map_or(Ok(again.keys), Err)
    }

    /// Books the erasure of this account in the classes of which nothing is known here: its data is destroyed, and identity
    /// has asked. Tells whether there was something to erase.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub async fn book_again(&self, purged: AccountId) -> Result<bool, Refusal> {
        let tag = self.tags().subject(&purged.name());
        let key = |class| keyring::subject_key(number(class), &tag);
        let keys: Vec<_> = CLASSES.into_iter().map(|class| (SLOT, key(class))).collect();
        let known = self.store.read(move |r| r.many::<ErasureRow>(&keys)).await?;
        let is_known = |class| known.iter().any(|row| row.record.key == key(class));
        let unknown: Vec<_> = CLASSES.into_iter().filter(|class| !is_known(*class)).collect();
        if unknown.is_empty() {
            return Ok(false);
        }
        let standings = self.erase(&system(SERVICE), &tag, &unknown, GROUND, None).await?;
        Ok(!standings.is_empty())
    }

    /// Destroys keys that the log knows were destroyed, and retires those that it knows were.
    async fn destroy_again(&self, again: &mut Again) -> Result<(), Refusal> {
        let mut after = Vec::new();
        loop {
            let from = after.clone();
            let rows = self.store.read(move |r| r.scan::<ErasureRow>((0, &from), LOOK)).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.record.key);
            for row in rows {
                again.note(self.as_it_was(&row.record).await);
            }
        }
        match again.keys {
            0 => Ok(()),
            _ => self.keyring.scrub().await,
        }
    }

    /// Has the keys of a name as the log knows that they were; tells whether they were not.
    async fn as_it_was(&self, row: &ErasureRow) -> Result<bool, Refusal> {
        let mut again = false;
        if let Some(done) = row.done.last() {
            let gone = keyring::Gone {
                generation: done.generation,
                at: Micros(done.at),
                basis: &done.basis,
            };
            again |= self.keyring.destroy(&row.key, gone).await?;
            // Whoever destroyed it may have ended before the last of it was gone.
            self.keyring.leaves_remains();
        }
        // Else what is told from now on would be sealed under the key of what is booked, move its day, and go with it.
        if let Some(line) = row.line() {
            again |= self.keyring.retire_through(&row.key, line).await?;
        }
        Ok(again)
    }

    /// Clears what was sealed under keys that are gone, and records it, where the log knows nothing of it.
    async fn clear_again(&self, again: &mut Again) -> Result<(), Refusal> {
        let mut before = None;
        loop {
            let rows = self.keyring.gone(before.take(), LOOK).await?;
            for row in &rows {
                again.note(self.resume(row).await);
            }
            match rows.last().filter(|_| rows.len() as i64 >= LOOK) {
                Some(last) => before = Some(last.id.clone()),
                None => return Ok(()),
            }
        }
    }

    async fn is_unknown(&self, key: &PayloadKeyRow) -> Result<bool, Refusal> {
        let (id, gone) = (key.id.clone(), key.gone() - 1);
        let row = self.store.read(move |r| r.get::<ErasureRow>(SLOT, &id)).await?;
        Ok(row.is_none_or(|row| !knows(&row.record, gone)))
    }

    /// Goes on with an erasure whose key is gone, if the log knows nothing of it. It happened when it happened; the record is
    /// of now.
    async fn resume(&self, key: &PayloadKeyRow) -> Result<bool, Refusal> {
        if !self.is_unknown(key).await? {
            return Ok(false);
        }
        let seed = Seed::draw().map_err(|_| Reason::Internal)?;
        let event_id = seed.id::<Own>("erasure", self.store.clock().now(), SLOT).to_string();
        let resume = Resume {
            key: key.id.clone(),
            basis: key.basis.clone(),
            known: Arc::clone(&self.known),
            running: Running {
                event_id,
                at: key.destroyed,
                generation: key.gone() - 1,
            },
        };
        let resumed = self.store.apply(resume).await?;
        self.execute(&key.id).await?;
        Ok(resumed)
    }
}

/// What was done again, and the first refusal.
#[derive(Default)]
struct Again {
    keys: usize,
    refused: Option<Refusal>,
}

impl Again {
    fn note(&mut self, done: Result<bool, Refusal>) {
        match done {
            Ok(again) => self.keys += usize::from(again),
            Err(refusal) => {
                self.refused.get_or_insert(refusal);
            }
        }
    }
}

/// On what ground what identity has asked for is booked: in the words in which it asks, for now the one comes first and now
/// the other.
const GROUND: &str = "DPDP Act s.8(7): her account is deleted";

/// Whether an erasure of this generation is done or under way.
fn knows(row: &ErasureRow, generation: i64) -> bool {
    row.running.is_some() || row.of_generation(generation).is_some()
}

/// Takes an erasure up whose key is gone; tells whether it was not known.
struct Resume {
    key: Vec<u8>,
    basis: String,
    running: Running,
    known: Arc<Known>,
}

impl Command for Resume {
    type Answer = bool;
    const NAME: &'static str = "audit.resume_erasure";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        self.known.ended.mark(&self.key);
        keys.row::<ErasureRow>(self.key.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let mut row = view.get::<ErasureRow>(&self.key).unwrap_or_else(|| ErasureRow {
            key: self.key.clone(),
            ..ErasureRow::default()
        });
        if knows(&row, self.running.generation) {
            return Ok(false);
        }
        row.due = self.running.at.max(1);
        row.basis.clone_from(&self.basis);
        row.running = Some(self.running.clone());
        view.put(&row);
        Ok(true)
    }
}
