//! The log, as somebody sees it who trusts nobody: it only grows, and every leaf of it is proved.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use prost::Message;
use sammati_api::audit::v1::get_proof_request::Event;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_api::audit::v1::{GetCheckpointRequest, GetConsistencyProofRequest, GetProofRequest, Leaf};
use sammati_kernel::Micros;
use sammati_log::bundle::Bundle;
use sammati_log::checkpoint::{Checkpoint, Verifier, open};
use sammati_log::hash::{Hash32, leaf_hash};
use sammati_log::proof::{parse_path, verify_consistency};
use sammati_server::event::micros;
use tonic::{Code, Status};

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

/// A leaf that was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// Its place.
    pub index: u64,
    /// The producer's id of its event.
    pub event_id: String,
    /// Its hash.
    pub hash: Hash32,
    /// When the log took it in.
    pub accepted: Micros,
}

/// What was proved of a log.
#[derive(Debug)]
pub struct Grown {
    /// The newest checkpoint.
    pub checkpoint: String,
    /// Its size.
    pub size: u64,
    /// Every leaf from the first that was asked for, by its index; none is missing.
    pub leaves: Vec<Proved>,
}

/// Proves that the log has grown from checkpoint `before` to the newest one, and that every leaf from `first` on is in it.
///
/// # Errors
/// What does not verify, or the service's refusal.
pub async fn verify_growth(story: &Story, before: &str, first: u64) -> Result<Grown, Failure> {
    let log = story.log().await?;
    let keys = [Verifier::parse(&log.vkey)?];
    let newest = checkpoint(story).await?;
    let (old, new) = (open(before, &keys)?, open(&newest, &keys)?);
    if new.size() < old.size() {
        return Err(format!("the log shrank from {} to {} leaves", old.size(), new.size()).into());
    }
    consistent(story, &log.name, &old, &new).await?;
    let size = i64::try_from(new.size())?;
    let proofs = futures::stream::iter(i64::try_from(first)?..size).map(async |index| {
        let proved = prove(story, &log.name, Event::Index(index), size, &keys).await?;
        if i64::try_from(proved.index)? != index {
            return Err(format!("asked for leaf {index}, got {}", proved.index).into());
        }
        Ok::<_, Failure>(proved)
    });
    Ok(Grown {
        leaves: proofs.buffered(AT_ONCE).try_collect().await?,
        size: new.size(),
        checkpoint: newest,
    })
}

/// Where an event is, proved under the newest checkpoint; `None` when the log does not know it.
///
/// # Errors
/// What does not verify, or the service's refusal.
pub async fn of_event(story: &Story, event_id: &str) -> Result<Option<Proved>, Failure> {
    let log = story.log().await?;
    let keys = [Verifier::parse(&log.vkey)?];
    match prove(story, &log.name, Event::EventId(event_id.to_owned()), 0, &keys).await {
        Ok(proved) => Ok(Some(proved)),
        Err(error) => match error.downcast_ref::<Status>() {
            // Unknown and forbidden look alike.
            Some(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => Ok(None),
            _ => Err(error),
        },
    }
}

async fn prove(story: &Story, log: &str, event: Event, size: i64, keys: &[Verifier]) -> Result<Proved, Failure> {
    let request = GetProofRequest {
        log: log.to_owned(),
        event: Some(event),
        tree_size: size,
        ..Default::default()
    };
    let mut client = ProofServiceClient::new(story.operator.audit());
    let proof = client.get_proof(request).await?.into_inner();
    let (bundle, hash): (Bundle, _) = (proof.proof.parse()?, leaf_hash(&proof.leaf));
    bundle.verify(hash, keys)?;
    let index = u64::try_from(proof.index)?;
    if bundle.index != index {
        return Err(format!("the proof of leaf {} in the place of that of {index}", bundle.index).into());
    }
    let leaf = Leaf::decode(proof.leaf.as_slice())?;
    let accepted = leaf.accept_time.as_ref().and_then(micros);
    Ok(Proved {
        index,
        event_id: leaf.event_id,
        hash,
        accepted: accepted.ok_or("a leaf without its time")?,
    })
}

/// Proves that each of these checkpoints is one of the history that `newest` tells of, and that there is one root for a size.
///
/// # Errors
/// What does not verify, or the service's refusal.
pub async fn one_history(story: &Story, notes: &[String], newest: &str) -> Result<(), Failure> {
    let log = story.log().await?;
    let keys = [Verifier::parse(&log.vkey)?];
    let newest = open(newest, &keys)?;
    let mut sizes = BTreeMap::<u64, Checkpoint>::new();
    for note in notes {
        let checkpoint = open(note, &keys)?;
        let size = checkpoint.size();
        let other = sizes.insert(size, checkpoint.clone());
        if other.is_some_and(|other| other.root() != checkpoint.root()) {
            return Err(format!("two roots at {size} leaves").into());
        }
    }
    let (log, newest) = (&log.name, &newest);
    let proofs = futures::stream::iter(sizes.values()).map(|old| consistent(story, log, old, newest));
    proofs.buffer_unordered(AT_ONCE).try_collect().await
}

/// Proves that `new` tells of the same history as `old`, and goes as far at least.
async fn consistent(story: &Story, log: &str, old: &Checkpoint, new: &Checkpoint) -> Result<(), Failure> {
    if old.size() == new.size() && old.root() != new.root() {
        return Err(format!("two roots at {} leaves", new.size()).into());
    }
    if old.size() == 0 || old.size() == new.size() {
        return Ok(());
    }
    let request = GetConsistencyProofRequest {
        log: log.to_owned(),
        first: i64::try_from(old.size())?,
        second: i64::try_from(new.size())?,
    };
    let mut client = ProofServiceClient::new(story.operator.audit());
    let proof = client.get_consistency_proof(request).await?.into_inner();
    let path = parse_path(&proof.proof)?;
    Ok(verify_consistency(
        old.size(),
        new.size(),
        old.root(),
        new.root(),
        &path,
    )?)
}
