//! A1, A2: two processes append to one log and sign it; one is stopped in the middle, again and again, and goes on while
//! the other is far ahead. There is one root for each size, and what was acknowledged is where it was said to be.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_kernel::SystemClock;
use sammati_log::checkpoint::{Checkpoint, Verifier, open};
use sammati_testkit::development::DatabaseKind;
use sammati_tests::caller::channel;
use sammati_tests::direct::{self, Told};
use sammati_tests::proofs;
use sammati_tests::retry::until_answered;
use sammati_tests::story::Story;
use sammati_tests::system::Processes;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use crate::worlds::settings;

/// How often one is stopped.
const ROUNDS: usize = 5;

/// Calls that the other answers while one is stopped.
const CALLS: usize = 10;

/// A second audit process on the databases of the first.
async fn second(system: &Processes) -> (Child, String) {
    let text = std::fs::read_to_string(system.config("audit")).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    let server = table["server"].as_table_mut().unwrap();
    for port in ["listen", "admin_listen"] {
        server.insert(port.to_owned(), "127.0.0.1:0".into());
    }
    table["service"].as_table_mut().unwrap().remove("tiles_listen");
    let config = system.addresses.folder.join("audit-2.toml");
    std::fs::write(&config, toml::to_string(&table).unwrap()).unwrap();
    let mut child = Command::new(system.binary())
        .args(["audit", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let line = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .next_line()
        .await
        .unwrap()
        .unwrap();
    let address = line.rsplit(' ').next().unwrap();
    assert!(line.starts_with("ready: audit on "), "{line}");
    (child, format!("https://{address}"))
}

/// Appends three events until there is an answer; one that was lost is asked for by the same ids.
async fn append(client: &LogServiceClient<Channel>) -> Told {
    let events: Vec<_> = (0..3).map(|_| direct::event()).collect();
    let answer = until_answered(async || {
        // While one is stopped it answers nothing at all.
        let answer = tokio::time::timeout(Duration::from_secs(40), direct::append(client, &events, true)).await;
        answer.unwrap_or_else(|_| Err(tonic::Status::unavailable("no answer")))
    });
    answer.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_two_appenders_of_which_one_is_paused_make_one_history() {
    let shared = |database: &DatabaseKind| matches!(database, DatabaseKind::Postgres { .. });
    for mut setting in settings().into_iter().filter(|setting| shared(&setting.database)) {
        setting.replicas = 1;
        let mut system = Processes::start(setting).await.unwrap();
        let (mut other, url) = second(&system).await;
        let folder = system.addresses.folder.clone();
        let client = |url: &str| direct::appender(&folder, url).unwrap();
        let (one, two) = (client(&system.addresses.audit), client(&url));

        let done = Cell::new(false);
        let appending = async {
            let mut told = Vec::new();
            while !done.get() {
                told.push(append(&one).await);
            }
            told
        };
        let pausing = async {
            let mut told = Vec::new();
            for _ in 0..ROUNDS {
                // It is in the middle of something: it always is.
                told.push(append(&two).await);
                system.signal("audit", Signal::SIGSTOP).unwrap();
                for _ in 0..CALLS {
                    told.push(append(&two).await);
                }
                system.signal("audit", Signal::SIGCONT).unwrap();
                told.push(append(&two).await);
            }
            done.set(true);
            told
        };
        let (by_one, mut told) = tokio::join!(appending, pausing);
        assert!(!by_one.is_empty(), "the one that was stopped went on");
        told.extend(by_one);

        // Every index once, and one root for each size, whoever signed it.
        let log = two
            .clone()
            .list_logs(audit::ListLogsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .logs
            .remove(0);
        let keys = [Verifier::parse(&log.vkey).unwrap()];
        let notes: Vec<_> = told.iter().map(|told| told.checkpoint.clone()).collect();
        let (mut places, mut roots) = (BTreeMap::new(), BTreeMap::<u64, Checkpoint>::new());
        for told in told {
            let checkpoint = open(&told.checkpoint, &keys).unwrap();
            for place in told.places {
                let index = place.index;
                assert!(index < checkpoint.size(), "it covers what it came with");
                let before = places.insert(index, place);
                assert!(before.is_none(), "index {index} was given twice");
            }
            let size = checkpoint.size();
            if let Some(before) = roots.insert(size, checkpoint.clone()) {
                assert_eq!(before, checkpoint, "two roots for {size} leaves");
            }
        }
        // Whoever is asked has one root for each size that was told, and no other than was told.
        assert!(roots.len() > ROUNDS, "{} sizes were signed", roots.len());
        for url in [&system.addresses.audit, &url] {
            let mut signer = ProofServiceClient::new(channel(&folder, None, url).unwrap());
            for (size, told) in &roots {
                let request = audit::GetCheckpointRequest {
                    log: log.name.clone(),
                    size: *size as i64,
                    min_cosignatures: 0,
                };
                let note = signer.get_checkpoint(request).await.unwrap().into_inner().note;
                assert_eq!(open(&note, &keys).unwrap(), *told, "by {url}, of {size} leaves");
            }
        }
        // One history goes through all of them, and each leaf of it is there once: no hole, and none where another was told.
        let story = Story::new(&system.addresses, Arc::new(SystemClock)).unwrap();
        let grown = proofs::verify_growth(&story, &notes[0], 0).await.unwrap();
        proofs::one_history(&story, &notes, &grown.checkpoint).await.unwrap();
        let ids: BTreeSet<_> = grown.leaves.iter().map(|leaf| &leaf.event_id).collect();
        assert_eq!(ids.len() as u64, grown.size, "an event is there twice");
        for (index, place) in places {
            let leaf = &grown.leaves[usize::try_from(index).unwrap()];
            assert_eq!(
                (&leaf.event_id, leaf.hash.0.to_vec()),
                (&place.event_id, place.leaf_hash)
            );
        }
        other.kill().await.unwrap();
        system.stop().await;
    }
}
