//! Denials of checks, written behind the answer: the first of its kind within a second, the rest of its minute as one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use sammati_api::audit::v1::{Counts, Event};
use sammati_kernel::{Id, IdKind, Micros, Refusal, Seed, Slot};
use sammati_server::event::{Draft, timestamp};
use sammati_store::{Command, Keys, NewEvent, Store, View};

/// Equal denials within this time are one event.
const FOLD: Duration = Duration::from_secs(60);

/// How many kinds of denial wait at most; beyond, whoever is denied waits for the write.
const BOUND: usize = 4096;

/// What makes denials equal: caller, target, reason.
pub type Kind = (String, String, i32);

/// Denials that are not yet written.
#[derive(Debug, Default)]
pub struct Denials(Mutex<HashMap<Kind, Fold>>);

/// One minute of equal denials.
#[derive(Debug)]
struct Fold {
    since: Micros,
    slot: Slot,
    /// What is not written yet.
    waiting: Option<Waiting>,
    /// Whether the first event of the minute is written: later ones wait for its end.
    told: bool,
}

#[derive(Debug, Clone)]
struct Waiting {
    id: [u8; 16],
    event: Event,
    repeats: i64,
}

/// Ids of deferred events; they are made before the event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Deferred;

impl IdKind for Deferred {
    const COLLECTION: &'static str = "events";
}

impl Denials {
    /// Notes a denial; tells the id of the event that records it, and whether the buffer is full.
    ///
    /// # Errors
    /// INTERNAL when the system has no randomness to give.
    pub fn note(
        &self,
        kind: Kind,
        slot: Slot,
        now: Micros,
        draft: impl FnOnce(&str) -> Draft,
    ) -> Result<(String, bool), Refusal> {
        let mut folds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = folds.len() >= BOUND;
        let fold = folds.entry(kind).or_insert(Fold {
            since: now,
            slot,
            waiting: None,
            told: false,
        });
        if let Some(waiting) = &mut fold.waiting {
            waiting.repeats += 1;
            return Ok((uuid::Uuid::from_bytes(waiting.id).to_string(), full));
        }
        let seed = Seed::draw().map_err(|_| Refusal::new(sammati_kernel::Reason::Internal))?;
        let id: Id<Deferred> = seed.id("denial", now, slot);
        let mut event = draft(&id.to_string()).event;
        event.event_id = id.to_string();
        event.occurred_time = Some(timestamp(now));
        fold.waiting = Some(Waiting {
            id: *id.as_bytes(),
            event,
            repeats: 1,
        });
        Ok((id.to_string(), full))
    }

    /// Takes what is to be written now: first events at once, the rest when its minute is over, or all of it.
    fn due(&self, now: Micros, all: bool) -> Vec<(Slot, Kind, Waiting)> {
        let mut folds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (kind, fold) in folds.iter_mut() {
            let over = all || now.since(fold.since) >= FOLD;
            if (!fold.told || over)
                && let Some(waiting) = fold.waiting.take()
            {
                fold.told = true;
                due.push((fold.slot, kind.clone(), waiting));
            }
        }
        folds.retain(|_, fold| !all && now.since(fold.since) < FOLD);
        due
    }

    /// Puts back what could not be written.
    fn put_back(&self, now: Micros, unwritten: Vec<(Slot, Kind, Waiting)>) {
        let mut folds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (slot, kind, waiting) in unwritten {
            let fold = folds.entry(kind).or_insert(Fold {
                since: now,
                slot,
                waiting: None,
                told: false,
            });
            match &mut fold.waiting {
                Some(newer) => newer.repeats += waiting.repeats,
                None => fold.waiting = Some(waiting),
            }
            fold.told = false;
        }
    }

    /// Writes what is due, one command for each partition. Failures are tried again the next time.
    pub async fn flush(&self, store: &Store, all: bool) {
        let now = store.clock().now();
        let mut by_partition: HashMap<i64, Vec<(Slot, Kind, Waiting)>> = HashMap::new();
        for item in self.due(now, all) {
            by_partition
                .entry(store.partitions().of(item.0))
                .or_default()
                .push(item);
        }
        for items in by_partition.into_values() {
            let Some((slot, ..)) = items.first() else { continue };
            let command = Record {
                slot: *slot,
                events: items.iter().map(|(_, _, w)| w.clone()).collect(),
            };
            if let Err(refusal) = store.apply(command).await {
                tracing::warn!(reason = refusal.reason.as_str(), "denials wait to be recorded");
                self.put_back(now, items);
            }
        }
    }
}

/// Appends deferred denials. They change nothing of hers, so her cached state stays.
struct Record {
    slot: Slot,
    events: Vec<Waiting>,
}

impl Command for Record {
    type Answer = ();

    const NAME: &'static str = "access.record_denials";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        for Waiting { id, event, repeats } in &self.events {
            let mut event = event.clone();
            if *repeats > 1 {
                event.payload.get_or_insert_default().counts = Some(Counts {
                    repeats: *repeats,
                    ..Default::default()
                });
            }
            view.emit(NewEvent {
                id: *id,
                subject: None,
                body: event.encode_to_vec(),
            });
        }
        Ok(())
    }
}
