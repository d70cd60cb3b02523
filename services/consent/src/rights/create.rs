//! She asks.

use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{AccountId, Caller, ParticipantId, Reason, Refusal, RightsRequestId, Slot};
use sammati_store::{Command, Keys, View};

use super::{DUE, MAX_OPEN, State, against, draft, tell};
use crate::directory::Directory;
use crate::representative;
use crate::rows::RightsRow;
use crate::vault::{Private, Vault, seal};

/// CreateRightsRequest.
pub struct CreateRightsRequest {
    /// Who asks.
    pub caller: Caller,
    /// The person.
    pub account: AccountId,
    /// `RightsRequest.Kind` of the contract.
    pub kind: i32,
    /// Of whom; `None`: of us.
    pub against: Option<ParticipantId>,
    /// What it is about, by name.
    pub about: Vec<String>,
    /// The address by which it knows her; empty without one.
    pub patient: String,
    /// Her words.
    pub text: String,
    /// Who takes part.
    pub directory: Arc<dyn Directory>,
    /// Seals her words.
    pub vault: Vault,
}

impl Command for CreateRightsRequest {
    type Answer = RightsRequestId;

    const NAME: &'static str = "rights.open";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.group::<RightsRow>("open", self.account.to_vec());
        Vault::reads(keys, self.account.as_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<RightsRequestId, Refusal> {
        let now = view.now();
        self.check_against()?;
        let mut open = view.group::<RightsRow>("open", self.account.as_bytes());
        open.retain(|row| matches!(row.state_at(now), State::Open | State::Answered));
        if open.len() >= MAX_OPEN {
            return Err(Refusal::new(Reason::OpenLimit)
                .saying("50 requests of hers are not settled; close those that are answered"));
        }
        let id: RightsRequestId = view.id("rights request");
        let key = self.vault.key(view, self.account.as_bytes())?;
        let private = Private {
            patient: self.patient.clone(),
            text: self.text.clone(),
            ..Private::default()
        };
        let row = RightsRow {
            id: id.to_vec(),
            subject: self.account.to_vec(),
            kind: self.kind,
            against: self.against.as_ref().map(ParticipantId::name).unwrap_or_default(),
            about: self.about.clone(),
            text: seal(&key, view, "rights text", id.as_bytes(), &private)?,
            state: State::Open.number(),
            created: now.0,
            due: now.plus(DUE).0,
            updated: now.0,
            version: 1,
            asked_under: representative::representation(&self.caller),
            ..RightsRow::default()
        };
        view.put(&row);
        let told = draft("rights.opened", Action::Create, &self.caller, &row)?.emit(view);
        tell(view, told, &row, &against(&row))?;
        Ok(id)
    }

    fn outcome(&self, id: &RightsRequestId) -> Vec<u8> {
        id.to_vec()
    }
}

impl CreateRightsRequest {
    /// One that does not take part any more answers too: what it holds of her, it holds.
    fn check_against(&self) -> Result<(), Refusal> {
        let Some(against) = &self.against else { return Ok(()) };
        self.directory.fresh()?;
        if self.directory.participant(against).is_some() {
            return Ok(());
        }
        Err(Refusal::field(
            "against",
            "no participant; empty for the consent manager itself",
        ))
    }
}
