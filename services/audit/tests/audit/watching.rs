//! A1: a watcher gets each index once, in order, and nothing that no checkpoint covers.

use std::time::Duration;

use futures::StreamExt;
use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::log_service_server::LogService;
use sammati_api::audit::v1::watch_events_response::Item;
use sammati_kernel::{Reason, Refusal};
use sammati_server::error::refusal_of;
use tokio::time::Instant;

use crate::fixture::{Audit, everywhere, of, operator, some_event};

type Stream = futures::stream::BoxStream<'static, audit::WatchEventsResponse>;

async fn watch(audit: &Audit, from_index: i64, resume_token: &str) -> Result<Stream, Refusal> {
    let request = audit::WatchEventsRequest {
        log: audit.log.name(),
        from_index,
        resume_token: resume_token.to_owned(),
    };
    let stream = audit.rpc.watch_events(of(operator(), request)).await;
    let stream = stream.map_err(|status| refusal_of(&status).unwrap())?.into_inner();
    Ok(stream.map(|item| item.unwrap()).boxed())
}

async fn next(stream: &mut Stream) -> (String, Item) {
    let item = tokio::time::timeout(Duration::from_secs(20), stream.next())
        .await
        .unwrap()
        .unwrap();
    (item.resume_token, item.item.unwrap())
}

/// The events up to the next checkpoint, its size, and the last token.
async fn told(stream: &mut Stream) -> (Vec<i64>, i64, String) {
    let mut indexes = Vec::new();
    loop {
        match next(stream).await {
            (_, Item::Event(event)) => {
                assert!(event.payload.is_some());
                indexes.push(event.index);
            }
            (token, Item::Checkpoint(checkpoint)) => return (indexes, checkpoint.size, token),
        }
    }
}

async fn grow(audit: &Audit, events: usize) {
    audit
        .append_unsigned((0..events).map(|n| some_event((n % 5) as u8)).collect())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_each_index_once_in_order_and_never_beyond_a_checkpoint() {
    for audit in everywhere().await {
        grow(&audit, 150).await;
        audit.log.newest().await.unwrap();
        let mut stream = watch(&audit, 0, "").await.unwrap();
        let (indexes, size, token) = told(&mut stream).await;
        assert_eq!(size, 150);
        assert!(indexes.into_iter().eq(0..150));
        let begun = Instant::now();
        // It was recorded that somebody watches; like what follows it is told once it is signed, and not before.
        let one_by_one = async {
            for _ in 0..9 {
                grow(&audit, 1).await;
            }
        };
        let ((early, size, _), ()) = futures::join!(told(&mut stream), one_by_one);
        assert_eq!(
            (early, size),
            (Vec::new(), 150),
            "said again while nothing more is signed"
        );
        assert!(
            begun.elapsed() > Duration::from_millis(900),
            "after a time, not after so many appends"
        );
        audit.log.newest().await.unwrap();
        let (mut indexes, mut size, _) = told(&mut stream).await;
        while indexes.is_empty() {
            (indexes, size, _) = told(&mut stream).await;
        }
        assert_eq!(size, 160);
        assert!(indexes.into_iter().eq(150..160));
        assert_eq!(
            audit.log.leaf(150).await.unwrap().unwrap().header().event_type,
            "audit.watched"
        );

        // From a token, from an index in between, and from the end.
        let mut again = watch(&audit, 0, &token).await.unwrap();
        assert!(told(&mut again).await.0.into_iter().eq(150..160));
        let mut middle = watch(&audit, 100, "").await.unwrap();
        let mut last = String::new();
        for expected in 100..107 {
            let (token, Item::Event(event)) = next(&mut middle).await else {
                panic!("an event")
            };
            assert_eq!(event.index, expected);
            last = token;
        }
        let mut rest = watch(&audit, 0, &last).await.unwrap();
        let (_, Item::Event(event)) = next(&mut rest).await else {
            panic!("an event")
        };
        assert_eq!(event.index, 107);
        assert!(watch(&audit, 160, "").await.is_ok());
        for (from, token) in [
            (161, ""),
            (0, "logs/other/3"),
            (0, "x"),
            (0, &format!("{}/9999", audit.log.name())),
        ] {
            let refused = watch(&audit, from, token).await.err().unwrap();
            assert_eq!(refused.reason, Reason::PositionUnknown, "{from} {token}");
        }
    }
}

/// A watcher on one replica hears what another one signed.
#[tokio::test(flavor = "multi_thread")]
async fn a1_a_watcher_hears_of_other_replicas() {
    for audit in everywhere().await {
        let Some((other, log)) = audit.replica().await else {
            continue;
        };
        let mut stream = watch(&audit, 0, "").await.unwrap();
        crate::fixture::append(&other, vec![some_event(1)]).await.unwrap();
        log.newest().await.unwrap();
        let (mut indexes, ..) = told(&mut stream).await;
        while indexes.is_empty() {
            (indexes, ..) = told(&mut stream).await;
        }
        assert_eq!(indexes, [0, 1], "that it watches, and what was appended");
    }
}
