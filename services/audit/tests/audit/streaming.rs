//! `StreamEvents`: the guarantees of an append, without a call for each.

use futures::StreamExt;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::{Event, StreamEventsRequest, StreamEventsResponse};
use sammati_kernel::Reason;
use sammati_server::Running;
use sammati_server::error::refusal_of;
use sammati_testkit::Authority;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::fixture::some_event;
use crate::serving::{channel, lay_out, serve};

async fn begin() -> (tempfile::TempDir, Running, LogServiceClient<Channel>) {
    let folder = tempfile::tempdir().unwrap();
    let authority: Authority = lay_out(folder.path());
    let running = serve(folder.path()).await;
    let client = LogServiceClient::new(channel(&running, &authority, Some("service/consent")));
    (folder, running, client)
}

fn message(client_seq: i64, events: &[Event]) -> StreamEventsRequest {
    StreamEventsRequest {
        client_seq,
        events: events.to_vec(),
    }
}

/// All answers, and how the stream ended.
async fn read(mut answers: Streaming<StreamEventsResponse>) -> (Vec<StreamEventsResponse>, Option<Status>) {
    let mut told = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => told.push(answer),
            Ok(None) => return (told, None),
            Err(status) => return (told, Some(status)),
        }
    }
}

/// A1: many messages at once are acknowledged in their order, with all their events; a second stream that sends some of
/// them again gets the old indexes, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a1_a_stream_acknowledges_in_order_what_is_in_the_log() {
    let (_folder, running, mut client) = begin().await;
    let events: Vec<_> = (0..500).map(|n| some_event((n % 7) as u8)).collect();
    let sent: Vec<_> = events
        .chunks(5)
        .zip(1..)
        .map(|(events, seq)| message(seq, events))
        .collect();
    let answers = client.stream_events(futures::stream::iter(sent.clone())).await.unwrap();
    let (told, end) = read(answers.into_inner()).await;
    assert!(end.is_none());
    assert!(told.is_sorted_by_key(|answer| answer.acknowledged_seq));
    assert_eq!(told.last().unwrap().acknowledged_seq, 100);
    let placed: Vec<_> = told.into_iter().flat_map(|answer| answer.events).collect();
    let ids = |events: &[Event]| events.iter().map(|e| e.event_id.clone()).collect::<Vec<_>>();
    assert_eq!(
        placed.iter().map(|e| e.event_id.clone()).collect::<Vec<_>>(),
        ids(&events)
    );
    let mut indexes: Vec<_> = placed.iter().map(|e| e.index).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (0..500).collect::<Vec<_>>());

    // After a cut the client goes on with the first that was not acknowledged, or earlier.
    let again = sent[90..].iter().cloned().chain([message(101, &[some_event(1)])]);
    let answers = client
        .stream_events(futures::stream::iter(again.collect::<Vec<_>>()))
        .await
        .unwrap();
    let (told, end) = read(answers.into_inner()).await;
    assert!(end.is_none());
    let again: Vec<_> = told.into_iter().flat_map(|answer| answer.events).collect();
    assert_eq!(again[..50], placed[450..]);
    assert_eq!(again[50].index, 500);
    running.shutdown().await;
}

/// The first message that is refused ends it, after the answers to those before; what it is about is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_what_was_refused() {
    let (_folder, running, mut client) = begin().await;
    let good = some_event(1);
    let mut changed = good.clone();
    changed.reason_code = "CONSENT_REVOKED".to_owned();
    let mut bad = some_event(2);
    bad.event_type = "Nothing".to_owned();
    for (wrong, reason, field) in [
        (
            message(12, &[bad.clone()]),
            Reason::FieldInvalid,
            "events[0].event_type",
        ),
        (message(14, &[some_event(3)]), Reason::FieldInvalid, "client_seq"),
        (message(12, &[]), Reason::FieldInvalid, "events"),
        (message(12, &[changed]), Reason::EventConflict, ""),
    ] {
        // The stream stays open on this side: the refusal ends it.
        let sent = futures::stream::iter([message(11, std::slice::from_ref(&good)), wrong]);
        let sent = sent.chain(futures::stream::pending());
        let answers = client.stream_events(sent).await.unwrap();
        let (told, end) = read(answers.into_inner()).await;
        assert_eq!(
            told.iter()
                .map(|a| (a.acknowledged_seq, a.events[0].index))
                .collect::<Vec<_>>(),
            [(11, 0)]
        );
        let refused = refusal_of(&end.unwrap()).unwrap();
        assert_eq!(refused.reason, reason);
        let fields: Vec<_> = refused.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(fields.first().copied().unwrap_or(""), field);
    }
    running.shutdown().await;
}
