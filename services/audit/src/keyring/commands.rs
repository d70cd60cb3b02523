//! What is done to the rows of keys.

use sammati_kernel::{Micros, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::KeyId;
use super::name::MONTH;
use crate::rows::{PayloadKeyRow, SLOT};

/// What is kept of a name; nothing yet is a row without a key.
fn found(view: &View<'_>, id: &KeyId) -> PayloadKeyRow {
    view.get::<PayloadKeyRow>(id).unwrap_or_else(|| PayloadKeyRow {
        id: id.clone(),
        ..PayloadKeyRow::default()
    })
}

/// Destroys a key. Its row says when and why: a log that was restored may have forgotten.
pub(super) struct DestroyKey {
    pub(super) id: KeyId,
    pub(super) generation: i64,
    pub(super) at: Micros,
    pub(super) basis: String,
}

impl Command for DestroyKey {
    type Answer = bool;
    const NAME: &'static str = "audit.destroy_key";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<PayloadKeyRow>(self.id.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let row = found(view, &self.id);
        if row.gone() > self.generation {
            return Ok(false);
        }
        let mut row = PayloadKeyRow {
            destroyed: self.at.0,
            basis: self.basis.clone(),
            ..row
        };
        row.retired.retain(|key| key.generation > self.generation);
        if row.generation <= self.generation {
            row.wrapped.clear();
            row.generation = self.generation + 1;
        }
        view.put(&row);
        Ok(true)
    }
}

/// Retires the present key of a name, if there is one.
pub(super) struct Retire(pub(super) KeyId);

impl Command for Retire {
    type Answer = i64;
    const NAME: &'static str = "audit.retire_key";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<PayloadKeyRow>(self.0.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<i64, Refusal> {
        let mut row = view.get::<PayloadKeyRow>(&self.0).unwrap_or_default();
        if !row.wrapped.is_empty() {
            row.retire();
            view.put(&row);
        }
        Ok(row.generation - 1)
    }
}

/// Retires the keys of a name up to a generation, those too that a restore lost; tells whether one was not.
pub(super) struct RetireThrough {
    pub(super) id: KeyId,
    pub(super) generation: i64,
}

impl Command for RetireThrough {
    type Answer = bool;
    const NAME: &'static str = "audit.retire_keys";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<PayloadKeyRow>(self.id.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let mut row = found(view, &self.id);
        if row.generation > self.generation {
            return Ok(false);
        }
        while row.generation <= self.generation {
            row.retire();
        }
        view.put(&row);
        Ok(true)
    }
}

/// Creates the keys that are not there yet, a destroyed or retired one of a subject anew; answers with all. The key of a month that was
/// destroyed is never made again.
pub(super) struct CreateKeys(pub(super) Vec<PayloadKeyRow>);

impl Command for CreateKeys {
    type Answer = Vec<PayloadKeyRow>;
    const NAME: &'static str = "audit.create_keys";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        for row in &self.0 {
            keys.row::<PayloadKeyRow>(row.id.clone());
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Self::Answer, Refusal> {
        let mut rows = Vec::with_capacity(self.0.len());
        for new in &self.0 {
            let row = match view.get::<PayloadKeyRow>(&new.id) {
                Some(row) if !row.wrapped.is_empty() || row.id.first() == Some(&MONTH) => row,
                before => {
                    let row = PayloadKeyRow {
                        wrapped: new.wrapped.clone(),
                        ..before.unwrap_or_else(|| new.clone())
                    };
                    view.put(&row);
                    row
                }
            };
            rows.push(row);
        }
        Ok(rows)
    }
}
