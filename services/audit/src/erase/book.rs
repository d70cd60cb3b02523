//! Booking: what is to be erased and is not yet.

use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Micros, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::below_floor;
use crate::rows::{Booking, ErasureRow, HoldRow, SLOT};

/// How many erasures of one key wait behind the first: the row is read with each event about her.
pub(super) const WAITING: usize = 8;

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
        let first = running.or(row.through)?;
        if row.line().map_or(first, |line| line.max(first)) >= self.generation {
            return None;
        }
        let is_full = row.next.len() >= WAITING;
        match row.next.last_mut().filter(|_| is_full) {
            Some(last) => {
                last.due = last.due.max(self.row.due);
                last.through = last.through.max(self.row.through);
            }
            None => row.next.push(Booking {
                due: self.row.due,
                basis: self.row.basis.clone(),
                actor: self.row.actor.clone(),
                through: self.row.through,
            }),
        }
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
/// Answers whether it is still the one that was looked at; another one is not touched.
pub(super) struct Postpone {
    pub(super) looked: ErasureRow,
    pub(super) due: Option<Micros>,
    /// What it takes, if that was not said when it was booked.
    pub(super) through: Option<i64>,
}

impl Command for Postpone {
    type Answer = bool;
    const NAME: &'static str = "audit.postpone_erasure";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ErasureRow>(self.looked.key.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let row = view.get::<ErasureRow>(&self.looked.key);
        let Some(mut row) = row.filter(|row| row.is_still(&self.looked)) else {
            return Ok(false);
        };
        match self.due {
            Some(due) => (row.due, row.through) = (due.0, row.through.or(self.through)),
            None => row.go_on(),
        }
        view.put(&row);
        Ok(true)
    }
}
