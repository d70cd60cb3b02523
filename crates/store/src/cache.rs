//! A cache whose unit is the subject: everything live of hers in one entry, complete, so that absence is answerable.
//!
//! A miss puts a mark before it loads; a change of the subject meanwhile spoils the mark, and what was loaded is used
//! for its own check and not kept. So no entry is ever older than a change that this process knows of.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sammati_kernel::Refusal;

use crate::shared::Invalidate;

/// Entries by subject, bounded in bytes.
pub struct SubjectCache<V> {
    entries: Cache<Vec<u8>, Entry<V>, ByBytes>,
    loading: Mutex<HashMap<Vec<u8>, Vec<Mark>>>,
}

#[derive(Clone)]
struct Entry<V> {
    value: V,
    bytes: u64,
}

/// One load under way.
struct Mark {
    id: u64,
    spoiled: bool,
}

#[derive(Clone)]
struct ByBytes;

impl<V> Weighter<Vec<u8>, Entry<V>> for ByBytes {
    fn weight(&self, key: &Vec<u8>, entry: &Entry<V>) -> u64 {
        entry.bytes + key.len() as u64 + 64
    }
}

impl<V: Clone + Send + Sync> SubjectCache<V> {
    pub(crate) fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / 1024).unwrap_or(usize::MAX).max(16);
        Self {
            entries: Cache::with_weighter(items, bytes, ByBytes),
            loading: Mutex::default(),
        }
    }

    /// What is known of `subject`, loading it when nothing is. `load` tells the value and about how many bytes it takes.
    ///
    /// # Errors
    /// Those of `load`.
    pub async fn get<F, L>(&self, subject: &[u8], load: L) -> Result<V, Refusal>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<(V, u64), Refusal>>,
    {
        if let Some(entry) = self.entries.get(subject) {
            return Ok(entry.value);
        }
        let mark = Marked::put(self, subject);
        let (value, bytes) = load().await?;
        mark.keep(Entry {
            value: value.clone(),
            bytes,
        });
        Ok(value)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<V: Clone + Send + Sync> Invalidate for SubjectCache<V> {
    fn changed(&self, subject: &[u8]) {
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(marks) = loading.get_mut(subject) {
            marks.iter_mut().for_each(|mark| mark.spoiled = true);
        }
        self.entries.remove(subject);
    }

    fn clear(&self) {
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        loading.values_mut().flatten().for_each(|mark| mark.spoiled = true);
        self.entries.clear();
    }
}

/// A mark that is taken away when its load ends, however it ends.
struct Marked<'a, V: Clone + Send + Sync> {
    cache: &'a SubjectCache<V>,
    subject: &'a [u8],
    id: u64,
}

impl<'a, V: Clone + Send + Sync> Marked<'a, V> {
    fn put(cache: &'a SubjectCache<V>, subject: &'a [u8]) -> Self {
        let mut loading = cache.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = loading.entry(subject.to_vec()).or_default();
        let id = marks.last().map_or(0, |mark| mark.id + 1);
        marks.push(Mark { id, spoiled: false });
        Self { cache, subject, id }
    }

    /// Keeps the entry unless the subject changed since the mark was put.
    fn keep(self, entry: Entry<V>) {
        let loading = self.cache.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let spoiled = loading
            .get(self.subject)
            .and_then(|m| m.iter().find(|m| m.id == self.id))
            .is_none_or(|m| m.spoiled);
        if !spoiled {
            self.cache.entries.insert(self.subject.to_vec(), entry);
        }
    }
}

impl<V: Clone + Send + Sync> Drop for Marked<'_, V> {
    fn drop(&mut self) {
        let mut loading = self.cache.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(marks) = loading.get_mut(self.subject) {
            marks.retain(|mark| mark.id != self.id);
            if marks.is_empty() {
                loading.remove(self.subject);
            }
        }
    }
}
