//! A log is sealed while the services go on: they find by themselves the one that waited for it; and a database that is put
//! back to before that learns from both what it lost.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1::log::State;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::{ListLogsRequest, SealLogRequest};
use sammati_api::consent::v1::decision::Reason;
use sammati_kernel::SystemClock;
use sammati_log::checkpoint::Verifier;
use sammati_testkit::Port;
use sammati_tests::story::Story;
use sammati_tests::system::{Processes, Setting, program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::exported::export;
use crate::restored::{acknowledged_within, listed, persist, until_told};

/// The next log's process.
const NEXT: &str = "audit-next";

/// The log that is to go on.
struct Next {
    config: PathBuf,
    url: String,
    admin: u16,
}

/// Changes a configuration.
fn change(from: &Path, to: &Path, change: impl FnOnce(&mut toml::Table)) {
    let mut table: toml::Table = std::fs::read_to_string(from).unwrap().parse().unwrap();
    change(&mut table);
    std::fs::write(to, toml::to_string(&table).unwrap()).unwrap();
}

fn set(table: &mut toml::Table, part: &str, key: &str, value: &str) {
    let part = table.get_mut(part).and_then(toml::Value::as_table_mut).unwrap();
    part.insert(key.to_owned(), value.into());
}

impl Next {
    /// Makes it of the log that is there, and tells everybody of it.
    fn prepare(folder: &Path) -> Self {
        let Port { rpc, admin } = Port::free().unwrap();
        let url = format!("https://127.0.0.1:{rpc}");
        let config = folder.join("audit-next.toml");
        let database = |name: &str| format!("sqlite:{}", folder.join("data").join(name).display());
        let audit = folder.join("audit.toml");
        change(&audit, &config, |table| {
            set(table, "server", "listen", &format!("127.0.0.1:{rpc}"));
            set(table, "server", "admin_listen", &format!("127.0.0.1:{admin}"));
            set(table, "database", "url", "sqlite:data/audit-next.db");
            set(table, "service", "keys_database", "sqlite:audit-next-keys.db");
            set(table, "service", "follows", &database("audit.db"));
        });
        change(&audit, &audit, |table| {
            set(table, "service", "followed_by", &database("audit-next.db"));
        });
        for service in ["identity", "consent"] {
            let config = folder.join(format!("{service}.toml"));
            change(&config, &config, |table| set(table, "peers", "audit_next", &url));
        }
        Self { config, url, admin }
    }

    /// Until it says that it waits.
    async fn waits(&self) {
        for _ in 0..600 {
            if let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.admin)).await {
                let mut page = String::new();
                socket.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await.unwrap();
                socket.read_to_string(&mut page).await.unwrap();
                if page.contains("to be sealed") {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it did not come to wait");
    }
}

/// What a verb of consent says; it must end well.
fn verb(folder: &Path, args: &[&str]) -> String {
    let (verb, rest) = args.split_first().unwrap();
    let out = Command::new(program("sammati").unwrap())
        .args(["consent", verb, "--config"])
        .arg(folder.join("consent.toml"))
        .args(rest)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    said
}

/// What `doctor` says of the log with this configuration, whatever else it finds.
fn doctor(config: &Path) -> String {
    let mut command = Command::new(program("sammati").unwrap());
    let out = command
        .args(["audit", "doctor", "--config"])
        .arg(config)
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_o1_a_log_is_sealed_and_recover_asks_both() {
    let mut system = Processes::prepare(&Setting::new()).unwrap();
    let folder = system.addresses.folder.clone();
    let next = Next::prepare(&folder);
    system.launch_all().await.unwrap();
    let mut story = Story::new(&system.addresses, Arc::new(SystemClock)).unwrap();
    story.open().await.unwrap();
    let entry = story.people().await.unwrap().remove(0);
    let asha = story.enrol(&entry).await.unwrap();
    story.link(&asha, &["OPD-1", "LAB-1"]).await.unwrap();
    let early = acknowledged_within(&story, &asha, story.scope()).await;
    let late = acknowledged_within(&story, &asha, story.scope()).await;
    let saved = folder.join("consent.saved").display().to_string();
    verb(&folder, &["backup", "--to", &saved]);

    // One is taken back before the turn, the other after it.
    story.revoke(0, &asha, &[&early]).await.unwrap();
    until_told(&story, &asha, "consent.withdrawn", &early).await;
    system.add(NEXT, next.config.clone());
    let mut log = LogServiceClient::new(story.operator.audit());
    let mut first = log
        .list_logs(ListLogsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .logs;
    let first = first.remove(0);
    let year: i32 = first.name["logs/".len()..].split('h').next().unwrap().parse().unwrap();
    let successor = format!("logs/{}h1", year + 1);
    let seal = async {
        next.waits().await;
        for (config, what) in [
            (folder.join("audit.toml"), "a log waits to go on then".to_owned()),
            (
                next.config.clone(),
                format!("this log waits for {} to be sealed", first.origin),
            ),
        ] {
            let said = tokio::task::spawn_blocking(move || doctor(&config)).await.unwrap();
            assert!(said.contains(&what), "{what} is not in\n{said}");
        }
        let request = SealLogRequest {
            log: first.name.clone(),
            successor: successor.clone(),
        };
        log.seal_log(request).await.unwrap();
    };
    let (launched, ()) = tokio::join!(system.launch(NEXT), seal);
    launched.unwrap();
    story.revoke(0, &asha, &[&late]).await.unwrap();
    let mut beyond = system.addresses.clone();
    beyond.audit.clone_from(&next.url);
    let beyond = Story::new(&beyond, Arc::new(SystemClock)).unwrap();
    let told = async |event_type: &str| {
        for _ in 0..600 {
            let found = listed(&beyond, event_type).await.len();
            if found > 0 {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{event_type} did not reach the next log");
    };
    assert_eq!(told("consent.withdrawn").await, 1, "the first one is in the other log");
    let mut log = LogServiceClient::new(beyond.operator.audit());
    let second = log
        .list_logs(ListLogsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .logs
        .remove(0);
    assert_eq!((second.state(), &second.name), (State::Active, &successor));
    assert_eq!(second.predecessor, first.origin);

    // Her export is proved in both: what was given before the turn and taken back after it has events in each.
    let keys = [&first, &second].map(|log| Verifier::parse(&log.vkey).unwrap());
    let now = story.log_in(&asha).await.unwrap();
    let logs = export(&now, 0).await.logs(&keys);
    let both = BTreeSet::from([first.name.clone(), second.name.clone()]);
    assert_eq!((&logs[&late], logs[&early].len()), (&both, 1));

    system.kill("consent").await.unwrap();
    let said = verb(&folder, &["restore", "--replace", "--from", &saved, "--by", "the test"]);
    for given in [&early, &late] {
        let what = format!("consent: {given} was withdrawn, and is so again");
        assert!(said.contains(&what), "{what} is not in\n{said}");
    }
    system.launch("consent").await.unwrap();
    story.renew().await.unwrap();
    for given in [&early, &late] {
        let denied = persist(async || story.check(0, story.question(given)).await).await;
        assert_eq!(denied.reason(), Reason::ConsentRevoked);
    }
    told("admin.epoch_opened").await;
    system.stop().await;
}
