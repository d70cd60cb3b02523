//! What a service reads of its own feed: the way by which it learns what a restore lost.

use prost::Message;
use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::log_service_server::LogService;
use sammati_api::audit::v1::subject_service_server::SubjectService;
use sammati_kernel::{Reason, Refusal};

use crate::fixture::{Audit, Feed, account, everywhere, of, operator, said, service, some_event};

impl Audit {
    async fn own(
        &self,
        caller: &str,
        request: audit::ListSourceEventsRequest,
    ) -> Result<audit::ListSourceEventsResponse, Refusal> {
        said(self.rpc.list_source_events(of(service(caller), request)).await)
    }
}

fn ids(feed: &Feed) -> Vec<String> {
    let id = |body: &Vec<u8>| audit::Event::decode(body.as_slice()).unwrap().event_id;
    feed.bodies.iter().map(id).collect()
}

fn asked(event_ids: Vec<String>, page_size: i32) -> audit::ListSourceEventsRequest {
    audit::ListSourceEventsRequest {
        page_size,
        page_token: String::new(),
        feeds: vec![audit::FeedEnd {
            partition: 2,
            event_ids,
        }],
    }
}

fn listed(answer: &audit::ListSourceEventsResponse) -> Vec<String> {
    let id = |event: &audit::LogEvent| event.header.clone().unwrap().event_id;
    answer.events.iter().map(id).collect()
}

#[tokio::test]
async fn a_service_reads_what_it_lost_and_nothing_of_others() {
    for audit in everywhere().await {
        let feed = Feed::of(12);
        audit.relay(feed.stretch(0, 8)).await.unwrap();
        // What stands between is not of the feed.
        audit.append(vec![some_event(1)]).await.unwrap();
        audit.relay(feed.stretch(8, 12)).await.unwrap();
        let ids = ids(&feed);

        // It still has the first eight.
        let answer = audit
            .own("consent", asked(vec![ids[7].clone(), ids[3].clone()], 0))
            .await
            .unwrap();
        assert_eq!(listed(&answer), ids[8..]);
        assert!(
            answer.events.iter().all(|event| event.payload.is_some()),
            "with their payloads"
        );
        let at = audit::SourcePosition {
            partition: 2,
            epoch: 1,
            next_position: 12,
        };
        assert_eq!(answer.positions, [at]);

        // It has all of them, none that the log knows, or committed others at their positions since.
        let none = audit.own("consent", asked(vec![ids[11].clone()], 0)).await.unwrap();
        assert_eq!(listed(&none), Vec::<String>::new());
        let all = audit.own("consent", asked(Vec::new(), 0)).await.unwrap();
        assert_eq!(listed(&all), ids);
        let other = some_event(3).event_id;
        let parted = audit
            .own("consent", asked(vec![other, ids[5].clone()], 0))
            .await
            .unwrap();
        assert_eq!(listed(&parted), ids[6..]);

        // Page by page.
        let (mut request, mut paged) = (asked(vec![ids[1].clone()], 3), Vec::new());
        loop {
            let page = audit.own("consent", request.clone()).await.unwrap();
            assert!(page.events.len() <= 3 && (page.positions.is_empty() != request.page_token.is_empty()));
            paged.extend(listed(&page));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, ids[2..]);

        let foreign = audit.own("identity", asked(Vec::new(), 0)).await.unwrap();
        assert!(foreign.events.is_empty() && foreign.positions.is_empty());
        let refused = said(audit.rpc.list_source_events(of(operator(), asked(Vec::new(), 0))).await);
        assert_eq!(refused.unwrap_err().reason, Reason::NotAvailable);
    }
}

#[tokio::test]
async fn what_keeps_a_number_from_being_given_twice_is_shown_to_its_service_alone() {
    for audit in everywhere().await {
        let mut event = some_event(1);
        let payload = event.payload.as_mut().unwrap();
        payload.claims = vec![vec![7; 32]];
        let feed = Feed::with(vec![event.encode_to_vec()]);
        audit.relay(feed.stretch(0, 1)).await.unwrap();
        let own = audit.own("consent", asked(Vec::new(), 0)).await.unwrap();
        assert_eq!(own.events[0].payload.as_ref().unwrap().claims, [vec![7; 32]]);
        let others = audit.get(operator(), &event.event_id).await.unwrap();
        assert_eq!(others.payload.unwrap().claims, Vec::<Vec<u8>>::new());
    }
}

/// An event about `subject`, done to `resource` if there is one.
fn about(n: u8, subject: &str, resource: &str) -> audit::Event {
    let mut event = some_event(n);
    event.resource_type = resource.split('/').next().unwrap_or_default().to_owned();
    let payload = event.payload.as_mut().unwrap();
    subject.clone_into(&mut payload.subject);
    resource.clone_into(&mut payload.resource);
    event
}

#[tokio::test]
async fn a_service_reads_what_it_sent_about_one_person_and_was_done_to_something() {
    let (she, another) = (account(1).name(), account(2).name());
    for audit in everywhere().await {
        let events = [
            about(1, &she, "consents/1"),
            about(2, &another, "consents/2"),
            about(3, &she, ""),
            about(4, &she, "transfers/1"),
            about(5, &she, "links/1"),
        ];
        let feed = Feed::with(events.iter().map(Message::encode_to_vec).collect());
        audit.relay(feed.stretch(0, 5)).await.unwrap();
        let ids = ids(&feed);

        let ask = async |caller: &str, subject: &str, size: i32, token: &str| {
            let request = audit::ListSubjectSourceEventsRequest {
                page_size: size,
                page_token: token.to_owned(),
                subject: subject.to_owned(),
            };
            said(audit.rpc.list_subject_source_events(of(service(caller), request)).await)
        };
        let listed = |answer: &audit::ListSubjectSourceEventsResponse| -> Vec<String> {
            let id = |event: &audit::LogEvent| event.header.clone().unwrap().event_id;
            answer.events.iter().map(id).collect()
        };
        let all = ask("consent", &she, 0, "").await.unwrap();
        assert_eq!(listed(&all), [ids[4].clone(), ids[3].clone(), ids[0].clone()]);
        assert_eq!((all.next_page_token.as_str(), all.tree_size), ("", 5));
        assert!(all.checkpoint.contains("\n5\n"));
        assert_eq!(all.events[2].payload.as_ref().unwrap().resource, "consents/1");

        // Page by page it is the tree of the first page, though the readings themselves are about her too.
        let (mut token, mut paged) = (String::new(), Vec::new());
        let mut sizes = Vec::new();
        loop {
            let page = ask("consent", &she, 1, &token).await.unwrap();
            assert!(page.events.len() <= 1);
            sizes.push(page.tree_size);
            paged.extend(listed(&page));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, listed(&all));
        assert_eq!(sizes, vec![6; sizes.len()]);

        // The record of the reading is about her, and nobody reads what another sent.
        assert!(listed(&ask("identity", &she, 0, "").await.unwrap()).is_empty());
        let refused = ask("consent", "accounts/x", 0, "").await.unwrap_err();
        assert_eq!(refused.reason, Reason::FieldInvalid);
        let request = audit::ListSubjectSourceEventsRequest {
            subject: she.clone(),
            ..Default::default()
        };
        let refused = said(audit.rpc.list_subject_source_events(of(operator(), request)).await);
        assert_eq!(refused.unwrap_err().reason, Reason::NotAvailable);
    }
}
