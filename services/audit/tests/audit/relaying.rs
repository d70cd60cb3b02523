//! O1: a relayed stretch is taken once, in order, whatever is sent again.

use futures::future::join_all;
use prometheus_client::registry::Registry;
use prost::Message;
use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::log_service_server::LogService;
use sammati_api::audit::v1::{AppendEventsRequest, DirectEvents, Leaf, RelayedEvents};
use sammati_kernel::Reason;
use sammati_log::Hash32;
use sammati_log::bundle::Bundle;
use sammati_server::event::WITHHELD;

use crate::fixture::{Audit, Feed, everywhere, of, operator, said, service, some_event};

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_stretch_sent_again_gets_its_old_indexes() {
    for audit in everywhere().await {
        let feed = Feed::of(30);
        let first = audit.relay(feed.stretch(0, 10)).await.unwrap();
        assert_eq!(first.next_position, 10);
        // Wholly known, known in part, and its own middle.
        let again = audit.relay(feed.stretch(0, 10)).await.unwrap();
        assert_eq!((again.events, again.next_position), (first.events.clone(), 10));
        let more = audit.relay(feed.stretch(5, 20)).await.unwrap();
        assert_eq!(more.events[..5], first.events[5..]);
        assert_eq!(more.next_position, 20);
        let middle = audit.relay(feed.stretch(3, 7)).await.unwrap();
        assert_eq!(
            (middle.events.as_slice(), middle.next_position),
            (&first.events[3..7], 20)
        );
        let proof = audit.prove(4, 0).await.unwrap();
        let leaf = Leaf::decode(proof.leaf.as_slice()).unwrap();
        let source = leaf.source.unwrap();
        assert_eq!(
            (source.service.as_str(), source.epoch, source.partition, source.position),
            ("consent", 1, 2, 4)
        );
    }
}

/// O1: stretches of several partitions are appended together or not at all, each event in its own partition's place.
#[tokio::test(flavor = "multi_thread")]
async fn o1_stretches_of_several_partitions_are_one_call() {
    for audit in everywhere().await {
        let feeds: Vec<_> = (0..3).map(|_| Feed::of(10)).collect();
        let stretch = |partition: usize, from, to| {
            let mut stretch = feeds[partition].stretch(from, to);
            stretch.source.as_mut().unwrap().partition = partition as i32;
            stretch
        };
        let first = audit
            .relay_all(vec![stretch(0, 0, 4), stretch(1, 0, 2), stretch(2, 0, 0)])
            .await
            .unwrap();
        assert_eq!((first.next_position, first.next_positions), (4, vec![4, 2, 0]));
        assert_eq!(
            first.events.iter().map(|e| e.index).collect::<Vec<_>>(),
            (0..6).collect::<Vec<_>>()
        );
        // Known, known in part, and new.
        let more = audit
            .relay_all(vec![stretch(2, 0, 3), stretch(0, 2, 6), stretch(1, 0, 2)])
            .await
            .unwrap();
        assert_eq!(more.next_positions, [3, 6, 2]);
        assert_eq!(
            more.events.iter().map(|e| e.index).collect::<Vec<_>>(),
            [6, 7, 8, 2, 3, 9, 10, 4, 5]
        );
        for (index, place) in [(4, (1, 0)), (5, (1, 1)), (8, (2, 2)), (10, (0, 5))] {
            let leaf = audit.prove(index, 0).await.unwrap().leaf;
            let source = Leaf::decode(leaf.as_slice()).unwrap().source.unwrap();
            assert_eq!((source.partition, source.position), place);
        }
        // One with a gap takes the others with it.
        let refused = audit
            .relay_all(vec![stretch(0, 6, 8), stretch(1, 5, 7)])
            .await
            .unwrap_err();
        assert_eq!(refused.metadata, [("expected_position", "2".to_owned())]);
        assert_eq!(audit.checkpoint(0).await.unwrap().size, 11);
        // What is wrong is named where it stands.
        let mut wrong = vec![stretch(0, 6, 8), stretch(0, 6, 8)];
        wrong[1].events[0].chain = vec![0; 32];
        let refused = audit.relay_all(wrong).await.unwrap_err();
        let fields: Vec<_> = refused.violations.iter().map(|v| v.field.as_ref()).collect();
        let of = |rest: &str| format!("stretches.stretches[1].{rest}");
        assert_eq!(
            fields,
            [
                of("source.partition"),
                of("events[0].chain"),
                of("events[0].body.event_id"),
                of("events[1].body.event_id")
            ]
        );
    }
}

/// A1: who wants it has the proof of each event in the answer, against the checkpoint that comes with it.
#[tokio::test(flavor = "multi_thread")]
async fn a1_an_answer_brings_proofs_on_request() {
    for audit in everywhere().await {
        audit
            .append((0..300).map(|n| some_event(n as u8)).collect())
            .await
            .unwrap();
        let request = AppendEventsRequest {
            batch: Some(Batch::Direct(DirectEvents {
                events: vec![some_event(1), some_event(2)],
            })),
            with_proofs: true,
            with_checkpoint: true,
            ..AppendEventsRequest::default()
        };
        let answer = said(audit.rpc.append_events(of(service("consent"), request.clone())).await).unwrap();
        assert_eq!(answer.events.len(), 2);
        for event in &answer.events {
            let bundle: Bundle = event.proof.parse().unwrap();
            assert_eq!(
                (bundle.index, &bundle.checkpoint_note),
                (event.index as u64, &answer.checkpoint)
            );
            let hash = Hash32::from_slice(&event.leaf_hash).unwrap();
            assert_eq!(bundle.verify(hash, &[audit.verifier()]).unwrap().size(), 302);
        }
        // And who does not want the events is not told them.
        let request = AppendEventsRequest {
            without_events: true,
            ..request
        };
        let again = said(audit.rpc.append_events(of(service("consent"), request)).await).unwrap();
        assert_eq!((again.events.len(), again.checkpoint), (0, answer.checkpoint));
    }
}

/// O1: two relays of one feed at once, each from the beginning: one leaf for each event.
#[tokio::test(flavor = "multi_thread")]
async fn o1_relays_at_once_make_one_leaf_for_each_event() {
    for audit in everywhere().await {
        let feed = Feed::of(60);
        let calls = (0..24).map(|n| {
            let (audit, feed) = (&audit, &feed);
            async move {
                let mut at = 0;
                while at < 60 {
                    let to = (at + 5 + n % 9).min(60);
                    at = audit.relay(feed.stretch(at, to)).await.unwrap().next_position as usize;
                }
            }
        });
        join_all(calls).await;
        assert_eq!(audit.checkpoint(0).await.unwrap().size, 60);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_names_the_position_that_is_expected() {
    for audit in everywhere().await {
        let feed = Feed::of(10);
        audit.relay(feed.stretch(0, 4)).await.unwrap();
        let refused = audit.relay(feed.stretch(5, 8)).await.unwrap_err();
        assert_eq!(refused.reason, Reason::FeedGap);
        assert_eq!(refused.metadata, [("expected_position", "4".to_owned())]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_of_a_feed_is_refused() {
    for audit in everywhere().await {
        let feed = Feed::of(10);
        audit.relay(feed.stretch(0, 6)).await.unwrap();
        // Another event at position 3, and everything after it chained anew.
        let mut bodies = feed.bodies.clone();
        bodies[3] = some_event(9).encode_to_vec();
        let other = Feed::with(bodies);
        for (from, to) in [(0, 6), (3, 4), (6, 8), (2, 10)] {
            let refused = audit.relay(other.stretch(from, to)).await.unwrap_err();
            assert_eq!(refused.reason, Reason::EventConflict, "{from}..{to}");
        }
        assert_eq!(audit.relay(feed.stretch(6, 10)).await.unwrap().next_position, 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_chain_and_another_services_feed_are_refused() {
    for audit in everywhere().await {
        let feed = Feed::of(4);
        let mut bent = feed.stretch(0, 4);
        bent.events[2].chain[0] ^= 1;
        bent.events[1].position = 7;
        let refused = audit.relay(bent).await.unwrap_err();
        let fields: Vec<_> = refused.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(fields, ["relayed.events[1].position", "relayed.events[2].chain"]);
        let mut foreign = feed.stretch(0, 4);
        foreign.source.as_mut().unwrap().service = "identity".to_owned();
        assert_eq!(audit.relay(foreign).await.unwrap_err().reason, Reason::NotAvailable);
    }
}

/// A stretch of every content that a direct appender would be refused for, between two good events.
fn poisoned() -> Feed {
    let spoil = |spoil: fn(&mut sammati_api::audit::v1::Event)| {
        let mut event = some_event(1);
        spoil(&mut event);
        event.encode_to_vec()
    };
    Feed::with(vec![
        some_event(1).encode_to_vec(),
        spoil(|event| {
            let payload = event.payload.as_mut().unwrap();
            payload.object_refs.push("participants/999941057058".to_owned());
            payload.legal_basis = "asked by 9999 4105 7058".to_owned();
        }),
        spoil(|event| event.payload.as_mut().unwrap().legal_basis = "order\0 7".to_owned()),
        spoil(|event| event.txn_id = "Asha Rao, 3 March".to_owned()),
        spoil(|event| event.payload.as_mut().unwrap().changed_fields = vec!["x".repeat(255); 200]),
        spoil(|event| event.payload = None),
        spoil(|event| event.event_id = "1".to_owned()),
        b"not an event".to_vec(),
        some_event(2).encode_to_vec(),
    ])
}

async fn leaf(audit: &Audit, index: i64) -> Leaf {
    Leaf::decode(audit.prove(index, 0).await.unwrap().leaf.as_slice()).unwrap()
}

/// What is in a feed is in it for ever: nothing in it stops the relay, and what must not be kept is not.
#[tokio::test(flavor = "multi_thread")]
async fn o1_content_never_stops_a_stretch() {
    for audit in everywhere().await {
        let mut registry = Registry::default();
        audit.log.register_metrics(&mut registry);
        let feed = poisoned();
        let first = audit.relay(feed.stretch(0, 9)).await.unwrap();
        assert_eq!(first.next_position, 9);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.lines().any(|line| line == "audit_forbidden_fields_total 2"),
            "{text}"
        );
        assert!(!text.lines().any(|line| line == "audit_malformed_fields_total 0"));

        let read = audit.get(operator(), &first.events[1].event_id).await.unwrap();
        let payload = read.payload.unwrap();
        assert_eq!(payload.object_refs, ["participants/city-hospital", WITHHELD]);
        assert_eq!(payload.legal_basis, WITHHELD);
        assert_eq!(leaf(&audit, 3).await.txn_id, "");
        assert_eq!(leaf(&audit, 7).await.event_type, "audit.unreadable");
        let last = leaf(&audit, 8).await;
        assert_eq!(last.source.unwrap().position, 8);

        // The bytes as they were sent are what is compared: sent again, they get their old indexes.
        let again = audit.relay(feed.stretch(0, 9)).await.unwrap();
        assert_eq!(again.events, first.events);
        let mut bodies = feed.bodies.clone();
        bodies[1] = some_event(1).encode_to_vec();
        let refused = audit.relay(Feed::with(bodies).stretch(0, 9)).await.unwrap_err();
        assert_eq!(refused.reason, Reason::EventConflict);
    }
}

/// A stretch without events.
fn question(feed: &Feed, epoch: i64, at: usize) -> RelayedEvents {
    feed.stretch_in(epoch, at, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretch_without_events_asks_where_the_log_stands() {
    for audit in everywhere().await {
        let feed = Feed::of(10);
        assert_eq!(audit.relay(question(&feed, 1, 0)).await.unwrap().next_position, 0);
        audit.relay(feed.stretch(0, 7)).await.unwrap();
        assert_eq!(audit.relay(question(&feed, 1, 0)).await.unwrap().next_position, 7);
        let refused = audit.relay(question(&feed, 1, 9)).await.unwrap_err();
        assert_eq!(refused.metadata, [("expected_position", "7".to_owned())]);
        assert_eq!(audit.checkpoint(0).await.unwrap().size, 7);
    }
}

/// A new epoch begins where the log stands in the one before, or below, and never beyond.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_new_epoch_leaves_no_gap() {
    for audit in everywhere().await {
        let feed = Feed::of(12);
        audit.relay(feed.stretch(0, 6)).await.unwrap();
        let refused = audit.relay(feed.stretch_in(2, 7, 8)).await.unwrap_err();
        assert_eq!(refused.metadata, [("expected_position", "6".to_owned())]);
        let mut bodies = feed.bodies.clone();
        bodies[2] = some_event(9).encode_to_vec();
        let other = Feed::with(bodies).stretch_in(2, 6, 7);
        assert_eq!(audit.relay(other).await.unwrap_err().reason, Reason::EventConflict);
        assert_eq!(audit.relay(question(&feed, 2, 6)).await.unwrap().next_position, 6);
        assert_eq!(audit.relay(feed.stretch_in(2, 6, 9)).await.unwrap().next_position, 9);

        // The restore that began epoch 4 lost two events; nothing happened in epoch 3.
        let mut bodies = feed.bodies.clone();
        bodies[7] = some_event(3).encode_to_vec();
        bodies[8] = some_event(4).encode_to_vec();
        let restored = Feed::with(bodies);
        assert_eq!(audit.relay(question(&restored, 4, 7)).await.unwrap().next_position, 7);
        assert_eq!(
            audit.relay(restored.stretch_in(4, 7, 10)).await.unwrap().next_position,
            10
        );
        let again = audit.relay(restored.stretch_in(4, 7, 12)).await.unwrap();
        assert_eq!(
            again.events.iter().map(|e| e.index).collect::<Vec<_>>(),
            [9, 10, 11, 12, 13]
        );
    }
}
