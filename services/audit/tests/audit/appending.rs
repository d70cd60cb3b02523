//! A1 and A2: acknowledged means durable at that index; indexes have no holes; one id, one index.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use sammati_api::types::v1::RetentionClass;
use sammati_audit::log::Received;
use sammati_audit::rows::{LeafRow, LogRow, SLOT};
use sammati_kernel::{AadhaarNumber, Micros, Reason};
use sammati_log::Hash32;
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint;
use sammati_log::hash::{leaf_hash, node_hash};
use sammati_log::proof::verify_inclusion;
use sammati_server::event::micros;

use crate::fixture::{Audit, account, append, everywhere, granted, some_event};

/// All leaf rows, by index.
async fn leaves(audit: &Audit) -> Vec<LeafRow> {
    let rows = audit
        .store
        .read(|r| r.scan::<LeafRow>((0, &[]), 1_000_000))
        .await
        .unwrap();
    rows.into_iter().map(|row| row.record).collect()
}

/// RFC 6962 §2.1, word for word.
fn naive_root(leaves: &[Hash32]) -> Hash32 {
    match leaves {
        [] => sammati_log::hash::EMPTY_ROOT,
        [one] => *one,
        more => {
            let cut = more.len().next_power_of_two() / 2;
            node_hash(naive_root(&more[..cut]), naive_root(&more[cut..]))
        }
    }
}

/// A1: 64 appenders at once; indexes 0 to n-1 without a hole, and each proves against a checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a1_concurrent_appends_have_no_hole_and_all_prove() {
    for audit in everywhere().await {
        let calls = (0..64_u8).map(|n| {
            let events: Vec<_> = (0..5).map(|_| some_event(n % 7)).collect();
            audit.append(events)
        });
        let answers = join_all(calls).await;
        let verifiers = [audit.verifier()];
        let mut placed = BTreeMap::new();
        for answer in answers {
            let answer = answer.unwrap();
            let signed = checkpoint::open(&answer.checkpoint, &verifiers).unwrap();
            for event in answer.events {
                assert!(
                    signed.size() > event.index as u64,
                    "the checkpoint covers what was acknowledged"
                );
                assert_eq!(
                    placed.insert(event.index, event.leaf_hash),
                    None,
                    "one index, one event"
                );
            }
        }
        assert_eq!(placed.keys().copied().collect::<Vec<_>>(), (0..320).collect::<Vec<_>>());

        let head = audit.checkpoint(0).await.unwrap();
        assert_eq!(head.size, 320);
        for (index, hash) in &placed {
            let proof = audit.prove(*index, 320).await.unwrap();
            let bundle: Bundle = proof.proof.parse().unwrap();
            let signed = checkpoint::open(&bundle.checkpoint_note, &verifiers).unwrap();
            let leaf = leaf_hash(&proof.leaf);
            assert_eq!(leaf.0.as_slice(), hash);
            verify_inclusion(leaf, bundle.index, signed.size(), &bundle.path, signed.root()).unwrap();
        }
    }
}

/// A2: the root is that of a naive recomputation from the stored leaf bytes, and so is every stored leaf hash.
#[tokio::test(flavor = "multi_thread")]
async fn a2_the_root_is_that_of_the_leaves() {
    for audit in everywhere().await {
        for n in [1, 2, 300, 7, 600] {
            audit
                .append((0..n).map(|n| some_event((n % 11) as u8)).collect())
                .await
                .unwrap();
            let rows = leaves(&audit).await;
            let hashes: Vec<_> = rows.iter().map(|row| leaf_hash(&row.leaf)).collect();
            assert!(rows.iter().zip(&hashes).all(|(row, hash)| row.hash() == *hash));
            let head = audit.checkpoint(0).await.unwrap();
            assert_eq!(head.root_hash, naive_root(&hashes).0);
            assert_eq!(head.size as usize, rows.len());
        }
    }
}

/// A1: 64 clients send the same events again and again, in any company and to any replica: each gets one index, always
/// the same, and there are exactly as many leaves as events.
#[tokio::test(flavor = "multi_thread")]
async fn a1_a_storm_of_repeats_gives_the_same_indexes() {
    for audit in everywhere().await {
        let other = audit.replica().await;
        let events: Vec<_> = (0..100).map(|n| some_event(n % 3)).collect();
        let clients = (0..64_usize).map(|n| {
            let (audit, other, events) = (&audit, &other, &events);
            async move {
                let mut placed = Vec::new();
                // Three calls, of which each repeats some of the one before.
                for call in 0..3 {
                    let from = (n * 8 + call * 5) % 91;
                    let mut some = events[from..from + 10].to_vec();
                    some.rotate_left(n % 10);
                    let rpc = other
                        .as_ref()
                        .filter(|_| (n + call) % 2 == 1)
                        .map_or(&audit.rpc, |(rpc, _)| rpc);
                    placed.extend(append(rpc, some).await.unwrap().events);
                }
                placed
            }
        });
        let mut indexes: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for event in join_all(clients).await.into_iter().flatten() {
            indexes.entry(event.event_id).or_default().insert(event.index);
        }
        assert!(indexes.values().all(|known| known.len() == 1), "one id, one index");
        let all: BTreeSet<_> = indexes.values().flatten().copied().collect();
        assert_eq!((indexes.len(), all), (100, (0..100).collect()));
        assert_eq!(leaves(&audit).await.len(), 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_with_another_body_is_refused_with_both_digests() {
    for audit in everywhere().await {
        let mut event = some_event(1);
        audit.append(vec![event.clone()]).await.unwrap();
        event.reason_code = "CONSENT_REVOKED".to_owned();
        // All or nothing: the new event of the same call is not taken either.
        let refused = audit.append(vec![some_event(2), event.clone()]).await.unwrap_err();
        assert_eq!(refused.reason, Reason::EventConflict);
        assert_eq!(leaves(&audit).await.len(), 1);
        let body = prost::Message::encode_to_vec(&event);
        let received = Received { event, body };
        let refused = audit.log.append("identity", &[received], Vec::new()).await.unwrap_err();
        let names: Vec<_> = refused.metadata.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["event_id", "known_digest", "sent_digest"]);
        assert_ne!(refused.metadata[1].1, refused.metadata[2].1);
    }
}

/// What looks like an Aadhaar number never enters, wherever it stands; VID, OTP and PID shapes where they can be none
/// of anything else.
#[tokio::test(flavor = "multi_thread")]
async fn s1_forbidden_fields_are_named_and_refused() {
    let number = AadhaarNumber::from_body(&[9, 9, 9, 9, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    let grouped = number
        .expose()
        .as_bytes()
        .chunks(4)
        .map(|c| String::from_utf8_lossy(c))
        .collect::<Vec<_>>()
        .join(" ");
    for audit in everywhere().await {
        let mut event = some_event(1);
        let payload = event.payload.as_mut().unwrap();
        payload.legal_basis = format!("order about {grouped}");
        payload.changed_fields = vec![
            number.expose().to_owned(),
            "9876543210987659".to_owned(),
            "otp 204816".to_owned(),
        ];
        payload.resource = "notices/<Pid>".to_owned();
        // Where ids and numbers stand, those are no violation.
        payload.object_refs = vec![
            "participants/9876543210987659".to_owned(),
            "participants/204816".to_owned(),
        ];
        let refused = audit.append(vec![some_event(2), event]).await.unwrap_err();
        assert_eq!(refused.reason, Reason::EventForbiddenField);
        let fields: Vec<_> = refused.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(
            fields,
            [
                "direct.events[1].payload.resource",
                "direct.events[1].payload.legal_basis",
                "direct.events[1].payload.changed_fields",
                "direct.events[1].payload.changed_fields",
                "direct.events[1].payload.changed_fields"
            ]
        );
        assert!(
            refused
                .violations
                .iter()
                .all(|v| !v.description.contains(number.expose()))
        );
        assert_eq!(leaves(&audit).await.len(), 0);
    }
}

/// Who names an event as there is none, or would have it kept for another time, is told what there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_direct_event_is_one_that_there_is_and_kept_as_long_as_it_must_be() {
    for audit in everywhere().await {
        let (mut unknown, mut short) = (some_event(1), some_event(1));
        unknown.event_type = "consent.forgotten".to_owned();
        short.class = RetentionClass::General.into();
        let refused = audit.append(vec![unknown, some_event(1), short]).await.unwrap_err();
        assert_eq!(refused.reason, Reason::FieldInvalid);
        let told: Vec<_> = refused.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(told, ["direct.events[0].event_type", "direct.events[2].class"]);
        let allowed: Vec<_> = refused.violations.iter().map(|v| v.description.as_ref()).collect();
        assert!(allowed[0].contains("granted, modified, "), "{allowed:?}");
        assert_eq!(allowed[1], "RETENTION_CLASS_CONSENT for consent.granted");
        assert_eq!(leaves(&audit).await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_forms_are_bounded() {
    for audit in everywhere().await {
        let mut large = some_event(1);
        large.payload.as_mut().unwrap().object_refs = vec!["x".repeat(255); 100];
        large.payload.as_mut().unwrap().changed_fields = vec!["y".repeat(100); 100];
        let refused = audit.append(vec![large]).await.unwrap_err();
        assert_eq!(refused.reason, Reason::EventTooLarge);
        let many = vec![some_event(1); 1001];
        let refused = audit.append(many).await.unwrap_err();
        let field = refused.violations.iter().next().unwrap().field.clone();
        assert_eq!((refused.reason, field.as_ref()), (Reason::BatchLimit, "direct.events"));
        assert_eq!(audit.append(vec![]).await.unwrap_err().reason, Reason::FieldInvalid);
        let twice = some_event(1);
        let refused = audit.append(vec![twice.clone(), twice]).await.unwrap_err();
        assert_eq!(
            refused.violations.iter().next().unwrap().field,
            "direct.events[1].event_id"
        );
    }
}

/// The subject's events are numbered from 1, each pointing at the one before: a missing one is a visible hole.
#[tokio::test(flavor = "multi_thread")]
async fn a_subjects_events_are_a_chain() {
    for audit in everywhere().await {
        for n in [1, 2, 1, 1, 2, 1] {
            audit.append(vec![some_event(n), some_event(n)]).await.unwrap();
        }
        let rows = leaves(&audit).await;
        let mut last: BTreeMap<Vec<u8>, (i64, i64)> = BTreeMap::new();
        for row in rows {
            let header = row.header();
            let before = last.insert(header.subject_tag.clone(), (header.subject_seq, row.index as i64));
            assert_eq!(header.subject_seq, before.map_or(0, |(seq, _)| seq) + 1);
            assert_eq!(header.subject_prev, before.map(|(_, index)| index));
            assert!(
                !row.leaf.windows(8).any(|w| w == b"accounts"),
                "nothing personal in the leaf"
            );
        }
        assert_eq!(last.len(), 2);
    }
}

/// The process ends, the log goes on: same head, same answers, next index.
#[tokio::test(flavor = "multi_thread")]
async fn a1_a_restart_goes_on_where_it_was() {
    for audit in everywhere().await {
        let event = granted(account(1), "consents/one");
        let first = audit.append(vec![event.clone()]).await.unwrap();
        audit.append((0..300).map(|_| some_event(3)).collect()).await.unwrap();
        let before = audit.checkpoint(0).await.unwrap();
        let audit = audit.restart().await;
        assert_eq!(audit.checkpoint(0).await.unwrap(), before);
        let again = audit.append(vec![event, some_event(2)]).await.unwrap();
        assert_eq!(again.events[0], first.events[0]);
        assert_eq!(again.events[1].index, 301);
        audit.consistency(before.size, 302).await.unwrap();
        let head = audit
            .store
            .read(|r| r.get::<LogRow>(SLOT, LogRow::KEY))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(head.record.signed, Some(302));
    }
}

/// A clock that goes back stops nothing, and accept times never do.
#[tokio::test(flavor = "multi_thread")]
async fn accept_times_never_go_back() {
    for audit in everywhere().await {
        let mut last = Micros::ZERO;
        for seconds in [1_795_305_600, 1_795_309_200, 1_795_305_601, 1_795_309_201] {
            audit.clock.set(Micros::from_seconds(seconds));
            let answer = audit.append(vec![some_event(1)]).await.unwrap();
            let accepted = micros(answer.events[0].accept_time.as_ref().unwrap()).unwrap();
            assert!(accepted >= last);
            last = accepted;
        }
        assert_eq!(last, Micros::from_seconds(1_795_309_201));
    }
}
