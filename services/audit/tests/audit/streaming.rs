//! `StreamEvents`: the guarantees of an append, without a call for each.

use futures::StreamExt;
use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::{AppendEventsRequest, DirectEvents, Event, StreamEventsRequest, StreamEventsResponse};
use sammati_kernel::Reason;
use sammati_server::Running;
use sammati_server::error::refusal_of;
use sammati_testkit::{Authority, Database, databases};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::fixture::some_event;
use crate::serving::{channel, endpoint, lay_out, serve_over};

/// A service, and what it stands on.
struct Served {
    running: Running,
    authority: Authority,
    _folder: tempfile::TempDir,
    _databases: [Database; 2],
}

impl Served {
    /// On every kind of database.
    async fn everywhere() -> Vec<Self> {
        let mut all = Vec::new();
        for (log, keys) in databases().into_iter().zip(databases()) {
            let folder = tempfile::tempdir().unwrap();
            let authority = lay_out(folder.path());
            all.push(Self {
                running: serve_over(folder.path(), &log, &keys).await,
                authority,
                _folder: folder,
                _databases: [log, keys],
            });
        }
        all
    }

    fn client(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(channel(&self.running, &self.authority, Some("service/consent")))
    }
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
    for served in Served::everywhere().await {
        let mut client = served.client();
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
        served.running.shutdown().await;
    }
}

/// The first message that is refused ends it, after the answers to those before; what it is about is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_what_was_refused() {
    for served in Served::everywhere().await {
        let mut client = served.client();
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
        served.running.shutdown().await;
    }
}

/// Appends one event beside the stream, behind whatever waits to be appended; tells its index.
async fn append(client: &mut LogServiceClient<Channel>) -> i64 {
    let request = AppendEventsRequest {
        batch: Some(Batch::Direct(DirectEvents {
            events: vec![some_event(2)],
        })),
        ..Default::default()
    };
    client.append_events(request).await.unwrap().into_inner().events[0].index
}

/// Who sends and never reads his answers is held back: what is taken in stays within what his answers have room for on their
/// way. Once he reads, it goes on, and all of it is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_answers_nobody_reads_takes_no_more_in() {
    const MANY: i64 = 4000;
    for served in Served::everywhere().await {
        let narrow = endpoint(&served.running, &served.authority, Some("service/consent"));
        // As much as HTTP/2 grants where nobody says otherwise: some hundred answers.
        let narrow = narrow.initial_stream_window_size(65_535).connect_lazy();
        let messages = futures::stream::iter(1..=MANY).map(|seq| message(seq, &[some_event(1)]));
        let answers = LogServiceClient::new(narrow).stream_events(messages).await.unwrap();
        // It is at rest when fifty calls in a row, each of which waits for the log, find nothing of it between them.
        let (mut beside, mut calls, mut at_rest) = (served.client(), 1, 0);
        let mut last = append(&mut beside).await;
        while at_rest < 50 {
            let index = append(&mut beside).await;
            at_rest = if index == last + 1 { at_rest + 1 } else { 0 };
            (last, calls) = (index, calls + 1);
        }
        let taken = last + 1 - calls;
        assert!((1..MANY / 2).contains(&taken), "{taken} of {MANY} were taken in");
        let (told, end) = read(answers.into_inner()).await;
        assert!(end.is_none());
        assert_eq!(told.last().unwrap().acknowledged_seq, MANY);
        let placed: usize = told.iter().map(|answer| answer.events.len()).sum();
        assert_eq!(i64::try_from(placed).unwrap(), MANY);
        served.running.shutdown().await;
    }
}
