//! The keys of payloads: one per (subject, class) and one per (class, month), wrapped, in a database of their own.
//!
//! A payload is sealed under both. Destroying a subject's key makes her payloads unreadable, destroying a month's key
//! those of everybody; leaves and proofs stay.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use prost::Message;
use quick_cache::sync::Cache;
use ring::digest::{SHA256, digest};
use sammati_api::audit::v1::{Leaf, Payload};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Key, Micros, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, Store, View};

use crate::rows::{PayloadKeyRow, SLOT};

/// How many unwrapped keys are kept in memory.
const CACHED: usize = 64 * 1024;

/// What a key is the key of.
type KeyId = Vec<u8>;

/// The key database, the key that wraps its keys, and those in use.
pub struct Keyring {
    store: Store,
    wrap: Key,
    cache: Cache<KeyId, Key>,
}

/// What became of a payload.
#[derive(Debug, Clone, PartialEq)]
pub enum Opened {
    /// Here it is.
    Readable(Box<Payload>),
    /// Its keys are gone.
    Erased,
    /// It is not what the leaf committed to.
    Damaged,
}

impl Keyring {
    /// The keys in `store`, wrapped under `kek`.
    pub fn new(store: Store, kek: &Key) -> Self {
        Self {
            store,
            wrap: kek.derive("audit payload keys"),
            cache: Cache::new(CACHED),
        }
    }

    /// Seals the payloads of `events`, each with its leaf. Sets `key_id` and `payload_hash`; the keys are durable before
    /// they are used.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE` when the key database is away.
    pub async fn seal(&self, now: Micros, events: &mut [(Leaf, &Payload)]) -> Result<Vec<Vec<u8>>, Refusal> {
        for (leaf, _) in events.iter_mut() {
            leaf.key_id = format!("{}/{}", class_name(leaf.class), month(now));
        }
        let ids: BTreeSet<KeyId> = events.iter().flat_map(|(leaf, _)| key_ids(leaf)).collect();
        let keys = self.keys(ids, true).await?;
        let mut sealed = Vec::with_capacity(events.len());
        for (leaf, payload) in events {
            let key = key_of(leaf, &keys).ok_or(Reason::Internal)?;
            let bytes = key
                .seal(&bound(leaf), &payload.encode_to_vec())
                .map_err(|_| Reason::Internal)?;
            leaf.payload_hash = digest(&SHA256, &bytes).as_ref().to_vec();
            sealed.push(bytes);
        }
        Ok(sealed)
    }

    /// Opens payloads, each with its leaf.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE` when the key database is away.
    pub async fn open(&self, sealed: &[(Leaf, Vec<u8>)]) -> Result<Vec<Opened>, Refusal> {
        let ids: BTreeSet<KeyId> = sealed.iter().flat_map(|(leaf, _)| key_ids(leaf)).collect();
        let keys = self.keys(ids, false).await?;
        Ok(sealed.iter().map(|(leaf, bytes)| open(leaf, bytes, &keys)).collect())
    }

    /// The keys of `ids`; with `create` all of them, else those that there are.
    async fn keys(&self, ids: BTreeSet<KeyId>, create: bool) -> Result<BTreeMap<KeyId, Key>, Refusal> {
        let mut keys = BTreeMap::new();
        let mut missing = Vec::new();
        for id in ids {
            match self.cache.get(&id) {
                Some(key) => drop(keys.insert(id, key)),
                None => missing.push(id),
            }
        }
        if missing.is_empty() {
            return Ok(keys);
        }
        let asked: Vec<_> = missing.iter().map(|id| (SLOT, id.clone())).collect();
        let mut rows: Vec<_> = self
            .store
            .read(move |r| r.many::<PayloadKeyRow>(&asked))
            .await?
            .into_iter()
            .map(|s| s.record)
            .collect();
        if create {
            let known: BTreeSet<_> = rows.iter().map(|row| row.id.clone()).collect();
            missing.retain(|id| !known.contains(id));
            rows.extend(self.create(missing).await?);
        }
        for row in rows {
            if let Some(key) = self.unwrap(&row) {
                self.cache.insert(row.id.clone(), key.clone());
                keys.insert(row.id, key);
            }
        }
        Ok(keys)
    }

    async fn create(&self, ids: Vec<KeyId>) -> Result<Vec<PayloadKeyRow>, Refusal> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let wrap = |id: KeyId| {
            let wrapped = Key::generate().and_then(|key| self.wrap.seal(&id, key.bytes()));
            wrapped.map(|wrapped| PayloadKeyRow { id, wrapped })
        };
        let rows = ids
            .into_iter()
            .map(wrap)
            .collect::<Result<_, _>>()
            .map_err(|_| Reason::Internal)?;
        self.store.apply(CreateKeys(rows)).await
    }

    fn unwrap(&self, row: &PayloadKeyRow) -> Option<Key> {
        let plain = self.wrap.open(&row.id, &row.wrapped)?;
        plain.try_into().ok().map(Key::from_bytes)
    }
}

/// Creates the keys that are not there yet; answers with all.
struct CreateKeys(Vec<PayloadKeyRow>);

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
            let row = view.get::<PayloadKeyRow>(&new.id);
            if row.is_none() {
                view.put(new);
            }
            rows.push(row.unwrap_or_else(|| new.clone()));
        }
        Ok(rows)
    }
}

fn open(leaf: &Leaf, bytes: &[u8], keys: &BTreeMap<KeyId, Key>) -> Opened {
    if bytes.is_empty() {
        return Opened::Erased;
    }
    if digest(&SHA256, bytes).as_ref() != leaf.payload_hash {
        return Opened::Damaged;
    }
    let Some(key) = key_of(leaf, keys) else {
        return Opened::Erased;
    };
    let payload = key
        .open(&bound(leaf), bytes)
        .and_then(|plain| Payload::decode(plain.as_slice()).ok());
    payload.map_or(Opened::Damaged, |payload| Opened::Readable(Box::new(payload)))
}

/// The two keys that a payload is sealed under: the subject's in its class, and the class's in its month. Events about
/// nobody share one key per class.
fn key_ids(leaf: &Leaf) -> [KeyId; 2] {
    let class = u8::try_from(leaf.class).unwrap_or_default();
    let month = leaf.key_id.split_once('/').map_or("", |(_, month)| month);
    [
        [&[b's', class], leaf.subject_tag.as_slice()].concat(),
        [&[b'm', class], month.as_bytes()].concat(),
    ]
}

fn key_of(leaf: &Leaf, keys: &BTreeMap<KeyId, Key>) -> Option<Key> {
    let [subject, month] = key_ids(leaf);
    let bytes = keys.get(&subject)?.mac("payload key", keys.get(&month)?.bytes());
    Some(Key::from_bytes(bytes))
}

/// What a sealed payload is bound to: it opens beside its own leaf alone.
fn bound(leaf: &Leaf) -> Vec<u8> {
    [
        leaf.event_id.as_bytes(),
        b"\n",
        leaf.key_id.as_bytes(),
        b"\n",
        &leaf.subject_tag,
    ]
    .concat()
}

fn class_name(class: i32) -> &'static str {
    let class = RetentionClass::try_from(class).unwrap_or_default();
    class.as_str_name().trim_start_matches("RETENTION_CLASS_")
}

fn month(time: Micros) -> String {
    DateTime::from_timestamp(time.seconds(), 0).map_or_else(String::new, |t| t.format("%Y-%m").to_string())
}
