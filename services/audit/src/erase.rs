//! Erasing: the key is destroyed, ciphertexts and look-ups are cleared, and a leaf records it. What was begun comes to its
//! end, whatever breaks off: each step may be done again.
//!
//! What is to be erased is what was told until it was asked for: from then on events are sealed under another key.
//!
//! The order is: booked · begun (from here on nothing holds it back) · key destroyed · rows cleared · recorded in the log
//! and closed, in one commit.

mod again;
mod book;
mod ended;
mod execute;
mod rounds;
mod survey;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sammati_api::audit::v1::{self as audit, event};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Fact, Micros, Reason, Refusal};
use sammati_server::event::{Draft, system};
use sammati_store::RequestKey;

use self::book::{Asked, Book, BookMonth};
pub(crate) use self::ended::Ended;
pub use self::rounds::Rounds;
use crate::keyring::{self, MONTH, SUBJECT};
use crate::log::{Log, SERVICE};
use crate::retention;
use crate::rows::{Done, ErasureRow, HoldRow, SLOT};

/// How long what a hold holds back waits until it is looked at again.
const HELD: Duration = Duration::from_secs(86_400);

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
    /// Books the erasure of a subject in these classes, and executes what may be, each class whatever becomes of the others.
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
        let survey = self.survey(tag).await?;
        let (actor, basis) = grounds(caller, basis);
        let wanted = survey.kept.iter();
        let wanted = wanted.filter(|(class, _)| classes.is_empty() || classes.contains(class));
        let mut asked = Vec::new();
        for (class, kept) in wanted {
            let key = keyring::subject_key(number(*class), tag);
            // What is told from now on moves no day: that her log is read is told, too.
            let through = self.keyring.retire(&key).await?.max(kept.generation());
            let row = ErasureRow {
                key,
                due: kept.due(*class, through).unwrap_or_default().0,
                basis: basis.clone(),
                actor: actor.clone(),
                through: Some(through),
                ..ErasureRow::default()
            };
            let generation = kept.generation();
            asked.push(Asked { row, generation });
        }
        self.store.run(Book(asked), request).await?;
        let (mut standings, mut done) = (Vec::new(), Ok(()));
        for class in retention::CLASSES
            .into_iter()
            .filter(|class| classes.is_empty() || classes.contains(class))
        {
            let key = keyring::subject_key(number(class), tag);
            match self.execute(&key).await {
                Ok(standing) => standings.extend(standing.map(|standing| (class, standing))),
                Err(refusal) => done = done.and(Err(refusal)),
            }
        }
        self.clear_remains().await;
        done.map(|()| standings)
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
        self.clear_remains().await;
        done
    }

    /// Lets nothing of the keys that were destroyed stay in the files of their database, as the store does it: on Postgres
    /// once a minute for all of them, for it makes those wait who need a key. No erasure depends on it; what is left is done by a sweep.
    pub(crate) async fn clear_remains(&self) {
        if !self.keyring.clear_remains().await {
            self.stats.remains.inc();
        }
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

    async fn is_held(&self, class: RetentionClass, tag: &[u8]) -> Result<bool, Refusal> {
        let read = self
            .store
            .read(|r| r.group::<HoldRow>(SLOT, "active", &HoldRow::ACTIVE));
        Ok(read.await?.iter().any(|row| row.record.covers(class.into(), tag)))
    }
}

/// Who asks and on what ground, without what must never be kept.
pub(crate) fn grounds(caller: &Caller, basis: &str) -> (Option<audit::Actor>, String) {
    let mut draft = Draft::new(
        "audit.erasure_executed",
        event::Action::Delete,
        RetentionClass::Admin,
        caller,
    );
    basis.clone_into(&mut draft.payload().legal_basis);
    draft.finish();
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

pub(crate) fn class_of(key: &[u8]) -> RetentionClass {
    let number = key.get(1).copied().unwrap_or_default();
    RetentionClass::try_from(i32::from(number)).unwrap_or_default()
}

/// The class and month of a month's key.
pub(crate) fn month_of(key: &[u8]) -> Option<(RetentionClass, String)> {
    let month = key.get(2..).filter(|_| key.first() == Some(&MONTH))?;
    Some((class_of(key), String::from_utf8(month.to_vec()).ok()?))
}

/// Whether a key is that of a subject.
pub(crate) fn is_of_subject(key: &[u8]) -> bool {
    key.first() == Some(&SUBJECT)
}

/// The tag of the subject whose key it is; empty for a month's.
pub(crate) fn tag_of(key: &[u8]) -> &[u8] {
    key.get(2..).filter(|_| is_of_subject(key)).unwrap_or_default()
}

/// As the record names a key: never whose it is.
fn name_of(key: &[u8]) -> String {
    let class = class_of(key).as_str_name().trim_start_matches("RETENTION_CLASS_");
    match month_of(key) {
        Some((_, month)) => format!("keys/{class}-{month}"),
        None => format!("keys/{class}"),
    }
}
