//! The side doors: reflection beside the services, health and metrics on the admin port.

use std::collections::BTreeSet;

use sammati_tests::caller::Bearer;
use sammati_tests::story::Who;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::contract::rpcs;
use crate::world::{World, run};

const SERVERS: [&str; 4] = ["identity", "consent", "audit", "sandbox"];

/// The services that a server must serve.
fn services(server: &str) -> BTreeSet<String> {
    let own = rpcs().into_iter().filter(|rpc| rpc.server() == server);
    own.map(|rpc| rpc.method.parent_service().full_name().to_owned())
        .collect()
}

/// Lists the services by one version of reflection, and describes each; a macro, since the versions' types differ.
macro_rules! reflected {
    ($version:ident, $wire:expr) => {{
        use pb::server_reflection_request::MessageRequest;
        use pb::server_reflection_response::MessageResponse;
        use tonic_reflection::pb::$version as pb;
        let mut client = pb::server_reflection_client::ServerReflectionClient::new($wire);
        let mut ask = async |question: MessageRequest| {
            let request = pb::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(question),
            };
            let mut answers = client
                .server_reflection_info(tokio_stream::once(request))
                .await
                .expect("a stream")
                .into_inner();
            answers
                .message()
                .await
                .expect("an answer")
                .and_then(|answer| answer.message_response)
                .expect("one")
        };
        let listed = match ask(MessageRequest::ListServices(String::new())).await {
            MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|s| s.name).collect(),
            other => panic!("not a list: {other:?}"),
        };
        for name in &listed {
            match ask(MessageRequest::FileContainingSymbol(String::clone(name))).await {
                MessageResponse::FileDescriptorResponse(files) => assert!(!files.file_descriptor_proto.is_empty()),
                other => panic!("{name} is not described: {other:?}"),
            }
        }
        let listed: BTreeSet<String> = listed;
        listed
    }};
}

#[test]
fn both_versions_of_reflection_describe_every_service() {
    run(async |world| {
        let nobody = Who::new(&world.story.addresses, None).expect("nobody");
        for server in SERVERS {
            let wire = || nobody.wire(server, world.url(server));
            for listed in [reflected!(v1, wire()), reflected!(v1alpha, wire())] {
                let ours: BTreeSet<_> = listed
                    .iter()
                    .filter(|name| name.starts_with("sammati."))
                    .cloned()
                    .collect();
                assert_eq!(ours, services(server), "{server}");
            }
        }
    });
}

#[test]
fn health_is_on_the_admin_port_by_service() {
    run(async |world| {
        for server in SERVERS {
            let url = format!("http://{}", world.admin(server));
            let channel = Endpoint::from_shared(url)
                .expect("a URL")
                .connect()
                .await
                .expect("the admin port");
            let mut client = HealthClient::with_interceptor(channel, Bearer::default());
            let mut check = async |service: &str| {
                let request = HealthCheckRequest {
                    service: service.to_owned(),
                };
                client
                    .check(request)
                    .await
                    .map(|answer| HealthCheckResponse::status(answer.get_ref()))
            };
            assert_eq!(check("").await.expect("health"), ServingStatus::Serving, "{server}");
            for service in services(server) {
                assert_eq!(
                    check(&service).await.expect("health"),
                    ServingStatus::Serving,
                    "{service}"
                );
            }
            assert_eq!(
                check("sammati.nothing.v1.Nothing").await.expect_err("unknown").code(),
                Code::NotFound
            );
        }
    });
}

/// Fetches a page of the admin port.
pub(crate) async fn page(world: &World, server: &str, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(world.admin(server)).await.expect("the admin port");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    (code, body.to_owned())
}

#[test]
fn the_admin_port_says_that_it_lives_and_is_ready() {
    run(async |world| {
        for server in SERVERS {
            for path in ["/livez", "/readyz"] {
                assert_eq!(page(world, server, path).await.0, 200, "{server}{path}");
            }
            assert_eq!(page(world, server, "/nothing").await.0, 404);
        }
    });
}

#[test]
fn every_metric_is_in_the_table_of_metrics_and_shown_where_that_says() {
    run(async |world| {
        let mut shown = BTreeSet::new();
        for server in SERVERS {
            let text = page(world, server, "/metrics").await.1;
            let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            shown.extend(types.map(|line| format!("{line} {server}")));
        }
        let table = include_str!("../../../docs/METRICS.md");
        let mut told = BTreeSet::new();
        for row in table.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let (name, kind) = (cells[1].trim_matches('`'), cells[2]);
            let services = if cells[3] == "all" {
                SERVERS.join(", ")
            } else {
                cells[3].to_owned()
            };
            for server in services.split(", ") {
                told.insert(format!("{name} {kind} {server}"));
                // Audit has a second database.
                if server == "audit" && name.starts_with("store_") {
                    told.insert(format!("audit_keys_{name} {kind} {server}"));
                }
            }
        }
        // The counters of a method come with its first call, those of a witness with the first witness.
        let later = ["sammati_rpc_", "audit_cosignatures ", "audit_witness_failures "];
        let missing = told
            .difference(&shown)
            .filter(|one| !later.iter().any(|name| one.starts_with(name)));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new(), "told and not shown");
        let untold = shown.difference(&told);
        assert_eq!(untold.collect::<Vec<_>>(), Vec::<&String>::new(), "shown and not told");
    });
}

#[test]
fn metrics_can_be_read() {
    run(async |world| {
        for server in SERVERS {
            let (code, text) = page(world, server, "/metrics").await;
            assert_eq!(code, 200);
            assert!(text.trim_end().ends_with("# EOF"), "{server}");
            let mut calls = 0;
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{server}: {line}"));
                assert!(value.parse::<f64>().is_ok(), "{server}: {line}");
                let bare = name.split('{').next().unwrap_or_default();
                assert!(
                    bare.chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                    "{line}"
                );
                calls += usize::from(name.contains("sammati."));
            }
            assert!(calls > 0, "{server} counts no calls");
        }
    });
}
