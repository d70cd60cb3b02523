//! The log: its store, its keys, its signer, and what everything asked of it comes down to.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use prost::Message;
use sammati_api::audit::v1::{self as audit, Leaf};
use sammati_kernel::{Caller, Key, Micros, Reason, Refusal, Seed};
use sammati_log::checkpoint::Signer;
use sammati_server::event::{Draft, micros, timestamp};
use sammati_store::{Command, Location, Store};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::append::{Append, Appended, Known, Stretch, Told, sources};
use crate::entry::Entry;
use crate::half_year;
use crate::head::{Begin, Freeze};
use crate::keyring::{self, Keyring, Opened};
use crate::keys::{self, LogKeys, Replace};
use crate::retention;
use crate::rows::{LeafRow, LogKeyRow, LogRow, SLOT, event_key};
use crate::sealing::Sealings;
use crate::stats::Stats;
use crate::succession::Ended;
use crate::tags::{Made, Tagger};
use crate::tree::frozen;
use crate::witnesses::Witnesses;

/// How often another replica's appends are looked for by whoever waits for an event.
const POLL: Duration = Duration::from_millis(200);

/// How often at most somebody who waits for events looks for them, however fast the log grows.
const PACE: Duration = Duration::from_millis(50);

/// The name under which the log's own events stand in it.
pub const SERVICE: &str = "audit";

/// One transparency log.
pub struct Log {
    pub(crate) store: Store,
    pub(crate) keys: LogKeys,
    /// One signature at a time: whoever waited finds that it covers him too.
    pub(crate) signing: Mutex<()>,
    id: String,
    origin: String,
    pub(crate) keyring: Keyring,
    tags: Tagger,
    /// How many leaves there are at least, as far as this process knows.
    pub(crate) grown: watch::Sender<u64>,
    /// Whose keys may have ended.
    pub(crate) known: Arc<Known>,
    /// Wakes when this process signs.
    pub(crate) newly_signed: watch::Sender<()>,
    pub(crate) stats: Stats,
    pub(crate) witnesses: Witnesses,
}

/// An event and its bytes, as the caller sent it.
#[derive(Debug, Clone)]
pub struct Received {
    /// The event.
    pub event: audit::Event,
    /// The bytes that are compared when it is sent again.
    pub body: Vec<u8>,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its head could not be read or made.
    #[error("the head of the log cannot be opened: {}", .0.reason.as_str())]
    Head(Refusal),
    /// The signing key or the origin is not usable.
    #[error(transparent)]
    Log(#[from] sammati_log::Error),
    /// Another key or origin is configured than the log was begun with.
    #[error("{0}")]
    Other(String),
}

impl Log {
    /// Opens the log of `store`, beginning one when there is none: its origin is `prefix/{half-year}`. `der` is the
    /// signing key, `previous` the one that it replaces, `lookup` the key of its keyed hashes. With `before`, the database
    /// of a log that has ended, it goes on where that one was, under the name that its seal says.
    ///
    /// # Errors
    /// When the log was begun under another prefix, with another key or not after that one: what was signed would not verify.
    pub async fn open(
        store: Store,
        keyring: Keyring,
        prefix: &str,
        der: &[u8],
        previous: Option<&[u8]>,
        lookup: &Key,
        before: Option<Location>,
    ) -> Result<Self, OpenError> {
        let follows = before.is_some();
        let ended = Ended::before(&store, before).await?;
        // All replicas take the same name, whatever their clocks say.
        let named = ended.as_ref().and_then(Ended::named);
        let id = named.unwrap_or_else(|| half_year::of(store.clock().now()));
        let fresh = Signer::from_pkcs8(&format!("{prefix}/{id}"), der)?;
        let begin = Begin {
            id,
            origin: fresh.name().to_owned(),
            vkey: fresh.vkey(),
        };
        let mut keyring = keyring;
        if follows {
            let keys = LogKeys::of(&begin.origin, der, previous)?;
            let fresh = Self::of(store.clone(), keyring, keys, (&begin.id, &begin.origin), lookup);
            fresh.begin_after(begin.clone(), ended).await?;
            keyring = fresh.keyring;
        }
        let row = store.apply(begin).await.map_err(OpenError::Head)?;
        let keys = LogKeys::of(&row.origin, der, previous)?;
        let history = store.snapshot(keys::history).await.map_err(OpenError::Head)?;
        let replaced = keys.replace(&history)?;
        if row.origin.rsplit_once('/').map(|(begun, _)| begun) != Some(prefix) {
            return Err(OpenError::Other(format!(
                "service.origin is {prefix}, but the log was begun as {}",
                row.origin
            )));
        }
        let log = Self::of(store, keyring, keys, (&row.id, &row.origin), lookup);
        if replaced {
            log.replaced(history.len() as u64).await?;
        }
        log.known.read(&log.store).await.map_err(OpenError::Head)?;
        Ok(log)
    }

    /// Whether a log under this prefix can be signed with these keys.
    ///
    /// # Errors
    /// When not.
    pub fn check(prefix: &str, der: &[u8], previous: Option<&[u8]>) -> Result<(), OpenError> {
        LogKeys::of(&format!("{prefix}/{}", half_year::of(Micros(0))), der, previous)?;
        Ok(())
    }

    fn of(store: Store, keyring: Keyring, keys: LogKeys, (id, origin): (&str, &str), lookup: &Key) -> Self {
        let known = store.beside(Known::default);
        Self {
            store,
            keys,
            signing: Mutex::new(()),
            id: id.to_owned(),
            origin: origin.to_owned(),
            keyring,
            tags: Tagger::new(lookup, origin),
            grown: watch::channel(0).0,
            known,
            newly_signed: watch::channel(()).0,
            stats: Stats::default(),
            witnesses: Witnesses::default(),
        }
    }

    /// Another key signs from now on: durable, and in the log itself, before its first signature.
    async fn replaced(&self, number: u64) -> Result<(), OpenError> {
        let vkey = self.vkey();
        tracing::warn!(
            log = self.origin,
            vkey,
            "another key signs the log; give it to readers and witnesses"
        );
        let class = sammati_api::types::v1::RetentionClass::Admin;
        let caller = sammati_server::event::system(SERVICE);
        let action = audit::event::Action::Update;
        let draft = Draft::new("key.rotated", action, class, &caller).resource(&self.name(), 0);
        let told = self.tell(Replace { number, vkey }, draft).await;
        told.map_err(|refusal| match refusal.reason {
            Reason::EventConflict => OpenError::Other(
                "another replica was started with another log_key.pem; give all of them the same one".to_owned(),
            ),
            _ => OpenError::Head(refusal),
        })
    }

    /// All keys that ever signed it, the first first.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn key_history(&self) -> Result<Vec<LogKeyRow>, Refusal> {
        self.store.snapshot(keys::history).await
    }

    /// With these witnesses.
    #[must_use]
    pub fn witnessed(self, witnesses: Witnesses) -> Self {
        Self { witnesses, ..self }
    }

    /// Adds its metrics.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.stats.register(registry);
    }

    /// Its resource name.
    pub fn name(&self) -> String {
        format!("logs/{}", self.id)
    }

    /// The origin line of its checkpoints.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The verifier key that signs it now.
    pub fn vkey(&self) -> String {
        self.keys.vkey()
    }

    /// The keyed hashes of its look-ups.
    pub const fn tags(&self) -> &Tagger {
        &self.tags
    }

    /// Its head, as committed.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn head(&self) -> Result<LogRow, Refusal> {
        let row = self.store.read(|r| r.get::<LogRow>(SLOT, LogRow::KEY)).await?;
        Ok(row.ok_or(Reason::Internal)?.record)
    }

    /// Appends events of `service`, in order; returns after the commit. With `stretches` they come from its feed.
    ///
    /// # Errors
    /// `EVENT_CONFLICT`, `FEED_GAP`, `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub async fn append(
        &self,
        service: &str,
        events: &[Received],
        stretches: Vec<Stretch>,
    ) -> Result<Appended, Refusal> {
        let (stretches, mut sealings) = (Arc::new(stretches), Sealings::default());
        let appended = loop {
            let entries = self
                .sealed(service, events, &stretches, None, sealings.is_again())
                .await?;
            let append = Append {
                entries,
                stretches: Arc::clone(&stretches),
                known: Arc::clone(&self.known),
            };
            match self.store.apply(append).await {
                Err(refusal) if sealings.another_after(&refusal) => {}
                appended => break appended?,
            }
        };
        self.has_grown(appended.size());
        for (placed, received) in appended.placed.iter().zip(events) {
            // The id was made in the commit at the source.
            let made = received
                .event
                .event_id
                .parse::<sammati_kernel::Id<Own>>()
                .map_or(placed.accepted, |id| id.time());
            self.stats.appended(placed.accepted.since(made));
        }
        Ok(appended)
    }

    /// An event of the log's own, ready to be appended in the commit of what it tells of. It is about the subject with this
    /// tag, if there is one: her name need not be known.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(crate) async fn own_entry(&self, event: audit::Event, tag: Vec<u8>) -> Result<Append, Refusal> {
        let body = event.encode_to_vec();
        let entries = self
            .sealed(SERVICE, &[Received { event, body }], &[], Some(tag), true)
            .await?;
        Ok(Append {
            entries,
            stretches: Arc::default(),
            known: Arc::clone(&self.known),
        })
    }

    /// Applies what is to be committed with an event of the log's own, which is sealed again as often as its key ends first.
    ///
    /// # Errors
    /// Those of the command, and as [`Self::append`].
    pub(crate) async fn apply_with<C: Command>(
        &self,
        event: &audit::Event,
        tag: &[u8],
        command: impl Fn(Append) -> C + Send,
    ) -> Result<C::Answer, Refusal> {
        let mut sealings = Sealings::default();
        loop {
            let append = self.own_entry(event.clone(), tag.to_vec()).await?;
            match self.store.apply(command(append)).await {
                Err(refusal) if sealings.another_after(&refusal) => {}
                applied => return applied,
            }
        }
    }

    /// Tells who waits that something was appended: there are so many leaves at least.
    pub(crate) fn has_grown(&self, size: u64) {
        self.grown.send_modify(|known| *known = size.max(*known));
    }

    /// Seals events and makes them ready to be appended; `careful`ly, so that they are not late but for what happens now.
    pub(crate) async fn sealed(
        &self,
        service: &str,
        events: &[Received],
        stretches: &[Stretch],
        tag: Option<Vec<u8>>,
        careful: bool,
    ) -> Result<Vec<Entry>, Refusal> {
        let nothing = audit::Payload::default();
        let mut made = Made::default();
        let mut leaves: Vec<_> = events
            .iter()
            .zip(sources(service, stretches))
            .map(|(received, source)| {
                let payload = received.event.payload.as_ref().unwrap_or(&nothing);
                let mut leaf = header(&received.event, source);
                leaf.subject_tag = match &tag {
                    Some(tag) => tag.clone(),
                    None => self.tags.subject_of(payload, &mut made),
                };
                (leaf, payload)
            })
            .collect();
        let now = match careful {
            true => self.ready_to_seal(&leaves).await?,
            false => self.store.clock().now(),
        };
        let sealed = self.keyring.seal(now, &mut leaves).await?;
        let entries = leaves
            .into_iter()
            .zip(sealed)
            .zip(events)
            .map(|(((header, payload), sealed), received)| {
                let digest = self.tags.digest(&received.body);
                Entry::new(header, sealed, digest, self.tags.of(payload, &mut made))
            });
        Ok(entries.collect())
    }

    /// Records in the log that `caller` read it: `draft` says what.
    ///
    /// # Errors
    /// As [`Self::append`]: what is not recorded is not read.
    pub async fn record(&self, draft: Draft) -> Result<(), Refusal> {
        let own = [self.own_event(draft)?];
        self.append(SERVICE, &own, Vec::new()).await.map(drop)
    }

    /// Does `what`, and records it in the log if it did something: both or neither.
    ///
    /// # Errors
    /// Those of `what`, and as [`Self::append`].
    pub(crate) async fn tell<C>(&self, what: C, draft: Draft) -> Result<(), Refusal>
    where
        C: Command<Answer = bool> + Clone + Sync,
    {
        let Received { event, .. } = self.own_event(draft)?;
        let subject = event.payload.as_ref().map_or("", |payload| &payload.subject);
        let tag = self.tags.subject(subject);
        let told = |append| Told {
            what: what.clone(),
            append,
        };
        if let Some(appended) = self.apply_with(&event, &tag, told).await? {
            self.has_grown(appended.size());
            self.stats.appended(Duration::ZERO);
        }
        Ok(())
    }

    /// An event of the log's own.
    fn own_event(&self, mut draft: Draft) -> Result<Received, Refusal> {
        draft.finish();
        let now = self.store.clock().now();
        let seed = Seed::draw().map_err(|_| Reason::Internal)?;
        let mut event = draft.event;
        event.event_id = seed.id::<Own>("event", now, SLOT).to_string();
        event.occurred_time = Some(timestamp(now));
        let body = event.encode_to_vec();
        Ok(Received { event, body })
    }

    /// The leaf at `index`.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn leaf(&self, index: u64) -> Result<Option<LeafRow>, Refusal> {
        let row = self
            .store
            .read(move |r| r.get::<LeafRow>(SLOT, &index.to_be_bytes()))
            .await?;
        Ok(row.map(|row| row.record))
    }

    /// The leaf of an event, if it is one that `allowed` lets through. One that is not there yet, or is not allowed, is
    /// waited for alike.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn leaf_of(
        &self,
        event_id: &str,
        wait: Duration,
        allowed: impl Fn(&LeafRow) -> bool + Send,
    ) -> Result<Option<LeafRow>, Refusal> {
        let found = self.leaves_of(&[event_id.to_owned()], wait, allowed).await?;
        Ok(found.into_iter().flatten().next())
    }

    /// The same for several events, in the order of their ids.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn leaves_of(
        &self,
        event_ids: &[String],
        wait: Duration,
        allowed: impl Fn(&LeafRow) -> bool + Send,
    ) -> Result<Vec<Option<LeafRow>>, Refusal> {
        let deadline = Instant::now() + wait;
        let mut grown = self.grown.subscribe();
        let asked: Vec<_> = event_ids.iter().map(|id| event_key(id)).collect();
        let mut found: Vec<Option<LeafRow>> = vec![None; asked.len()];
        loop {
            grown.mark_unchanged();
            let missing = asked.iter().zip(&found).filter(|(_, found)| found.is_none());
            let keys: Vec<_> = missing.map(|(key, _)| key.clone()).collect();
            let read = self.store.read(move |r| r.groups::<LeafRow>(SLOT, "event_id", &keys));
            for row in read.await?.into_iter().map(|row| row.record).filter(&allowed) {
                let key = event_key(&row.header().event_id);
                let places = asked.iter().zip(&mut found).filter(|(asked, _)| **asked == key);
                places.for_each(|(_, place)| *place = Some(row.clone()));
            }
            let now = Instant::now();
            if found.iter().all(Option::is_some) || now >= deadline {
                return Ok(found);
            }
            // On an embedded database this process is the only one that appends.
            let look_again = if self.store.path().is_some() {
                deadline
            } else {
                deadline.min(now + POLL)
            };
            drop(tokio::time::timeout_at(look_again, grown.changed()).await);
            tokio::time::sleep_until(deadline.min(now + PACE)).await;
        }
    }

    /// The payloads of leaves, where their keys live.
    ///
    /// # Errors
    /// `LOG_FROZEN` when one is not what its leaf committed to; `STORAGE_UNAVAILABLE`.
    pub async fn payloads(&self, rows: &[LeafRow]) -> Result<Vec<(Leaf, Opened)>, Refusal> {
        let sealed: Vec<_> = rows.iter().map(|row| (row.header(), row.payload.clone())).collect();
        let mut opened = self.keyring.open(&sealed).await?;
        let damaged = (0..rows.len()).filter(|at| opened[*at] == Opened::Damaged);
        let (locked, changed): (Vec<_>, Vec<_>) =
            damaged.partition(|at| keyring::is_own(&sealed[*at].0, &sealed[*at].1));
        if let Some(at) = changed.first() {
            let why = format!("the payload of leaf {} is not what the leaf says", rows[*at].index);
            return Err(self.freeze(why).await);
        }
        // The leaf is another one, and then has no proof; or the key is, for a key database that was restored had lost it.
        let indexes: Vec<_> = locked.iter().map(|at| rows[*at].index).collect();
        if let Some(last) = indexes.iter().max() {
            let checkpoint = self.covering(last + 1).await?;
            self.prove_inclusion(&indexes, &checkpoint).await?;
        }
        for at in locked {
            opened[at] = Opened::Erased;
        }
        let (now, leaves) = (self.store.clock().now(), sealed.into_iter().map(|(leaf, _)| leaf));
        let in_archive = |(leaf, opened): (Leaf, Opened)| match opened {
            Opened::Readable(payload) if is_archived(&leaf, now) => (leaf, Opened::Archived(payload)),
            opened => (leaf, opened),
        };
        Ok(leaves.zip(opened).map(in_archive).collect())
    }

    /// Freezes the log: from here on it takes nothing and signs nothing. Returns what callers are told.
    pub async fn freeze(&self, why: String) -> Refusal {
        tracing::error!(
            log = self.origin,
            why,
            "the log is FROZEN: nothing is taken and nothing signed. Keep its database, its key and the last checkpoints as \
             they are. To go on, open the next log: an empty database, a new log_key.pem, another service.origin, \
             and this one's database as service.follows (docs/OPERATIONS.md, A frozen log)"
        );
        self.stats.frozen.set(1);
        match self.store.apply(Freeze { why }).await {
            Ok(()) => frozen(),
            Err(refusal) => refusal,
        }
    }
}

/// Whether the payload of a leaf lies in the archive.
fn is_archived(leaf: &Leaf, now: Micros) -> bool {
    let accepted = leaf.accept_time.as_ref().and_then(micros);
    accepted.is_some_and(|at| retention::is_archived(leaf.class(), at, now))
}

/// The public part of an event. What is known only when it is sealed or appended is set there.
fn header(event: &audit::Event, source: audit::EventSource) -> Leaf {
    Leaf {
        schema_version: 1,
        event_id: event.event_id.clone(),
        source: Some(source),
        event_type: event.event_type.clone(),
        action: event.action,
        outcome: event.outcome,
        reason_code: event.reason_code.clone(),
        class: event.class,
        occurred_time: event.occurred_time,
        trace_id: event.trace_id.clone(),
        txn_id: event.txn_id.clone(),
        causation_event_id: event.causation_event_id.clone(),
        resource_type: event.resource_type.clone(),
        ..Leaf::default()
    }
}

/// Marks the ids of the log's own events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Own;

impl sammati_kernel::IdKind for Own {
    const COLLECTION: &'static str = "events";
}

/// A draft of the event that says that `caller` read the log.
pub fn queried(caller: &Caller, resource: &str) -> Draft {
    let class = sammati_api::types::v1::RetentionClass::Admin;
    Draft::new("audit.queried", audit::event::Action::Read, class, caller).resource(resource, 0)
}

/// A draft of the event that says that a witness brought a cosignature of `checkpoint`.
pub(crate) fn cosigned(caller: &Caller, checkpoint: &str) -> Draft {
    let class = sammati_api::types::v1::RetentionClass::Admin;
    Draft::new("audit.cosigned", audit::event::Action::Create, class, caller).resource(checkpoint, 0)
}

/// A draft of the event that says that `caller` began to watch the log.
pub(crate) fn watched(caller: &Caller, log: &str) -> Draft {
    let class = sammati_api::types::v1::RetentionClass::Admin;
    Draft::new("audit.watched", audit::event::Action::Read, class, caller).resource(log, 0)
}
