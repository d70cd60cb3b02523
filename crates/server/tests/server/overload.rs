//! What too many calls do to those who come after them.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, stream};
use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::feed_service_client::FeedServiceClient;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::get;
use crate::host::{Host, PANIC, WAIT, keys};

/// More than a connection's window has room for, if what nobody read of them were never given back: so many at a time, and so
/// many times, for no call hangs meanwhile longer than half a minute.
const CALLS: (usize, usize) = (512, 8);

/// Tasks that may have come beside those of before: what the server does now and then. Three floods leave more of whatever
/// they leave.
const MORE_TASKS: usize = 4;

type Client = SessionServiceClient<Channel>;

/// A call of about a kibibyte.
fn long() -> api::ListKeysRequest {
    api::ListKeysRequest {
        page_token: "x".repeat(1024),
        ..keys(0)
    }
}

#[tokio::test]
async fn a_connection_outlives_any_number_of_refusals() {
    let host = Host::tls("[server.limits]\nanonymous = 2").await;
    let client = host.anonymous().await;
    for turn in 1..=CALLS.1 {
        let hanging = hang(&host, &client, 1).await;
        let refused = (0..CALLS.0).map(|_| {
            let mut client = client.clone();
            async move { client.list_keys(long()).await.unwrap_err().code() }
        });
        let refused = join_all(refused).await;
        assert!(
            refused.iter().all(|code| *code == Code::ResourceExhausted),
            "{refused:?}"
        );
        // Counted, and nothing more: in work is only the one that was let in.
        let metrics = get(&host, "/metrics").await;
        let method = "method=\"sammati.identity.v1.SessionService/ListKeys\"";
        let told = turn * CALLS.0;
        for line in [
            format!("sammati_rpc_calls_total{{{method},code=\"RESOURCE_EXHAUSTED\"}} {told}"),
            format!("sammati_rpc_in_flight{{{method}}} 1"),
        ] {
            assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
        }
        let_go(&host, hanging).await;
        until_at_rest(&host, usize::MAX).await;
    }
    for _ in 0..64 {
        let mut client = client.clone();
        let answer = timeout(Duration::from_secs(60), client.list_keys(long())).await;
        assert!(answer.expect("the connection still carries bodies").is_ok());
    }
}

type Hanging = Vec<JoinHandle<Result<(), Status>>>;

/// So many calls that have their places until they are let go.
async fn hang(host: &Host, client: &Client, many: usize) -> Hanging {
    let mut hanging = Vec::new();
    for _ in 0..many {
        let mut client = client.clone();
        hanging.push(tokio::spawn(
            async move { client.list_keys(keys(WAIT)).await.map(drop) },
        ));
        host.controls.entered.notified().await;
    }
    hanging
}

async fn let_go(host: &Host, hanging: Hanging) {
    hanging.iter().for_each(|_| host.controls.release.notify_one());
    for call in hanging {
        assert!(call.await.unwrap().is_ok());
    }
}

/// Whatever a caller may do to a server, and then he is gone: calls that are answered, refused, given up, that panic, that
/// are too large, that hang and that stream.
async fn flood(host: &Host) {
    let anonymous = host.anonymous().await;
    let known = host.sessions("operator/asha").await;
    // All that a peer may have: what comes beside it is too much, however fast the server is.
    let mut hanging = hang(host, &anonymous, 4).await;
    let watcher = FeedServiceClient::new(host.channel(Some(&host.certificate("service/consent"))).await);
    let calls = stream::iter(0..2000).map(|n| {
        let (mut client, message) = match n % 5 {
            0 => (anonymous.clone(), keys(0)),
            1 => (anonymous.clone(), long()),
            2 => (known.clone(), keys(-1)),
            3 => (known.clone(), keys(if n % 100 == 3 { PANIC } else { 0 })),
            _ => (known.clone(), long()),
        };
        // Some are given up before they are answered.
        let patience = Duration::from_micros(if n % 7 == 0 { 200 } else { 30_000_000 });
        async move {
            timeout(patience, client.list_keys(message))
                .await
                .map(|answer| answer.map(drop))
        }
    });
    let mut answers = calls.buffer_unordered(512);
    let mut refused = 0;
    while let Some(answer) = answers.next().await {
        let code = answer.ok().and_then(Result::err).map(|status| status.code());
        refused += usize::from(code == Some(Code::ResourceExhausted));
        if refused == 32 {
            // Of the others some are let in.
            hanging.drain(..).for_each(|_| host.controls.release.notify_one());
        }
    }
    assert!(refused >= 32, "nothing was too much");
    until_at_rest(host, usize::MAX).await;
    for given_up in hang(host, &known, 3).await {
        given_up.abort();
    }
    let mut watches = Vec::new();
    for _ in 0..4 {
        let (feed, receiver) = mpsc::unbounded_channel();
        host.controls.feeds.lock().unwrap().push(receiver);
        let mut client = watcher.clone();
        let watch = client.watch_changes(api::WatchChangesRequest::default()).await.unwrap();
        host.controls.entered.notified().await;
        watches.push((watch, feed));
    }
}

/// The gauges of what is in work, and how many tasks there are.
async fn in_work(host: &Host) -> (Vec<String>, usize) {
    let metrics = get(host, "/metrics").await;
    let gauges = metrics.lines().filter(|line| {
        let counts = line.starts_with("sammati_rpc_in_flight{") || line.starts_with("sammati_rpc_places_taken{");
        counts && !line.ends_with(" 0")
    });
    (
        gauges.map(str::to_owned).collect(),
        Handle::current().metrics().num_alive_tasks(),
    )
}

/// Nobody tells when a caller's last task has ended, so it is looked for, for a minute at most.
async fn until_at_rest(host: &Host, tasks: usize) {
    let mut seen = (Vec::new(), 0);
    for _ in 0..1200 {
        seen = in_work(host).await;
        if seen.0.is_empty() && seen.1 <= tasks {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{seen:?} is left, where {tasks} tasks were before");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_flood_every_place_is_free_and_every_task_has_ended() {
    let limits = "[server.limits]\nanonymous = 8\ncheck = 16\nadmin = 16\nlogin = 16\nstream = 8";
    let host = Host::tls(limits).await;
    let metrics = get(&host, "/metrics").await;
    assert!(
        metrics.contains("sammati_rpc_places{class=\"anonymous\"} 8"),
        "{metrics}"
    );
    let (none, tasks) = in_work(&host).await;
    assert_eq!(none, Vec::<String>::new());
    for _ in 0..3 {
        flood(&host).await;
        until_at_rest(&host, tasks + MORE_TASKS).await;
    }
    // All that one peer may have, at once: his half.
    let client = host.anonymous().await;
    let hanging = hang(&host, &client, 4).await;
    let taken = "sammati_rpc_places_taken{class=\"anonymous\"} 4".to_owned();
    assert!(in_work(&host).await.0.contains(&taken));
    let one_more = client.clone().list_keys(keys(0)).await.unwrap_err();
    assert_eq!(one_more.code(), Code::ResourceExhausted);
    let_go(&host, hanging).await;
}
