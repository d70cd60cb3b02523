//! The log: its store, its keys, its signer, and what everything asked of it comes down to.

use std::time::Duration;

use prost::Message;
use sammati_api::audit::v1::{self as audit, Leaf};
use sammati_kernel::{Caller, Key, Micros, Reason, Refusal, Seed, Slot};
use sammati_log::checkpoint::Signer;
use sammati_server::event::{Draft, timestamp};
use sammati_store::{Command, Keys, Store, View};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::append::{Append, Appended, Entry, Stretch, source};
use crate::keyring::{Keyring, Opened};
use crate::rows::{LeafRow, LogRow, SLOT, Tags, event_key};
use crate::tree::frozen;

/// How often another replica's appends are looked for by whoever waits for an event.
const POLL: Duration = Duration::from_millis(200);

/// The name under which the log's own events stand in it.
pub const SERVICE: &str = "audit";

/// One transparency log.
pub struct Log {
    pub(crate) store: Store,
    pub(crate) signer: Signer,
    /// One signature at a time: whoever waited finds that it covers him too.
    pub(crate) signing: Mutex<()>,
    id: String,
    origin: String,
    keyring: Keyring,
    tags: Tagger,
    grown: watch::Sender<()>,
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
    /// signing key, `lookup` the key of its keyed hashes.
    ///
    /// # Errors
    /// When the log was begun under another prefix or with another key: what was signed would not verify.
    pub async fn open(
        store: Store,
        keyring: Keyring,
        prefix: &str,
        der: &[u8],
        lookup: &Key,
    ) -> Result<Self, OpenError> {
        let id = half_year(store.clock().now());
        let fresh = Signer::from_pkcs8(&format!("{prefix}/{id}"), der)?;
        let begin = Begin {
            id,
            origin: fresh.name().to_owned(),
            vkey: fresh.vkey(),
        };
        let row = store.apply(begin).await.map_err(OpenError::Head)?;
        let signer = Signer::from_pkcs8(&row.origin, der)?;
        if row.vkey != signer.vkey() {
            return Err(OpenError::Other(format!(
                "the log {} was begun with another key than log_key.pem",
                row.origin
            )));
        }
        if row.origin.rsplit_once('/').map(|(begun, _)| begun) != Some(prefix) {
            return Err(OpenError::Other(format!(
                "service.origin is {prefix}, but the log was begun as {}",
                row.origin
            )));
        }
        let tags = Tagger::new(lookup, &row.origin);
        let (id, origin, grown) = (row.id, row.origin, watch::channel(()).0);
        Ok(Self {
            store,
            signer,
            signing: Mutex::new(()),
            id,
            origin,
            keyring,
            tags,
            grown,
        })
    }

    /// Its resource name.
    pub fn name(&self) -> String {
        format!("logs/{}", self.id)
    }

    /// The origin line of its checkpoints.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Its verifier key.
    pub fn vkey(&self) -> String {
        self.signer.vkey()
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

    /// Appends events of `service`, in order; returns after the commit. With `stretch` they come from its feed.
    ///
    /// # Errors
    /// `EVENT_CONFLICT`, `FEED_GAP`, `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub async fn append(
        &self,
        service: &str,
        events: &[Received],
        stretch: Option<Stretch>,
    ) -> Result<Appended, Refusal> {
        let nothing = audit::Payload::default();
        let mut leaves: Vec<_> = events
            .iter()
            .enumerate()
            .map(|(at, received)| {
                let payload = received.event.payload.as_ref().unwrap_or(&nothing);
                let mut leaf = header(&received.event, source(service, stretch.as_ref(), at));
                leaf.subject_tag = self.tags.subject(&payload.subject);
                (leaf, payload)
            })
            .collect();
        let sealed = self.keyring.seal(self.store.clock().now(), &mut leaves).await?;
        let entries = leaves
            .into_iter()
            .zip(sealed)
            .zip(events)
            .map(|(((header, payload), sealed), received)| Entry {
                header,
                payload: sealed,
                digest: self.tags.digest(&received.body),
                tags: self.tags.of(payload),
            });
        let entries = entries.collect();
        let appended = self.store.apply(Append { entries, stretch }).await?;
        self.grown.send_replace(());
        Ok(appended)
    }

    /// Records in the log that `caller` read it: `draft` says what.
    ///
    /// # Errors
    /// As [`Self::append`]: what is not recorded is not read.
    pub async fn record(&self, draft: Draft) -> Result<(), Refusal> {
        let now = self.store.clock().now();
        let seed = Seed::draw().map_err(|_| Reason::Internal)?;
        let mut event = draft.event;
        event.event_id = seed.id::<Own>("event", now, SLOT).to_string();
        event.occurred_time = Some(timestamp(now));
        let body = event.encode_to_vec();
        self.append(SERVICE, &[Received { event, body }], None).await.map(drop)
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
        let deadline = Instant::now() + wait;
        let mut grown = self.grown.subscribe();
        loop {
            grown.mark_unchanged();
            let key = event_key(event_id);
            let found = self
                .store
                .read(move |r| r.group::<LeafRow>(SLOT, "event_id", &key))
                .await?
                .pop();
            if let Some(row) = found.map(|row| row.record).filter(&allowed) {
                return Ok(Some(row));
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            // On an embedded database this process is the only one that appends.
            let look_again = if self.store.path().is_some() {
                deadline
            } else {
                deadline.min(now + POLL)
            };
            drop(tokio::time::timeout_at(look_again, grown.changed()).await);
        }
    }

    /// The payloads of leaves, where their keys live.
    ///
    /// # Errors
    /// `LOG_FROZEN` when one is not what its leaf committed to; `STORAGE_UNAVAILABLE`.
    pub async fn payloads(&self, rows: &[LeafRow]) -> Result<Vec<(Leaf, Opened)>, Refusal> {
        let sealed: Vec<_> = rows.iter().map(|row| (row.header(), row.payload.clone())).collect();
        let opened = self.keyring.open(&sealed).await?;
        if let Some(at) = opened.iter().position(|opened| *opened == Opened::Damaged) {
            return Err(self
                .freeze(format!(
                    "the payload of leaf {} is not what the leaf says",
                    rows[at].index
                ))
                .await);
        }
        Ok(sealed.into_iter().map(|(leaf, _)| leaf).zip(opened).collect())
    }

    /// Freezes the log: from here on it takes nothing and signs nothing. Returns what callers are told.
    pub async fn freeze(&self, why: String) -> Refusal {
        tracing::error!(log = self.origin, why, "the log is frozen");
        match self.store.apply(Freeze { why }).await {
            Ok(()) => frozen(),
            Err(refusal) => refusal,
        }
    }
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

/// `2026h2`: the half-year that a log is of.
fn half_year(now: Micros) -> String {
    use chrono::{DateTime, Datelike};
    let date = DateTime::from_timestamp(now.seconds(), 0).unwrap_or_default();
    format!("{}h{}", date.year(), if date.month() <= 6 { 1 } else { 2 })
}

/// Marks the ids of the log's own events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Own;

impl sammati_kernel::IdKind for Own {
    const COLLECTION: &'static str = "events";
}

/// Makes the keyed hashes that events are looked up by.
pub struct Tagger {
    subject: Key,
    other: Key,
}

impl Tagger {
    /// Of the log with this origin: tags differ in every log.
    pub fn new(lookup: &Key, origin: &str) -> Self {
        Self {
            subject: lookup.derive(&format!("subject tag {origin}")),
            other: lookup.derive(&format!("look-up {origin}")),
        }
    }

    /// The tag of a subject in the leaf, 32 bytes; empty without one.
    pub fn subject(&self, account: &str) -> Vec<u8> {
        if account.is_empty() {
            Vec::new()
        } else {
            self.subject.mac("subject", account.as_bytes()).to_vec()
        }
    }

    /// The look-up value of an id as `what`, 16 bytes; empty without one.
    pub fn other(&self, what: &str, id: &str) -> Vec<u8> {
        if id.is_empty() {
            Vec::new()
        } else {
            self.other.mac(what, id.as_bytes())[..16].to_vec()
        }
    }

    /// The look-up value of a participant, by its resource name.
    pub fn party(&self, participant: &str) -> Vec<u8> {
        self.other("party", participant)
    }

    fn digest(&self, body: &[u8]) -> Vec<u8> {
        self.other.mac("digest", body).to_vec()
    }

    fn of(&self, payload: &audit::Payload) -> Tags {
        let actor = payload.actor.as_ref().map_or("", |actor| &actor.id);
        let app = payload.client.as_ref().map_or("", |client| &client.app);
        let named = payload
            .object_refs
            .iter()
            .map(String::as_str)
            .chain([actor, app, &payload.resource]);
        let mut parties: Vec<_> = named
            .filter(|name| name.starts_with("participants/"))
            .map(|name| self.party(name))
            .collect();
        parties.sort_unstable();
        parties.dedup();
        Tags {
            actor: self.other("actor", actor),
            resource: self.other("resource", &payload.resource),
            consent: self.other("consent", consent_of(payload)),
            parties,
        }
    }
}

/// The consent that an event belongs to: the one it rests on, else the one it was done to, else the first it concerns.
fn consent_of(payload: &audit::Payload) -> &str {
    let named = [&payload.consent, &payload.resource]
        .into_iter()
        .chain(&payload.object_refs);
    named
        .map(String::as_str)
        .find(|name| name.starts_with("consents/"))
        .unwrap_or_default()
}

/// Begins the log, unless there is one; answers with its head.
struct Begin {
    id: String,
    origin: String,
    vkey: String,
}

impl Command for Begin {
    type Answer = LogRow;
    const NAME: &'static str = "audit.begin";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<LogRow, Refusal> {
        if let Some(row) = view.get::<LogRow>(LogRow::KEY) {
            return Ok(row);
        }
        let (id, origin, vkey) = (self.id.clone(), self.origin.clone(), self.vkey.clone());
        let row = LogRow {
            id,
            origin,
            vkey,
            ..LogRow::default()
        };
        view.put(&row);
        Ok(row)
    }
}

/// Freezes the log; the first reason stays.
struct Freeze {
    why: String,
}

impl Command for Freeze {
    type Answer = ();
    const NAME: &'static str = "audit.freeze";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = view.get::<LogRow>(LogRow::KEY).ok_or(Reason::Internal)?;
        if row.frozen.is_empty() {
            row.frozen.clone_from(&self.why);
            view.put(&row);
        }
        Ok(())
    }
}

/// A draft of the event that says that `caller` read the log.
pub fn queried(caller: &Caller, resource: &str) -> Draft {
    let class = sammati_api::types::v1::RetentionClass::Admin;
    Draft::new("audit.queried", audit::event::Action::Read, class, caller).resource(resource, 0)
}
