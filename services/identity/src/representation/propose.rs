//! A representative is proposed.

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{AccountId, Caller, Reason, Refusal, RepresentationId, Slot};
use sammati_store::{Command, Keys, View};

use super::{ACCEPT_WITHIN, OPEN, State, told};
use crate::policy;
use crate::rows::{AccountRow, EvidenceRow, Mandate, RepresentationRow};

/// Proposes it.
#[derive(Debug)]
pub(crate) struct Propose {
    pub(crate) caller: Caller,
    pub(crate) principal: AccountId,
    /// Nobody, if nobody was found.
    pub(crate) representative: Option<AccountId>,
    pub(crate) mandate: Mandate,
    pub(crate) evidence: Option<EvidenceRow>,
}

impl Command for Propose {
    type Answer = RepresentationId;
    const NAME: &'static str = "identity.create_representation";

    fn slot(&self) -> Slot {
        self.principal.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.principal.to_vec());
        keys.group::<RepresentationRow>("open", self.principal.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<RepresentationId, Refusal> {
        let now = view.now();
        let principal = view.get::<AccountRow>(self.principal.as_bytes());
        let principal = principal.ok_or_else(|| policy::unavailable(&self.caller))?;
        if !principal.is_active() {
            return Err(Refusal::new(Reason::StateConflict).saying("the account is not active"));
        }
        let open = view.group::<RepresentationRow>("open", self.principal.as_bytes());
        if open.iter().filter(|row| row.state_at(now) != State::Ended).count() >= OPEN {
            return Err(Refusal::new(Reason::OpenLimit).saying(format!(
                "{OPEN} representations of one person may be open; end one, then propose another"
            )));
        }
        let id: RepresentationId = view.id("representation");
        let row = RepresentationRow {
            id: id.to_vec(),
            version: 1,
            principal: self.principal.to_vec(),
            representative: self.representative.map(AccountId::to_vec).unwrap_or_default(),
            mandate: Some(self.mandate.clone()),
            state: State::Proposed.number(),
            evidence: self.evidence.clone(),
            create_time: now.0,
            update_time: now.0,
            accept_by: now.plus(ACCEPT_WITHIN).0,
            ..RepresentationRow::default()
        };
        view.put(&row);
        let mut draft = told("identity.representation_proposed", Action::Create, &row, &self.caller);
        if let Some(evidence) = &row.evidence {
            evidence.kind.clone_into(&mut draft.payload().legal_basis);
        }
        draft.emit(view);
        Ok(id)
    }

    fn outcome(&self, id: &RepresentationId) -> Vec<u8> {
        id.to_vec()
    }
}
