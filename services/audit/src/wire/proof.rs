//! `GetProofRequest`: one leaf or several; and the answer.

use std::collections::HashSet;
use std::time::Duration;

use sammati_api::audit::v1::get_proof_request::Event;
use sammati_api::audit::v1::{self as audit, GetProofRequest};
use sammati_kernel::{Reason, Refusal, Violations};

use super::{done, event_id, log_name, number, size, wait};
use crate::proof::Inclusion;

/// The most events of one call.
const MAX_PROOFS: usize = 100;

/// Which leaves are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// One, by its place.
    Index(u64),
    /// Those of events, by their producers' ids, waiting that long.
    Events(Vec<String>, Duration),
}

/// What is asked of `GetProof`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// For these.
    pub which: Leaves,
    /// In the tree of this size; 0 is the newest.
    pub tree_size: u64,
}

/// Reads a `GetProofRequest`.
///
/// # Errors
/// `BATCH_LIMIT`; `FIELD_INVALID` with everything that is wrong.
pub(crate) fn which_leaves(request: &GetProofRequest) -> Result<Asked, Refusal> {
    if request.event_ids.len() > MAX_PROOFS {
        return Err(Refusal {
            reason: Reason::BatchLimit,
            ..Refusal::field("event_ids", "at most 100 in one call; ask for the rest in the next")
        });
    }
    let mut wrong = Violations::new();
    let by_id = !request.event_ids.is_empty() || matches!(request.event, Some(Event::EventId(_)));
    let wait = wait(request.wait, by_id, &mut wrong);
    if !(by_id && request.log.is_empty()) {
        log_name(&request.log, &mut wrong);
    }
    let tree_size = size("tree_size", request.tree_size, &mut wrong);
    let which = match &request.event {
        None if by_id => several(&request.event_ids, &mut wrong).map(|ids| Leaves::Events(ids, wait)),
        Some(_) if !request.event_ids.is_empty() => wrong.keep("event_ids", Err("not together with index or event_id")),
        None => wrong.keep("index", Err("set index, event_id or event_ids")),
        Some(Event::Index(index)) => wrong
            .keep("index", u64::try_from(*index).map_err(|_| "0 and up"))
            .map(Leaves::Index),
        Some(Event::EventId(id)) => {
            event_id("event_id", id.clone(), &mut wrong).map(|id| Leaves::Events(vec![id], wait))
        }
    };
    let asked = which.zip(tree_size);
    done(wrong, asked.map(|(which, tree_size)| Asked { which, tree_size }))
}

fn several(ids: &[String], wrong: &mut Violations) -> Option<Vec<String>> {
    let mut seen = HashSet::new();
    for (at, id) in ids.iter().enumerate() {
        if !super::event::is_uuid_v7(id) {
            wrong.add(format!("event_ids[{at}]"), "must be a UUIDv7 in lower case");
        } else if !seen.insert(id) {
            wrong.add(format!("event_ids[{at}]"), "each id once in a call");
        }
    }
    Some(ids.to_vec())
}

/// Proofs on the wire: with `ids` one for each, else the only one.
pub(crate) fn inclusion(
    log: String,
    tree_size: u64,
    mut proved: Vec<Inclusion>,
    ids: Vec<String>,
) -> audit::InclusionProof {
    let mut answer = audit::InclusionProof {
        log,
        tree_size: number(tree_size),
        ..audit::InclusionProof::default()
    };
    if !ids.is_empty() {
        let one = |(event_id, proof): (String, Inclusion)| audit::LeafProof {
            event_id,
            index: number(proof.bundle.index),
            leaf: proof.leaf,
            proof: proof.bundle.to_string(),
        };
        answer.proofs = ids.into_iter().zip(proved).map(one).collect();
    } else if let Some(proof) = proved.pop() {
        answer.index = number(proof.bundle.index);
        answer.proof = proof.bundle.to_string();
        answer.leaf = proof.leaf;
    }
    answer
}
