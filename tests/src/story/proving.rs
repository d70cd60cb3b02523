//! What happened, and the proof of it.

use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use tonic::Status;

use super::{Person, Story, Who};

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
