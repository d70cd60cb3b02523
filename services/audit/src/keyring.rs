//! The keys of payloads: one per (subject, class) and one per (class, month), wrapped, in a database of their own.
//!
//! A payload is sealed under both. Destroying a subject's key makes her payloads unreadable, destroying a month's key
//! those of everybody; leaves and proofs stay. A destroyed key leaves its row: what is told of a subject after her key was
//! destroyed, or retired because she is to be erased, is sealed under a key of the next generation, which the leaf names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::DateTime;
use prost::Message;
use quick_cache::sync::Cache;
use ring::digest::{SHA256, digest};
use sammati_api::audit::v1::{Leaf, Payload};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Key, Micros, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, Reader, Store, View};

use crate::rows::{PayloadKeyRow, RetiredKey, SLOT};

/// How many unwrapped keys are kept in memory.
const CACHED: usize = 64 * 1024;

/// What a key is the key of.
type KeyId = Vec<u8>;

/// The keys of names that live, the present one last.
type LiveKeys = BTreeMap<KeyId, Arc<[Held]>>;

/// The key database, the key that wraps its keys, and those in use.
pub struct Keyring {
    store: Store,
    wrap: Key,
    cache: Cache<KeyId, Arc<[Held]>>,
}

/// A key that lives, and how many of its name were before it.
#[derive(Clone)]
struct Held {
    key: Key,
    generation: i64,
}

/// What became of a payload.
#[derive(Debug, Clone, PartialEq)]
pub enum Opened {
    /// Here it is.
    Readable(Box<Payload>),
    /// Its keys are gone.
    Erased,
    /// It is not what the leaf committed to, or none of its keys opens it.
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
        for (leaf, _) in events.iter_mut() {
            let [subject, _] = key_ids(leaf);
            let present = keys.get(&subject).and_then(|held| held.last());
            if let Some(held) = present.filter(|held| held.generation > 0) {
                leaf.key_id = format!("{}/{}", leaf.key_id, held.generation);
            }
        }
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
        let ids = sealed.iter().flat_map(|(leaf, _)| key_ids(leaf)).collect();
        let keys = self.keys(ids, false).await?;
        Ok(sealed.iter().map(|(leaf, bytes)| open(leaf, bytes, &keys)).collect())
    }

    /// The keys of `ids`; with `create` all of them, else those that there are. Which there are the database says each time,
    /// for another replica may have destroyed one: memory only saves the unwrapping.
    async fn keys(&self, mut ids: BTreeSet<KeyId>, create: bool) -> Result<LiveKeys, Refusal> {
        let asked: Vec<_> = ids.iter().map(|id| (SLOT, id.clone())).collect();
        let mut rows: Vec<_> = self
            .store
            .read(move |r| r.many::<PayloadKeyRow>(&asked))
            .await?
            .into_iter()
            .map(|s| s.record)
            .collect();
        if create {
            rows.retain(|row| !row.wrapped.is_empty());
            for row in &rows {
                ids.remove(&row.id);
            }
            rows.extend(self.create(ids.into_iter().collect()).await?);
        }
        let held = rows.into_iter().map(|row| (row.id.clone(), self.held(&row)));
        Ok(held.collect())
    }

    /// The keys of a row that live, the present one last.
    fn held(&self, row: &PayloadKeyRow) -> Arc<[Held]> {
        let live = row.live().map(|(generation, _)| generation);
        let known = self.cache.get(&row.id);
        if let Some(held) = known.filter(|held| held.iter().map(|held| held.generation).eq(live)) {
            return held;
        }
        let unwrapped = row.live().filter_map(|(generation, wrapped)| {
            let key = self.unwrap(&row.id, wrapped)?;
            Some(Held { key, generation })
        });
        let held: Arc<[Held]> = unwrapped.collect();
        match held.is_empty() {
            true => drop(self.cache.remove(&row.id)),
            false => self.cache.insert(row.id.clone(), Arc::clone(&held)),
        }
        held
    }

    async fn create(&self, ids: Vec<KeyId>) -> Result<Vec<PayloadKeyRow>, Refusal> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let wrap = |id: KeyId| {
            let wrapped = Key::generate().and_then(|key| self.wrap.seal(&id, key.bytes()));
            wrapped.map(|wrapped| PayloadKeyRow {
                id,
                wrapped,
                ..PayloadKeyRow::default()
            })
        };
        let rows = ids
            .into_iter()
            .map(wrap)
            .collect::<Result<_, _>>()
            .map_err(|_| Reason::Internal)?;
        self.store.apply(CreateKeys(rows)).await
    }

    fn unwrap(&self, id: &[u8], wrapped: &[u8]) -> Option<Key> {
        let plain = self.wrap.open(id, wrapped)?;
        plain.try_into().ok().map(Key::from_bytes)
    }

    /// Has what is told from now on sealed under another key of this name; tells the newest generation before that. The key
    /// goes on to open what it sealed.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn retire(&self, id: &[u8]) -> Result<i64, Refusal> {
        self.store.apply(Retire(id.to_vec())).await
    }

    /// How many keys of this name were before the present one.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn generation(&self, id: &[u8]) -> Result<i64, Refusal> {
        let id = id.to_vec();
        let row = self.store.read(move |r| r.get::<PayloadKeyRow>(SLOT, &id)).await?;
        Ok(row.map_or(0, |row| row.record.generation))
    }

    /// Destroys the key of this name up to the generation, if it is not yet; tells whether it was not. Nothing of it stays
    /// in the database or its log.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn destroy(&self, id: &[u8], gone: Gone<'_>) -> Result<bool, Refusal> {
        let destroy = DestroyKey {
            id: id.to_vec(),
            generation: gone.generation,
            at: gone.at,
            basis: gone.basis.to_owned(),
        };
        let destroyed = self.store.apply(destroy).await?;
        self.cache.remove(id);
        Ok(destroyed)
    }

    /// Lets nothing of what was destroyed stay behind in the files of the key database.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn scrub(&self) -> Result<(), Refusal> {
        self.store.scrub().await
    }

    /// The keys of names of which one was destroyed, the last first, below a name.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn gone(&self, before: Option<Vec<u8>>, most: i64) -> Result<Vec<PayloadKeyRow>, Refusal> {
        let read =
            move |r: &mut Reader<'_>| r.page::<PayloadKeyRow>("gone", &PayloadKeyRow::GONE, before.as_deref(), most);
        let rows = self.store.read(read).await?;
        Ok(rows.into_iter().map(|row| row.record).collect())
    }

    /// The names of the months' keys that live.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn months(&self) -> Result<Vec<Vec<u8>>, Refusal> {
        self.store.snapshot(months).await
    }
}

/// Rows of one look.
const CHUNK: i64 = 1000;

fn months(r: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, sammati_store::Error> {
    let (mut live, mut after) = (Vec::new(), vec![MONTH]);
    loop {
        let rows = r.scan::<PayloadKeyRow>((0, &after), CHUNK)?;
        let Some(last) = rows.last() else { return Ok(live) };
        after.clone_from(&last.record.id);
        let of_months = rows
            .into_iter()
            .map(|row| row.record)
            .take_while(|row| row.id.first() == Some(&MONTH));
        live.extend(of_months.filter(|row| !row.wrapped.is_empty()).map(|row| row.id));
        if after.first() != Some(&MONTH) {
            return Ok(live);
        }
    }
}

/// The end of a key.
pub(crate) struct Gone<'a> {
    /// Which of its name.
    pub(crate) generation: i64,
    /// When.
    pub(crate) at: Micros,
    /// On what ground.
    pub(crate) basis: &'a str,
}

/// Destroys a key. Its row says when and why: a log that was restored may have forgotten.
struct DestroyKey {
    id: KeyId,
    generation: i64,
    at: Micros,
    basis: String,
}

impl Command for DestroyKey {
    type Answer = bool;
    const NAME: &'static str = "audit.destroy_key";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<PayloadKeyRow>(self.id.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<bool, Refusal> {
        let row = view.get::<PayloadKeyRow>(&self.id).unwrap_or_else(|| PayloadKeyRow {
            id: self.id.clone(),
            ..PayloadKeyRow::default()
        });
        if row.gone() > self.generation {
            return Ok(false);
        }
        let mut row = PayloadKeyRow {
            destroyed: self.at.0,
            basis: self.basis.clone(),
            ..row
        };
        row.retired.retain(|key| key.generation > self.generation);
        if row.generation <= self.generation {
            row.wrapped.clear();
            row.generation = self.generation + 1;
        }
        view.put(&row);
        Ok(true)
    }
}

/// Retires the present key of a name, if there is one.
struct Retire(KeyId);

impl Command for Retire {
    type Answer = i64;
    const NAME: &'static str = "audit.retire_key";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<PayloadKeyRow>(self.0.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<i64, Refusal> {
        let mut row = view.get::<PayloadKeyRow>(&self.0).unwrap_or_default();
        if !row.wrapped.is_empty() {
            row.retired.push(RetiredKey {
                generation: row.generation,
                wrapped: std::mem::take(&mut row.wrapped),
            });
            row.generation += 1;
            view.put(&row);
        }
        Ok(row.generation - 1)
    }
}

/// Creates the keys that are not there yet, a destroyed or retired one of a subject anew; answers with all. The key of a month that was
/// destroyed is never made again.
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
            let row = match view.get::<PayloadKeyRow>(&new.id) {
                Some(row) if !row.wrapped.is_empty() || row.id.first() == Some(&MONTH) => row,
                before => {
                    let row = PayloadKeyRow {
                        wrapped: new.wrapped.clone(),
                        ..before.unwrap_or_else(|| new.clone())
                    };
                    view.put(&row);
                    row
                }
            };
            rows.push(row);
        }
        Ok(rows)
    }
}

fn open(leaf: &Leaf, bytes: &[u8], keys: &LiveKeys) -> Opened {
    if bytes.is_empty() {
        return Opened::Erased;
    }
    if !is_own(leaf, bytes) {
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

/// Whether a sealed payload is the one that the leaf commits to.
pub(crate) fn is_own(leaf: &Leaf, bytes: &[u8]) -> bool {
    digest(&SHA256, bytes).as_ref() == leaf.payload_hash
}

/// The two keys that a payload is sealed under: the subject's in its class, and the class's in its month. Events about
/// nobody share one key per class.
fn key_ids(leaf: &Leaf) -> [KeyId; 2] {
    let class = u8::try_from(leaf.class).unwrap_or_default();
    [subject_key_of(leaf), month_key(class, month_of(leaf))]
}

/// The month whose key a payload is sealed under.
pub(crate) fn month_of(leaf: &Leaf) -> &str {
    leaf.key_id.split('/').nth(1).unwrap_or_default()
}

/// The name of the subject's key that a payload is sealed under.
pub(crate) fn subject_key_of(leaf: &Leaf) -> Vec<u8> {
    subject_key(u8::try_from(leaf.class).unwrap_or_default(), &leaf.subject_tag)
}

/// Begins the names of subjects' keys.
pub(crate) const SUBJECT: u8 = b's';

/// Begins the names of months' keys.
pub(crate) const MONTH: u8 = b'm';

/// The name of a subject's key in a class.
pub(crate) fn subject_key(class: u8, tag: &[u8]) -> Vec<u8> {
    [&[SUBJECT, class], tag].concat()
}

/// The name of a month's key in a class.
pub(crate) fn month_key(class: u8, month: &str) -> Vec<u8> {
    [&[MONTH, class], month.as_bytes()].concat()
}

/// Which generation of the subject's key a payload is sealed under.
pub(crate) fn generation(leaf: &Leaf) -> i64 {
    let generation = leaf.key_id.split('/').nth(2);
    generation.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn key_of(leaf: &Leaf, keys: &LiveKeys) -> Option<Key> {
    let [subject, month] = key_ids(leaf);
    let mut live = keys.get(&subject)?.iter();
    let subject = live.find(|held| held.generation == generation(leaf))?;
    let month = keys.get(&month)?.last()?;
    let bytes = subject.key.mac("payload key", month.key.bytes());
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

/// The month of a time, as keys are named by it.
pub(crate) fn month(time: Micros) -> String {
    DateTime::from_timestamp(time.seconds(), 0).map_or_else(String::new, |t| t.format("%Y-%m").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::KEY_MIGRATIONS;
    use crate::testing::stores;

    fn about(tag: u8) -> Leaf {
        Leaf {
            event_id: "019ab0c2-0000-7000-8000-000000000001".to_owned(),
            class: RetentionClass::Consent.into(),
            subject_tag: vec![tag; 32],
            ..Leaf::default()
        }
    }

    async fn sealed(keyring: &Keyring, now: Micros) -> (Leaf, Vec<u8>) {
        let payload = Payload::default();
        let mut events = [(about(1), &payload)];
        let bytes = keyring.seal(now, &mut events).await.unwrap().remove(0);
        let [(leaf, _)] = events;
        (leaf, bytes)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a3_a_key_that_another_replica_destroyed_seals_and_opens_nothing_more() {
        for (_database, store) in stores(|| KEY_MIGRATIONS) {
            let kek = Key::from_bytes([7; 32]);
            let [one, other] = [(); 2].map(|()| Keyring::new(store.clone(), &kek));
            let now = store.clock().now();
            let [subject, of_month] = key_ids(&sealed(&other, now).await.0);
            let before = sealed(&other, now).await;
            let gone = |generation| Gone {
                generation,
                at: now,
                basis: "her letter",
            };
            assert!(one.destroy(&subject, gone(0)).await.unwrap());
            assert_eq!(
                other.open(std::slice::from_ref(&before)).await.unwrap(),
                [Opened::Erased]
            );
            let after = sealed(&other, now).await;
            assert_eq!((generation(&before.0), generation(&after.0)), (0, 1));
            // Whoever begins anew reads what was told of her since.
            let fresh = Keyring::new(store.clone(), &kek);
            let opened = fresh.open(std::slice::from_ref(&after)).await.unwrap();
            assert!(matches!(opened[..], [Opened::Readable(_)]));
            assert!(one.destroy(&of_month, gone(0)).await.unwrap());
            assert_eq!(other.open(&[after]).await.unwrap(), [Opened::Erased]);
        }
    }

    /// Several of one name live until each is destroyed; the newest alone seals.
    #[tokio::test(flavor = "multi_thread")]
    async fn a3_a_retired_key_opens_and_seals_no_more() {
        for (_database, store) in stores(|| KEY_MIGRATIONS) {
            let kek = Key::from_bytes([7; 32]);
            let [one, other] = [(); 2].map(|()| Keyring::new(store.clone(), &kek));
            let now = store.clock().now();
            let mut told = vec![sealed(&one, now).await];
            let [subject, _] = key_ids(&told[0].0);
            assert_eq!(one.retire(&[9; 34]).await.unwrap(), -1, "there is none");
            for line in 0..3 {
                assert_eq!(one.retire(&subject).await.unwrap(), line);
                assert_eq!(one.retire(&subject).await.unwrap(), line, "nothing was sealed since");
                told.push(sealed(&other, now).await);
            }
            assert!(other.gone(None, 9).await.unwrap().is_empty(), "none is destroyed");
            let generations: Vec<_> = told.iter().map(|(leaf, _)| generation(leaf)).collect();
            assert_eq!(generations, [0, 1, 2, 3]);
            let readable = async |keyring: &Keyring| {
                let opened = keyring.open(&told).await.unwrap();
                opened
                    .iter()
                    .map(|opened| matches!(opened, Opened::Readable(_)))
                    .collect::<Vec<_>>()
            };
            assert_eq!(readable(&one).await, [true; 4]);
            let gone = |generation| Gone {
                generation,
                at: now,
                basis: "her letter",
            };
            for (through, left) in [(1, [false, false, true, true]), (2, [false, false, false, true])] {
                assert!(other.destroy(&subject, gone(through)).await.unwrap());
                assert!(!one.destroy(&subject, gone(through)).await.unwrap(), "once");
                for keyring in [&one, &other, &Keyring::new(store.clone(), &kek)] {
                    assert_eq!(readable(keyring).await, left);
                }
                assert_eq!(one.gone(None, 9).await.unwrap()[0].gone(), through + 1);
            }
            assert_eq!(generation(&sealed(&one, now).await.0), 3);
            assert!(one.destroy(&subject, gone(3)).await.unwrap());
            assert_eq!(readable(&other).await, [false; 4]);
        }
    }
}
