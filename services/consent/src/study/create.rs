//! Describing a study.

use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::{NoticeRef, Requester};
use sammati_kernel::{Caller, ParticipantId, Reason, Refusal, Role, Slot, StudyId};
use sammati_store::{Command, Keys, View};

use super::{MIN_CELL, State, draft};
use crate::directory::Directory;
use crate::request::ask::{Faults, Times};
use crate::rows::{EthicsRow, StudyRow};
use crate::scope::Scope;

/// What is described, well formed.
#[derive(Debug, Clone)]
pub struct Described {
    /// What people read.
    pub title: String,
    /// The approval.
    pub ethics: EthicsRow,
    /// What is asked.
    pub scope: Scope,
    /// SHA-256 of the protocol.
    pub protocol: String,
    /// The HIPs, in the order they were named.
    pub nodes: Vec<ParticipantId>,
    /// Who answers for it.
    pub investigator: Requester,
    /// The smallest group that is counted.
    pub min_cell: i32,
    /// What is bound to what it asks.
    pub notice: NoticeRef,
}

/// CreateStudy.
pub struct CreateStudy {
    /// Who describes it.
    pub caller: Caller,
    /// The same.
    pub sponsor: ParticipantId,
    /// What.
    pub described: Described,
    /// Who takes part.
    pub directory: Arc<dyn Directory>,
}

impl Command for CreateStudy {
    type Answer = StudyRow;

    const NAME: &'static str = "study.create";

    fn slot(&self) -> Slot {
        Slot::of_participant(self.sponsor.as_str())
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<StudyRow, Refusal> {
        self.check(view)?;
        let id: StudyId = view.id("study");
        let (now, described) = (view.now(), &self.described);
        let row = StudyRow {
            id: id.to_vec(),
            sponsor: self.sponsor.as_str().to_owned(),
            title: described.title.clone(),
            ethics: described.ethics.clone(),
            scope: (&described.scope).into(),
            protocol: described.protocol.clone(),
            nodes: described.nodes.iter().map(|node| node.as_str().to_owned()).collect(),
            min_cell: described.min_cell.max(MIN_CELL),
            investigator: described.investigator.clone(),
            notice: described.notice.clone(),
            state: State::Draft.number(),
            created: now.0,
            updated: now.0,
            version: 1,
            ..StudyRow::default()
        };
        view.put(&row);
        draft("study.created", Action::Create, &self.caller, &row)?.emit(view);
        Ok(row)
    }

    fn outcome(&self, answer: &StudyRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl CreateStudy {
    fn check(&self, view: &View<'_>) -> Result<(), Refusal> {
        self.directory.fresh()?;
        if !self.directory.is_active_as(&self.sponsor, Role::Researcher) {
            return Err(Refusal::new(Reason::ParticipantNotActive)
                .saying("your participant is not active as a research body; ask the operator"));
        }
        let (described, mut faults) = (&self.described, Faults::default());
        let times = Times {
            record_range: Some(described.scope.record_range),
            erase: Some(described.scope.erase_time),
            expire: None,
        };
        times.check(&mut faults, view.now());
        if described.ethics.until <= view.now().0 {
            faults.add(Reason::EthicsRequired, "ethics_approval.until_time", "in the future");
        } else if described.scope.erase_time.0 > described.ethics.until {
            let why = "not after the ethics approval ends";
            faults.add(Reason::ScopeInvalid, "scope.erase_time", why);
        }
        for (n, node) in described.nodes.iter().enumerate() {
            if !self.directory.is_active_as(node, Role::Hip) {
                let why = "no active HIP; leave it out or ask the operator";
                faults.add(Reason::HipUnknown, format!("nodes[{n}]"), why);
            }
        }
        faults.check()
    }
}
