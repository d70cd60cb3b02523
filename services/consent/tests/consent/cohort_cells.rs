//! What a sponsor is told of few people: nothing, by whatever lists it asks for and subtracts.

use sammati_api::consent::v1 as api;
use sammati_kernel::Reason;
use tonic::Status;

use crate::cohorts::{checked, seeded_at};
use crate::studies::active;
use crate::world::{World, everywhere, participant, reason};

/// What its sponsor is told of a node, or of all.
async fn seen(w: &World, study: &api::Study, node: &str) -> Result<(Vec<api::CohortMember>, i64), Status> {
    let parts = checked(w, &participant("institute"), &study.name, node).await?;
    let manifest = parts.last().unwrap().manifest.clone().unwrap();
    let members = parts.into_iter().flat_map(|part| part.members).collect();
    Ok((members, manifest.permit_count))
}

#[test]
fn people_who_are_at_two_nodes_count_once() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        seeded_at(&w, &study, "hospital", 0, 5).await;
        seeded_at(&w, &study, "lab", 0, 5).await;
        for node in ["", "participants/hospital", "participants/lab"] {
            assert_eq!(reason(seen(&w, &study, node).await), Reason::CellTooSmall, "{node}");
        }
    });
}

#[test]
fn a_list_of_all_less_that_of_one_node_does_not_tell_who_is_at_a_small_one() {
    everywhere(async |w| {
        let study = active(&w, "institute").await;
        seeded_at(&w, &study, "hospital", 0, 12).await;
        seeded_at(&w, &study, "lab", 12, 3).await;
        let all = seen(&w, &study, "").await.unwrap();
        assert_eq!((all.0.len(), all.1), (12, 12));
        assert_eq!(seen(&w, &study, "participants/hospital").await.unwrap(), all);
        let few = seen(&w, &study, "participants/lab").await;
        assert_eq!(reason(few), Reason::CellTooSmall);
        // Once it is large enough it is told.
        seeded_at(&w, &study, "lab", 15, 7).await;
        assert_eq!(seen(&w, &study, "").await.unwrap().1, 22);
    });
}
