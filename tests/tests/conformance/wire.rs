//! What comes over the wire and is no good call: refused or bounded, and the next good call works.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::notification_service_client::NotificationServiceClient;
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_tests::caller::channel;
use sammati_tests::story::Who;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::raw::{Connection, address};
use crate::verdict;
use crate::world::{World, run};

const SERVICES: [&str; 4] = ["identity", "consent", "audit", "sandbox"];

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A good call to each service, each on a new connection.
async fn all_is_well(world: &World) {
    for (service, path) in [
        ("identity", "/sammati.identity.v1.SessionService/ListKeys"),
        ("consent", "/sammati.consent.v1.ArtefactService/ListKeys"),
        ("audit", "/sammati.audit.v1.LogService/ListLogs"),
        ("sandbox", "/sammati.sandbox.v1.SandboxService/ListPeople"),
    ] {
        let certificate = (service == "sandbox").then_some("operator");
        let good = async {
            let mut connection = Connection::open(world, service, certificate).await;
            connection.post(path, &HashMap::new(), &[]).await
        };
        timeout(PATIENCE, good)
            .await
            .expect(service)
            .unwrap_or_else(|status| panic!("{service}: {status}"));
    }
}

#[test]
fn a_message_above_4_mib_is_refused() {
    run(async |world| {
        let mut client = SessionServiceClient::new(Who::new(&world.story.addresses, None).expect("nobody").identity());
        for mebibytes in [5, 64] {
            let page_token = "kanarie ".repeat(mebibytes << 17);
            let refused = client
                .list_keys(identity::ListKeysRequest {
                    page_size: 1,
                    page_token,
                })
                .await;
            // What is far too long the server may hang up on before it has read it.
            let status = refused.expect_err("too long");
            if mebibytes == 5 {
                let said = verdict::read(&status).unwrap_or_else(|bad| panic!("{bad}"));
                assert!(said.is(Code::InvalidArgument, "FIELD_INVALID"), "{}", said.line());
            }
        }
        all_is_well(world).await;
    });
}

#[test]
fn a_frame_that_lies_about_its_length_is_refused() {
    run(async |world| {
        let mut connection = Connection::open(world, "identity", None).await;
        // A message of the wrong type, and one that is cut off: both are no message of this method.
        for message in [&[0xff; 40][..], &[0x0a, 0x7f, 1, 2]] {
            let path = "/sammati.identity.v1.SessionService/CreateParticipantSession";
            let status = connection
                .post(path, &HashMap::new(), message)
                .await
                .expect_err("no message");
            let said = verdict::read(&status).unwrap_or_else(|bad| panic!("{bad}"));
            assert!(said.is(Code::InvalidArgument, "FIELD_INVALID"), "{}", said.line());
        }
        all_is_well(world).await;
    });
}

#[test]
fn half_open_handshakes_block_nobody() {
    run(async |world| {
        let mut silent = Vec::new();
        for n in 0..250_usize {
            let mut socket = TcpStream::connect(address(world, SERVICES[n % 4]))
                .await
                .expect("a connection");
            // Some say nothing, some begin a ClientHello and stop.
            if n % 2 == 0 {
                socket
                    .write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
                    .await
                    .expect("a few bytes");
            }
            silent.push(socket);
        }
        all_is_well(world).await;
    });
}

#[test]
fn garbage_is_hung_up_on() {
    run(async |world| {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
        for service in SERVICES {
            for garbage in [
                &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
                &[0xff; 8192],
                &[0; 64],
                preface,
            ] {
                let mut socket = TcpStream::connect(address(world, service)).await.expect("a connection");
                // The other side may hang up while this is written.
                let _ = socket.write_all(garbage).await;
                let mut said = Vec::new();
                let _ = timeout(PATIENCE, socket.read_to_end(&mut said)).await.expect("hung up");
                assert!(said.len() < 64, "{service} talks to strangers: {said:?}");
            }
        }
        all_is_well(world).await;
    });
}

#[test]
fn plaintext_is_not_answered() {
    run(async |world| {
        for service in SERVICES {
            let url = format!("http://{}", address(world, service));
            let plain = Endpoint::from_shared(url)
                .expect("a URL")
                .timeout(PATIENCE)
                .connect_lazy();
            let answer = SessionServiceClient::new(plain)
                .list_keys(identity::ListKeysRequest::default())
                .await;
            assert!(answer.is_err(), "{service} answers in plaintext");
        }
        all_is_well(world).await;
    });
}

#[test]
fn headers_above_16_kib_are_refused() {
    run(async |world| {
        let path = "/sammati.identity.v1.SessionService/ListKeys";
        for kibibytes in [17, 60, 1024] {
            let mut connection = Connection::open(world, "identity", None).await;
            let headers = HashMap::from([("x-long", "a".repeat(kibibytes * 1024))]);
            let answer = timeout(PATIENCE, connection.post(path, &headers, &[]))
                .await
                .expect("an end");
            assert!(answer.is_err(), "{kibibytes} KiB of headers were read");
        }
        all_is_well(world).await;
    });
}

#[test]
fn a_method_that_is_not_there_is_told_to_nobody() {
    run(async |world| {
        for service in SERVICES {
            for path in [
                "/sammati.consent.v1.ConsentService/Nothing",
                "/x",
                "/",
                "/grpc.health.v1.Health/Check",
            ] {
                let mut anyone = Connection::open(world, service, None).await;
                let status = anyone.post(path, &HashMap::new(), &[]).await.expect_err(path);
                let said = verdict::read(&status).unwrap_or_else(|bad| panic!("{path}: {bad}"));
                assert!(
                    said.is(Code::Unauthenticated, "TOKEN_MISSING"),
                    "{service}{path}: {}",
                    said.line()
                );
                let mut operator = Connection::open(world, service, Some("operator")).await;
                let status = operator.post(path, &HashMap::new(), &[]).await.expect_err(path);
                let said = verdict::read(&status).unwrap_or_else(|bad| panic!("{path}: {bad}"));
                assert!(
                    said.is(Code::PermissionDenied, "CALLER_KIND"),
                    "{service}{path}: {}",
                    said.line()
                );
            }
        }
    });
}

#[test]
fn a_reader_that_never_reads_holds_only_its_own_bound() {
    /// One peer has half of the streams of a service, and 256 on one connection.
    const MOST: usize = 512;
    run(async |world| {
        // A peer of its own, so that nobody else's streams are counted.
        let stranger = world
            .strangers
            .iter()
            .find(|c| c.name == "another hip")
            .expect("another hip");
        let channels: Vec<_> = (0..3)
            .map(|_| channel(&world.story.addresses.folder, Some("outsider"), world.url("consent")).expect("a channel"))
            .collect();
        let token = &stranger.who.tokens["consent"];
        let open = futures::stream::iter(0..MOST + 64).map(|n| {
            let bearer = sammati_tests::caller::Bearer::new(token);
            let mut client = NotificationServiceClient::with_interceptor(channels[n % 3].clone(), bearer);
            async move {
                client
                    .watch_notifications(consent::WatchNotificationsRequest::default())
                    .await
            }
        });
        let (held, refused): (Vec<_>, Vec<_>) = open
            .buffer_unordered(64)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .partition(Result::is_ok);
        assert!(
            held.len() <= MOST && !refused.is_empty(),
            "{} streams are open",
            held.len()
        );
        for status in refused.into_iter().filter_map(Result::err) {
            let said = verdict::read(&status).unwrap_or_else(|bad| panic!("{bad}"));
            assert!(said.is(Code::ResourceExhausted, "OVERLOADED"), "{}", said.line());
        }
        // Things happen meanwhile, and others hear of them.
        let request = world
            .story
            .ask(&world.person, world.story.scope())
            .await
            .expect("asking works");
        let heard = world.story.notification(&world.person.who, &request.name);
        timeout(PATIENCE, heard)
            .await
            .expect("in time")
            .expect("a notification");
        all_is_well(world).await;
        drop(held);
    });
}
