//! What the log has of one person, by class: what an erasure goes by.

use std::collections::{BTreeMap, BTreeSet};

use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Micros, Refusal};
use sammati_server::event::micros;

use crate::keyring::{self, Opened};
use crate::log::Log;
use crate::retention;
use crate::subject::Walk;

/// Leaves of one look.
const CHUNK: usize = 256;

/// What the log has of a subject, as of one moment.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// How many events there were about her: once there is another, this tells of the past.
    pub(crate) events: u64,
    /// The classes of which there is a payload.
    pub(crate) kept: BTreeMap<RetentionClass, Kept>,
}

/// What one class of one subject has.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// When the newest event under each generation of its key was taken in.
    newest: BTreeMap<i64, Micros>,
    /// The leaves whose payloads are there, each with the generation of its key.
    pub(crate) leaves: Vec<(u64, i64)>,
    /// The generations that tell of a consent which is in force, as far as the events tell.
    in_force: BTreeSet<i64>,
}

impl Kept {
    /// When the floor has passed of what is under its key up to a generation, if there is anything.
    pub(crate) fn due(&self, class: RetentionClass, through: i64) -> Option<Micros> {
        self.leaves.iter().find(|(_, of)| *of <= through)?;
        let newest = self.newest.range(..=through).map(|(_, newest)| *newest).max()?;
        let in_force = self.in_force.range(..=through).next().is_some();
        Some(retention::floor(class, newest, in_force))
    }

    /// The newest generation of its key that there is something under.
    pub(crate) fn generation(&self) -> i64 {
        self.leaves.iter().map(|(_, of)| *of).max().unwrap_or_default()
    }
}

impl Log {
    /// Looks through all that the log has of a subject.
    pub(crate) async fn survey(&self, tag: &[u8]) -> Result<Survey, Refusal> {
        let mut walk: Walk = self.begin_walk(tag, u64::MAX).await?;
        let events = walk.top.0;
        let follows = self.ends().await?.follows.is_some();
        let mut named = BTreeSet::new();
        let (mut kept, mut ended) = (BTreeMap::<_, Kept>::new(), BTreeSet::new());
        while !walk.is_over() {
            let page = self.walk(tag, walk, CHUNK).await?;
            walk = page.walk;
            for (row, (header, opened)) in page.rows.iter().zip(self.payloads(&page.rows).await?) {
                let class = RetentionClass::try_from(header.class).unwrap_or_default();
                let kept = kept.entry(class).or_default();
                let accepted = header.accept_time.as_ref().and_then(micros).unwrap_or_default();
                let generation = keyring::generation(&header);
                let newest = kept.newest.entry(generation).or_default();
                *newest = accepted.max(*newest);
                if !row.payload.is_empty() {
                    kept.leaves.push((row.index, generation));
                }
                if follows && class == RetentionClass::Consent {
                    named.extend(consent(&opened).map(|consent| (generation, consent)));
                }
                if goes_on(&header.event_type, &opened, &mut ended) {
                    kept.in_force.insert(generation);
                }
            }
        }
        // One that was given in the log before goes on unless its end is here.
        let go_on = named.into_iter().filter(|(_, consent)| !ended.contains(consent));
        let generations = go_on.map(|(generation, _)| generation);
        kept.entry(RetentionClass::Consent)
            .or_default()
            .in_force
            .extend(generations);
        kept.retain(|_, kept| !kept.leaves.is_empty());
        Ok(Survey { events, kept })
    }
}

/// The consent that something was done to.
fn consent(opened: &Opened) -> Option<String> {
    let Opened::Readable(payload) = opened else { return None };
    payload
        .resource
        .starts_with("consents/")
        .then(|| payload.resource.clone())
}

/// Whether an event tells of a consent that goes on; events come newest first, so its end came before.
fn goes_on(event_type: &str, opened: &Opened, ended: &mut BTreeSet<String>) -> bool {
    let Opened::Readable(payload) = opened else {
        return false;
    };
    match event_type {
        "consent.withdrawn" | "consent.expired" | "consent.superseded" => {
            ended.insert(payload.resource.clone());
            false
        }
        "consent.granted" => !ended.contains(&payload.resource),
        _ => false,
    }
}
