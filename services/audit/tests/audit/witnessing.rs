//! A2: what was signed is remembered by others, and a log that does not know what they remember freezes.

use std::net::SocketAddr;
use std::sync::Arc;

use sammati_api::audit::v1::proof_service_server::ProofService;
use sammati_api::audit::v1::{self as audit, ExportArchiveRequest};
use sammati_audit::http;
use sammati_audit::log::Log;
use sammati_audit::rows::CheckpointRow;
use sammati_audit::witness::{self, Book};
use sammati_audit::witnesses::Witnesses;
use sammati_kernel::{Caller, Clock, Key, Reason};
use sammati_log::cosignature::{Cosigner, Witness, cosignatures, split_note};
use sammati_log::hash::EMPTY_ROOT;
use sammati_log::witness::AddCheckpoint;
use sammati_server::post::Post;
use sammati_store::{Location, Options, Store};
use sammati_testkit::databases::Database;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Audit, everywhere, of, said, some_event};
use crate::http::{get, post};
use crate::parts::{Taken, take, unpack, whole};

/// A witness in this process.
pub(crate) struct Running {
    address: SocketAddr,
    cosigner: Cosigner,
    database: Database,
    logs: Vec<(String, String)>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

fn cosigner(name: &str) -> Cosigner {
    let mut der = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    ];
    der.extend([7; 32]);
    Cosigner::from_pkcs8(name, &der).unwrap()
}

impl Running {
    /// Of the logs of `audit`.
    pub(crate) async fn start(audit: &Audit, name: &str) -> Self {
        let logs = vec![(audit.log.origin().to_owned(), audit.log.vkey())];
        let database = match audit.is_postgres() {
            true => Database::postgres().unwrap(),
            false => Database::sqlite(),
        };
        Self::on(audit, name, database, logs, ([127, 0, 0, 1], 0).into()).await
    }

    async fn on(
        audit: &Audit,
        name: &str,
        database: Database,
        logs: Vec<(String, String)>,
        address: SocketAddr,
    ) -> Self {
        let location = Location::parse(&database.url).unwrap();
        let options = Options {
            lanes: 1,
            partitions: Some(1),
            time_only_orders: true,
            ..Options::new(location, Key::from_bytes([8; 32]))
        };
        let store = loop {
            match Store::open(&options, Arc::new(audit.clock.clone()), witness::MIGRATIONS) {
                Ok(store) => break store,
                // One that is ending still holds the file for a moment.
                Err(error) if error.to_string().contains("held by another") => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let keys = |vkey: &String| vec![sammati_log::checkpoint::Verifier::parse(vkey).unwrap()];
        let known = logs.iter().map(|(origin, vkey)| (origin.clone(), keys(vkey)));
        let book = Arc::new(Book::new(store, cosigner(name), known.collect()));
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        Self {
            address,
            cosigner: cosigner(name),
            database,
            logs,
            served: tokio::spawn(witness::serve(book, listener, stop.clone())),
            stop,
        }
    }

    pub(crate) fn key(&self) -> Witness {
        self.cosigner.witness().clone()
    }

    fn post(&self) -> Post {
        Post::new(&format!("http://{}/add-checkpoint", self.address), None).unwrap()
    }

    /// Ends it and starts it again on its database.
    async fn restart(self, audit: &Audit) -> Self {
        self.stop.cancel();
        self.served.await.unwrap();
        let (name, address) = (self.cosigner.witness().name().to_owned(), self.address);
        Self::on(audit, &name, self.database, self.logs, address).await
    }
}

pub(crate) fn all_of(witnesses: &[&Running], required: usize) -> Witnesses {
    Witnesses::new(witnesses.iter().map(|w| (w.key(), w.post())).collect(), required)
}

/// The witnesses whose cosignatures are in a note.
fn on(note: &str, witnesses: &[&Running]) -> Vec<String> {
    let keys: Vec<_> = witnesses.iter().map(|w| w.key()).collect();
    let (text, lines) = split_note(note).unwrap();
    let found = cosignatures(text, lines, &keys).unwrap();
    let mut names: Vec<_> = found.into_iter().map(|one| one.witness).collect();
    names.sort();
    names
}

async fn ask(audit: &Audit, size: i64, min_cosignatures: i32) -> Result<audit::Checkpoint, sammati_kernel::Refusal> {
    let request = audit::GetCheckpointRequest {
        log: audit.log.name(),
        size,
        min_cosignatures,
    };
    said(audit.rpc.get_checkpoint(of(Caller::ANYONE, request)).await)
}

async fn grow(audit: &Audit) -> CheckpointRow {
    audit.append_unsigned(vec![some_event(1), some_event(2)]).await.unwrap();
    audit.log.newest().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_checkpoints_are_cosigned_and_the_cosignatures_served() {
    for audit in everywhere().await {
        let (one, two) = (
            Running::start(&audit, "w.example/1").await,
            Running::start(&audit, "w.example/2").await,
        );
        let audit = audit.restart_witnessed(all_of(&[&one, &two], 1)).await;
        let first = grow(&audit).await;
        audit.log.cosign().await.unwrap();
        let both = ["w.example/1", "w.example/2"];
        let found = ask(&audit, 0, 2).await.unwrap();
        assert_eq!(
            (found.size, on(&found.note, &[&one, &two])),
            (2, both.map(str::to_owned).to_vec())
        );
        // In a proof and over HTTP too.
        let proof = audit.prove(0, 2).await.unwrap().proof;
        let bundle: sammati_log::bundle::Bundle = proof.parse().unwrap();
        assert_eq!(on(&bundle.checkpoint_note, &[&one, &two]).len(), 2);
        // In what a person lists, and in each line of an export.
        let (_, head) = crate::subject::whole(&audit, 1, 50).await.unwrap();
        assert_eq!(on(&head.checkpoint, &[&one, &two]).len(), 2);
        let exported = audit.select_in(2).await;
        assert_eq!(exported.len(), 2);
        for line in exported {
            let bundle: sammati_log::bundle::Bundle = line["proof"].as_str().unwrap().parse().unwrap();
            assert_eq!(on(&bundle.checkpoint_note, &[&one, &two]).len(), 2);
        }

        // One is away: what has both is served to who asks for both.
        let only_one = all_of(&[&one], 1);
        one.stop.cancel();
        one.served.await.unwrap();
        let second = grow(&audit).await;
        audit.log.cosign().await.unwrap();
        assert_eq!(ask(&audit, 0, 1).await.unwrap().size, second.size as i64);
        assert_eq!(ask(&audit, 0, 2).await.unwrap().size, first.size as i64);
        assert_eq!(ask(&audit, 0, 0).await.unwrap().size, second.size as i64);
        let refused = ask(&audit, second.size as i64, 2).await.unwrap_err();
        assert_eq!(refused.reason, Reason::CosignaturesMissing);
        assert_eq!(ask(&audit, 0, 3).await.unwrap_err().reason, Reason::CosignaturesMissing);
        let refused = ask(&audit, 0, 17).await.unwrap_err();
        assert_eq!(refused.violations.iter().next().unwrap().field, "min_cosignatures");

        // It brings its cosignature by itself, later.
        let (text, _) = split_note(&second.note).unwrap();
        let bring = async |size: u64, cosignature: String| {
            let request = audit::AddCosignatureRequest {
                log: audit.log.name(),
                size: size as i64,
                cosignature,
            };
            said(audit.rpc.add_cosignature(of(Caller::ANYONE, request)).await)
        };
        let line = one.cosigner.cosign(text, 1_795_305_700);
        let refused = bring(second.size, line.replace("w.example/1", "w.example/9"))
            .await
            .unwrap_err();
        assert_eq!(refused.reason, Reason::CosignatureInvalid);
        assert_eq!(
            bring(first.size, line.clone()).await.unwrap_err().reason,
            Reason::CosignatureInvalid
        );
        let refused = bring(second.size + 1, line.clone()).await.unwrap_err();
        assert_eq!(refused.reason, Reason::SizeConflict);
        let brought = bring(second.size, line.clone()).await.unwrap();
        assert_eq!(brought.note, ask(&audit, 0, 2).await.unwrap().note);
        let size = audit.log.newest().await.unwrap().size;
        assert_eq!(size, second.size + 1, "it is in the log that it was brought");
        assert_eq!(bring(second.size, line).await.unwrap(), brought);
        assert_eq!(audit.log.newest().await.unwrap().size, size, "once");
        let events = audit.log.leaf(second.size).await.unwrap().unwrap();
        assert_eq!(events.header().event_type, "audit.cosigned");
        // Only those count that are witnesses of it now.
        let audit = audit.restart_witnessed(only_one).await;
        let refused = ask(&audit, second.size as i64, 2).await.unwrap_err();
        assert_eq!(refused.reason, Reason::CosignaturesMissing);
        assert_eq!(ask(&audit, second.size as i64, 1).await.unwrap().note, brought.note);
        two.stop.cancel();
    }
}

/// An archive has the cosignatures that there were; who goes on with it gets no other ones.
#[tokio::test(flavor = "multi_thread")]
async fn a2_an_archive_keeps_the_cosignatures_that_it_began_with() {
    for audit in everywhere().await {
        let (one, two) = (
            Running::start(&audit, "w.example/1").await,
            Running::start(&audit, "w.example/2").await,
        );
        let audit = audit.restart_witnessed(all_of(&[&one, &two], 1)).await;
        let events = (0..300).map(|n| some_event((n % 7) as u8));
        audit.append_unsigned(events.collect()).await.unwrap();
        crate::succession::seal(&audit, "logs/next").await.unwrap();
        let signed = audit.log.newest().await.unwrap();
        let (text, _) = split_note(&signed.note).unwrap();
        let bring = async |line: String| {
            let request = audit::AddCosignatureRequest {
                log: audit.log.name(),
                size: signed.size as i64,
                cosignature: line,
            };
            said(audit.rpc.add_cosignature(of(Caller::ANYONE, request)).await).unwrap()
        };
        bring(one.cosigner.cosign(text, 1_795_305_700)).await;
        // More was signed since, and nobody cosigned it.
        let newer = audit.log.newest().await.unwrap();
        let rpc = audit.rpc.clone().in_parts_of(256);
        let before = take(&rpc, whole(&audit)).await;
        bring(two.cosigner.cosign(text, 1_795_305_701)).await;
        let after = take(&rpc, whole(&audit)).await;
        let note = |taken: &Taken| {
            let part = taken.files.values().next().unwrap();
            String::from_utf8(unpack(part)["checkpoint"].clone()).unwrap()
        };
        assert_eq!(on(&note(&before), &[&one, &two]), ["w.example/1"]);
        assert_eq!(on(&note(&after), &[&one, &two]), ["w.example/1", "w.example/2"]);
        assert!(newer.size > signed.size && note(&after).starts_with(text));
        let like = ExportArchiveRequest {
            checkpoint: note(&before),
            ..whole(&audit)
        };
        assert_eq!(take(&rpc, like).await, before);
        one.stop.cancel();
        two.stop.cancel();
    }
}

/// What cannot be recorded is not kept.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_cosignature_and_its_record_are_one() {
    for audit in everywhere().await {
        let one = Running::start(&audit, "w.example/1").await;
        let first = grow(&audit).await;
        let audit = audit.restart_witnessed(all_of(&[&one], 1)).await;
        audit.log.freeze("for the test".to_owned()).await;
        let (text, _) = split_note(&first.note).unwrap();
        let request = audit::AddCosignatureRequest {
            log: audit.log.name(),
            size: first.size as i64,
            cosignature: one.cosigner.cosign(text, 1_795_305_700),
        };
        let refused = said(audit.rpc.add_cosignature(of(Caller::ANYONE, request)).await).unwrap_err();
        assert_eq!(refused.reason, Reason::LogFrozen);
        assert_eq!(audit.log.cosignatures(first.size).await.unwrap(), []);
        one.stop.cancel();
    }
}

/// The log is not signed after a start before enough witnesses said what they know.
#[tokio::test(flavor = "multi_thread")]
async fn a2_nothing_is_signed_before_the_witnesses_were_heard() {
    for audit in everywhere().await {
        let one = Running::start(&audit, "w.example/1").await;
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let away = Post::new(&format!("http://{gone}/add-checkpoint"), None).unwrap();
        let audit = audit
            .restart_witnessed(Witnesses::new(vec![(one.key(), away)], 1))
            .await;
        let placed = audit.append_unsigned(vec![some_event(1)]).await.unwrap();
        assert_eq!(placed.events[0].index, 0, "it takes events all the same");
        assert_eq!(
            audit.log.newest().await.unwrap_err().reason,
            Reason::CosignaturesMissing
        );
        assert_eq!(audit.log.head().await.unwrap().signed, None);
        let audit = audit.restart_witnessed(all_of(&[&one], 1)).await;
        assert_eq!(audit.log.newest().await.unwrap().size, 1);
        one.stop.cancel();
    }
}

/// The witness's side, by the letter: statuses, the size in a 409, and that it remembers over a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_witness_cosigns_one_history() {
    for audit in everywhere().await {
        let one = Running::start(&audit, "w.example/1").await;
        let (small, large) = (grow(&audit).await, grow(&audit).await);
        let proof = audit.log.prove_consistency(small.size, &large).await.unwrap();
        let send = |one: &Running, old: u64, proof: &[sammati_log::Hash32], note: &str| {
            let request = AddCheckpoint {
                old,
                proof: proof.to_vec(),
                note: note.to_owned(),
            };
            post(one.address, "/add-checkpoint", request.to_string().as_bytes())
        };
        let said = send(&one, 0, &[], &small.note);
        let line = String::from_utf8(said.body).unwrap();
        let (text, _) = split_note(&small.note).unwrap();
        assert_eq!(
            (said.status, one.key().verify(text, &line).unwrap()),
            (200, Some(audit.clock.now().seconds() as u64))
        );
        let conflict = send(&one, 0, &[], &large.note);
        assert_eq!(
            (
                conflict.status,
                conflict.header("content-type"),
                conflict.body.as_slice()
            ),
            (409, "text/x.tlog.size", &b"2\n"[..])
        );
        assert_eq!(send(&one, small.size, &[], &large.note).status, 422);
        assert_eq!(send(&one, small.size, &[EMPTY_ROOT], &large.note).status, 422);
        let one = one.restart(&audit).await;
        assert_eq!(send(&one, 0, &[], &large.note).status, 409, "it remembers");
        assert_eq!(send(&one, small.size, &proof, &large.note).status, 200);
        assert_eq!(send(&one, large.size, &[], &large.note).status, 200, "again");
        let conflict = send(&one, small.size, &[], &small.note);
        assert_eq!(
            (conflict.status, conflict.body.as_slice()),
            (409, &b"4\n"[..]),
            "never back"
        );
        let changed = large.note.replace("\n4\n", "\n5\n");
        assert_eq!(send(&one, 4, &[], &changed).status, 403);
        assert_eq!(send(&one, 5, &[], &large.note).status, 400);
        assert_eq!(
            send(&one, 4, &[], &large.note.replace("sammati.test", "other.test")).status,
            404
        );
        assert_eq!(post(one.address, "/add-checkpoint", b"old x\n\n").status, 400);
        assert_eq!(post(one.address, "/add-checkpoint", &[0xff; 300]).status, 400);
        assert_eq!(get(one.address, "/add-checkpoint").status, 405);
        assert_eq!(post(one.address, "/", b"").status, 404);
        one.stop.cancel();
    }
}

/// Many requests at once: the sizes that were cosigned never go back, and what is remembered is the largest.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_witness_never_goes_back() {
    for audit in everywhere().await {
        let one = Running::start(&audit, "w.example/1").await;
        let base = grow(&audit).await;
        let first = AddCheckpoint {
            old: 0,
            proof: Vec::new(),
            note: base.note.clone(),
        }
        .to_string();
        assert_eq!(post(one.address, "/add-checkpoint", first.as_bytes()).status, 200);
        let mut requests = Vec::new();
        for _ in 0..8 {
            let row = grow(&audit).await;
            let proof = audit.log.prove_consistency(base.size, &row).await.unwrap();
            requests.push(
                AddCheckpoint {
                    old: base.size,
                    proof,
                    note: row.note,
                }
                .to_string(),
            );
        }
        // All begin where the witness is: one wins, and the rest do not.
        let sent = requests.into_iter().map(|request| {
            let address = one.address;
            tokio::task::spawn_blocking(move || post(address, "/add-checkpoint", request.as_bytes()).status)
        });
        let mut statuses: Vec<_> = futures::future::join_all(sent)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409]);
        one.stop.cancel();
    }
}

/// What was signed by now.
async fn signed(log: &Log) -> Option<u64> {
    log.head().await.unwrap().signed
}

/// A backup from before what a witness saw is put back: nothing is taken and nothing signed, from the first moment on.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_log_that_was_set_back_freezes_before_it_signs() {
    for grown in [false, true] {
        for audit in everywhere().await {
            let one = Running::start(&audit, "w.example/1").await;
            let mut audit = audit.restart_witnessed(all_of(&[&one], 1)).await;
            grow(&audit).await;
            audit.log.cosign().await.unwrap();
            let backup = audit.backup().await;
            grow(&audit).await;
            audit.log.cosign().await.unwrap();
            audit = audit.restart_from(backup, all_of(&[&one], 1)).await;
            assert_eq!(signed(&audit.log).await, Some(2), "the backup");
            assert_eq!(audit.metric("audit_frozen"), "0");
            if grown {
                // It grows past what the witness saw, by other leaves.
                let events = (0..9).map(some_event).collect();
                audit.append_unsigned(events).await.unwrap();
                assert_eq!(audit.log.newest().await.unwrap_err().reason, Reason::LogFrozen);
            } else {
                // Even without a new leaf, when the first cosignature is asked for.
                assert_eq!(audit.log.cosign().await.unwrap_err().reason, Reason::LogFrozen);
            }
            let head = audit.log.head().await.unwrap();
            assert_eq!(head.signed, Some(2), "nothing was signed");
            assert!(
                head.frozen.contains("w.example/1") && head.frozen.contains("4 leaves"),
                "{}",
                head.frozen
            );
            assert_eq!(
                audit.append(vec![some_event(1)]).await.unwrap_err().reason,
                Reason::LogFrozen
            );
            assert_eq!(audit.checkpoint(0).await.unwrap_err().reason, Reason::LogFrozen);
            assert_eq!(audit.metric("audit_frozen"), "1", "somebody is woken");
            // It stays frozen, whether the witness is asked or not.
            let audit = audit.restart().await;
            assert_eq!(audit.log.newest().await.unwrap_err().reason, Reason::LogFrozen);
            assert_eq!(audit.metric("audit_frozen"), "1", "who finds it frozen says so too");
            one.stop.cancel();
        }
    }
}

/// An empty database under the key and name of a log that a witness knows.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_log_begun_anew_freezes() {
    for audit in everywhere().await {
        let one = Running::start(&audit, "w.example/1").await;
        let mut audit = audit.restart_witnessed(all_of(&[&one], 1)).await;
        grow(&audit).await;
        audit.log.cosign().await.unwrap();
        audit = audit.restart_empty(all_of(&[&one], 1)).await;
        audit.append_unsigned(vec![some_event(3)]).await.unwrap();
        assert_eq!(audit.log.newest().await.unwrap_err().reason, Reason::LogFrozen);
        assert_eq!(signed(&audit.log).await, None);
        one.stop.cancel();
    }
}

/// The same size, another root: a fork of a log that was set back and grew again without its witness.
#[tokio::test(flavor = "multi_thread")]
async fn a2_another_root_freezes() {
    for (more, what) in [
        (2, "another root of the 4 leaves"),
        (5, "another root of the first 4 leaves"),
    ] {
        for audit in everywhere().await {
            let one = Running::start(&audit, "w.example/1").await;
            let mut audit = audit.restart_witnessed(all_of(&[&one], 1)).await;
            grow(&audit).await;
            let backup = audit.backup().await;
            grow(&audit).await;
            audit.log.cosign().await.unwrap();
            audit = audit.restart_from(backup, Witnesses::default()).await;
            audit
                .append_unsigned((0..more).map(some_event).collect())
                .await
                .unwrap();
            audit.log.newest().await.unwrap();
            audit = audit.restart_witnessed(all_of(&[&one], 1)).await;
            let before = signed(&audit.log).await;
            assert_eq!(audit.log.cosign().await.unwrap_err().reason, Reason::LogFrozen);
            let head = audit.log.head().await.unwrap();
            assert!(head.frozen.contains(what), "{}", head.frozen);
            assert_eq!(head.signed, before);
            one.stop.cancel();
        }
    }
}

/// Over plain HTTP the newest checkpoint is the newest that readers can use.
#[tokio::test(flavor = "multi_thread")]
async fn a2_mirrors_get_what_enough_witnesses_cosigned() {
    for audit in everywhere().await {
        let one = Running::start(&audit, "w.example/1").await;
        let audit = audit.restart_witnessed(all_of(&[&one], 1)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(http::serve(Arc::clone(&audit.log), listener, stop.clone()));
        let first = grow(&audit).await;
        audit.log.cosign().await.unwrap();
        grow(&audit).await;
        let note = String::from_utf8(get(address, "/checkpoint").body).unwrap();
        assert!(note.starts_with(&first.note), "{note}");
        assert_eq!(on(&note, &[&one]), ["w.example/1"]);
        stop.cancel();
        one.stop.cancel();
    }
}
