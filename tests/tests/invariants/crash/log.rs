//! The log after it all: it only grew, and every leaf of it is proved.

use futures::StreamExt;
use sammati_api::audit::v1::get_proof_request::Event;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::audit::v1::{GetCheckpointRequest, GetConsistencyProofRequest, GetProofRequest};
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::{Verifier, open};
use sammati_log::hash::leaf_hash;
use sammati_log::proof::{parse_path, verify_consistency};
use sammati_tests::story::Story;

/// The newest checkpoint.
pub(crate) async fn checkpoint(story: &Story) -> String {
    let mut client = ProofServiceClient::new(story.operator.audit());
    let log = story.log().await.unwrap().name;
    let request = GetCheckpointRequest { log, size: 0 };
    client.get_checkpoint(request).await.unwrap().into_inner().note
}

/// The first checkpoint and the last are of one log, and every leaf is in it.
pub(crate) async fn check(story: &Story, first: String) {
    let mut client = ProofServiceClient::new(story.operator.audit());
    let log = story.log().await.unwrap();
    let keys = [Verifier::parse(&log.vkey).unwrap()];
    let last = checkpoint(story).await;
    let (old, new) = (open(&first, &keys).unwrap(), open(&last, &keys).unwrap());
    assert!(new.size() > old.size());
    let (first, second) = (i64::try_from(old.size()).unwrap(), i64::try_from(new.size()).unwrap());
    if first > 0 {
        let log = log.name.clone();
        let request = GetConsistencyProofRequest { log, first, second };
        let proof = client.get_consistency_proof(request).await.unwrap().into_inner();
        let path = parse_path(&proof.proof).unwrap();
        verify_consistency(old.size(), new.size(), old.root(), new.root(), &path).unwrap();
    }
    let proofs = futures::stream::iter(0..second).map(|index| {
        let request = GetProofRequest {
            log: log.name.clone(),
            event: Some(Event::Index(index)),
            tree_size: second,
            ..Default::default()
        };
        let mut client = client.clone();
        async move { (index, client.get_proof(request).await.unwrap().into_inner()) }
    });
    let keys = &keys;
    let verified = proofs.buffer_unordered(16).map(|(index, proof)| {
        assert_eq!(proof.index, index);
        let bundle: Bundle = proof.proof.parse().unwrap();
        bundle.verify(leaf_hash(&proof.leaf), keys).unwrap();
    });
    assert_eq!(verified.count().await, usize::try_from(second).unwrap());
}
