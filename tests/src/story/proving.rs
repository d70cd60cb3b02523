//! What happened, and the proof of it.

use std::time::Duration;

use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use tokio::time::timeout;
use tonic::Status;

use super::{Person, Story, Who};

/// Within this whatever was committed is in the log, however slow the machine.
const RELAYED: Duration = Duration::from_secs(20);

impl Story {
    /// Her audit trail: events about her, newest first.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn trail(&self, person: &Person) -> Result<Vec<sammati_api::audit::v1::LogEvent>, Status> {
        let request = sammati_api::audit::v1::ListEventsRequest {
            page_size: 1000,
            ..Default::default()
        };
        Ok(LogServiceClient::new(person.who.audit())
            .list_events(request)
            .await?
            .into_inner()
            .events)
    }

    /// The same, however long it is.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn whole_trail(&self, person: &Person) -> Result<Vec<sammati_api::audit::v1::LogEvent>, Status> {
        let mut client = LogServiceClient::new(person.who.audit());
        let (mut events, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = sammati_api::audit::v1::ListEventsRequest {
                page_size: 1000,
                page_token,
                ..Default::default()
            };
            let page = client.list_events(request).await?.into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return Ok(events);
            }
            page_token = page.next_page_token;
        }
    }

    /// The proof of one event, waiting for it to arrive.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn proof(&self, who: &Who, event_id: &str) -> Result<sammati_api::audit::v1::InclusionProof, Status> {
        let request = sammati_api::audit::v1::GetProofRequest {
            event: Some(sammati_api::audit::v1::get_proof_request::Event::EventId(
                event_id.to_owned(),
            )),
            wait: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            ..Default::default()
        };
        Ok(ProofServiceClient::new(who.audit())
            .get_proof(request)
            .await?
            .into_inner())
    }

    /// Waits, for as long as relays take at most, until so many events of a type are in the log.
    ///
    /// # Errors
    /// The service's refusal; DEADLINE_EXCEEDED when they did not come.
    pub async fn until_logged(&self, event_type: &str, many: usize) -> Result<(), Status> {
        use sammati_api::audit::v1::watch_events_response::Item;
        let from = sammati_api::audit::v1::WatchEventsRequest {
            log: self.log().await?.name,
            ..Default::default()
        };
        let mut client = LogServiceClient::new(self.operator.audit());
        let mut stream = client.watch_events(from).await?.into_inner();
        let counted = async {
            let mut counted = 0;
            while counted < many {
                let told = stream.message().await?;
                let told = told.ok_or_else(|| Status::unavailable("the stream of events ended"))?;
                if let Some(Item::Event(event)) = told.item {
                    counted += count(&[event], event_type, "");
                }
            }
            Ok(())
        };
        let late = |_| Status::deadline_exceeded(format!("{many} of {event_type} are not in the log"));
        timeout(RELAYED, counted).await.map_err(late)?
    }

    /// The log and the key that its checkpoints verify with.
    ///
    /// # Errors
    /// The service's refusal, or NOT_FOUND when there is no log yet.
    pub async fn log(&self) -> Result<sammati_api::audit::v1::Log, Status> {
        let mut client = LogServiceClient::new(self.operator.audit());
        let logs = client
            .list_logs(sammati_api::audit::v1::ListLogsRequest::default())
            .await?
            .into_inner()
            .logs;
        logs.into_iter()
            .next()
            .ok_or_else(|| Status::not_found("there is no log yet"))
    }
}

/// How often a type of event is in the trail, about the resource named.
pub fn count(trail: &[sammati_api::audit::v1::LogEvent], event_type: &str, resource: &str) -> usize {
    let is = |event: &&sammati_api::audit::v1::LogEvent| {
        let header = event.header.as_ref().is_some_and(|h| h.event_type == event_type);
        let about = event
            .payload
            .as_ref()
            .is_some_and(|p| p.resource == resource || p.consent == resource);
        header && (resource.is_empty() || about)
    };
    trail.iter().filter(is).count()
}
