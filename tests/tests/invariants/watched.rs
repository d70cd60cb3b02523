//! A1, A2: whoever watches the log gets each index once, in order and none that no checkpoint covers, while the audit
//! service and the watcher are killed in turn; each goes on where it was.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::SystemClock;
use sammati_testkit::port;
use sammati_tests::proofs::{self, Proved};
use sammati_tests::retry::until_answered;
use sammati_tests::story::Story;
use sammati_tests::system::{Processes, Setting, program};
use sammati_tests::{caller::Addresses, direct};
use tokio::process::{Child, Command};

use crate::worlds::settings;

/// How often each is killed.
const KILLS: usize = 4;

/// Lines that are waited for before the next kill: it hits in the middle of something.
const LINES: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a1_a2_a_watch_goes_on_through_kills_of_both_ends() {
    for setting in settings() {
        watched(setting).await;
    }
}

async fn watched(setting: Setting) {
    let mut system = Processes::prepare(&setting).unwrap();
    let tiles = serve_tiles(system.config("audit"));
    system.launch_all().await.unwrap();
    let addresses = system.addresses.clone();
    let journal = addresses.folder.join("watched");
    let launch = || launch(&addresses, &tiles, &journal);

    let done = Cell::new(false);
    let killing = async {
        let mut watcher = launch();
        for _ in 0..KILLS {
            for is_service in [true, false] {
                grows(&journal, lines(&journal).len() + LINES).await;
                if is_service {
                    system.kill("audit").await.unwrap();
                    system.launch("audit").await.unwrap();
                } else {
                    watcher.kill().await.unwrap();
                    watcher = launch();
                }
            }
        }
        done.set(true);
        watcher
    };
    let (appended, mut watcher) = tokio::join!(append(&addresses, &done), killing);

    let story = Story::new(&addresses, Arc::new(SystemClock)).unwrap();
    let newest = until_answered(async || {
        let checkpoint = proofs::checkpoint(&story).await;
        checkpoint.map_err(|error| tonic::Status::unavailable(error.to_string()))
    });
    let leaves = proofs::verify_growth(&story, &newest.await.unwrap(), 0)
        .await
        .unwrap()
        .leaves;
    until(&journal, &format!("event {} ", leaves.len() - 1)).await;
    watcher.kill().await.unwrap();
    let told = judged(&lines(&journal), &leaves);
    assert!(
        appended.iter().all(|id| told.contains(id)),
        "all that was acknowledged was told"
    );
    system.stop().await;
}

/// Appends, a few events each time, until it is over; tells the ids of what was acknowledged.
async fn append(addresses: &Addresses, done: &Cell<bool>) -> Vec<String> {
    let client = direct::appender(&addresses.folder, &addresses.audit).unwrap();
    let mut ids = Vec::new();
    while !done.get() {
        let events: Vec<_> = (0..3).map(|_| direct::event()).collect();
        let told = until_answered(async || direct::append(&client, &events, false).await);
        ids.extend(told.await.unwrap().places.into_iter().map(|place| place.event_id));
        // As callers come: the log is signed each second, not after each of them.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    ids
}

/// What the watcher was told, held against the log: tells the ids of the events.
fn judged(lines: &[String], leaves: &[Proved]) -> Vec<String> {
    let mut told = Vec::new();
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["event", index, id, _] => {
                assert_eq!(index.parse(), Ok(told.len()), "the next one, once: {line}");
                let leaf = leaves.get(told.len()).map(|leaf| leaf.event_id.as_str());
                assert!(leaf.is_none_or(|leaf| leaf == *id), "{line}: the log has {leaf:?}");
                told.push((*id).to_owned());
            }
            ["checkpoint", size, _] => assert_eq!(size.parse(), Ok(told.len()), "it covers what was told: {line}"),
            _ => panic!("{line}"),
        }
    }
    assert!(told.len() >= leaves.len());
    told
}

fn launch(addresses: &Addresses, tiles: &str, journal: &Path) -> Child {
    let mut watcher = Command::new(program("watcher").unwrap());
    watcher.args(["--url", &addresses.audit, "--tiles", tiles, "--folder"]);
    watcher.arg(&addresses.folder).arg("--journal").arg(journal);
    watcher.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

/// Has the audit service serve its tiles, and tells where.
fn serve_tiles(config: &Path) -> String {
    let mut table: toml::Table = std::fs::read_to_string(config).unwrap().parse().unwrap();
    let address = format!("127.0.0.1:{}", port::free().unwrap());
    let service = table["service"].as_table_mut().unwrap();
    service.insert("tiles_listen".to_owned(), address.clone().into());
    std::fs::write(config, toml::to_string(&table).unwrap()).unwrap();
    address
}

/// The whole lines that are there.
fn lines(journal: &PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn grows(journal: &PathBuf, mark: usize) {
    for _ in 0..3000 {
        if lines(journal).len() >= mark {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing more is told: {:?}", lines(journal).last());
}

async fn until(journal: &PathBuf, beginning: &str) {
    for _ in 0..3000 {
        if lines(journal).iter().any(|line| line.starts_with(beginning)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{beginning} is not told: {:?}", lines(journal).last());
}
