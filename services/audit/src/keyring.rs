//! The keys of payloads: one per (subject, class) and one per (class, month), wrapped, in a database of their own.
//!
//! A payload is sealed under both. Destroying a subject's key makes her payloads unreadable, destroying a month's key
//! those of everybody; leaves and proofs stay. A destroyed key leaves its row: what is told of a subject after her key was
//! destroyed, or retired because she is to be erased, is sealed under a key of the next generation, which the leaf names.

mod commands;
mod known;
mod name;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use ring::digest::{SHA256, digest};
use sammati_api::audit::v1::{Leaf, Payload};
use sammati_kernel::{Key, Micros, Reason, Refusal};
use sammati_store::{Reader, Store};

use self::commands::{CreateKeys, DestroyKey, Retire, RetireThrough};
use self::known::Known;
pub(crate) use self::name::{MONTH, SUBJECT, generation, month, month_key, month_of, subject_key, subject_key_of};
use self::name::{class_name, key_ids};
use crate::rows::{PayloadKeyRow, SLOT};

/// What a key is the key of.
type KeyId = Vec<u8>;

/// The keys of names that live, the present one last.
type LiveKeys = BTreeMap<KeyId, Arc<[Held]>>;

/// The key database, the key that wraps its keys, and those in use.
pub struct Keyring {
    store: Store,
    wrap: Key,
    known: Arc<Known>,
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
    /// Here it is, in the archive: for an operator with a legal basis alone.
    Archived(Box<Payload>),
    /// Its keys are gone.
    Erased,
    /// It is not what the leaf committed to, or none of its keys opens it.
    Damaged,
}

impl Keyring {
    /// The keys in `store`, wrapped under `kek`.
    pub fn new(store: Store, kek: &Key) -> Self {
        Self {
            known: store.beside(|| Known::of(&store)),
            store,
            wrap: kek.derive("audit payload keys"),
        }
    }

    /// Seals the payloads of `events`, each with its leaf. Sets `key_id` and `payload_hash`; the keys are durable before
    /// they are used.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE` when the key database is away.
    pub async fn seal(&self, now: Micros, events: &mut [(Leaf, &Payload)]) -> Result<Vec<Vec<u8>>, Refusal> {
        let month = month(now);
        for (leaf, _) in events.iter_mut() {
            leaf.key_id = [class_name(leaf.class), "/", month.as_str()].concat();
        }
        let names: Vec<_> = events.iter().map(|(leaf, _)| key_ids(leaf)).collect();
        let keys = self.keys(names.iter().flatten().cloned().collect(), true).await?;
        let nonces = Key::nonces(events.len()).map_err(|_| Reason::Internal)?;
        let mut sealed = Vec::with_capacity(events.len());
        for (((leaf, payload), [subject, month]), nonce) in events.iter_mut().zip(&names).zip(nonces) {
            let present = |id| keys.get(id)?.last();
            let (Some(subject), Some(month)) = (present(subject), present(month)) else {
                return Err(Reason::Internal.into());
            };
            if subject.generation > 0 {
                leaf.key_id = format!("{}/{}", leaf.key_id, subject.generation);
            }
            let bytes = key_under(subject, month)
                .seal_with(nonce, &bound(leaf), &payload.encode_to_vec())
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

    /// The keys of `ids`; with `create` all of them, else those that there are.
    async fn keys(&self, mut ids: BTreeSet<KeyId>, create: bool) -> Result<LiveKeys, Refusal> {
        let changes = self.known.changes();
        let mut keys = self.known.take(&mut ids);
        if ids.is_empty() {
            return Ok(keys);
        }
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
        for row in rows {
            let held = self.held(&row, changes);
            keys.insert(row.id, held);
        }
        Ok(keys)
    }

    /// The keys of a row that live, the present one last; it was read after so many `changes`.
    fn held(&self, row: &PayloadKeyRow, changes: u64) -> Arc<[Held]> {
        let live = row.live().map(|(generation, _)| generation);
        let known = self.known.get(&row.id);
        if let Some(held) = known.filter(|held| held.iter().map(|held| held.generation).eq(live)) {
            return held;
        }
        let unwrapped = row.live().filter_map(|(generation, wrapped)| {
            let key = self.unwrap(&row.id, wrapped)?;
            Some(Held { key, generation })
        });
        let held: Arc<[Held]> = unwrapped.collect();
        match held.last() {
            Some(last) if last.generation == row.generation => self.known.keep(&row.id, &held, changes),
            // Without a present key there is another row as soon as something is sealed.
            _ => self.known.remove(&row.id),
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
        self.known.change(&self.store, id, Retire(id.to_vec())).await
    }

    /// Has nothing sealed any more under the keys of this name up to the generation, as it was before a restore; tells
    /// whether something could have been.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn retire_through(&self, id: &[u8], generation: i64) -> Result<bool, Refusal> {
        let retire = RetireThrough {
            id: id.to_vec(),
            generation,
        };
        self.known.change(&self.store, id, retire).await
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
        self.known.change(&self.store, id, destroy).await
    }

    /// Lets nothing of what was destroyed stay behind in the files of the key database.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn scrub(&self) -> Result<(), Refusal> {
        self.store.scrub().await
    }

    /// A key was destroyed, now or before this process began.
    pub(crate) fn leaves_remains(&self) {
        self.store.leaves_remains::<PayloadKeyRow>();
    }

    /// As [`Store::clear_remains`].
    pub(crate) async fn clear_remains(&self) -> bool {
        self.store.clear_remains().await
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

fn key_of(leaf: &Leaf, keys: &LiveKeys) -> Option<Key> {
    let [subject, month] = key_ids(leaf);
    let mut live = keys.get(&subject)?.iter();
    let subject = live.find(|held| held.generation == generation(leaf))?;
    let month = keys.get(&month)?.last()?;
    Some(key_under(subject, month))
}

/// The key of a payload: of its subject's and its month's.
fn key_under(subject: &Held, month: &Held) -> Key {
    Key::from_bytes(subject.key.mac("payload key", month.key.bytes()))
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
