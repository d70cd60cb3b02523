//! Erasing: the key is destroyed, ciphertexts and look-ups are cleared, and a leaf records it. What was begun comes to its
//! end, whatever breaks off: each step may be done again.
//!
//! The order is: booked · begun (from here on nothing holds it back) · key destroyed · rows cleared · recorded in the log
//! and closed, in one commit.

mod again;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sammati_api::audit::v1::{self as audit, event};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Fact, Micros, Reason, Refusal, Seed, Slot};
use sammati_server::event::{Draft, micros, system, timestamp};
use sammati_store::{Command, Keys, RequestKey, View};

use crate::append::Append;
use crate::keyring::{self, MONTH, Opened, SUBJECT};
use crate::log::{Log, Own, SERVICE};
use crate::posting::Clear;
use crate::retention;
use crate::rows::{Done, ErasureRow, HoldRow, Running, SLOT};
use crate::subject::Walk;

/// Leaves of one look.
const CHUNK: usize = 256;

/// Leaves that one commit clears: each may take a page of postings with it for everything that it names.
const CLEARED: usize = 32;

/// How long what a hold holds back waits until it is looked at again.
const HELD: Duration = Duration::from_secs(86_400);

/// What one class of one subject has.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// When its newest event was taken in.
    newest: Micros,
    /// The leaves whose payloads are there, each with the generation of its key.
    leaves: Vec<(u64, i64)>,
    /// Whether a consent is in force, as far as the events tell.
    in_force: bool,
}

/// Where an erasure stands.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// The key is destroyed.
    Erased(Done),
    /// It waits for its day.
    Booked(Micros),
    /// It waits for a hold to be lifted.
    Held(Micros),
}

impl Log {
    /// Books the erasure of a subject in these classes, and executes what may be.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`, and those of a request id.
    pub(crate) async fn erase_subject(
        &self,
        caller: &Caller,
        tag: &[u8],
        classes: &[RetentionClass],
        basis: &str,
        request: RequestKey,
    ) -> Result<Vec<(RetentionClass, Standing)>, Refusal> {
        self.erase(caller, tag, classes, basis, Some(request)).await
    }

    async fn erase(
        &self,
        caller: &Caller,
        tag: &[u8],
        classes: &[RetentionClass],
        basis: &str,
        request: Option<RequestKey>,
    ) -> Result<Vec<(RetentionClass, Standing)>, Refusal> {
        let kept = self.survey(tag).await?;
        let wanted: Vec<_> = kept
            .iter()
            .filter(|(class, _)| classes.is_empty() || classes.contains(class))
            .collect();
        let (actor, basis) = grounds(caller, basis);
        let rows = wanted.iter().map(|(class, kept)| ErasureRow {
            key: keyring::subject_key(number(**class), tag),
            due: kept.due(**class).0,
            basis: basis.clone(),
            actor: actor.clone(),
            ..ErasureRow::default()
        });
        self.store.run(Book(rows.collect()), request).await?;
        let mut standings = Vec::new();
        for class in retention::CLASSES
            .into_iter()
            .filter(|class| classes.is_empty() || classes.contains(class))
        {
            let key = keyring::subject_key(number(class), tag);
            standings.extend(self.execute(&key).await?.map(|standing| (class, standing)));
        }
        Ok(standings)
    }

    /// Executes all that is due, and destroys the months whose ceiling has passed, each whatever becomes of the others.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`: the first; what was left is due the next time.
    pub async fn sweep(&self) -> Result<(), Refusal> {
        let now = self.store.clock().now();
        let due = self
            .store
            .read(move |r| r.due::<ErasureRow>("due", now.0, 1000))
            .await?;
        let mut done = Ok(());
        for row in due {
            done = done.and(self.execute(&row.record.key).await.map(drop));
        }
        for key in self.keyring.months().await? {
            let Some((class, month)) = month_of(&key) else { continue };
            if retention::month_ceiling(class, &month).is_some_and(|ceiling| ceiling <= now) {
                done = done.and(self.outlive(class, &month).await);
            }
        }
        done
    }

    /// Destroys the key of a month whose ceiling has passed, unless a hold keeps it.
    async fn outlive(&self, class: RetentionClass, month: &str) -> Result<(), Refusal> {
        if self.is_held(class, &[]).await? {
            return Ok(());
        }
        let basis = "the time that the class is kept is over";
        self.expire(&system(SERVICE), class, month, basis, None).await.map(drop)
    }

    /// Destroys the key of a class in a month.
    ///
    /// # Errors
    /// `RETENTION_FLOOR`, `LEGAL_HOLD`, `LOG_FROZEN`, `STORAGE_UNAVAILABLE`, and those of a request id.
    pub(crate) async fn expire(
        &self,
        caller: &Caller,
        class: RetentionClass,
        month: &str,
        basis: &str,
        request: Option<RequestKey>,
    ) -> Result<Done, Refusal> {
        let key = keyring::month_key(number(class), month);
        let floor = retention::month_floor(class, month).ok_or(Reason::Internal)?;
        let (actor, basis) = grounds(caller, basis);
        let row = ErasureRow {
            key: key.clone(),
            due: floor.0,
            basis,
            actor,
            ..ErasureRow::default()
        };
        self.store.run(BookMonth { row, class }, request).await?;
        match self.execute(&key).await? {
            Some(Standing::Erased(done)) => Ok(done),
            Some(Standing::Held(_)) => Err(Reason::LegalHold.into()),
            Some(Standing::Booked(due)) => Err(below_floor(due)),
            None => Err(Reason::Internal.into()),
        }
    }

    /// When and why the payload of a leaf was erased, if it was.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn erasure_of(&self, header: &audit::Leaf) -> Result<Option<Done>, Refusal> {
        let class = u8::try_from(header.class).unwrap_or_default();
        let month = header.key_id.split('/').nth(1).unwrap_or_default();
        let of = [
            keyring::subject_key(class, &header.subject_tag),
            keyring::month_key(class, month),
        ];
        let keys: Vec<_> = of.iter().map(|key| (SLOT, key.clone())).collect();
        let rows = self.store.read(move |r| r.many::<ErasureRow>(&keys)).await?;
        let find = |row: &ErasureRow| match row.key.first() {
            Some(&SUBJECT) => row.of_generation(keyring::generation(header)).cloned(),
            _ => row.done.last().cloned(),
        };
        Ok(rows
            .iter()
            .filter_map(|row| find(&row.record))
            .min_by_key(|done| done.at))
    }

    /// What the log has of a subject, by class.
    pub(crate) async fn survey(&self, tag: &[u8]) -> Result<BTreeMap<RetentionClass, Kept>, Refusal> {
        let mut walk: Walk = self.begin_walk(tag, u64::MAX).await?;
        let (mut kept, mut ended) = (BTreeMap::<_, Kept>::new(), BTreeSet::new());
        while !walk.is_over() {
            let page = self.walk(tag, walk, CHUNK).await?;
            walk = page.walk;
            for (row, (header, opened)) in page.rows.iter().zip(self.payloads(&page.rows).await?) {
                let class = RetentionClass::try_from(header.class).unwrap_or_default();
                let kept = kept.entry(class).or_default();
                let accepted = header.accept_time.as_ref().and_then(micros).unwrap_or_default();
                kept.newest = kept.newest.max(accepted);
                if !row.payload.is_empty() {
                    kept.leaves.push((row.index, keyring::generation(&header)));
                }
                kept.in_force |= goes_on(&header.event_type, &opened, &mut ended);
            }
        }
        kept.retain(|_, kept| !kept.leaves.is_empty());
        Ok(kept)
    }

    /// Executes what is booked under this key as far as it may be; `None` if nothing ever was.
    async fn execute(&self, key: &[u8]) -> Result<Option<Standing>, Refusal> {
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
                Ok(running) => running,
                Err(standing) => return Ok(Some(standing)),
            },
        };
        let gone = keyring::Gone {
            generation: running.generation,
            at: Micros(running.at),
            basis: &row.basis,
        };
        self.keyring.destroy(key, gone).await?;
        if key.first() == Some(&SUBJECT) {
            self.clear(key, running.generation).await?;
        }
        self.keyring.scrub().await?;
        self.store.scrub().await?;
        let done = self.close(&row, &running).await?;
        Ok(Some(Standing::Erased(done)))
    }

    /// Begins an erasure, unless the floor or a hold is in its way.
    async fn begin(&self, row: &ErasureRow) -> Result<Result<Running, Standing>, Refusal> {
        let now = self.store.clock().now();
        let (class, tag) = (class_of(&row.key), row.key.get(2..).unwrap_or_default());
        let of_subject = row.key.first() == Some(&SUBJECT);
        let due = match of_subject {
            // What came since moves the day.
            true => self
                .survey(tag)
                .await?
                .get(&class)
                .map_or(Micros(row.due), |kept| kept.due(class)),
            false => Micros(row.due),
        };
        let held = self.is_held(class, if of_subject { tag } else { &[] }).await?;
        let wait = match (due > now, held) {
            (true, _) => Some(Standing::Booked(due)),
            (false, true) => Some(Standing::Held(now.plus(HELD))),
            (false, false) => None,
        };
        if let Some(standing) = wait {
            let (Standing::Booked(due) | Standing::Held(due)) = standing else {
                return Err(Reason::Internal.into());
            };
            self.store
                .apply(Postpone {
                    key: row.key.clone(),
                    due,
                })
                .await?;
            return Ok(Err(standing));
        }
        let seed = Seed::draw().map_err(|_| Reason::Internal)?;
        let running = Running {
            event_id: seed.id::<Own>("erasure", now, SLOT).to_string(),
            at: now.0,
            generation: self.keyring.generation(&row.key).await?,
        };
        let begin = Begin {
            key: row.key.clone(),
            of_subject,
            running,
        };
        match self.store.apply(begin).await {
            Ok(running) => Ok(Ok(running)),
            Err(refusal) if refusal.reason == Reason::LegalHold => Ok(Err(Standing::Held(now.plus(HELD)))),
            Err(refusal) => Err(refusal),
        }
    }

    /// Clears the rows of a subject's leaves that were sealed under the destroyed key.
    async fn clear(&self, key: &[u8], generation: i64) -> Result<(), Refusal> {
        let kept = self.survey(key.get(2..).unwrap_or_default()).await?;
        let leaves = kept
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
    async fn close(&self, row: &ErasureRow, running: &Running) -> Result<Done, Refusal> {
        let of_subject = row.key.first() == Some(&SUBJECT);
        let what = if of_subject {
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
        let tag = if of_subject {
            row.key.get(2..).unwrap_or_default().to_vec()
        } else {
            Vec::new()
        };
        let append = self.own_entry(event, tag).await?;
        let close = Close {
            append,
            key: row.key.clone(),
            running: running.clone(),
        };
        let done = self.store.apply(close).await?;
        self.has_grown();
        Ok(done)
    }

    async fn is_held(&self, class: RetentionClass, tag: &[u8]) -> Result<bool, Refusal> {
        let read = self
            .store
            .read(|r| r.group::<HoldRow>(SLOT, "active", &HoldRow::ACTIVE));
        Ok(read.await?.iter().any(|row| row.record.covers(class.into(), tag)))
    }
}

impl Kept {
    /// When its floor has passed.
    pub(crate) fn due(&self, class: RetentionClass) -> Micros {
        retention::floor(class, self.newest, self.in_force)
    }
}

/// Whether an event tells of a consent that goes on; events come newest first, so its end came before.
fn goes_on(event_type: &str, opened: &Opened, ended: &mut BTreeSet<String>) -> bool {
    let Opened::Readable(payload) = opened else {
        return false;
    };
    match event_type {
        "consent.withdrawn" | "consent.expired" | "consent.superseded" => {
            ended.insert(payload.resource.clone());
            false
        }
        "consent.granted" => !ended.contains(&payload.resource),
        _ => false,
    }
}

/// Who asks and on what ground, without what must never be kept.
pub(crate) fn grounds(caller: &Caller, basis: &str) -> (Option<audit::Actor>, String) {
    let mut draft = Draft::new("", event::Action::Unspecified, RetentionClass::Admin, caller);
    basis.clone_into(&mut draft.payload().legal_basis);
    draft.withhold();
    let payload = draft.payload();
    (payload.actor.take(), std::mem::take(&mut payload.legal_basis))
}

/// The refusal of what must be kept for longer.
pub(crate) fn below_floor(due: Micros) -> Refusal {
    let due = chrono::DateTime::from_timestamp(due.seconds(), 0).unwrap_or_default();
    Refusal::new(Reason::RetentionFloor)
        .saying("the law has it kept until due_time")
        .with(Fact::DueTime, due.format("%Y-%m-%dT%H:%M:%SZ"))
}

fn number(class: RetentionClass) -> u8 {
    u8::try_from(i32::from(class)).unwrap_or_default()
}

fn class_of(key: &[u8]) -> RetentionClass {
    let number = key.get(1).copied().unwrap_or_default();
    RetentionClass::try_from(i32::from(number)).unwrap_or_default()
}

/// The class and month of a month's key.
fn month_of(key: &[u8]) -> Option<(RetentionClass, String)> {
    let month = key.get(2..).filter(|_| key.first() == Some(&MONTH))?;
    Some((class_of(key), String::from_utf8(month.to_vec()).ok()?))
}

/// As the record names a key: never whose it is.
fn name_of(key: &[u8]) -> String {
    let class = class_of(key).as_str_name().trim_start_matches("RETENTION_CLASS_");
    match month_of(key) {
        Some((_, month)) => format!("keys/{class}-{month}"),
        None => format!("keys/{class}"),
    }
}

/// Books erasures; what has begun is not touched, and what was booked keeps its ground.
struct Book(Vec<ErasureRow>);

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
        for row in &self.0 {
            keys.row::<ErasureRow>(row.key.clone());
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        for new in &self.0 {
            book(view, new);
        }
        Ok(())
    }
}

fn book(view: &mut View<'_>, new: &ErasureRow) {
    let before = view.get::<ErasureRow>(&new.key);
    if before.as_ref().is_none_or(|row| row.due == 0) {
        let done = before.map(|row| row.done).unwrap_or_default();
        view.put(&ErasureRow { done, ..new.clone() });
    }
}

/// Books the destruction of a month's key, if it may be destroyed now; one that is stays so.
struct BookMonth {
    row: ErasureRow,
    class: RetentionClass,
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

/// Moves the day of an erasure that has not begun.
struct Postpone {
    key: Vec<u8>,
    due: Micros,
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
            row.due = self.due.0;
            view.put(&row);
        }
        Ok(())
    }
}

/// Begins an erasure; answers with what has begun, which may have been before.
struct Begin {
    key: Vec<u8>,
    of_subject: bool,
    running: Running,
}

impl Command for Begin {
    type Answer = Running;
    const NAME: &'static str = "audit.begin_erasure";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ErasureRow>(self.key.clone());
        keys.group::<HoldRow>("active", HoldRow::ACTIVE);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Running, Refusal> {
        let row = view.get::<ErasureRow>(&self.key).filter(|row| row.due != 0);
        let mut row = row.ok_or(Reason::Internal)?;
        if let Some(running) = row.running {
            return Ok(running);
        }
        let tag = if self.of_subject {
            self.key.get(2..).unwrap_or_default()
        } else {
            &[]
        };
        let holds = view.group::<HoldRow>("active", &HoldRow::ACTIVE);
        if holds.iter().any(|hold| hold.covers(class_of(&self.key).into(), tag)) {
            return Err(Reason::LegalHold.into());
        }
        row.running = Some(self.running.clone());
        view.put(&row);
        Ok(self.running.clone())
    }
}

/// Appends the record of an erasure and closes it.
struct Close {
    append: Append,
    key: Vec<u8>,
    running: Running,
}

impl Command for Close {
    type Answer = Done;
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

    fn decide(&self, view: &mut View<'_>) -> Result<Done, Refusal> {
        let mut row = view.get::<ErasureRow>(&self.key).ok_or(Reason::Internal)?;
        let known = |row: &ErasureRow| {
            row.done
                .iter()
                .find(|done| done.generation == self.running.generation)
                .cloned()
        };
        if row.running.as_ref() != Some(&self.running) {
            return known(&row).ok_or_else(|| Reason::Internal.into());
        }
        let appended = self.append.decide(view)?;
        let placed = appended.placed.first().ok_or(Reason::Internal)?;
        let done = Done {
            generation: self.running.generation,
            at: self.running.at,
            index: placed.index,
            basis: std::mem::take(&mut row.basis),
        };
        row.done.push(done.clone());
        row.running = None;
        row.due = 0;
        view.put(&row);
        Ok(done)
    }
}
