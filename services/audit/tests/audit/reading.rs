//! Who sees what, page by page; and that reading leaves its own event.

use std::collections::BTreeSet;

use prost::Message;
use sammati_api::audit::v1::log_event::PayloadState;
use sammati_api::audit::v1::{self as audit, LogEvent};
use sammati_api::types::v1::TimeRange;
use sammati_audit::rows::{LeafRow, LogRow, SLOT, newest_of_subject};
use sammati_kernel::{Caller, Reason, Refusal, Slot};
use sammati_server::event::timestamp;
use sammati_store::{Command, Keys, View};

use crate::fixture::{Audit, account, consent, everywhere, operator, participant, person, some_event};

/// Walks all pages.
pub(crate) async fn all(audit: &Audit, caller: &Caller, request: &audit::ListEventsRequest) -> Vec<LogEvent> {
    let (mut found, mut request) = (Vec::new(), request.clone());
    loop {
        let page = audit.list(caller.clone(), request.clone()).await.unwrap();
        found.extend(page.events);
        if page.next_page_token.is_empty() {
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

fn types(events: &[LogEvent]) -> BTreeSet<String> {
    events.iter().map(|e| e.header.clone().unwrap().event_type).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_her_own_events_newest_first_and_in_pages() {
    for audit in everywhere().await {
        audit
            .append((0..60).map(|n| some_event(n % 3)).collect())
            .await
            .unwrap();
        let request = audit::ListEventsRequest {
            page_size: 7,
            event_type_prefix: "consent.".to_owned(),
            ..audit::ListEventsRequest::default()
        };
        let hers = all(&audit, &person(account(1)), &request).await;
        let indexes: Vec<_> = hers.iter().map(|e| e.index).collect();
        assert_eq!(indexes, (0..60).filter(|n| n % 3 == 1).rev().collect::<Vec<_>>());
        assert!(hers.iter().all(|e| e.payload_state() == PayloadState::Readable));
        assert!(
            hers.iter()
                .all(|e| e.payload.as_ref().unwrap().subject == account(1).name())
        );
        // Each page that was read is in her log too.
        let mut reads = audit::ListEventsRequest {
            event_type_prefix: "audit.queried".to_owned(),
            ..Default::default()
        };
        let seen = all(&audit, &person(account(1)), &reads).await;
        assert_eq!(seen.len(), 3, "20 events in pages of 7");
        assert_eq!(
            seen[0].payload.as_ref().unwrap().actor.as_ref().unwrap().id,
            account(1).name()
        );
        reads.subject = account(2).name();
        let refused = audit.list(person(account(1)), reads).await.unwrap_err();
        assert_eq!(refused.reason, Reason::NotAvailable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_sees_where_it_is_named_and_no_account() {
    for audit in everywhere().await {
        let mut foreign = some_event(1);
        foreign.payload.as_mut().unwrap().object_refs = vec!["participants/other".to_owned()];
        audit
            .append(vec![some_event(1), foreign.clone(), some_event(2)])
            .await
            .unwrap();
        let hospital = participant("city-hospital");
        let listed = all(&audit, &hospital, &audit::ListEventsRequest::default()).await;
        assert_eq!(listed.iter().map(|e| e.index).collect::<Vec<_>>(), [2, 0]);
        assert!(!format!("{listed:?}").contains("accounts/"));
        let payload = listed[0].payload.as_ref().unwrap();
        assert_eq!((payload.subject.as_str(), payload.resource.clone()), ("", consent(2)));
        let refused = audit.get(hospital.clone(), &foreign.event_id).await.unwrap_err();
        let unknown = audit
            .get(hospital.clone(), &crate::fixture::event_id())
            .await
            .unwrap_err();
        assert_eq!(refused, unknown, "forbidden and unknown look the same");
        let about = audit::ListEventsRequest {
            subject: account(1).name(),
            ..Default::default()
        };
        assert_eq!(
            audit.list(hospital, about).await.unwrap_err().reason,
            Reason::FieldInvalid
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_narrow_together() {
    for audit in everywhere().await {
        audit
            .append((0..30).map(|n| some_event(n % 4)).collect())
            .await
            .unwrap();
        let mut request = audit::ListEventsRequest {
            consent: consent(2),
            ..Default::default()
        };
        assert_eq!(all(&audit, &person(account(2)), &request).await.len(), 7);
        assert_eq!(all(&audit, &person(account(1)), &request).await.len(), 0);
        request.actor = account(3).name();
        assert_eq!(all(&audit, &person(account(2)), &request).await.len(), 0);
        let refused = audit.list(operator(), request.clone()).await.unwrap_err();
        assert_eq!(refused.reason, Reason::QueryTooWide);
        let fields = |refused: &Refusal| -> Vec<_> { refused.violations.iter().map(|v| v.field.to_string()).collect() };
        assert_eq!(fields(&refused), ["subject", "occurred_range"]);
        let wrong = audit::ListEventsRequest {
            page_size: -1,
            trace_id: "1".to_owned(),
            ..Default::default()
        };
        let refused = audit.list(operator(), wrong).await.unwrap_err();
        assert_eq!(refused.reason, Reason::FieldInvalid);
        assert_eq!(fields(&refused), ["trace_id", "page_size"], "everything at once");
        let day = |n: i64| {
            Some(timestamp(sammati_kernel::Micros::from_seconds(
                1_795_305_600 + n * 86_400,
            )))
        };
        request = audit::ListEventsRequest {
            occurred_range: Some(TimeRange {
                from: day(-20),
                to: day(10),
            }),
            ..Default::default()
        };
        request.page_size = 11;
        let seen = all(&audit, &operator(), &request).await;
        assert_eq!(
            types(&seen),
            ["audit.queried".to_owned(), "consent.granted".to_owned()].into()
        );
        assert_eq!(
            seen.iter()
                .filter(|e| e.header.as_ref().unwrap().event_type == "consent.granted")
                .count(),
            30
        );
        request.occurred_range = Some(TimeRange {
            from: day(-40),
            to: day(-9),
        });
        assert_eq!(all(&audit, &operator(), &request).await.len(), 0);
    }
}

/// Every operator's look at somebody's event is in her own log.
#[tokio::test(flavor = "multi_thread")]
async fn reading_is_recorded_where_the_subject_sees_it() {
    for audit in everywhere().await {
        let event = some_event(1);
        audit.append(vec![event.clone()]).await.unwrap();
        let read = audit.get(operator(), &event.event_id).await.unwrap();
        assert_eq!(read.payload, event.payload);
        let hers = all(&audit, &person(account(1)), &audit::ListEventsRequest::default()).await;
        let queried = &hers[0];
        assert_eq!(queried.header.as_ref().unwrap().event_type, "audit.queried");
        let payload = queried.payload.as_ref().unwrap();
        assert_eq!(payload.actor.as_ref().unwrap().id, "operators/asha");
        assert_eq!(payload.resource, read.name);
        let refused = audit.get(person(account(2)), &event.event_id).await.unwrap_err();
        assert_eq!(refused.reason, Reason::NotAvailable);
        let unknown = audit.get(operator(), &crate::fixture::event_id()).await.unwrap_err();
        assert_eq!(unknown.reason, Reason::NotFound);
    }
}

/// After a restart payloads are still readable: their keys were durable before they were used.
#[tokio::test(flavor = "multi_thread")]
async fn payload_keys_outlive_the_process() {
    for audit in everywhere().await {
        let event = some_event(1);
        audit.append(vec![event.clone()]).await.unwrap();
        let audit = audit.restart().await;
        assert_eq!(
            audit.get(person(account(1)), &event.event_id).await.unwrap().payload,
            event.payload
        );
    }
}

/// Without its keys a payload is gone for everybody; the leaf and its proof stay.
#[tokio::test(flavor = "multi_thread")]
async fn without_keys_a_payload_is_erased_and_the_proof_stays() {
    for audit in everywhere().await {
        let event = some_event(1);
        audit.append(vec![event.clone()]).await.unwrap();
        let before = audit.prove(0, 0).await.unwrap();
        let audit = audit.restart_without_keys().await;
        let read = audit.get(person(account(1)), &event.event_id).await.unwrap();
        assert_eq!((read.payload_state(), read.payload), (PayloadState::Erased, None));
        assert_eq!(read.header.unwrap().event_id, event.event_id);
        assert_eq!(audit.prove(0, 1).await.unwrap(), before);
    }
}

/// A database of keys that was restored has lost those made since. What they sealed is not readable, and nothing is wrong with
/// the log.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_were_lost_and_made_anew_do_not_freeze_the_log() {
    for audit in everywhere().await {
        let [before, after] = [some_event(1), some_event(1)];
        audit.append(vec![before.clone()]).await.unwrap();
        let audit = audit.restart_without_keys().await;
        audit.append(vec![after.clone()]).await.unwrap();
        let read = audit.get(operator(), &before.event_id).await.unwrap();
        assert_eq!((read.payload_state(), read.payload), (PayloadState::Erased, None));
        let read = audit.get(operator(), &after.event_id).await.unwrap();
        assert_eq!(read.payload, after.payload);
        assert_eq!(audit.log.head().await.unwrap().frozen, "");
    }
}

/// Gives the first leaf to the subject with this tag, and leaves its payload as it is.
struct Bend(Vec<u8>);

impl Command for Bend {
    type Answer = ();
    const NAME: &'static str = "test.bend";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LeafRow>(LeafRow::key_of(0));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<LeafRow>(&LeafRow::key_of(0)).unwrap();
        let header = audit::Leaf {
            subject_tag: self.0.clone(),
            ..row.header()
        };
        view.put(&LeafRow {
            leaf: header.encode_to_vec(),
            ..row
        });
        Ok(())
    }
}

/// A leaf that was changed beside its payload has no proof, and freezes the log when it is read.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_leaf_that_fits_its_payload_no_more_freezes_the_log() {
    for audit in everywhere().await {
        audit.append(vec![some_event(1), some_event(2)]).await.unwrap();
        // Her key is another one: that it opens nothing alone would be none of the leaf's faults.
        let other = audit.log.leaf(1).await.unwrap().unwrap().header().subject_tag;
        audit.store.apply(Bend(other)).await.unwrap();
        let row = audit.log.leaf(0).await.unwrap().unwrap();
        let refused = audit.log.payloads(&[row]).await.unwrap_err();
        assert_eq!(refused.reason, Reason::LogFrozen);
        assert_ne!(audit.log.head().await.unwrap().frozen, "");
    }
}

/// Behind the appends the postings are made: what is listed is the same before and after, by whatever it is looked up,
/// and fsck finds the postings that the leaves make.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_is_the_same_with_postings_and_without() {
    for audit in everywhere().await {
        for _ in 0..5 {
            audit
                .append((0..900).map(|n| some_event((n % 90) as u8)).collect())
                .await
                .unwrap();
        }
        let of = |subject: u8, consent: Option<u8>| audit::ListEventsRequest {
            page_size: 1000,
            subject: account(subject).name(),
            consent: consent.map(crate::fixture::consent).unwrap_or_default(),
            ..audit::ListEventsRequest::default()
        };
        let named = audit::ListEventsRequest {
            participant: "participants/city-hospital".to_owned(),
            page_size: 1000,
            ..audit::ListEventsRequest::default()
        };
        let seen = async || {
            let mut seen = Vec::new();
            for (who, request) in [
                (operator(), of(3, None)),
                (operator(), of(4, Some(4))),
                (operator(), of(4, Some(5))),
                (participant("city-hospital"), named.clone()),
            ] {
                let events = all(&audit, &who, &request).await;
                let granted = events
                    .iter()
                    .filter(|e| e.header.as_ref().unwrap().event_type == "consent.granted");
                seen.push(granted.map(|event| event.index).collect::<Vec<_>>());
            }
            seen
        };
        let before = seen().await;
        assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [50, 50, 0, 4500]);
        let head = || audit.store.read(|r| r.get::<LogRow>(SLOT, LogRow::KEY));
        assert_eq!(head().await.unwrap().unwrap().record.posted, 0);
        audit.log.post().await.unwrap();
        let made = head().await.unwrap().unwrap().record;
        assert_eq!((made.posted, made.merged), (17, 16));
        assert_eq!(seen().await, before);
        let tag = audit.log.tags().subject(&account(3).name());
        let newest = audit.store.snapshot(move |r| newest_of_subject(r, &tag)).await.unwrap();
        assert_eq!(
            newest,
            all(&audit, &operator(), &of(3, None))
                .await
                .first()
                .map(|e| e.index as u64)
        );
        // Another replica finds nothing left to do, and the log goes on from there.
        audit.log.post().await.unwrap();
        let audit = audit.restart().await;
        audit.append((0..900).map(|_| some_event(3)).collect()).await.unwrap();
        audit.log.post().await.unwrap();
        let hers = all(&audit, &operator(), &of(3, None)).await;
        let granted = hers
            .iter()
            .filter(|e| e.header.as_ref().unwrap().event_type == "consent.granted");
        assert_eq!(granted.count(), 950);
    }
}
