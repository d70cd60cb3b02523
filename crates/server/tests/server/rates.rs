//! How often a participant may call, by its row and by the configuration; and who is not counted.

use std::time::Duration;

use sammati_api::identity::v1 as api;
use sammati_server::error::refusal_of;
use sammati_server::rate::Rates;
use tonic::Code;

use crate::calls::get;
use crate::host::{Host, bearing, keys, reason};

const LIMITS: &str = "[server.limits]\nparticipant_checks = 4\nparticipant_requests = 2";
const LIMITED: (Code, &str) = (Code::ResourceExhausted, "RATE_LIMITED");

/// Of so many calls at once, how many go through.
async fn checks(host: &Host, token: &str, calls: usize) -> usize {
    let (mut client, mut passed) = (host.anonymous().await, 0);
    for _ in 0..calls {
        passed += usize::from(client.list_keys(bearing(keys(0), token)).await.is_ok());
    }
    passed
}

async fn requests(host: &Host, token: &str, calls: usize) -> usize {
    let (mut client, mut passed) = (host.anonymous().await, 0);
    for _ in 0..calls {
        let revoke = api::RevokeSessionsRequest::default();
        passed += usize::from(client.revoke_sessions(bearing(revoke, token)).await.is_ok());
    }
    passed
}

#[tokio::test]
async fn a_participant_is_refused_above_its_rate_and_told_when_to_come_again() {
    let host = Host::tls(LIMITS).await;
    let token = host.token(&host.claims());
    assert_eq!(checks(&host, &token, 20).await, 8, "twice the rate at once");
    assert_eq!(requests(&host, &token, 20).await, 4, "counted apart");
    let mut client = host.anonymous().await;
    let status = client.list_keys(bearing(keys(0), &token)).await.unwrap_err();
    let refusal = refusal_of(&status).unwrap();
    assert_eq!((status.code(), refusal.reason.as_str()), LIMITED);
    assert_eq!(refusal.retry_after, Some(Duration::from_millis(250)));
    host.clock.advance(Duration::from_millis(250));
    assert_eq!(checks(&host, &token, 5).await, 1, "as it was told");
    // Another token of the same participant is no way around it, and another participant has calls of its own.
    let mut again = host.claims();
    again.jti = "2".into();
    assert_eq!(checks(&host, &host.token(&again), 5).await, 0);
    again.sub = "participants/IN27002".into();
    assert_eq!(checks(&host, &host.token(&again), 20).await, 8);
    let told = get(&host, "/metrics").await;
    // 12 and 16, then one, 4, 5 and 12.
    for line in [
        "sammati_rpc_rate_limited_total{rate=\"checks\"} 34",
        "sammati_rpc_rate_limited_total{rate=\"requests\"} 16",
    ] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
}

#[tokio::test]
async fn what_is_not_allowed_counts_too() {
    let host = Host::tls(LIMITS).await;
    let token = host.token(&host.claims());
    let mut client = host.anonymous().await;
    let mut said = Vec::new();
    for _ in 0..6 {
        let exchange = api::ExchangeTokenRequest::default();
        said.push(reason(client.exchange_token(bearing(exchange, &token)).await));
    }
    let kind = (Code::PermissionDenied, "CALLER_KIND");
    assert_eq!(said, [kind, kind, kind, kind, LIMITED, LIMITED]);
    assert_eq!(requests(&host, &token, 3).await, 0);
}

#[tokio::test]
async fn its_row_says_how_often_and_a_change_is_taken_over() {
    let host = Host::tls(LIMITS).await;
    let token = host.token(&host.claims());
    let row = |checks, requests| *host.controls.rates.lock().unwrap() = Rates { checks, requests };
    row(1, 0);
    assert_eq!(
        (checks(&host, &token, 9).await, requests(&host, &token, 9).await),
        (2, 4)
    );
    row(3, 1);
    host.clock.advance(Duration::from_secs(60));
    assert_eq!(
        (checks(&host, &token, 9).await, requests(&host, &token, 9).await),
        (6, 2)
    );
}

#[tokio::test]
async fn persons_operators_and_services_are_not_counted() {
    let host = Host::tls(LIMITS).await;
    let mut hers = host.claims();
    hers.sub = "accounts/0192f0c1-7b1a-7000-8000-000000000002".into();
    hers.app = Some("participants/IN27001".into());
    hers.auth_time = Some(hers.iat);
    hers.roles.clear();
    assert_eq!(checks(&host, &host.token(&hers), 30).await, 30);
    for path in ["operator/asha", "service/consent"] {
        let mut client = host.sessions(path).await;
        for _ in 0..30 {
            assert!(client.list_keys(keys(0)).await.is_ok(), "{path}");
        }
    }
    assert!(
        get(&host, "/metrics")
            .await
            .contains("sammati_rpc_rate_limited_total{rate=\"checks\"} 0")
    );
}

#[tokio::test]
async fn a_participant_that_has_no_token_yet_is_counted_by_its_certificate() {
    let host = Host::tls(LIMITS).await;
    let (mut client, mut passed) = (host.sessions("participant/IN27001").await, 0);
    for _ in 0..20 {
        passed += usize::from(client.list_keys(keys(0)).await.is_ok());
    }
    assert_eq!(passed, 8);
    assert_eq!(
        checks(&host, &host.token(&host.claims()), 5).await,
        0,
        "with its other calls"
    );
}

#[tokio::test]
async fn a_configuration_without_a_bound_bounds_nobody_but_whose_row_says_so() {
    let host = Host::tls("[server.limits]\nparticipant_checks = 0\nparticipant_requests = 0").await;
    let token = host.token(&host.claims());
    assert_eq!(checks(&host, &token, 3000).await, 3000);
    *host.controls.rates.lock().unwrap() = Rates { checks: 2, requests: 0 };
    host.clock.advance(Duration::from_secs(1));
    assert_eq!(
        (checks(&host, &token, 9).await, requests(&host, &token, 200).await),
        (4, 200)
    );
}
