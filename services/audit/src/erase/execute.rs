//! Executing: an erasure is begun once nothing holds it back, and then comes to its end.

use std::sync::Arc;

use sammati_api::audit::v1::event;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Micros, Reason, Refusal, Seed, Slot};
use sammati_server::event::{Draft, system, timestamp};
use sammati_store::{Command, Keys, View};

use super::book::Postpone;
use super::survey::Kept;
use super::{HELD, Standing, class_of, is_of_subject, name_of, tag_of};
use crate::append::{Append, Known};
use crate::keyring;
use crate::log::{Log, Own, SERVICE};
use crate::posting::Clear;
use crate::rows::{Done, ErasureRow, HoldRow, Running, SLOT, SubjectRow};

/// Leaves that one commit clears: each may take a page of postings with it for everything that it names.
const CLEARED: usize = 32;

/// How often an erasure looks again because something came between its look and its beginning.
const LOOKS: usize = 10;

impl Log {
    /// Executes what is booked under this key as far as it may be; `None` if nothing ever was.
    pub(super) async fn execute(&self, key: &[u8]) -> Result<Option<Standing>, Refusal> {
        let mut looks = 0;
        while looks < LOOKS {
            let name = key.to_vec();
            let Some(row) = self.store.read(move |r| r.get::<ErasureRow>(SLOT, &name)).await? else {
                return Ok(None);
            };
            let row = row.record;
            if row.due == 0 {
                return Ok(row.done.last().cloned().map(Standing::Erased));
            }
            let running = match &row.running {
                Some(running) => running.clone(),
                None => match self.begin(&row).await? {
                    Begun::Running(running) => running,
                    Begun::Waits(standing) => return Ok(Some(standing)),
                    Begun::Again => {
                        looks += 1;
                        continue;
                    }
                },
            };
            // Another may have been asked for meanwhile.
            self.finish(&row, &running).await?;
        }
        Err(Refusal::new(Reason::StorageUnavailable)
            .saying("the log grows faster about her than it is looked through; the erasure is booked and tried again"))
    }

    /// Brings what has begun to its end.
    async fn finish(&self, row: &ErasureRow, running: &Running) -> Result<(), Refusal> {
        let gone = keyring::Gone {
            generation: running.generation,
            at: Micros(running.at),
            basis: &row.basis,
        };
        self.keyring.destroy(&row.key, gone).await?;
        // Also if it was destroyed before: whoever did it may not have come further.
        self.keyring.leaves_remains();
        if is_of_subject(&row.key) {
            self.clear(&row.key, running.generation).await?;
        }
        self.keyring.scrub().await?;
        self.store.scrub().await?;
        self.close(row, running).await
    }

    /// Begins the erasure that was looked at, unless the floor or a hold is in its way.
    pub(super) async fn begin(&self, row: &ErasureRow) -> Result<Begun, Refusal> {
        let now = self.store.clock().now();
        let look = self.look(row).await?;
        let again = now.plus(HELD);
        let wait = match (look.due, look.is_held) {
            (None, _) => Some((None, Begun::Again)),
            (Some(due), _) if due > now => {
                let last = row.next.iter().map(|next| Micros(next.due)).fold(due, Micros::max);
                Some((Some(due), Begun::Waits(Standing::Booked(last))))
            }
            (_, true) => Some((Some(again), Begun::Waits(Standing::Held(again)))),
            (_, false) => None,
        };
        if let Some((due, begun)) = wait {
            // What was booked by code that drew no line waits no longer for what is told from now on.
            let through = match look.generation.filter(|_| row.through.is_none()) {
                Some(newest) => Some(self.keyring.retire(&row.key).await?.max(newest)),
                None => None,
            };
            let looked = row.clone();
            let is_still = self.store.apply(Postpone { looked, due, through }).await?;
            return Ok(if is_still { begun } else { Begun::Again });
        }
        let seed = Seed::draw().map_err(|_| Reason::Internal)?;
        // A key database that was restored may know less of generations than the log.
        let next = row.done.iter().map(|done| done.generation + 1).max();
        let generation = self.keyring.generation(&row.key).await?;
        let running = Running {
            event_id: seed.id::<Own>("erasure", now, SLOT).to_string(),
            at: now.0,
            generation: row.through.unwrap_or(generation.max(next.unwrap_or_default())),
        };
        let begin = Begin {
            looked: row.clone(),
            events: look.events,
            running,
            known: Arc::clone(&self.known),
        };
        match self.store.apply(begin).await {
            Ok(running) => Ok(running.map_or(Begun::Again, Begun::Running)),
            Err(refusal) if refusal.reason == Reason::LegalHold => Ok(Begun::Waits(Standing::Held(again))),
            Err(refusal) => Err(refusal),
        }
    }

    /// Looks what an erasure depends on.
    async fn look(&self, row: &ErasureRow) -> Result<Look, Refusal> {
        let class = class_of(&row.key);
        if !is_of_subject(&row.key) {
            return Ok(Look {
                due: Some(Micros(row.due)),
                generation: None,
                events: None,
                is_held: self.is_held(class, &[]).await?,
            });
        }
        let survey = self.survey(tag_of(&row.key)).await?;
        let kept = survey.kept.get(&class);
        Ok(Look {
            // What came since moves the day.
            due: kept.and_then(|kept| kept.due(class, row.through.unwrap_or(i64::MAX))),
            generation: kept.map(Kept::generation),
            events: Some(survey.events),
            is_held: self.is_held(class, tag_of(&row.key)).await?,
        })
    }

    /// Clears the rows of a subject's leaves that were sealed under the destroyed key.
    async fn clear(&self, key: &[u8], generation: i64) -> Result<(), Refusal> {
        let survey = self.survey(tag_of(key)).await?;
        let leaves = survey
            .kept
            .get(&class_of(key))
            .map(|kept| kept.leaves.as_slice())
            .unwrap_or_default();
        let indexes: Vec<_> = leaves
            .iter()
            .filter(|(_, of)| *of <= generation)
            .map(|(index, _)| *index)
            .collect();
        for chunk in indexes.chunks(CLEARED) {
            self.store.apply(Clear(chunk.to_vec())).await?;
        }
        Ok(())
    }

    /// Records an erasure in the log and closes it, in one commit.
    async fn close(&self, row: &ErasureRow, running: &Running) -> Result<(), Refusal> {
        let what = if is_of_subject(&row.key) {
            "audit.erasure_executed"
        } else {
            "key.destroyed"
        };
        let mut event = Draft::new(what, event::Action::Delete, RetentionClass::Admin, &system(SERVICE)).event;
        event.event_id.clone_from(&running.event_id);
        event.occurred_time = Some(timestamp(Micros(running.at)));
        let payload = event.payload.get_or_insert_default();
        payload.actor.clone_from(&row.actor);
        payload.legal_basis.clone_from(&row.basis);
        payload.resource = name_of(&row.key);
        payload.resource_version = running.generation;
        let close = |append| Close {
            append,
            key: row.key.clone(),
            running: running.clone(),
        };
        self.apply_with(&event, tag_of(&row.key), close).await?;
        self.has_grown(0);
        Ok(())
    }
}

/// What became of the beginning of an erasure.
pub(super) enum Begun {
    /// It must come to its end.
    Running(Running),
    /// The floor or a hold is in its way.
    Waits(Standing),
    /// There is nothing that it would take, or no more what was looked at: whoever asks looks again.
    Again,
}

/// What an erasure depends on, as of one moment.
struct Look {
    /// When its floor has passed; nothing if there is nothing to erase.
    due: Option<Micros>,
    /// The newest generation of a subject's key that there is something under.
    generation: Option<i64>,
    /// How many events there were about the subject, if it is of one.
    events: Option<u64>,
    /// Whether a hold is in its way.
    is_held: bool,
}

/// Begins an erasure, as it looked: answers with what has begun, or with nothing when that is not what was looked at, or there
/// is an event about the subject that was not. From here on nothing is taken that was sealed under the key.
pub(super) struct Begin {
    pub(super) looked: ErasureRow,
    pub(super) events: Option<u64>,
    pub(super) running: Running,
    pub(super) known: Arc<Known>,
}

impl Command for Begin {
    type Answer = Option<Running>;
    const NAME: &'static str = "audit.begin_erasure";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        self.known.ended.mark(&self.looked.key);
        keys.row::<ErasureRow>(self.looked.key.clone());
        keys.group::<HoldRow>("active", HoldRow::ACTIVE);
        if self.events.is_some() {
            keys.row::<SubjectRow>(tag_of(&self.looked.key));
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Option<Running>, Refusal> {
        let key = &self.looked.key;
        let row = view.get::<ErasureRow>(key);
        let Some(mut row) = row.filter(|row| row.is_still(&self.looked)) else {
            return Ok(None);
        };
        let tag = tag_of(key);
        if let Some(seen) = self.events {
            let events = view.get::<SubjectRow>(tag).map_or(0, |row| row.seq);
            if u64::try_from(events) != Ok(seen) {
                return Ok(None);
            }
        }
        let holds = view.group::<HoldRow>("active", &HoldRow::ACTIVE);
        if holds.iter().any(|hold| hold.covers(class_of(key).into(), tag)) {
            return Err(Reason::LegalHold.into());
        }
        row.running = Some(self.running.clone());
        view.put(&row);
        Ok(row.running)
    }
}

/// Appends the record of an erasure and closes it; what was asked for meanwhile is booked then.
struct Close {
    append: Append,
    key: Vec<u8>,
    running: Running,
}

impl Command for Close {
    type Answer = ();
    const NAME: &'static str = "audit.close_erasure";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        self.append.reads(keys);
        keys.row::<ErasureRow>(self.key.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = view.get::<ErasureRow>(&self.key).ok_or(Reason::Internal)?;
        if row.running.as_ref() != Some(&self.running) {
            let is_known = |done: &Done| done.generation == self.running.generation;
            return match row.done.iter().any(is_known) {
                true => Ok(()),
                false => Err(Reason::Internal.into()),
            };
        }
        let appended = self.append.decide(view)?;
        let placed = appended.placed.first().ok_or(Reason::Internal)?;
        row.done.push(Done {
            generation: self.running.generation,
            at: self.running.at,
            index: placed.index,
            basis: std::mem::take(&mut row.basis),
        });
        row.go_on();
        view.put(&row);
        Ok(())
    }
}
