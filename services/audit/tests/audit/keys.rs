//! The key of a log is replaced, and what the one before signed still verifies.

use ring::signature::Ed25519KeyPair;
use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::log_service_server::LogService;
use sammati_kernel::Caller;
use sammati_log::checkpoint::{Verifier, open};
use sammati_log::proof::{parse_path, verify_consistency};

use crate::fixture::{Audit, everywhere, of, said, some_event};

pub(crate) fn new_key() -> Vec<u8> {
    let key = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    key.as_ref().to_vec()
}

async fn keys(audit: &Audit) -> Vec<audit::LogKey> {
    let request = of(Caller::ANYONE, audit::ListLogsRequest::default());
    let log = said(audit.rpc.list_logs(request).await).unwrap().logs.remove(0);
    assert_eq!(log.keys.last().unwrap().vkey, log.vkey);
    log.keys
}

fn of_key(key: &audit::LogKey) -> [Verifier; 1] {
    [Verifier::parse(&key.vkey).unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_a_key_is_replaced_and_every_checkpoint_verifies() {
    for audit in everywhere().await {
        audit.append(vec![some_event(1), some_event(2)]).await.unwrap();
        let first = audit.checkpoint(0).await.unwrap();
        let (old, new) = (audit.log_key(), new_key());

        // Both sign while readers change over.
        let audit = audit.restart_signed(&new, Some(&old)).await.unwrap();
        audit.append(vec![some_event(3)]).await.unwrap();
        let both = audit.checkpoint(0).await.unwrap();
        let known = keys(&audit).await;
        assert_eq!(known.iter().map(|key| key.after_size).collect::<Vec<_>>(), [0, 2]);
        for key in &known {
            assert_eq!(open(&both.note, &of_key(key)).unwrap().size(), both.size as u64);
        }
        assert!(
            open(&first.note, &of_key(&known[1])).is_err(),
            "what the old key signed it signed alone"
        );
        let rotated = audit.log.leaf(2).await.unwrap().unwrap();
        assert_eq!(rotated.header().event_type, "key.rotated");

        // Then the new one alone; the history stays.
        let audit = audit.restart_signed(&new, None).await.unwrap();
        audit.append(vec![some_event(4)]).await.unwrap();
        let last = audit.checkpoint(0).await.unwrap();
        assert_eq!(keys(&audit).await, known);
        assert!(open(&last.note, &of_key(&known[0])).is_err());
        let (before, after) = (
            open(&first.note, &of_key(&known[0])).unwrap(),
            open(&last.note, &of_key(&known[1])).unwrap(),
        );
        let proof = audit.consistency(first.size, last.size).await.unwrap();
        let path = parse_path(&proof.proof).unwrap();
        verify_consistency(before.size(), after.size(), before.root(), after.root(), &path).unwrap();
        assert_eq!(
            audit.checkpoint(first.size).await.unwrap(),
            first,
            "it is served as it was signed"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_a_key_comes_by_nothing_but_intent() {
    for audit in everywhere().await {
        audit.append(vec![some_event(1)]).await.unwrap();
        let why = audit.restart_signed(&new_key(), None).await.err().unwrap();
        assert!(why.contains("log_key.previous.pem"), "{why}");
    }
    for (step, said) in [(0, "which never signed this log"), (1, "has replaced")] {
        for audit in everywhere().await {
            audit.append(vec![some_event(1)]).await.unwrap();
            let (old, new) = (audit.log_key(), new_key());
            let why = match step {
                0 => audit.restart_signed(&new, Some(&new_key())).await.err().unwrap(),
                _ => {
                    let audit = audit.restart_signed(&new, Some(&old)).await.unwrap();
                    audit.restart_signed(&old, None).await.err().unwrap()
                }
            };
            assert!(why.contains(said), "{why}");
        }
    }
}
