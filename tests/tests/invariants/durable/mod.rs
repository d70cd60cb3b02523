//! No byte of an acknowledgement leaves the socket before what it acknowledges is durable: on SQLite before the sync
//! returned that covers it, on Postgres before the answer to its COMMIT was there. Shown by the system calls of the
//! service itself, one request after another on a connection that is otherwise idle.

mod by_hand;
mod direct;
mod trace;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_kernel::{Clock, ConsentRequestId, SystemClock};
use sammati_tests::retry::until_answered;
use sammati_tests::story::{Person, Story};
use sammati_tests::system::{Processes, Setting, program};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use trace::{Asked, Call, parse, violations};

use crate::worlds::settings;

const REQUESTS: usize = 8;

/// The calls by which bytes reach the disk, the database and the callers.
const CALLS: &str = "trace=fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg,read,readv,recvfrom,recvmsg";

#[tokio::test(flavor = "multi_thread")]
async fn a1_c1_no_byte_of_an_acknowledgement_leaves_before_it_is_durable() {
    if !has_strace() {
        return;
    }
    for setting in settings() {
        let (calls, port, asked) = traced(setting, &[]).await;
        assert_eq!(violations(&calls, port, &asked), Vec::<String>::new());
    }
}

/// The control: a service whose syncs do nothing is found out, by each request.
#[tokio::test(flavor = "multi_thread")]
async fn a1_acknowledgements_without_a_sync_are_found_out() {
    if !has_strace() {
        return;
    }
    let (calls, port, asked) = traced(Setting::new(), &["-e", "inject=fdatasync,fsync:retval=0"]).await;
    let found = violations(&calls, port, &asked);
    assert_eq!(found.len(), REQUESTS, "{found:?}");
    assert!(
        found.iter().all(|wrong| wrong.ends_with("nothing made it durable")),
        "{found:?}"
    );
}

#[expect(clippy::disallowed_methods, reason = "a setting of the test suite itself")]
fn has_strace() -> bool {
    let found = std::process::Command::new("strace").arg("-V").output().is_ok();
    if !found {
        assert!(std::env::var("CI").is_err(), "no strace found: run scripts/machine.sh");
        eprintln!("SKIPPED: no strace found; run scripts/machine.sh to run this test");
    }
    found
}

/// A person denies requests, one after another, of a consent service under strace.
async fn traced(setting: Setting, options: &[&str]) -> (Vec<Call>, u16, Vec<Asked>) {
    let mut system = Processes::start(setting).await.unwrap();
    let mut story = Story::new(&system.addresses, Arc::new(SystemClock)).unwrap();
    story.open().await.unwrap();
    let entry = story.people().await.unwrap().remove(0);
    let person = story.enrol(&entry).await.unwrap();
    let mut requests = Vec::new();
    for _ in 0..REQUESTS {
        requests.push(story.ask(&person, story.scope()).await.unwrap().name);
    }
    system.kill("consent").await.unwrap();
    let folder = system.addresses.folder.clone();
    let service = launch("consent", &folder, options).await;
    // Her connection is made, and what HTTP/2 has to say at its beginning is said.
    for name in &requests {
        let request = api::GetConsentRequestRequest { name: name.clone() };
        let get = async || client(&person).get_consent_request(request.clone()).await;
        until_answered(get).await.unwrap();
    }
    let mut asked = Vec::new();
    for name in &requests {
        asked.push(deny(&story, &person, name.clone()).await);
    }
    // The connection is asked for something more once strace has written down what it answered last.
    let request = api::GetConsentRequestRequest {
        name: requests.remove(0),
    };
    client(&person).get_consent_request(request).await.unwrap();
    let port = port(&system.addresses.consent);
    let calls = parse(&stop(service, &folder).await);
    system.stop().await;
    (calls, port, asked)
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

fn client(person: &Person) -> ConsentRequestServiceClient<sammati_tests::caller::Wire> {
    ConsentRequestServiceClient::new(person.who.consent())
}

async fn deny(story: &Story, person: &Person, name: String) -> Asked {
    let id = ConsentRequestId::parse_name(&name).unwrap().to_vec();
    let request = api::DenyConsentRequestRequest {
        name,
        request_id: story.rid(),
        ..Default::default()
    };
    let from = SystemClock.now().0;
    client(person).deny_consent_request(request).await.unwrap();
    let to = SystemClock.now().0;
    Asked { from, to, id }
}

/// Starts the service and waits until it is ready; the child is the service itself.
async fn launch(service: &str, folder: &Path, options: &[&str]) -> Child {
    let log = folder.join(format!("{service}-traced.log"));
    let mut child = Command::new("strace")
        .args(["-D", "-f", "-ttt", "-T", "-yy", "-xx", "-s", "1048576", "-e", CALLS])
        .args(options)
        .arg("-o")
        .arg(folder.join("trace"))
        .arg(program("sammati").unwrap())
        .arg(service)
        .arg("--config")
        .arg(folder.join(format!("{service}.toml")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
    let ready = ready.unwrap().unwrap().unwrap_or_default();
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(ready.starts_with("ready:"), "{ready} {log}");
    child
}

/// Kills it, and waits until strace has written everything down.
async fn stop(mut service: Child, folder: &Path) -> String {
    let end = format!("{} ", service.id().unwrap());
    service.kill().await.unwrap();
    for _ in 0..1000 {
        let text = std::fs::read_to_string(folder.join("trace")).unwrap();
        // The first thread is the last to end.
        if text.lines().any(|line| line.starts_with(&end) && line.ends_with("+++")) {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("strace did not write the end of the service");
}
