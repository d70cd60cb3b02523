//! What nodes and sponsors do in a study: ask people, check and authorize them all, count them, name them.

mod ask;
mod check;
mod identify;
mod run;

use std::collections::HashMap;
use std::sync::Arc;

use sammati_kernel::{Caller, ParticipantId, Reason, Refusal, StudyId};
use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::Core;
use crate::notification::token::{Place, Places, ResumeTokens};
use crate::policy;
use crate::study::authorize::{Note, Noted};
use crate::study::cohort::Member;
use crate::study::known::Known;

/// Commands in flight of one call: they share the lanes with whoever calls.
const IN_FLIGHT: usize = 64;

/// Parts that wait for a slow client; then the stream waits.
const BUFFER: usize = 1;

/// Where a part of a stream goes.
type To<M> = Sender<Result<M, Status>>;

/// As whom somebody looks at a cohort.
enum Looks {
    /// One of its nodes, at its own patients.
    Node(ParticipantId),
    /// Its sponsor: at one node, or at all.
    Sponsor(Option<ParticipantId>),
}

impl Looks {
    const fn node(&self) -> Option<&ParticipantId> {
        match self {
            Self::Node(node) => Some(node),
            Self::Sponsor(node) => node.as_ref(),
        }
    }

    fn node_name(&self) -> String {
        self.node().map(ParticipantId::name).unwrap_or_default()
    }
}

impl Core {
    /// A study that the caller takes part in, as of now or later.
    async fn study(&self, caller: &Caller, id: StudyId) -> Result<(Arc<Known>, ParticipantId), Refusal> {
        let me = policy::participant(caller)?.clone();
        self.directory.fresh()?;
        self.store.confirm().await?;
        // One that there is not is told as one of others.
        let known = self.studies.get(id).await?.ok_or_else(outside)?;
        Ok((known, me))
    }

    /// The same for a node of it.
    async fn at_node(&self, caller: &Caller, id: StudyId) -> Result<(Arc<Known>, ParticipantId), Refusal> {
        let (known, me) = self.study(caller, id).await?;
        if known.row.has_node(me.as_str()) {
            return Ok((known, me));
        }
        Err(outside())
    }

    /// The same for a node or the sponsor.
    async fn looking(
        &self,
        caller: &Caller,
        id: StudyId,
        node: Option<ParticipantId>,
    ) -> Result<(Arc<Known>, Looks), Refusal> {
        let (known, me) = self.study(caller, id).await?;
        let named = |node: &ParticipantId| known.row.has_node(node.as_str());
        if named(&me) && node.as_ref().is_none_or(|node| *node == me) {
            return Ok((known, Looks::Node(me)));
        }
        if known.row.sponsor == me.as_str() && node.as_ref().is_none_or(named) {
            return Ok((known, Looks::Sponsor(node)));
        }
        Err(outside())
    }

    /// What nodes know their members by.
    async fn references_of(&self, members: &[&Member]) -> Result<HashMap<String, String>, Refusal> {
        let owners = members.iter().map(|one| (one.account.slot(), one.account.to_vec()));
        let ring = self.ring(owners.collect()).await?;
        let named = members.iter().map(|one| {
            let row = &one.consent;
            let private = ring.open(&row.subject, "consent", &row.id, &row.sealed)?;
            Ok((one.pseudonym.clone(), private.text))
        });
        named.collect()
    }

    /// The place of every partition's feed, sealed for whoever is told of the study.
    fn places(&self, study: StudyId) -> String {
        let place = |(partition, head): (i64, sammati_store::Head)| Place {
            partition,
            epoch: head.epoch,
            seen: head.next - 1,
        };
        let places = Places {
            places: self.store.heads().into_iter().map(place).collect(),
        };
        ResumeTokens::new(&self.store.key().derive("cohort")).seal(&study.name(), &places)
    }

    async fn note_study(&self, caller: &Caller, known: &Known, noted: Noted) -> Result<(), Refusal> {
        let note = Note {
            caller: caller.clone(),
            slot: self.callers_slot(caller),
            study: known.row.clone(),
            noted,
        };
        self.store.once(note).await
    }
}

fn outside() -> Refusal {
    Refusal::new(Reason::NodeNotInStudy).saying("you take no part in this study; its sponsor names its nodes")
}
