//! What happens to connections: half-open handshakes, garbage, too many, strangers, draining.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::feed_service_client::FeedServiceClient;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_kernel::SystemClock;
use sammati_server::tls::{dialler, plain};
use sammati_server::{Config, channel, serve, serve_on};
use sammati_testkit::Authority;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::host::{Fake, Host, Settings, WAIT, config, keys, port};

/// How long a test waits for what comes after a second.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn half_open_handshakes_block_nobody() {
    let host = Host::tls("[server.limits]\nhandshake_seconds = 1").await;
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(TcpStream::connect(host.running.address).await.unwrap());
    }
    assert!(host.anonymous().await.list_keys(keys(0)).await.is_ok());
    for mut socket in silent {
        let closed = timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await;
        assert_eq!(closed.expect("it is hung up on").unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_gives_its_place_back() {
    // One place for each peer.
    let host = Host::tls("[server.limits]\nstream = 2\nunread_seconds = 1").await;
    let open = || {
        let (feed, receiver) = mpsc::unbounded_channel();
        host.controls.feeds.lock().unwrap().push(receiver);
        feed
    };
    let watch = |mut client: FeedServiceClient<Channel>| async move {
        client
            .watch_changes(api::WatchChangesRequest::default())
            .await
            .map(tonic::Response::into_inner)
    };
    let message = |length: usize| api::WatchChangesResponse {
        resume_token: "x".repeat(length),
        ..Default::default()
    };
    let consent = FeedServiceClient::new(host.channel(Some(&host.certificate("service/consent"))).await);
    let audit = FeedServiceClient::new(host.channel(Some(&host.certificate("service/audit"))).await);
    let quiet = open();
    let mut reader = watch(audit).await.unwrap();
    let stuck = open();
    let unread = watch(consent.clone()).await.unwrap();
    assert_eq!(
        watch(consent.clone()).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
    // More than any window that the client opened by itself.
    for _ in 0..64 {
        stuck.send(Ok(message(1 << 20))).unwrap();
    }

    timeout(PATIENCE, stuck.closed()).await.expect("the stream is ended");
    // The place is free again, on the same connection.
    let next = open();
    let mut again = watch(consent).await.unwrap();
    // One who reads may wait for as long as there is nothing to read.
    for (feed, stream) in [(&next, &mut again), (&quiet, &mut reader)] {
        feed.send(Ok(message(1))).unwrap();
        assert_eq!(stream.message().await.unwrap(), Some(message(1)));
    }
    drop(unread);
}

#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart() {
    let host = Host::tls("").await;
    let mut long = host.anonymous().await;
    let new = host.authority.issue("service/identity", &["127.0.0.1"]).unwrap();
    let wanted = CertificateDer::from_pem_slice(new.cert_pem.as_bytes()).unwrap();
    assert_ne!(host.shown().await, wanted);
    new.write(host.directory.path(), "s").unwrap();
    let taken_over = async { while host.shown().await != wanted {} };
    timeout(PATIENCE, taken_over).await.expect("the new one is shown");
    // What was open goes on.
    assert!(long.list_keys(keys(0)).await.is_ok());
}

/// Somebody who watches over a connection, and the stream's other end.
async fn watching(
    host: &Host,
    identity: &sammati_testkit::Identity,
) -> (
    Channel,
    tonic::Streaming<api::WatchChangesResponse>,
    mpsc::UnboundedSender<Result<api::WatchChangesResponse, tonic::Status>>,
) {
    let (feed, receiver) = mpsc::unbounded_channel();
    host.controls.feeds.lock().unwrap().push(receiver);
    let channel = host.channel(Some(identity)).await;
    let watch = api::WatchChangesRequest::default();
    let stream = FeedServiceClient::new(channel.clone()).watch_changes(watch).await;
    host.controls.entered.notified().await;
    (channel, stream.unwrap().into_inner(), feed)
}

#[tokio::test]
async fn a_connection_goes_when_its_time_is_over_and_its_calls_end_as_in_draining() {
    let host = Host::tls("[server.limits]\nconnection_seconds = 1").await;
    let (channel, mut stream, _feed) = watching(&host, &host.certificate("service/consent")).await;
    let mut client = SessionServiceClient::new(channel);
    let mut waiting = client.clone();
    let call = tokio::spawn(async move { waiting.list_keys(keys(WAIT)).await });
    host.controls.entered.notified().await;
    // The stream ends well: its reader goes on from its resume token.
    let ended = timeout(PATIENCE, stream.message()).await.expect("it ends");
    assert!(ended.unwrap().is_none());
    assert!(!call.is_finished());
    host.controls.release.notify_one();
    assert!(call.await.unwrap().is_ok(), "what was in work is finished");
    assert!(client.list_keys(keys(0)).await.is_ok(), "over a new connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_call_do_not_notice_that_their_connections_end() {
    /// Connections at once, and all that there are until the test is over.
    const CONNECTIONS: usize = 8;
    const ALL: usize = 4 * CONNECTIONS;
    let host = Host::tls("[server.limits]\nconnection_seconds = 1").await;
    let made = Arc::new(AtomicUsize::new(0));
    let channel = || {
        let (made, tls) = (made.clone(), host.tls_of_callers());
        let connect = dialler(move || {
            made.fetch_add(1, Ordering::SeqCst);
            tls.clone()
        });
        let endpoint = plain(&format!("https://{}", host.running.address)).unwrap();
        channel::Channel::from(endpoint.connect_with_connector_lazy(connect))
    };
    let callers = (0..CONNECTIONS).flat_map(|_| vec![channel(); 4]).map(|channel| {
        let (mut client, made) = (SessionServiceClient::new(channel), made.clone());
        tokio::spawn(async move {
            while made.load(Ordering::SeqCst) < ALL {
                client.list_keys(keys(0)).await?;
            }
            Ok::<_, tonic::Status>(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        timeout(PATIENCE, caller).await.expect("they end").unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_connection_outlasts_no_certificate_that_was_shown_on_it() {
    let host = Host::tls("").await;
    let until = sammati_kernel::Clock::now(&SystemClock).seconds() + 4;
    let until = until.try_into().unwrap();
    let identity = host.authority.issue_until("service/consent", &[], until).unwrap();
    let (channel, mut stream, _feed) = watching(&host, &identity).await;
    let ended = timeout(PATIENCE, stream.message()).await.expect("it ends");
    assert!(ended.unwrap().is_none());
    let mut client = SessionServiceClient::new(channel);
    assert!(client.list_keys(keys(0)).await.is_err(), "it may not come again");
}

#[tokio::test]
async fn a_connection_goes_when_the_authority_of_its_certificate_does() {
    let host = Host::tls("").await;
    let (channel, mut stream, _feed) = watching(&host, &host.certificate("service/consent")).await;
    Authority::new("sammati.test")
        .unwrap()
        .write(host.directory.path())
        .unwrap();
    let ended = timeout(PATIENCE, stream.message()).await.expect("it ends");
    assert!(ended.unwrap().is_none());
    let mut client = SessionServiceClient::new(channel);
    assert!(client.list_keys(keys(0)).await.is_err(), "it may not come again");
}

#[tokio::test]
async fn garbage_on_the_port_is_hung_up_on() {
    for host in [Host::tls("").await, Host::plaintext("").await] {
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 4096],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            let mut socket = TcpStream::connect(host.running.address).await.unwrap();
            // The other side may hang up while this is written.
            let _ = socket.write_all(garbage).await;
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
        }
        let mut admin = TcpStream::connect(host.running.admin_address).await.unwrap();
        let _ = admin.write_all(&[0; 64]).await;
        let _ = admin.read_to_end(&mut Vec::new()).await;
        host.running.shutdown().await;
    }
}

#[tokio::test]
async fn one_connection_too_many_is_closed() {
    let host = Host::tls("[server.limits]\nconnections = 2").await;
    let mut client = host.anonymous().await;
    let silent = TcpStream::connect(host.running.address).await.unwrap();
    let mut third = TcpStream::connect(host.running.address).await.unwrap();
    assert_eq!(third.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0);
    assert!(client.list_keys(keys(0)).await.is_ok());
    drop(silent);
}

#[tokio::test]
async fn a_certificate_of_another_authority_does_not_connect() {
    let host = Host::tls("").await;
    let stranger = Authority::new("sammati.test")
        .unwrap()
        .issue("operator/asha", &[])
        .unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(host.authority.pem()))
        .identity(Identity::from_pem(stranger.cert_pem, stranger.key_pem));
    let endpoint = Endpoint::from_shared(format!("https://{}", host.running.address))
        .unwrap()
        .tls_config(tls)
        .unwrap();
    // With TLS 1.3 the client learns of it at its first call.
    let called = match endpoint.connect().await {
        Ok(channel) => SessionServiceClient::new(channel)
            .list_keys(keys(0))
            .await
            .map(|_| ())
            .is_ok(),
        Err(_) => false,
    };
    assert!(!called);
}

#[tokio::test]
async fn plaintext_is_refused_where_others_can_reach_it() {
    #[derive(Deserialize)]
    struct Any {}
    let folder = tempfile::tempdir().unwrap();
    let text = "[server]\nlisten = \"0.0.0.0:0\"\nadmin_listen = \"127.0.0.1:0\"\ntrust_domain = \"sammati.test\"\n[service]\n";
    let error = Config::<Any>::parse(text, &folder.path().join("x.toml"))
        .map(|_| ())
        .unwrap_err();
    assert!(error.0.contains("insecure_plaintext"), "{error}");
    // The configuration says loopback, the listener is not: refused all the same.
    let config: Config<Settings> = config("", folder.path());
    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = serve_on::<Fake>(config, everywhere, port().await, Arc::new(SystemClock))
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(error.to_string().contains("plaintext is refused"), "{error}");
}

#[tokio::test]
async fn draining_finishes_calls_in_work_and_ends_streams() {
    let host = Host::tls("").await;
    let (feed, receiver) = mpsc::unbounded_channel();
    host.controls.feeds.lock().unwrap().push(receiver);
    let mut watcher = FeedServiceClient::new(host.channel(Some(&host.certificate("service/consent"))).await);
    let mut stream = watcher
        .watch_changes(api::WatchChangesRequest::default())
        .await
        .unwrap()
        .into_inner();
    host.controls.entered.notified().await;
    let mut client = host.anonymous().await;
    let call = tokio::spawn(async move { client.list_keys(keys(WAIT)).await });
    host.controls.entered.notified().await;

    let address = host.running.address;
    let ended = tokio::spawn(host.running.shutdown());
    // The stream ends well: its reader goes on elsewhere from its resume token.
    assert!(stream.message().await.unwrap().is_none());
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    host.controls.release.notify_one();
    assert!(call.await.unwrap().is_ok());
    ended.await.unwrap();
    drop(feed);
}

#[tokio::test]
async fn a_service_without_its_files_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let tls = "[server.tls]\ncertificate = \"s.pem\"\nkey = \"s-key.pem\"\nclient_ca = \"ca.pem\"";
    let config: Config<Settings> = config(tls, folder.path());
    let error = serve_on::<Fake>(config, port().await, port().await, Arc::new(SystemClock))
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(
        error.to_string().contains("server.tls.certificate") && error.to_string().contains("s.pem"),
        "{error}"
    );
}

#[tokio::test]
async fn sigterm_ends_a_service_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let (listen, admin) = (port().await.local_addr().unwrap(), port().await.local_addr().unwrap());
    let text = format!(
        "[server]\nlisten = \"{listen}\"\nadmin_listen = \"{admin}\"\ntrust_domain = \"sammati.test\"\n[service]\n"
    );
    let path = folder.path().join("identity.toml");
    std::fs::write(&path, text).unwrap();
    let served = tokio::spawn(async move { serve::<Fake>(&path).await });
    // The handler for the signal is in place before the service answers.
    while Endpoint::from_shared(format!("http://{listen}"))
        .unwrap()
        .connect()
        .await
        .is_err()
    {
        tokio::task::yield_now().await;
    }
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    served.await.unwrap().unwrap();
    assert!(TcpStream::connect(listen).await.is_err());
}
