//! The head of the log: how it begins, and how it is frozen.

use sammati_kernel::{Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use crate::rows::{LogRow, SLOT};

/// Begins the log, unless there is one; answers with its head.
#[derive(Debug, Clone)]
pub(crate) struct Begin {
    /// As in `logs/{id}`.
    pub(crate) id: String,
    /// The origin line of its checkpoints.
    pub(crate) origin: String,
    /// Its verifier key.
    pub(crate) vkey: String,
}

impl Command for Begin {
    type Answer = LogRow;
    const NAME: &'static str = "audit.begin";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<LogRow, Refusal> {
        if let Some(row) = view.get::<LogRow>(LogRow::KEY) {
            return Ok(row);
        }
        let (id, origin, vkey) = (self.id.clone(), self.origin.clone(), self.vkey.clone());
        let row = LogRow {
            id,
            origin,
            vkey,
            ..LogRow::default()
        };
        view.put(&row);
        Ok(row)
    }
}

/// Freezes the log; the first reason stays.
pub(crate) struct Freeze {
    /// What contradicts what.
    pub(crate) why: String,
}

impl Command for Freeze {
    type Answer = ();
    const NAME: &'static str = "audit.freeze";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = view.get::<LogRow>(LogRow::KEY).ok_or(Reason::Internal)?;
        if row.frozen.is_empty() {
            row.frozen.clone_from(&self.why);
            view.put(&row);
        }
        Ok(())
    }
}
