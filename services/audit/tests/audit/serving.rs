//! The whole service over mTLS, and the relay that feeds it.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prometheus_client::registry::Registry;
use ring::signature::Ed25519KeyPair;
use sammati_api::audit::v1::event::Action;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::audit::v1::{self as audit, get_proof_request};
use sammati_api::types::v1::RetentionClass;
use sammati_audit::Audit;
use sammati_kernel::{Key, ManualClock, Micros, Reason, Refusal, Slot};
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::Verifier;
use sammati_log::hash::leaf_hash;
use sammati_server::event::{Draft, system};
use sammati_server::relay::Relay;
use sammati_server::{Config, Running, serve_on};
use sammati_store::{Command, EmbeddedMigrations, Keys, Location, Options, Store, View, embed_migrations};
use sammati_testkit::{Authority, Database};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// A source has tables of its own; these will do.
pub(crate) const SOURCE: EmbeddedMigrations = embed_migrations!("migrations/keys");

pub(crate) const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
trust_domain = "sammati.test"
[server.tls]
certificate = "audit.pem"
key = "audit-key.pem"
client_ca = "ca.pem"
[database]
url = "sqlite:audit.db"
[peers]
identity = "https://127.0.0.1:1"
[secrets]
directory = "."
[service]
origin = "sammati.test/audit"
keys_database = "sqlite:audit-keys.db"
"#;

/// Certificates and secrets, as an operator lays them out.
pub(crate) fn lay_out(folder: &Path) -> Authority {
    let authority = Authority::new("sammati.test").unwrap();
    authority.write(folder).unwrap();
    authority
        .issue("service/audit", &["127.0.0.1"])
        .unwrap()
        .write(folder, "audit")
        .unwrap();
    write_log_key(folder);
    std::fs::write(folder.join("kek"), [1; 32]).unwrap();
    std::fs::write(folder.join("lookup"), [2; 32]).unwrap();
    authority
}

/// A new key of a log.
pub(crate) fn write_log_key(folder: &Path) {
    let key = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(key.as_ref())
    );
    std::fs::write(folder.join("log_key.pem"), pem).unwrap();
}

pub(crate) async fn serve(folder: &Path) -> Running {
    serve_at(folder, ([127, 0, 0, 1], 0).into()).await
}

/// The same on the port that it had before.
pub(crate) async fn serve_at(folder: &Path, address: std::net::SocketAddr) -> Running {
    serve_as(folder, CONFIG, address).await
}

/// The same with the log and its keys in these databases.
pub(crate) async fn serve_over(folder: &Path, log: &Database, keys: &Database) -> Running {
    let config = CONFIG
        .replace("sqlite:audit.db", &log.url)
        .replace("sqlite:audit-keys.db", &keys.url);
    serve_as(folder, &config, ([127, 0, 0, 1], 0).into()).await
}

async fn serve_as(folder: &Path, config: &str, address: std::net::SocketAddr) -> Running {
    let config: Config<_> = Config::parse(config, &folder.join("audit.toml")).unwrap();
    let bind = |address| async move { TcpListener::bind(address).await.unwrap() };
    let admin = bind(([127, 0, 0, 1], 0).into()).await;
    let clock = ManualClock::at(Micros::from_seconds(1_795_305_600));
    serve_on::<Audit>(config, bind(address).await, admin, Arc::new(clock))
        .await
        .unwrap()
}

/// A channel that shows the certificate of `path`, if any.
pub(crate) fn channel(running: &Running, authority: &Authority, path: Option<&str>) -> Channel {
    channel_to(running.address, authority, path)
}

/// The same to whoever is there.
pub(crate) fn channel_to(address: std::net::SocketAddr, authority: &Authority, path: Option<&str>) -> Channel {
    endpoint_at(address, authority, path).connect_lazy()
}

/// What such a channel goes to.
pub(crate) fn endpoint(running: &Running, authority: &Authority, path: Option<&str>) -> Endpoint {
    endpoint_at(running.address, authority, path)
}

fn endpoint_at(address: std::net::SocketAddr, authority: &Authority, path: Option<&str>) -> Endpoint {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    if let Some(path) = path {
        let identity = authority.issue(path, &[]).unwrap();
        tls = tls.identity(Identity::from_pem(&identity.cert_pem, &identity.key_pem));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap()
}

/// Something that a service did; tells the event's id.
pub(crate) struct Did(pub(crate) Slot);

impl Command for Did {
    type Answer = String;
    const NAME: &'static str = "test.did";

    fn slot(&self) -> Slot {
        self.0
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<String, Refusal> {
        let draft = Draft::new(
            "consent.granted",
            Action::Create,
            RetentionClass::Consent,
            &system("consent"),
        );
        Ok(draft.emit(view).id.to_string())
    }
}

/// O1: what a service committed is in the log, each event once, though two relays send all of it; and it proves.
#[tokio::test(flavor = "multi_thread")]
async fn o1_every_committed_event_reaches_the_log_once() {
    let folder = tempfile::tempdir().unwrap();
    let authority = lay_out(folder.path());
    let running = serve(folder.path()).await;
    let location = Location::Sqlite(folder.path().join("consent.db"));
    let options = Options::new(location, Key::from_bytes([6; 32]));
    let clock = ManualClock::at(Micros::from_seconds(1_795_305_600));
    let source = Store::open(&options, Arc::new(clock), SOURCE).unwrap();

    let stop = CancellationToken::new();
    let relays: Vec<_> = (0..2)
        .map(|_| {
            let to = channel(&running, &authority, Some("service/consent"));
            let relay = Relay::new(source.clone(), to.into(), "consent", &mut Registry::default());
            tokio::spawn(relay.run(stop.clone()))
        })
        .collect();
    let commands = (0..300_u16).map(|n| source.apply(Did(Slot::new(n % 16))));
    let ids = futures::future::join_all(commands).await;

    let mut anyone = ProofServiceClient::new(channel(&running, &authority, None));
    let logs = LogServiceClient::new(channel(&running, &authority, None))
        .list_logs(audit::ListLogsRequest::default())
        .await;
    let log = logs.unwrap().into_inner().logs.remove(0);
    let verifiers = [Verifier::parse(&log.vkey).unwrap()];
    for id in ids {
        let event = Some(get_proof_request::Event::EventId(id.unwrap()));
        let wait = Some(prost_types::Duration { seconds: 10, nanos: 0 });
        let request = audit::GetProofRequest {
            event,
            wait,
            ..audit::GetProofRequest::default()
        };
        let proof = anyone.get_proof(request).await.unwrap().into_inner();
        let bundle: Bundle = proof.proof.parse().unwrap();
        bundle.verify(leaf_hash(&proof.leaf), &verifiers).unwrap();
    }
    stop.cancel();
    futures::future::join_all(relays).await;
    let request = audit::GetCheckpointRequest {
        log: log.name.clone(),
        size: 0,
        min_cosignatures: 0,
    };
    let head = anyone.get_checkpoint(request.clone()).await.unwrap().into_inner();
    assert_eq!(head.size, 300);
    running.shutdown().await;

    // Another process goes on with the same log.
    let running = serve(folder.path()).await;
    let mut anyone = ProofServiceClient::new(channel(&running, &authority, None));
    assert_eq!(anyone.get_checkpoint(request).await.unwrap().into_inner(), head);
    running.shutdown().await;
}

/// Z1: only the services that the contract names append.
#[tokio::test(flavor = "multi_thread")]
async fn z1_others_do_not_append() {
    let folder = tempfile::tempdir().unwrap();
    let authority = lay_out(folder.path());
    let running = serve(folder.path()).await;
    for (path, reason) in [
        (None, Reason::TokenMissing),
        (Some("operator/asha"), Reason::CallerKind),
        (Some("service/sandbox"), Reason::CallerKind),
        (Some("participant/city-hospital"), Reason::CallerKind),
    ] {
        let mut client = LogServiceClient::new(channel(&running, &authority, path));
        let refused = client
            .append_events(audit::AppendEventsRequest::default())
            .await
            .unwrap_err();
        assert_eq!(
            sammati_server::error::refusal_of(&refused).unwrap().reason,
            reason,
            "{path:?}"
        );
    }
    running.shutdown().await;
}
