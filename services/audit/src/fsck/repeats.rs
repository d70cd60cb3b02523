//! Does each event stand in one leaf, for the life of the log?
//!
//! A page of leaves is looked up at a time, as an append looks an event up: a log of any size takes the memory of one page.

use std::collections::{BTreeSet, HashMap};

use sammati_store::Error;
use sammati_store::verbs::{Fsck, Keyed};

use crate::rows::{LeafRow, event_key};

/// Tells of each leaf of the next page whose event an earlier leaf has, and of each that its own event's id does not find: the
/// log would take that event again.
pub(super) fn events(fsck: &mut Fsck<'_>, partition: i64, page: &[Keyed<LeafRow>]) -> Result<(), Error> {
    let mut first: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut unseen = BTreeSet::new();
    for (key, row) in page {
        let event = row.as_ref().map(event_of).unwrap_or_default();
        // One that cannot be read is told as such.
        if event.is_empty() {
            continue;
        }
        unseen.insert(key.clone());
        match first.get(&event) {
            Some(earlier) => repeated(fsck, partition, earlier, key),
            None => drop(first.insert(event, key.clone())),
        }
    }
    for found in fsck.found_by::<LeafRow>(partition, "event_id", first.keys().cloned())? {
        let is_earlier = page.first().is_some_and(|(begin, _)| found < *begin);
        let earlier = match is_earlier {
            true => fsck.get::<LeafRow>(partition, &found)?,
            false => None,
        };
        if let Some(key) = earlier.and_then(|row| first.get(&event_of(&row))) {
            repeated(fsck, partition, &found, key);
        }
        unseen.remove(&found);
    }
    for key in unseen {
        let what = "the id of its event does not find it: the log would take that event again";
        fsck.disagree(Some(partition), place(&key), what);
    }
    Ok(())
}

fn event_of(row: &LeafRow) -> Vec<u8> {
    event_key(&row.header().event_id)
}

fn repeated(fsck: &mut Fsck<'_>, partition: i64, earlier: &[u8], key: &[u8]) {
    let what = format!("has the event that {} has already", place(earlier));
    fsck.disagree(Some(partition), place(key), what);
}

fn place(key: &[u8]) -> String {
    match key.try_into() {
        Ok(index) => format!("leaf {}", u64::from_be_bytes(index)),
        Err(_) => format!("leaf {}", sammati_kernel::hex(key)),
    }
}
