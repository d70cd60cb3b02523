//! What too many calls do to those who come after them.

use std::time::Duration;

use futures::{StreamExt, stream};
use sammati_api::identity::v1 as api;
use tokio::time::timeout;
use tonic::Code;

use crate::calls::get;
use crate::host::{Host, WAIT, keys};

/// More than a connection's window has room for, if what nobody read of them were never given back.
const CALLS: usize = 4096;

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
    let mut waiting = client.clone();
    let first = tokio::spawn(async move { waiting.list_keys(keys(WAIT)).await });
    host.controls.entered.notified().await;
    let refused = stream::iter(0..CALLS).map(|_| {
        let mut client = client.clone();
        async move { client.list_keys(long()).await.unwrap_err().code() }
    });
    let refused: Vec<_> = refused.buffer_unordered(512).collect().await;
    assert!(
        refused.iter().all(|code| *code == Code::ResourceExhausted),
        "{refused:?}"
    );
    // Counted, and nothing more: in work is only the one that was let in.
    let metrics = get(&host, "/metrics").await;
    let method = "method=\"sammati.identity.v1.SessionService/ListKeys\"";
    for line in [
        format!("sammati_rpc_calls_total{{{method},code=\"RESOURCE_EXHAUSTED\"}} {CALLS}"),
        format!("sammati_rpc_in_flight{{{method}}} 1"),
    ] {
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    host.controls.release.notify_one();
    assert!(first.await.unwrap().is_ok());
    for _ in 0..64 {
        let mut client = client.clone();
        let answer = timeout(Duration::from_secs(20), client.list_keys(long())).await;
        assert!(answer.expect("the connection still carries bodies").is_ok());
    }
}
