//! A2: every released checkpoint is consistent with every earlier one, and a changed row is found.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::log_service_server::LogService;
use sammati_api::audit::v1::proof_service_server::ProofService;
use sammati_audit::rows::{LeafRow, LogRow, SLOT};
use sammati_kernel::{Caller, Reason, Refusal, Slot};
use sammati_log::checkpoint;
use sammati_log::proof::{parse_path, verify_consistency};
use sammati_store::{Command, Keys, View};

use crate::fixture::{everywhere, of, said, some_event};

#[tokio::test(flavor = "multi_thread")]
async fn a2_every_two_checkpoints_are_consistent() {
    for audit in everywhere().await {
        let mut sizes = Vec::new();
        for n in [1, 1, 3, 12, 250, 1, 40] {
            audit
                .append((0..n).map(|n| some_event((n % 5) as u8)).collect())
                .await
                .unwrap();
            sizes.push(audit.checkpoint(0).await.unwrap().size);
        }
        for (at, first) in sizes.iter().enumerate() {
            for second in &sizes[at..] {
                let proof = audit.consistency(*first, *second).await.unwrap();
                let open = |note: &str| checkpoint::open(note, &[audit.verifier()]).unwrap();
                let before = open(&audit.checkpoint(*first).await.unwrap().note);
                let after = open(&proof.checkpoint);
                let path = parse_path(&proof.proof).unwrap();
                verify_consistency(before.size(), after.size(), before.root(), after.root(), &path).unwrap();
            }
        }
        assert_eq!(
            audit.checkpoint(sizes[6] + 1).await.unwrap_err().reason,
            Reason::CheckpointUnknown
        );
        assert_eq!(
            audit.consistency(10_000, 0).await.unwrap_err().reason,
            Reason::IndexBeyondTree
        );
        assert_eq!(
            audit.prove(10_000, 0).await.unwrap_err().reason,
            Reason::IndexBeyondTree
        );
        assert_eq!(audit.prove(5, 2).await.unwrap_err().reason, Reason::IndexBeyondTree);
        // A size that was not signed can be the smaller one: its root follows from the proof of the larger.
        audit.consistency(100, 0).await.unwrap();
    }
}

/// Two replicas sign the same log: one root and one note for each size.
#[tokio::test(flavor = "multi_thread")]
async fn a2_replicas_sign_one_history() {
    for audit in everywhere().await {
        let Some((_, other)) = audit.replica().await else {
            continue;
        };
        for n in 0..20 {
            audit.append(vec![some_event(n)]).await.unwrap();
            let (one, two) = tokio::join!(audit.log.newest(), other.newest());
            assert_eq!(one.unwrap(), two.unwrap());
        }
    }
}

/// Changes what the head says of the tree, and nothing else.
#[derive(Clone)]
struct Bend(fn(&mut LogRow));

impl Command for Bend {
    type Answer = ();
    const NAME: &'static str = "test.bend";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut head = view.get::<LogRow>(LogRow::KEY).unwrap();
        (self.0)(&mut head);
        view.put(&head);
        Ok(())
    }
}

/// A2: of a head that is not what the stored hashes make nothing is signed: not the first time, whether or not the empty log
/// was signed before, and not later.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_head_unlike_its_tiles_is_never_signed() {
    let bends: [fn(&mut LogRow); 2] = [
        // The last byte of the right edge: of the hash of the last complete subtree.
        |head| *head.edge.last_mut().unwrap() ^= 1,
        // The last byte of the last hash of the tile that is not full.
        |head| *head.open[0].hashes.last_mut().unwrap() ^= 1,
    ];
    for (bend, signed) in bends
        .into_iter()
        .flat_map(|bend| [None, Some(0), Some(300)].map(|size| (bend, size)))
    {
        for audit in everywhere().await {
            let append = async |count: u64| {
                let events = (0..count).map(|n| some_event((n % 5) as u8));
                audit.append_unsigned(events.collect()).await.unwrap();
            };
            if signed == Some(0) {
                assert_eq!(audit.log.newest().await.unwrap().size, 0);
            }
            append(300).await;
            if signed == Some(300) {
                assert_eq!(audit.log.newest().await.unwrap().size, 300);
                append(3).await;
            }
            audit.store.apply(Bend(bend)).await.unwrap();
            assert_eq!(audit.log.newest().await.unwrap_err().reason, Reason::LogFrozen);
            let refused = audit.append_unsigned(vec![some_event(1)]).await.unwrap_err();
            assert_eq!(refused.reason, Reason::LogFrozen);
            let head = audit.store.read(|r| r.get::<LogRow>(SLOT, LogRow::KEY)).await.unwrap();
            assert_eq!(head.unwrap().record.signed, signed);
        }
    }
}

/// Changes the type in a leaf, as somebody with the database might.
struct Tamper;

impl Command for Tamper {
    type Answer = ();
    const NAME: &'static str = "test.tamper";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LeafRow>(3_u64.to_be_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = view.get::<LeafRow>(&3_u64.to_be_bytes()).unwrap();
        let mut header = row.header();
        header.event_type = "consent.denied".to_owned();
        row.leaf = prost::Message::encode_to_vec(&header);
        view.put(&row);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_leaf_freezes_the_log_once_somebody_asks_for_its_proof() {
    for audit in everywhere().await {
        audit.append((0..8).map(some_event).collect()).await.unwrap();
        audit.store.apply(Tamper).await.unwrap();
        // Whoever appends and signs goes by the hashes.
        audit.append(vec![some_event(1)]).await.unwrap();
        audit.prove(2, 0).await.unwrap();
        assert_eq!(audit.prove(3, 0).await.unwrap_err().reason, Reason::LogFrozen);
        assert_eq!(
            audit.append(vec![some_event(1)]).await.unwrap_err().reason,
            Reason::LogFrozen
        );
        assert_eq!(audit.checkpoint(0).await.unwrap_err().reason, Reason::LogFrozen);
        // What was signed before stays, as evidence.
        audit.checkpoint(8).await.unwrap();
        let logs = said(
            audit
                .rpc
                .list_logs(of(Caller::ANYONE, audit::ListLogsRequest::default()))
                .await,
        )
        .unwrap();
        assert_eq!(logs.logs[0].state(), audit::log::State::Frozen);
        assert_eq!(logs.logs[0].origin, "sammati.test/audit/2026h2");
    }
}

/// However fast the log grows, whoever waits for what he may not see looks for it at a pace.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_looks_at_a_pace() {
    for audit in everywhere().await {
        let event = some_event(1);
        audit.append_unsigned(vec![event.clone()]).await.unwrap();
        let (looks, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let waiting = async {
            let hidden = |_: &LeafRow| {
                looks.fetch_add(1, Ordering::Relaxed);
                false
            };
            let found = audit.log.leaf_of(&event.event_id, Duration::from_secs(1), hidden).await;
            over.store(true, Ordering::Relaxed);
            found
        };
        let growing = async {
            while !over.load(Ordering::Relaxed) {
                audit.append_unsigned(vec![some_event(2)]).await.unwrap();
            }
        };
        let (found, ()) = futures::join!(waiting, growing);
        assert_eq!(found.unwrap(), None);
        let looks = looks.into_inner();
        assert!((2..=22).contains(&looks), "{looks} looks in a second");
    }
}

/// Whoever waits for an event gets its proof as soon as it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_waits_for_its_event() {
    for audit in everywhere().await {
        let other = audit.replica().await;
        let event = some_event(1);
        let ask = |seconds: i64| {
            let wait = Some(prost_types::Duration { seconds, nanos: 0 });
            let event = Some(audit::get_proof_request::Event::EventId(event.event_id.clone()));
            audit::GetProofRequest {
                event,
                wait,
                ..audit::GetProofRequest::default()
            }
        };
        let rpc = other.as_ref().map_or(&audit.rpc, |(rpc, _)| rpc).clone();
        let request = of(Caller::ANYONE, ask(10));
        let waiting = tokio::spawn(async move { rpc.get_proof(request).await });
        audit.append(vec![event.clone()]).await.unwrap();
        let proof = tokio::time::timeout(Duration::from_secs(9), waiting)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(said(proof).unwrap().index, 0);
        let refused = said(audit.rpc.get_proof(of(Caller::ANYONE, ask(11))).await).unwrap_err();
        assert_eq!(refused.violations.iter().next().unwrap().field, "wait");
        let mut unknown = ask(0);
        unknown.event = Some(audit::get_proof_request::Event::EventId(crate::fixture::event_id()));
        let refused = said(audit.rpc.get_proof(of(Caller::ANYONE, unknown)).await).unwrap_err();
        assert_eq!(refused.reason, Reason::NotAvailable);
    }
}

/// Several leaves are proved against one checkpoint, in one call; each proof verifies by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_batch_of_proofs_is_of_one_checkpoint() {
    for audit in everywhere().await {
        let events: Vec<_> = (0..100).map(|n| some_event(n % 5)).collect();
        let mut ids: Vec<_> = events.iter().map(|event| event.event_id.clone()).collect();
        ids.reverse();
        audit.append(events).await.unwrap();
        audit
            .append((0..300).map(|n| some_event((n % 5) as u8)).collect())
            .await
            .unwrap();
        let ask = |event_ids: Vec<String>| {
            let request = audit::GetProofRequest {
                event_ids,
                ..audit::GetProofRequest::default()
            };
            let rpc = audit.rpc.clone();
            async move { said(rpc.get_proof(of(Caller::ANYONE, request)).await) }
        };
        let answer = ask(ids.clone()).await.unwrap();
        assert_eq!(
            (answer.proofs.len(), answer.tree_size, answer.proof.as_str()),
            (100, 400, "")
        );
        for (at, proof) in answer.proofs.iter().enumerate() {
            assert_eq!((&proof.event_id, proof.index), (&ids[at], 99 - at as i64));
            let bundle: sammati_log::bundle::Bundle = proof.proof.parse().unwrap();
            assert_eq!(bundle.index, 99 - at as u64);
            bundle
                .verify(sammati_log::hash::leaf_hash(&proof.leaf), &[audit.verifier()])
                .unwrap();
        }

        let mut many = ids.clone();
        many.push(crate::fixture::event_id());
        let refused = ask(many).await.unwrap_err();
        assert_eq!(refused.reason, Reason::BatchLimit);
        assert_eq!(refused.violations.iter().next().unwrap().field, "event_ids");
        let refused = ask(vec![ids[0].clone(), crate::fixture::event_id()]).await.unwrap_err();
        assert_eq!(refused.reason, Reason::NotAvailable, "all or none");
        let refused = ask(vec![ids[0].clone(), "1".to_owned(), ids[0].clone()])
            .await
            .unwrap_err();
        let fields: Vec<_> = refused.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(fields, ["event_ids[1]", "event_ids[2]"]);
        let both = audit::GetProofRequest {
            event: Some(audit::get_proof_request::Event::EventId(ids[0].clone())),
            event_ids: ids,
            ..audit::GetProofRequest::default()
        };
        let refused = said(audit.rpc.get_proof(of(Caller::ANYONE, both)).await).unwrap_err();
        assert_eq!(refused.violations.iter().next().unwrap().field, "event_ids");
    }
}
