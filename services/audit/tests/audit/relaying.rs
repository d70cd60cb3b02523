//! O1: a relayed stretch is taken once, in order, whatever is sent again.

use futures::future::join_all;
use prost::Message;
use sammati_kernel::Reason;

use crate::fixture::{Feed, everywhere, some_event};

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
        let leaf = sammati_api::audit::v1::Leaf::decode(proof.leaf.as_slice()).unwrap();
        let source = leaf.source.unwrap();
        assert_eq!(
            (source.service.as_str(), source.epoch, source.partition, source.position),
            ("consent", 1, 2, 4)
        );
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
