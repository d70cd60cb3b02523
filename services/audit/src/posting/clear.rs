//! Clearing: a leaf loses its payload and whom and what it named, and the pages lose what it was found by.

use std::collections::{BTreeMap, BTreeSet};

use sammati_kernel::{Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::page::{self, Posting};
use super::{Place, PostingRow, Reach};
use crate::rows::{LeafRow, LogRow, SLOT};

/// Clears leaves. Their bytes and hashes stay, and so do their subject's tag, trace and day, which those bytes tell anyway.
pub(crate) struct Clear(pub(crate) Vec<u64>);

impl Command for Clear {
    type Answer = ();
    const NAME: &'static str = "audit.clear_leaves";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
        for index in &self.0 {
            keys.row::<LeafRow>(LeafRow::key_of(*index));
        }
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        let reach = loaded.get::<LogRow>(LogRow::KEY).unwrap_or_default().reach();
        for (place, _) in taken(reach, &self.rows(loaded)) {
            keys.row::<PostingRow>(place.key());
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut log = view.get::<LogRow>(LogRow::KEY).ok_or(Reason::Internal)?;
        let rows = self.rows(view);
        for (place, postings) in taken(log.reach(), &rows) {
            let row = view.get::<PostingRow>(&place.key()).ok_or(Reason::Internal)?;
            let mut all = page::decode(&row.postings, place.first()).map_err(|_| Reason::Internal)?;
            all.retain(|posting| !postings.contains(posting));
            view.put(&place.row(&all));
        }
        rows.into_iter().for_each(|row| view.put(&cleared(row)));
        log.cleared += 1;
        view.put(&log);
        Ok(())
    }
}

impl Clear {
    fn rows(&self, view: &View<'_>) -> Vec<LeafRow> {
        let keys = self.0.iter().map(|index| LeafRow::key_of(*index));
        keys.filter_map(|key| view.get::<LeafRow>(&key)).collect()
    }
}

fn cleared(row: LeafRow) -> LeafRow {
    LeafRow {
        payload: Vec::new(),
        names: Vec::new(),
        ..row
    }
}

/// What the pages lose with these leaves, by the page that has it now.
fn taken(reach: Reach, rows: &[LeafRow]) -> BTreeMap<Place, BTreeSet<Posting>> {
    let mut taken: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for row in rows {
        let kept = cleared(row.clone()).postings();
        let lost = row.postings().into_iter().filter(|tag| !kept.contains(tag));
        for tag in lost {
            // One without is not posted yet, and will never be.
            if let Some(place) = reach.place(tag, row.index) {
                taken.entry(place).or_default().insert((tag, row.index));
            }
        }
    }
    taken
}
