//! What is known of a study, from memory: its row as of the last confirmation or later, and the key of its pseudonyms.

use std::collections::BTreeMap;
use std::sync::Arc;

use sammati_api::consent::v1 as api;
use sammati_kernel::{AccountId, Key, Micros, Reason, Refusal, StudyId};
use sammati_store::{Store, SubjectCache};

use super::{State, pseudonym};
use crate::lookup::Lookup;
use crate::rows::{self, DataKeyRow, NotificationRow, StudyRow};
use crate::scope::Scope;
use crate::vault::Vault;

/// Memory for studies, in bytes.
const BYTES: u64 = 16 << 20;

/// Until when each of some studies is active; one that is not here is not.
pub type ActiveUntil = BTreeMap<StudyId, Micros>;

/// A study as it is known.
pub struct Known {
    /// Its id.
    pub id: StudyId,
    /// As it is kept.
    pub row: StudyRow,
    /// What it asks.
    pub scope: Scope,
    /// Makes its pseudonyms; `None` before it was active and once it is destroyed.
    pub key: Option<Key>,
}

impl Known {
    /// Whether it is ACTIVE by the clock.
    ///
    /// # Errors
    /// STUDY_NOT_ACTIVE.
    pub fn active(&self, now: Micros) -> Result<&Key, Refusal> {
        match &self.key {
            Some(key) if self.row.state_at(now) == State::Active => Ok(key),
            _ => Err(not_active()),
        }
    }

    /// As whom it knows somebody.
    ///
    /// # Errors
    /// STUDY_NOT_ACTIVE when it knows nobody.
    pub fn pseudonym(&self, account: AccountId) -> Result<String, Refusal> {
        let key = self.key.as_ref().ok_or_else(not_active)?;
        Ok(pseudonym::of(key, account))
    }
}

/// The study does nothing now.
pub fn not_active() -> Refusal {
    Refusal::new(Reason::StudyNotActive).saying("the study is not active: not yet, or not any more; read it")
}

/// The memory of studies. Clones share it.
#[derive(Clone)]
pub struct Studies {
    store: Store,
    vault: Vault,
    lookup: Lookup,
    live: Arc<SubjectCache<Option<Arc<Known>>>>,
}

impl Studies {
    /// Over `store`.
    pub fn new(store: Store, vault: Vault, lookup: Lookup) -> Self {
        let live = store.cache(BYTES);
        Self {
            store,
            vault,
            lookup,
            live,
        }
    }

    /// The study, as of the last confirmation or later; `None` when there is none.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn get(&self, id: StudyId) -> Result<Option<Arc<Known>>, Refusal> {
        self.live.get(id.as_bytes(), || self.load(id)).await
    }

    async fn load(&self, id: StudyId) -> Result<(Option<Arc<Known>>, u64), Refusal> {
        let read = self.store.snapshot(move |r| {
            let row = r.get::<StudyRow>(id.slot(), id.as_bytes())?;
            Ok((row, r.get::<DataKeyRow>(id.slot(), id.as_bytes())?))
        });
        let (Some(row), key) = read.await? else {
            return Ok((None, 64));
        };
        let key = key.filter(|key| !key.record.wrapped.is_empty());
        let key = key.map(|key| self.vault.unwrap(&key.record)).transpose()?;
        let row = row.record;
        let bytes = 1024 + row.nodes.len() * 64;
        let known = Known {
            id,
            scope: row.scope.read()?,
            row,
            key,
        };
        Ok((Some(Arc::new(known)), u64::try_from(bytes).unwrap_or(u64::MAX)))
    }

    /// Until when the studies are active.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn active_until(&self, ids: Vec<StudyId>) -> Result<ActiveUntil, Refusal> {
        let mut until = ActiveUntil::new();
        for id in ids {
            if until.contains_key(&id) {
                continue;
            }
            let known = self.get(id).await?;
            if let Some(known) = known.filter(|known| known.row.state() == State::Active) {
                until.insert(id, Micros(known.row.ethics.until));
            }
        }
        Ok(until)
    }

    /// A notification as its recipient reads it: a study nothing that another study reads of the same person too.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn veil(&self, row: &NotificationRow, shown: api::Notification) -> Result<api::Notification, Refusal> {
        if row.study.is_empty() {
            return Ok(shown);
        }
        let known = self.get(rows::id(&row.study)?).await?;
        let known = known.as_ref().and_then(|known| known.key.as_ref());
        let whom = known.zip(rows::account(&row.subject));
        Ok(api::Notification {
            name: String::new(),
            revision: String::new(),
            event_id: self.lookup.alias(&row.study, &row.event_id),
            pseudonym: whom
                .map(|(key, account)| pseudonym::of(key, account))
                .unwrap_or_default(),
            ..shown
        })
    }
}
