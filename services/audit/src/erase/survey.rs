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

/// What tells that a consent was given.
const GRANT: &str = "consent.granted";

/// What tells that it ended; events are met newest first, so before all else that tells of it.
const ENDS: [&str; 3] = ["consent.withdrawn", "consent.expired", "consent.superseded"];

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
    /// The time that the floor of what is under each generation of its key counts from: that of its newest event, or of the
    /// end of a consent that it tells of, if that was later.
    counts_from: BTreeMap<i64, Micros>,
    /// The leaves whose payloads are there, each with the generation of its key.
    pub(crate) leaves: Vec<(u64, i64)>,
    /// The generations that tell of a consent which is in force, as far as the events tell.
    in_force: BTreeSet<i64>,
}

impl Kept {
    /// When the floor has passed of what is under its key up to a generation, if there is anything.
    pub(crate) fn due(&self, class: RetentionClass, through: i64) -> Option<Micros> {
        self.leaves.iter().find(|(_, of)| *of <= through)?;
        let from = self.counts_from.range(..=through).map(|(_, from)| *from).max()?;
        let in_force = self.in_force.range(..=through).next().is_some();
        Some(retention::floor(class, from, in_force))
    }

    /// The newest generation of its key that there is something under.
    pub(crate) fn generation(&self) -> i64 {
        self.leaves.iter().map(|(_, of)| *of).max().unwrap_or_default()
    }

    fn counts(&mut self, generation: i64, from: Micros) {
        let known = self.counts_from.entry(generation).or_default();
        *known = from.max(*known);
    }
}

impl Log {
    /// Looks through all that the log has of a subject.
    pub(crate) async fn survey(&self, tag: &[u8]) -> Result<Survey, Refusal> {
        let mut walk: Walk = self.begin_walk(tag, u64::MAX).await?;
        let events = walk.top.0;
        let follows = self.ends().await?.follows.is_some();
        let mut named = BTreeSet::new();
        let (mut kept, mut ended) = (BTreeMap::<_, Kept>::new(), BTreeMap::new());
        while !walk.is_over() {
            let page = self.walk(tag, walk, CHUNK).await?;
            walk = page.walk;
            for (row, (header, opened)) in page.rows.iter().zip(self.payloads(&page.rows).await?) {
                let class = RetentionClass::try_from(header.class).unwrap_or_default();
                let kept = kept.entry(class).or_default();
                let accepted = header.accept_time.as_ref().and_then(micros).unwrap_or_default();
                let generation = keyring::generation(&header);
                kept.counts(generation, accepted);
                if !row.payload.is_empty() {
                    kept.leaves.push((row.index, generation));
                }
                let Some(consent) = consent(&opened).filter(|_| class == RetentionClass::Consent) else {
                    continue;
                };
                if ENDS.contains(&header.event_type.as_str()) {
                    ended.entry(consent.clone()).or_insert(accepted);
                }
                // Its end may be told of under a later key: the law counts from it all the same.
                match ended.get(&consent) {
                    Some(end) => kept.counts(generation, *end),
                    None if header.event_type == GRANT => drop(kept.in_force.insert(generation)),
                    None => {}
                }
                if follows {
                    named.insert((generation, consent));
                }
            }
        }
        // One that was given in the log before goes on unless its end is here.
        let go_on = named.into_iter().filter(|(_, consent)| !ended.contains_key(consent));
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
