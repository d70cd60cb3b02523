//! The log: its store, its keys, its signer, and what everything asked of it comes down to.

mod open;
mod own;
mod read;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use sammati_api::audit::v1::{self as audit, Leaf};
use sammati_kernel::{Reason, Refusal};
use sammati_store::Store;
use tokio::sync::{Mutex, watch};

pub use self::open::OpenError;
pub use self::own::queried;
pub(crate) use self::own::{Own, cosigned, watched};
use crate::append::{Append, Appended, Known, Stretch, sources};
use crate::entry::Entry;
use crate::head::Freeze;
use crate::keyring::Keyring;
use crate::keys::{self, LogKeys};
use crate::rows::{LogKeyRow, LogRow, SLOT};
use crate::sealing::Sealings;
use crate::stats::Stats;
use crate::tags::{Made, Tagger};
use crate::tree::frozen;
use crate::witnesses::Witnesses;

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

impl Log {
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
