//! Denials of checks, written behind the answer: the first of its kind within a second, the rest of its minute as one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use sammati_api::audit::v1::{Counts, Event};
use sammati_kernel::{Id, IdKind, Micros, Reason, Refusal, Seed, Slot};
use sammati_server::event::{Draft, timestamp};
use sammati_store::{Command, Keys, NewEvent, Store, View};

/// Equal denials within this time are one event.
const FOLD: Duration = Duration::from_secs(60);

/// How many kinds of denial wait at most; beyond, whoever is denied waits for the write.
const BOUND: usize = 4096;

/// What makes denials equal: caller, target, reason.
pub type Kind = (String, String, i32);

/// How many are written at a time.
const IN_FLIGHT: usize = 64;

/// Denials that are not yet written.
#[derive(Debug, Clone, Default)]
pub struct Denials(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    folds: HashMap<Kind, Fold>,
    /// What a write failed of. It may have been committed all the same, so it stays as it is.
    unwritten: Vec<Denial>,
}

/// One minute of equal denials.
#[derive(Debug)]
struct Fold {
    since: Micros,
    slot: Slot,
    /// What is not written yet.
    waiting: Option<Denial>,
    /// Whether the first event of the minute is written: later ones wait for its end.
    told: bool,
}

/// An event that is written once, and the same each time it is tried.
#[derive(Debug, Clone)]
struct Denial {
    slot: Slot,
    id: Id<Deferred>,
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
        let mut waiting = self.lock();
        let full = waiting.folds.len() + waiting.unwritten.len() >= BOUND;
        let fold = waiting.folds.entry(kind).or_insert(Fold {
            since: now,
            slot,
            waiting: None,
            told: false,
        });
        if let Some(denial) = &mut fold.waiting {
            denial.repeats += 1;
            return Ok((denial.id.to_string(), full));
        }
        let seed = Seed::draw().map_err(|_| Refusal::new(Reason::Internal))?;
        let id: Id<Deferred> = seed.placeless_id("denial", now);
        let mut event = draft(&id.to_string()).event;
        event.event_id = id.to_string();
        event.occurred_time = Some(timestamp(now));
        fold.waiting = Some(Denial {
            slot: fold.slot,
            id,
            event,
            repeats: 1,
        });
        Ok((id.to_string(), full))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is to be written now: first events at once, the rest when its minute is over, or all of it; and what
    /// could not be written before.
    fn due(&self, now: Micros, all: bool) -> Vec<Denial> {
        let mut waiting = self.lock();
        let mut due = std::mem::take(&mut waiting.unwritten);
        for fold in waiting.folds.values_mut() {
            let over = all || now.since(fold.since) >= FOLD;
            if (!fold.told || over)
                && let Some(denial) = fold.waiting.take()
            {
                fold.told = true;
                due.push(denial);
            }
        }
        waiting.folds.retain(|_, fold| !all && now.since(fold.since) < FOLD);
        due
    }

    /// Writes what is due. Whoever waits for it may go away: others' denials are among them.
    pub async fn flush(&self, store: &Store, all: bool) {
        let (denials, store) = (self.clone(), store.clone());
        let written = tokio::spawn(async move { denials.write_due(&store, all).await });
        if let Err(error) = written.await {
            tracing::error!(%error, "denials were not written to the end");
        }
    }

    /// Each in a command of its own: none waits for another that fails. Failures are tried again the next time.
    async fn write_due(&self, store: &Store, all: bool) {
        let due = self.due(store.clock().now(), all);
        let runs: Vec<_> = due.into_iter().map(|denial| write(store, denial)).collect();
        let done = futures::stream::iter(runs).buffer_unordered(IN_FLIGHT);
        let left: Vec<_> = done.filter_map(std::future::ready).collect().await;
        if !left.is_empty() {
            tracing::warn!(count = left.len(), "denials wait to be recorded");
            self.lock().unwritten.extend(left);
        }
    }
}

/// Writes a denial; gives it back if it has to be tried again.
async fn write(store: &Store, denial: Denial) -> Option<Denial> {
    let request = store.own_request(Record::NAME, &denial.id.to_string());
    let written = match request {
        Ok(request) => store.run(Record(denial.clone()), Some(request)).await.map(drop),
        Err(refusal) => Err(refusal),
    };
    let reason = written.err()?.reason;
    // Storage has been away for a day: whether it was written then can not be told any more.
    let lost = matches!(reason, Reason::RequestIdExpired | Reason::RequestIdReused);
    if lost {
        tracing::error!(reason = reason.as_str(), event = %denial.id, "a denial could not be recorded");
    }
    Some(denial).filter(|_| !lost)
}

/// Appends a deferred denial. It changes nothing of hers, so her cached state stays. Its request id is its event's: an
/// event is in the feed once, however often it is tried.
struct Record(Denial);

impl Command for Record {
    type Answer = ();

    const NAME: &'static str = "access.record_denial";

    fn slot(&self) -> Slot {
        self.0.slot
    }

    /// An event is never given up for room.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let Denial { id, event, repeats, .. } = &self.0;
        let mut event = event.clone();
        if *repeats > 1 {
            event.payload.get_or_insert_default().counts = Some(Counts {
                repeats: *repeats,
                ..Default::default()
            });
        }
        view.emit(NewEvent {
            id: *id.as_bytes(),
            subject: None,
            body: event.encode_to_vec(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use sammati_api::audit::v1::event::Action;
    use sammati_api::types::v1::RetentionClass;
    use sammati_kernel::ManualClock;
    use sammati_server::event::system;

    use super::*;
    use crate::testing::open;

    const NOW: Micros = Micros::from_seconds(1_800_000_000);

    fn note(denials: &Denials, target: &str) -> String {
        let draft = |_: &str| {
            Draft::new(
                "access.denied",
                Action::Execute,
                RetentionClass::Access,
                &system("consent"),
            )
        };
        let kind = ("participants/lab".to_owned(), target.to_owned(), 1);
        denials.note(kind, Slot::new(7), NOW, draft).unwrap().0
    }

    async fn feed(store: &Store) -> Vec<Event> {
        let partition = store.partitions().of(Slot::new(7));
        let events = store.read(move |r| r.feed(partition, 0, i64::MAX)).await.unwrap();
        let read = |body: &[u8]| Event::decode(body).unwrap();
        events.iter().map(|event| read(&event.body)).collect()
    }

    #[test]
    fn o1_denials_are_written_though_whoever_waits_for_it_goes_away() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for database in sammati_testkit::databases() {
            let store = open(&database, &ManualClock::at(NOW));
            runtime.block_on(async {
                let denials = Denials::default();
                let mut expected: Vec<_> = (0..100).map(|n| note(&denials, &format!("consents/{n}"))).collect();
                let mut changes = store.changes();
                // The caller hangs up when its call has been begun.
                assert!(denials.flush(&store, true).now_or_never().is_none());
                let mut written = Vec::new();
                while written.len() < expected.len() {
                    changes.changed().await.unwrap();
                    written = feed(&store).await.into_iter().map(|event| event.event_id).collect();
                }
                written.sort();
                expected.sort();
                assert_eq!(written, expected);
            });
        }
    }

    #[test]
    fn o1_a_denial_whose_write_is_tried_again_is_one_event() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for database in sammati_testkit::databases() {
            let store = open(&database, &ManualClock::at(NOW));
            runtime.block_on(async {
                let denials = Denials::default();
                let first = note(&denials, "consents/1");
                let denial = denials.due(NOW, false).remove(0);
                // It was committed, and the word of it was lost: what comes meanwhile is another event.
                assert!(write(&store, denial.clone()).await.is_none());
                denials.lock().unwritten.push(denial);
                let second = note(&denials, "consents/1");
                let third = note(&denials, "consents/2");
                denials.flush(&store, true).await;
                denials.flush(&store, true).await;
                assert!(denials.due(NOW, true).is_empty());
                let mut ids: Vec<_> = feed(&store).await.into_iter().map(|event| event.event_id).collect();
                assert_eq!(ids[0], first);
                ids.sort();
                let mut expected = [first, second, third];
                expected.sort();
                assert_eq!(ids, expected);
            });
        }
    }
}
