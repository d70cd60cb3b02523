//! Events that a service appends to the log itself, without a feed and a relay between, and what it was told of them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::types::v1::{CallerKind, RetentionClass};
use sammati_kernel::{AccountId, Clock, Slot, SystemClock};
use sammati_server::event::timestamp;
use tonic::Status;
use tonic::transport::Channel;

use crate::caller::channel;
use crate::story::Failure;

/// Where an event is, as it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The event.
    pub event_id: String,
    /// Its index.
    pub index: u64,
    /// The hash of its leaf.
    pub leaf_hash: Vec<u8>,
}

/// What a call was told: the places of its events, and the checkpoint that came along if one was asked for.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// One for each event.
    pub places: Vec<Place>,
    /// A signed note, or nothing.
    pub checkpoint: String,
}

/// Somebody who appends as identity does.
///
/// # Errors
/// When its certificate cannot be read.
pub fn appender(folder: &Path, url: &str) -> Result<LogServiceClient<Channel>, Failure> {
    Ok(LogServiceClient::new(channel(folder, Some("identity"), url)?))
}

/// One more event.
pub fn event() -> audit::Event {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let now = SystemClock.now();
    let tail = NEXT.fetch_add(1, Ordering::SeqCst).to_be_bytes();
    let actor = audit::Actor {
        kind: CallerKind::Service.into(),
        id: "services/identity".to_owned(),
        ..audit::Actor::default()
    };
    audit::Event {
        schema_version: 1,
        event_id: AccountId::new(now, Slot::new(7), tail)
            .name()
            .trim_start_matches("accounts/")
            .to_owned(),
        event_type: "identity.viewed".to_owned(),
        action: audit::event::Action::Read.into(),
        outcome: audit::event::Outcome::Success.into(),
        class: RetentionClass::General.into(),
        occurred_time: Some(timestamp(now)),
        payload: Some(audit::Payload {
            actor: Some(actor),
            ..audit::Payload::default()
        }),
        ..audit::Event::default()
    }
}

/// Appends events, all or none of them.
///
/// # Errors
/// The service's refusal.
pub async fn append(
    client: &LogServiceClient<Channel>,
    events: &[audit::Event],
    with_checkpoint: bool,
) -> Result<Told, Status> {
    let request = audit::AppendEventsRequest {
        batch: Some(Batch::Direct(audit::DirectEvents {
            events: events.to_vec(),
        })),
        with_checkpoint,
        ..audit::AppendEventsRequest::default()
    };
    let answer = client.clone().append_events(request).await?.into_inner();
    let place = |told: audit::AppendedEvent| {
        let index = u64::try_from(told.index).map_err(|_| Status::internal("an index below 0"))?;
        Ok(Place {
            event_id: told.event_id,
            index,
            leaf_hash: told.leaf_hash,
        })
    };
    let places: Vec<_> = answer.events.into_iter().map(place).collect::<Result<_, Status>>()?;
    let (told, asked) = (places.iter().map(|place| &place.event_id), events.iter());
    if !told.eq(asked.map(|event| &event.event_id)) {
        return Err(Status::internal("the places of other events"));
    }
    Ok(Told {
        places,
        checkpoint: answer.checkpoint,
    })
}
