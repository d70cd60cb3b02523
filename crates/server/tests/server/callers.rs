//! Who is let in: certificates and tokens against the contract's options (Z1).

use std::time::Duration;

use sammati_api::identity::v1 as api;
use sammati_server::token::{Acting, Claims, Confirmation};
use tonic::Code::{PermissionDenied, Unauthenticated};

use crate::host::{Host, bearing, keys, reason, signing_key, x5t};

fn revoke() -> api::RevokeSessionsRequest {
    api::RevokeSessionsRequest::default()
}

fn exchange() -> api::ExchangeTokenRequest {
    api::ExchangeTokenRequest::default()
}

#[tokio::test]
async fn a_certificate_says_who_calls() {
    let host = Host::tls("").await;
    for (path, id) in [
        ("operator/asha", "operators/asha"),
        ("service/consent", "services/consent"),
        ("participant/IN27001", "participants/IN27001"),
        ("king/asha", "anyone"),
    ] {
        let answer = host.sessions(path).await.list_keys(keys(0)).await.unwrap();
        assert_eq!(answer.into_inner().next_page_token, id);
    }
    assert_eq!(
        host.anonymous()
            .await
            .list_keys(keys(0))
            .await
            .unwrap()
            .into_inner()
            .next_page_token,
        "anyone"
    );
}

#[tokio::test]
async fn a_method_answers_only_the_callers_its_contract_names() {
    let host = Host::tls("").await;
    assert!(
        host.sessions("operator/asha")
            .await
            .revoke_sessions(revoke())
            .await
            .is_ok()
    );
    assert!(
        host.sessions("service/consent")
            .await
            .exchange_token(exchange())
            .await
            .is_ok()
    );
    let kind = (PermissionDenied, "CALLER_KIND");
    assert_eq!(
        reason(host.sessions("operator/asha").await.exchange_token(exchange()).await),
        kind
    );
    assert_eq!(
        reason(host.sessions("service/sandbox").await.exchange_token(exchange()).await),
        kind
    );
    assert_eq!(
        reason(host.sessions("service/consent").await.revoke_sessions(revoke()).await),
        kind
    );
    // A participant's certificate alone opens nothing but what is open to anyone.
    assert_eq!(
        reason(
            host.sessions("participant/IN27001")
                .await
                .revoke_sessions(revoke())
                .await
        ),
        kind
    );
    assert_eq!(
        reason(host.anonymous().await.revoke_sessions(revoke()).await),
        (Unauthenticated, "TOKEN_MISSING")
    );
}

#[tokio::test]
async fn a_method_without_a_contract_is_refused() {
    let host = Host::tls("").await;
    let mut other = api::account_service_client::AccountServiceClient::new(
        host.channel(Some(&host.certificate("operator/asha"))).await,
    );
    let answer = other.get_account(api::GetAccountRequest::default()).await;
    assert_eq!(reason(answer), (PermissionDenied, "CALLER_KIND"));
}

#[tokio::test]
async fn a_token_makes_an_actor() {
    let host = Host::tls("").await;
    let token = host.token(&host.claims());
    let mut client = host.anonymous().await;
    let answer = client.list_keys(bearing(keys(0), &token)).await.unwrap();
    assert_eq!(answer.into_inner().next_page_token, "participants/IN27001");
    assert!(client.revoke_sessions(bearing(revoke(), &token)).await.is_ok());
    let researcher = host.token(&Claims {
        roles: vec!["RESEARCHER".into()],
        ..host.claims()
    });
    assert_eq!(
        reason(client.revoke_sessions(bearing(revoke(), &researcher)).await),
        (PermissionDenied, "CALLER_KIND")
    );
}

#[tokio::test]
async fn z1_a_token_opens_nothing_to_a_certificate_that_is_not_named_with_it() {
    let host = Host::tls("").await;
    let acting = host.token(&Claims {
        act: Some(Acting {
            sub: "services/consent".into(),
        }),
        ..host.claims()
    });
    let kind = (PermissionDenied, "CALLER_KIND");
    let mut consent = host.sessions("service/consent").await;
    // Its contract names a HIP, and no service beside it.
    assert_eq!(reason(consent.revoke_sessions(bearing(revoke(), &acting)).await), kind);
    // Its contract names this service, and no HIP that it acts for.
    assert_eq!(reason(consent.exchange_token(bearing(exchange(), &acting)).await), kind);
    assert!(consent.list_keys(bearing(keys(0), &acting)).await.is_ok());
    // An operator is a certificate: with a token it is neither of the two.
    let mut operator = host.sessions("operator/asha").await;
    let token = host.token(&host.claims());
    assert_eq!(reason(operator.revoke_sessions(bearing(revoke(), &token)).await), kind);
}

#[tokio::test]
async fn a_bad_token_is_refused_even_where_none_is_needed() {
    let host = Host::tls("").await;
    let good = host.claims();
    let stranger = sammati_server::token::issue(&signing_key(), &good).unwrap();
    let bent = host.token(&good).replace('.', "..");
    let claims = |change: &dyn Fn(&mut Claims)| {
        let mut claims = good.clone();
        change(&mut claims);
        host.token(&claims)
    };
    let missing = [
        stranger,
        bent,
        "nonsense".to_owned(),
        claims(&|c| c.aud = "consent".into()),
        claims(&|c| c.iss = "https://elsewhere.example".into()),
        claims(&|c| c.sub = "kings/asha".into()),
        claims(&|c| c.roles = vec!["KING".into()]),
        claims(&|c| {
            c.cnf = Some(Confirmation {
                x5t_s256: "AAAA".into(),
            })
        }),
        claims(&|c| {
            c.act = Some(Acting {
                sub: "services/consent".into(),
            })
        }),
        host.signing.sign("link-token+jwt", &good).unwrap(),
    ];
    let mut client = host.anonymous().await;
    for token in missing {
        assert_eq!(
            reason(client.list_keys(bearing(keys(0), &token)).await),
            (Unauthenticated, "TOKEN_MISSING")
        );
    }
    let expired = [claims(&|c| c.exp = c.iat), claims(&|c| c.nbf = Some(c.iat + 5))];
    for token in expired {
        assert_eq!(
            reason(client.list_keys(bearing(keys(0), &token)).await),
            (Unauthenticated, "TOKEN_EXPIRED")
        );
    }
}

#[tokio::test]
async fn a_remembered_token_still_expires_and_still_ends() {
    let host = Host::tls("").await;
    let (token, other) = (
        host.token(&host.claims()),
        host.token(&Claims {
            sid: None,
            ..host.claims()
        }),
    );
    let mut client = host.anonymous().await;
    for token in [&token, &other, &token] {
        assert!(client.list_keys(bearing(keys(0), token)).await.is_ok());
    }
    host.controls.ended.lock().unwrap().insert(host.claims().sid.unwrap());
    assert_eq!(
        reason(client.list_keys(bearing(keys(0), &token)).await),
        (Unauthenticated, "TOKEN_REVOKED")
    );
    assert!(client.list_keys(bearing(keys(0), &other)).await.is_ok());
    host.clock.advance(Duration::from_secs(300));
    assert_eq!(
        reason(client.list_keys(bearing(keys(0), &other)).await),
        (Unauthenticated, "TOKEN_EXPIRED")
    );
}

#[tokio::test]
async fn a_token_is_good_from_its_holder_alone() {
    let host = Host::tls("").await;
    let hospital = host.certificate("participant/IN27001");
    let bound = host.token(&Claims {
        cnf: Some(Confirmation {
            x5t_s256: x5t(&hospital),
        }),
        ..host.claims()
    });
    let acting = host.token(&Claims {
        act: Some(Acting {
            sub: "services/consent".into(),
        }),
        ..host.claims()
    });
    let bare = host.token(&host.claims());
    let channel = host.channel(Some(&hospital)).await;
    let mut own = api::session_service_client::SessionServiceClient::new(channel);
    assert!(own.list_keys(bearing(keys(0), &bound)).await.is_ok());
    let mut consent = host.sessions("service/consent").await;
    let answer = consent.list_keys(bearing(keys(0), &acting)).await.unwrap();
    assert_eq!(answer.into_inner().next_page_token, "participants/IN27001");

    let missing = (Unauthenticated, "TOKEN_MISSING");
    // The same name on another certificate, another participant, another service, a service that forwards.
    for (path, token) in [
        ("participant/IN27001", &bound),
        ("participant/IN27002", &bare),
        ("service/audit", &acting),
        ("operator/asha", &acting),
        ("service/consent", &bare),
    ] {
        assert_eq!(
            reason(host.sessions(path).await.list_keys(bearing(keys(0), token)).await),
            missing,
            "{path}"
        );
    }
}
