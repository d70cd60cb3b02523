//! A participant is suspended: what it has open must not go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::{ConsentId, Micros, ParticipantId, Refusal, Slot, TransferId};
use sammati_server::event::system;
use sammati_store::{Command, Keys, Store, View};

use super::{cancel, expire};
use crate::directory::Directory;
use crate::rows::{self, ConsentRow, TransferRow, id};
use crate::sweep;

/// Between looks at what participants that were suspended before may have opened since, by a decision on older facts.
const AGAIN: Duration = Duration::from_secs(60);

/// Rows taken at once.
const BATCH: i64 = 256;

/// Cancels one transfer, if a participant in it is known and not active by now.
struct Halt {
    transfer: TransferId,
    consent: ConsentId,
    directory: Arc<dyn Directory>,
}

impl Command for Halt {
    type Answer = ();

    const NAME: &'static str = "transfer.halt";

    fn slot(&self) -> Slot {
        self.transfer.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransferRow>(self.transfer.to_vec());
        keys.row::<ConsentRow>(self.consent.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let Some(mut row) = view.get::<TransferRow>(self.transfer.as_bytes()) else {
            return Ok(());
        };
        let mut consent = view.get::<ConsentRow>(self.consent.as_bytes());
        if expire(view, &mut row, consent.as_mut())? || !self.is_halted(&row)? {
            return Ok(());
        }
        cancel(view, &mut row, consent.as_mut(), &system("consent"), None)
    }
}

impl Halt {
    /// Of an open transfer; of a damaged row, none.
    fn of(row: &TransferRow, directory: &Arc<dyn Directory>) -> Option<Self> {
        Some(Self {
            transfer: id(&row.id).ok()?,
            consent: id(&row.consent).ok()?,
            directory: Arc::clone(directory),
        })
    }

    fn is_halted(&self, row: &TransferRow) -> Result<bool, Refusal> {
        for id in [&row.hip, &row.hiu] {
            let party = self.directory.participant(&rows::participant(id)?);
            if party.is_some_and(|party| !party.active) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Follows who is suspended: cancels what a participant has open when it is, and looks again at a slow pace.
#[derive(Default)]
pub struct Halts {
    seen: BTreeSet<ParticipantId>,
    all: Micros,
}

impl Halts {
    /// Cancels what must not go on now.
    ///
    /// # Errors
    /// When storage fails; what was left is looked at again the next time.
    pub async fn run(&mut self, store: &Store, directory: &Arc<dyn Directory>) -> Result<(), Refusal> {
        let (now, inactive) = (store.clock().now(), directory.inactive());
        self.seen.retain(|id| inactive.contains(id));
        if now >= self.all {
            self.seen.clear();
            self.all = now.plus(AGAIN);
        }
        for id in inactive {
            if !self.seen.contains(&id) {
                for column in ["open_hip", "open_hiu"] {
                    halt(store, directory, column, &id).await?;
                }
                self.seen.insert(id);
            }
        }
        Ok(())
    }
}

async fn halt(
    store: &Store,
    directory: &Arc<dyn Directory>,
    column: &'static str,
    who: &ParticipantId,
) -> Result<(), Refusal> {
    let mut before: Option<Vec<u8>> = None;
    loop {
        let (value, from) = (who.as_str().to_owned(), before.take());
        let read = store.read(move |r| r.page::<TransferRow>(column, value.as_bytes(), from.as_deref(), BATCH));
        let page = read.await?;
        let halts = page.iter().filter_map(|stored| Halt::of(&stored.record, directory));
        sweep::all(store, halts.collect()).await?;
        if sweep::is_full(page.len(), BATCH) {
            before = page.last().map(|stored| stored.record.id.clone());
        }
        if before.is_none() {
            return Ok(());
        }
    }
}
