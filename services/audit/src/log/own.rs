//! Events of the log's own: each is committed with what it tells of, or not at all.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use sammati_api::audit::v1 as audit;
use sammati_kernel::{Caller, Reason, Refusal, Seed};
use sammati_server::event::{Draft, timestamp};
use sammati_store::Command;

use super::{Log, Received, SERVICE};
use crate::append::{Append, Told};
use crate::rows::SLOT;
use crate::sealing::Sealings;

impl Log {
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
