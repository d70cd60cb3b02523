//! Booking: what is to be erased and is not yet.

use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Micros, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::below_floor;
use crate::rows::{Booking, ErasureRow, HoldRow, SLOT};

/// What is asked for under one key.
pub(super) struct Asked {
    /// How it is booked.
    pub(super) row: ErasureRow,
    /// The newest generation of the key that there is something under.
    pub(super) generation: i64,
}

/// Books erasures; what has begun is not touched, and what was booked keeps its ground.
pub(super) struct Book(pub(super) Vec<Asked>);

impl Command for Book {
    type Answer = ();
    const NAME: &'static str = "audit.erase_subject";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        for asked in &self.0 {
            keys.row::<ErasureRow>(asked.row.key.clone());
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        for asked in &self.0 {
            let before = view.get::<ErasureRow>(&asked.row.key);
            if let Some(row) = asked.booked(before) {
                view.put(&row);
            }
        }
        Ok(())
    }
}

impl Asked {
    /// The row with it, unless it is in it already.
    fn booked(&self, before: Option<ErasureRow>) -> Option<ErasureRow> {
        let mut row = before.unwrap_or_default();
        if row.due == 0 {
            return Some(ErasureRow {
                done: row.done,
                ..self.row.clone()
            });
        }
        // It takes what is under its keys; what was told since waits for a day of its own.
        let running = row.running.as_ref().map(|running| running.generation);
        if running.or(row.through)? >= self.generation {
            return None;
        }
        let next = row.next.get_or_insert_with(|| Booking {
            due: self.row.due,
            basis: self.row.basis.clone(),
            actor: self.row.actor.clone(),
            through: None,
        });
        next.through = next.through.max(self.row.through);
        Some(row)
    }
}

/// Books the destruction of a month's key, if it may be destroyed now; one that is stays so.
pub(super) struct BookMonth {
    pub(super) row: ErasureRow,
    pub(super) class: RetentionClass,
}

impl Command for BookMonth {
    type Answer = ();
    const NAME: &'static str = "audit.expire_class";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ErasureRow>(self.row.key.clone());
        keys.group::<HoldRow>("active", HoldRow::ACTIVE);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        if view.get::<ErasureRow>(&self.row.key).is_some() {
            return Ok(());
        }
        if self.row.due > view.now().0 {
            return Err(below_floor(Micros(self.row.due)));
        }
        let holds = view.group::<HoldRow>("active", &HoldRow::ACTIVE);
        if holds.iter().any(|hold| hold.covers(self.class.into(), &[])) {
            return Err(Reason::LegalHold.into());
        }
        view.put(&self.row);
        Ok(())
    }
}

/// Moves the day of an erasure that has not begun; without one there is nothing to erase any more, and it is not booked.
pub(super) struct Postpone {
    pub(super) key: Vec<u8>,
    pub(super) due: Option<Micros>,
    /// What it takes, if that was not said when it was booked.
    pub(super) through: Option<i64>,
}

impl Command for Postpone {
    type Answer = ();
    const NAME: &'static str = "audit.postpone_erasure";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ErasureRow>(self.key.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        if let Some(mut row) = view
            .get::<ErasureRow>(&self.key)
            .filter(|row| row.due != 0 && row.running.is_none())
        {
            match self.due {
                Some(due) => (row.due, row.through) = (due.0, row.through.or(self.through)),
                None => row.go_on(),
            }
            view.put(&row);
        }
        Ok(())
    }
}
