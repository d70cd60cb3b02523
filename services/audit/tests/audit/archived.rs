//! What Aadhaar's regulations have kept: readable for two years, and then in the archive, for whoever has a legal ground.

use std::time::Duration;

use prost::Message;
use sammati_api::audit::v1::log_event::PayloadState;
use sammati_api::audit::v1::log_service_server::LogService;
use sammati_api::audit::v1::{self as audit, ExportFormat, get_event_request};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Reason, Refusal};

use crate::fixture::{Audit, Feed, account, everywhere, of, of_class, operator, person, said, service, some_event};

const HOUR: Duration = Duration::from_secs(3600);
/// From 22 November 2026 to the same day of 2028, which has a 29 February.
const TWO_YEARS: Duration = Duration::from_secs(731 * 24 * 3600);

/// That a person was found to be who she is, by Aadhaar.
fn proved() -> audit::Event {
    of_class(some_event(1), RetentionClass::AadhaarAuth)
}

async fn read(audit: &Audit, caller: &Caller, event: &audit::Event, basis: &str) -> Result<audit::LogEvent, Refusal> {
    let request = audit::GetEventRequest {
        event: Some(get_event_request::Event::EventId(event.event_id.clone())),
        legal_basis: basis.to_owned(),
        ..Default::default()
    };
    said(audit.rpc.get_event(of(caller.clone(), request)).await)
}

/// Its state, and whether its payload is told.
async fn state(audit: &Audit, caller: &Caller, event: &audit::Event, basis: &str) -> (PayloadState, bool) {
    let read = read(audit, caller, event, basis).await.unwrap();
    (read.payload_state(), read.payload.is_some())
}

const READABLE: (PayloadState, bool) = (PayloadState::Readable, true);
const ARCHIVED: (PayloadState, bool) = (PayloadState::Archived, false);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_aadhaar_is_archived_two_years_after_it_was_taken_in() {
    for audit in everywhere().await {
        let (hers, other, she) = (proved(), some_event(1), person(account(1)));
        audit.append(vec![hers.clone(), other.clone()]).await.unwrap();
        audit.clock.advance(TWO_YEARS - HOUR);
        for caller in [&she, &operator()] {
            assert_eq!(state(&audit, caller, &hers, "").await, READABLE);
        }
        audit.clock.advance(2 * HOUR);
        for caller in [&she, &operator()] {
            assert_eq!(state(&audit, caller, &hers, "").await, ARCHIVED);
            assert_eq!(state(&audit, caller, &other, "").await, READABLE, "another class");
        }
        // Whoever has a ground says it, and it is in her log.
        assert_eq!(state(&audit, &operator(), &hers, "order 7").await, READABLE);
        let refused = read(&audit, &she, &hers, "order 7").await.unwrap_err();
        assert_eq!(refused.reason, Reason::FieldInvalid);
        let mine = audit::ListEventsRequest::default();
        let listed = audit.list(she.clone(), mine).await.unwrap().events;
        let read = listed.iter().filter_map(|event| event.payload.as_ref());
        assert_eq!(read.filter(|payload| payload.legal_basis == "order 7").count(), 1);
        let told = listed
            .iter()
            .find(|event| event.payload_state() == PayloadState::Archived);
        assert_eq!(told.unwrap().header.as_ref().unwrap().event_id, hers.event_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_exports_leave_out_what_is_archived_and_its_service_gets_it_back() {
    for audit in everywhere().await {
        let she = person(account(1));
        let feed = Feed::with(vec![proved().encode_to_vec()]);
        audit.relay(feed.stretch(0, 1)).await.unwrap();
        audit.clock.advance(TWO_YEARS + HOUR);
        for (caller, subject, basis, expected) in [
            (she.clone(), String::new(), "", PayloadState::Archived),
            (operator(), account(1).name(), "order 7", PayloadState::Readable),
        ] {
            let request = audit::ListSubjectEventsRequest {
                subject,
                legal_basis: basis.to_owned(),
                ..Default::default()
            };
            let listed = audit.subject_events(caller, request).await.unwrap().events;
            let oldest = listed.last().unwrap().event.as_ref().unwrap();
            assert_eq!(oldest.payload_state(), expected);
        }
        let file = audit.export_text(she, ExportFormat::Native).await;
        assert_eq!(file.matches("PAYLOAD_STATE_ARCHIVED").count(), 1, "{file}");
        let request = audit::ListSourceEventsRequest {
            feeds: vec![audit::FeedEnd {
                partition: 2,
                ..Default::default()
            }],
            ..Default::default()
        };
        let own = said(audit.rpc.list_source_events(of(service("consent"), request)).await);
        let own = own.unwrap().events;
        assert_eq!((own.len(), own[0].payload_state()), (1, PayloadState::Readable));
    }
}
