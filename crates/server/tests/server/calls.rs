//! What happens to a call: deadline, panic, shedding, messages that cannot be read.

use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use sammati_server::error;
use sammati_server::token::Claims;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::host::{Host, PANIC, WAIT, bearing, keys, reason};

/// Calls ListKeys by hand, for what a tonic client would not send.
async fn raw(host: &Host, body: Vec<u8>, headers: &[(&'static str, &str)]) -> Option<Status> {
    let io = TokioIo::new(TcpStream::connect(host.running.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!(
        "http://{}/sammati.identity.v1.SessionService/ListKeys",
        host.running.address
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(Full::new(Bytes::from(body))).unwrap())
        .await
        .unwrap();
    let (head, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return Some(status);
    }
    let trailers: Option<HeaderMap> = body.collect().await.unwrap().trailers().cloned();
    Status::from_header_map(&trailers?)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(message);
    body
}

fn reason_of(status: Option<Status>) -> (Code, &'static str) {
    reason::<()>(Err(status.expect("a status")))
}

#[tokio::test]
async fn a_deadline_that_passes_is_deadline_exceeded() {
    let host = Host::plaintext("").await;
    let status = raw(&host, framed(&keys(WAIT).encode_to_vec()), &[("grpc-timeout", "20m")]).await;
    assert_eq!(reason_of(status), (Code::DeadlineExceeded, "DEADLINE"));
    let status = raw(&host, framed(&[]), &[("grpc-timeout", "soon")]).await;
    assert_eq!(reason_of(status), (Code::InvalidArgument, "FIELD_INVALID"));
}

#[tokio::test]
async fn what_cannot_be_read_is_an_invalid_argument() {
    let host = Host::plaintext("").await;
    let five_mebibytes = vec![0; 5 << 20];
    for body in [
        framed(b"\xff\xff\xff"),
        framed(&five_mebibytes),
        vec![],
        vec![1, 0, 0, 0, 1, 0],
    ] {
        assert_eq!(
            reason_of(raw(&host, body, &[]).await),
            (Code::InvalidArgument, "FIELD_INVALID")
        );
    }
    let odd = raw(
        &host,
        framed(&keys(0).encode_to_vec()),
        &[("authorization", "Basic eA==")],
    )
    .await;
    assert_eq!(reason_of(odd), (Code::Unauthenticated, "TOKEN_MISSING"));
    assert_eq!(
        raw(&host, framed(&keys(0).encode_to_vec()), &[]).await.unwrap().code(),
        Code::Ok
    );
}

#[tokio::test]
async fn a_panic_is_internal_and_costs_nobody_else_anything() {
    let host = Host::tls("").await;
    let mut client = host.anonymous().await;
    assert_eq!(
        reason(client.list_keys(keys(PANIC)).await),
        (Code::Internal, "INTERNAL")
    );
    assert!(client.list_keys(keys(0)).await.is_ok());
    assert_eq!(
        reason(client.list_keys(keys(-1)).await),
        (Code::InvalidArgument, "FIELD_INVALID")
    );
}

#[tokio::test]
async fn what_is_too_much_is_shed_and_told_when_to_come_back() {
    let host = Host::tls("[server.limits]\nanonymous = 2").await;
    let client = host.anonymous().await;
    let mut waiting = client.clone();
    let first = tokio::spawn(async move { waiting.list_keys(keys(WAIT)).await });
    host.controls.entered.notified().await;
    // Two in all, so one for each peer: this address has it.
    let status = client.clone().list_keys(keys(0)).await.unwrap_err();
    let refusal = error::refusal_of(&status).unwrap();
    assert_eq!(
        (status.code(), refusal.reason.as_str()),
        (Code::ResourceExhausted, "OVERLOADED")
    );
    assert!(refusal.retry_after.is_some());
    // Somebody with a certificate is not of the anonymous class.
    assert!(host.sessions("operator/asha").await.list_keys(keys(0)).await.is_ok());
    host.controls.release.notify_one();
    assert!(first.await.unwrap().is_ok());
    assert!(client.clone().list_keys(keys(0)).await.is_ok());
}

#[tokio::test]
async fn a_token_that_somebody_made_up_is_as_none() {
    let host = Host::tls("[server.limits]\nanonymous = 2").await;
    let client = host.anonymous().await;
    let good = host.token(&host.claims());
    let call = |token: &str| {
        let (mut client, request) = (client.clone(), bearing(keys(0), token));
        async move { client.list_keys(request).await }
    };
    assert!(call(&good).await.is_ok());
    let forged = format!("{}.{}", good.rsplit_once('.').unwrap().0, "A".repeat(86));
    assert_eq!(reason(call(&forged).await), (Code::Unauthenticated, "TOKEN_MISSING"));
    let mut waiting = client.clone();
    let first = tokio::spawn(async move { waiting.list_keys(keys(WAIT)).await });
    host.controls.entered.notified().await;
    // The one place of this address is taken: of those who have shown nothing, and of nobody else.
    for token in ["junk", &forged] {
        assert_eq!(reason(call(token).await), (Code::ResourceExhausted, "OVERLOADED"));
    }
    assert!(call(&good).await.is_ok(), "one that was seen before");
    let unseen = host.token(&Claims {
        jti: "2".into(),
        ..host.claims()
    });
    assert_eq!(
        reason(call(&unseen).await),
        (Code::ResourceExhausted, "OVERLOADED"),
        "it may be anybody's"
    );
    host.controls.release.notify_one();
    assert!(first.await.unwrap().is_ok());
    // It is verified in that place and goes on in another: while it waits there, the first is free.
    let mut waiting = client.clone();
    let second = tokio::spawn(async move { waiting.list_keys(bearing(keys(WAIT), &unseen)).await });
    host.controls.entered.notified().await;
    assert!(client.clone().list_keys(keys(0)).await.is_ok());
    host.controls.release.notify_one();
    assert!(second.await.unwrap().is_ok());
}

#[tokio::test]
async fn the_admin_port_tells_health_and_counts_calls() {
    let host = Host::tls("").await;
    let mut client = host.anonymous().await;
    let _ = client.list_keys(keys(PANIC)).await;
    let admin = Endpoint::from_shared(format!("http://{}", host.running.admin_address)).unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(admin.connect().await.unwrap());
    for service in ["", "sammati.identity.v1.SessionService"] {
        let request = tonic_health::pb::HealthCheckRequest {
            service: service.to_owned(),
        };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    }
    assert!(get(&host, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&host, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(&host, "/else").await.starts_with("HTTP/1.1 404"));
    let metrics = get(&host, "/metrics").await;
    let line = "sammati_rpc_calls_total{method=\"sammati.identity.v1.SessionService/ListKeys\",code=\"INTERNAL\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn it_is_ready_while_all_that_it_needs_is() {
    let host = Host::plaintext("").await;
    let shows = async |wanted: &str| while !get(&host, "/readyz").await.ends_with(wanted) {};
    let (storage, feed) = (&host.controls.storage, &host.controls.feed);
    shows("\r\n\r\nready\n").await;
    storage.say(Err("the database is away".to_owned()));
    shows("not ready: the database is away\n").await;
    feed.say(Err("no word from identity".to_owned()));
    shows("not ready: the database is away; no word from identity\n").await;
    storage.say(Ok(()));
    shows("not ready: no word from identity\n").await;
    feed.say(Ok(()));
    shows("\r\n\r\nready\n").await;
}

pub(crate) async fn get(host: &Host, path: &str) -> String {
    let mut socket = TcpStream::connect(host.running.admin_address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn reflection_tells_what_is_served_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let host = Host::tls("").await;
    let channel = host.channel(None).await;
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut stream = client
        .server_reflection_info(futures::stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let answer = format!("{:?}", stream.message().await.unwrap().unwrap());
    assert!(answer.contains("sammati.identity.v1.SessionService"), "{answer}");
    assert!(!answer.contains("sammati.consent.v1.ConsentService"), "{answer}");

    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned()),
        ),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut stream = client
        .server_reflection_info(futures::stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let answer = format!("{:?}", stream.message().await.unwrap().unwrap());
    assert!(answer.contains("FileDescriptorResponse"), "{answer}");
}
