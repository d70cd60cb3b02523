//! The log, as somebody sees it who trusts nobody: it only grows, and every leaf of it is proved.

use futures::{StreamExt, TryStreamExt};
use sammati_api::audit::v1::get_proof_request::Event;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::audit::v1::{GetCheckpointRequest, GetConsistencyProofRequest, GetProofRequest};
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::{Verifier, open};
use sammati_log::hash::leaf_hash;
use sammati_log::proof::{parse_path, verify_consistency};

use crate::story::{Failure, Story};

/// How many proofs are asked for at once.
const AT_ONCE: usize = 16;

/// The newest checkpoint.
///
/// # Errors
/// The service's refusal.
pub async fn checkpoint(story: &Story) -> Result<String, Failure> {
    let mut client = ProofServiceClient::new(story.operator.audit());
    let log = story.log().await?.name;
    let request = GetCheckpointRequest {
        log,
        size: 0,
        min_cosignatures: 0,
    };
    Ok(client.get_checkpoint(request).await?.into_inner().note)
}

/// Proves that the log has grown from checkpoint `before` to the newest one, and that every leaf from `first` on is in it.
/// Tells the newest checkpoint and its size.
///
/// # Errors
/// What does not verify, or the service's refusal.
pub async fn verify_growth(story: &Story, before: &str, first: u64) -> Result<(String, u64), Failure> {
    let mut client = ProofServiceClient::new(story.operator.audit());
    let log = story.log().await?;
    let keys = [Verifier::parse(&log.vkey)?];
    let newest = checkpoint(story).await?;
    let (old, new) = (open(before, &keys)?, open(&newest, &keys)?);
    if new.size() < old.size() {
        return Err(format!("the log shrank from {} to {} leaves", old.size(), new.size()).into());
    }
    let size = i64::try_from(new.size())?;
    if old.size() > 0 && old.size() < new.size() {
        let request = GetConsistencyProofRequest {
            log: log.name.clone(),
            first: i64::try_from(old.size())?,
            second: size,
        };
        let proof = client.get_consistency_proof(request).await?.into_inner();
        let path = parse_path(&proof.proof)?;
        verify_consistency(old.size(), new.size(), old.root(), new.root(), &path)?;
    } else if old.size() == new.size() && old.root() != new.root() {
        return Err(format!("two roots at {size} leaves").into());
    }
    let (keys, name) = (&keys, &log.name);
    let proofs = futures::stream::iter(i64::try_from(first)?..size).map(|index| {
        let request = GetProofRequest {
            log: name.clone(),
            event: Some(Event::Index(index)),
            tree_size: size,
            ..Default::default()
        };
        let mut client = client.clone();
        async move {
            let proof = client.get_proof(request).await?.into_inner();
            if proof.index != index {
                return Err(format!("asked for leaf {index}, got {}", proof.index).into());
            }
            let bundle: Bundle = proof.proof.parse()?;
            bundle.verify(leaf_hash(&proof.leaf), keys)?;
            Ok::<_, Failure>(())
        }
    });
    proofs.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok((newest, new.size()))
}
