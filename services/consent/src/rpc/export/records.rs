//! What recorded the lines of a page: for each its events, and the proof of each from the log.

use std::collections::HashMap;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::export_page::Kind;
use sammati_api::consent::v1::export_record::State;
use sammati_api::json;
use sammati_kernel::Refusal;
use serde_json::Value;
use uuid::Uuid;

use super::full_name;
use super::parts::Line;
use crate::recorded::{Asked, Proved, Step};
use crate::rows::broken;

/// Events of one record, and of the records that are proved at once.
const EVENTS: usize = 100;

/// A record before its events are proved.
struct Bare {
    line: usize,
    resource: String,
    is_whole: bool,
    steps: Vec<Step>,
}

/// The records of the lines of one page, and how many of these have not all their events proved.
///
/// # Errors
/// INTERNAL; that the log is away is said in the records.
pub(super) async fn of(asked: Option<&Asked>, page: i32, lines: &[Line]) -> Result<(Vec<Value>, i32), Refusal> {
    let mut told = Vec::new();
    let mut unproved = std::collections::BTreeSet::new();
    for bare in bundled(asked, lines) {
        let steps = bare.iter().flat_map(|bare| bare.steps.iter().copied());
        let proofs = match asked {
            None => None,
            // What cannot be proved any more is named all the same.
            Some(asked) => asked.prove(steps).await.map_err(|refusal| said(&refusal)).ok(),
        };
        for bare in bare {
            let record = record(asked, proofs.as_ref(), page, &bare);
            if record.state() != State::Proved {
                unproved.insert(bare.line);
            }
            told.push(json::encode(full_name(Kind::Record), &record).ok_or_else(|| broken("a record as JSON"))?);
        }
    }
    Ok((told, i32::try_from(unproved.len()).unwrap_or(i32::MAX)))
}

fn said(refusal: &Refusal) {
    tracing::warn!(reason = refusal.reason.as_str(), "an export goes on without proofs");
}

/// Records whose events are proved at once.
fn bundled(asked: Option<&Asked>, lines: &[Line]) -> Vec<Vec<Bare>> {
    let mut bundles: Vec<Vec<Bare>> = Vec::new();
    let mut room = 0;
    for (at, line) in lines.iter().enumerate() {
        let (steps, is_whole) = asked.map(|asked| asked.steps.of(&line.key)).unwrap_or_default();
        // One without events is a record too.
        let some = steps.chunks(EVENTS).map(<[Step]>::to_vec);
        let none = steps.is_empty().then(Vec::new);
        for steps in some.chain(none) {
            let needs = steps.len().max(1);
            if needs > room {
                bundles.push(Vec::new());
                room = EVENTS;
            }
            room -= needs;
            if let Some(bundle) = bundles.last_mut() {
                bundle.push(Bare {
                    line: at,
                    resource: line.resource.clone(),
                    is_whole,
                    steps,
                });
            }
        }
    }
    bundles
}

fn record(asked: Option<&Asked>, proofs: Option<&HashMap<Uuid, Proved>>, page: i32, bare: &Bare) -> api::ExportRecord {
    let event = |step: &Step| {
        let proved = proofs.and_then(|proofs| proofs.get(&step.id)).cloned();
        let kind = asked.map(|asked| asked.steps.kind_of(*step)).unwrap_or_default();
        let (log, leaf, proof) = proved.map(|of| (of.log, of.leaf, of.proof)).unwrap_or_default();
        api::RecordedEvent {
            event_id: step.id.to_string(),
            event_type: kind.to_owned(),
            log,
            leaf,
            proof,
        }
    };
    let events: Vec<_> = bare.steps.iter().map(event).collect();
    let state = match (proofs, events.iter().all(|event| !event.proof.is_empty())) {
        (Some(_), true) if bare.is_whole => State::Proved,
        (Some(_), true) => State::Incomplete,
        _ => State::NotAttached,
    };
    api::ExportRecord {
        page,
        line: i32::try_from(bare.line).unwrap_or(i32::MAX),
        resource: bare.resource.clone(),
        state: state.into(),
        events,
    }
}
