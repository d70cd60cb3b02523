//! A log that was sealed is erased like any other: what it has of a person goes when its day has come, and its proofs hold.

use sammati_api::audit::v1::class_erasure::State;
use sammati_api::audit::v1::log_event::PayloadState;
use sammati_api::types::v1::RetentionClass::{Access, Consent, General};
use sammati_kernel::Reason;
use sammati_log::bundle::Bundle;
use sammati_log::hash::leaf_hash;

use crate::erasing::{YEAR, classed, states};
use crate::fixture::{account, everywhere};
use crate::kept::{bodies, everything, holds, sealed};
use crate::subject::{judged, whole};
use crate::succession::seal;

/// Asked for after the end of the log, by an operator or as identity tells that her account is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_sealed_log_is_erased_and_every_proof_holds() {
    for by_identity in [false, true] {
        for audit in everywhere().await {
            let hers = [General, Access, Consent].map(|class| classed(1, class, &audit));
            let other = classed(2, General, &audit);
            audit
                .append([&hers[..], std::slice::from_ref(&other)].concat())
                .await
                .unwrap();
            seal(&audit, "logs/next").await.unwrap();
            let end = audit.log.newest().await.unwrap();
            let mut before = Vec::new();
            for index in 0..5 {
                before.push(audit.prove(index, 0).await.unwrap());
            }
            let (log, keys) = (audit.location(), audit.key_location());
            let payloads = sealed(&bodies(&log, "leaf"));

            if by_identity {
                assert!(audit.log.book_again(account(1)).await.unwrap());
            } else {
                let booked = states(&audit.erase(1, &[]).await.unwrap());
                assert_eq!(booked, [Consent, Access, General].map(|class| (class, State::Booked)));
            }
            // Whoever is asked for it after a restart, of a log that ended long ago.
            audit.clock.advance(YEAR);
            let audit = audit.restart().await;
            audit.log.sweep().await.unwrap();
            for event in &hers[..2] {
                let read = audit.state(event).await;
                assert_eq!((read.payload_state(), read.payload), (PayloadState::Erased, None));
                let erasure = read.erasure.expect("it says when and why");
                let bundle: Bundle = erasure.proof.parse().unwrap();
                assert!(bundle.index >= end.size, "it is told after the end");
                bundle.verify(leaf_hash(&erasure.leaf), &[audit.verifier()]).unwrap();
            }
            for event in [&hers[2], &other] {
                assert_eq!(audit.state(event).await.payload_state(), PayloadState::Readable);
            }
            let found = [everything(&log), everything(&keys)].concat();
            let is_there: Vec<_> = payloads.iter().map(|payload| holds(&found, payload)).collect();
            assert_eq!(is_there[..4], [false, false, true, true]);
            // The seven years of the last class.
            audit.clock.advance(7 * YEAR);
            audit.log.sweep().await.unwrap();
            assert_eq!(audit.state(&hers[2]).await.payload_state(), PayloadState::Erased);
            assert!(!holds(&everything(&log), &payloads[2]));

            for (index, proof) in before.iter().enumerate() {
                assert_eq!(audit.prove(index as i64, proof.tree_size).await.unwrap(), *proof);
            }
            audit.consistency(end.size as i64, 0).await.unwrap();
            let (list, head) = whole(&audit, 1, 100).await.unwrap();
            judged(&audit, &list, &head).unwrap();
            let refused = audit.append(vec![classed(1, General, &audit)]).await.unwrap_err();
            assert_eq!(refused.reason, Reason::LogSealed);
            let found = tokio::task::spawn_blocking(move || crate::fsck::check(&log))
                .await
                .unwrap();
            assert_eq!(found, Vec::<String>::new());
        }
    }
}
