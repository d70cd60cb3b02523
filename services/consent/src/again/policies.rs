//! Policies take away again what they took away.

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{PolicyId, Refusal, Slot};
use sammati_server::event::system;
use sammati_store::{Command, Keys, View};

use super::Became;
use crate::rows::PolicyRow;
use crate::standing::{Effect, Verb, draft};

/// Disables a policy that approves, or enables one that denies. The other way round would give, and is hers to do.
pub(super) struct PolicyAgain {
    pub(super) policy: PolicyId,
    pub(super) verb: Verb,
    /// The event that tells of it.
    pub(super) lost: String,
}

impl Command for PolicyAgain {
    type Answer = Became;

    const NAME: &'static str = "policy.again";

    fn slot(&self) -> Slot {
        self.policy.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<PolicyRow>(self.policy.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Became, Refusal> {
        let Some(mut row) = view.get::<PolicyRow>(self.policy.as_bytes()) else {
            return Ok(Became::Lost);
        };
        let event = match (self.verb, row.effect()) {
            (Verb::Disable, Effect::Approve) => "policy.disabled",
            (Verb::Enable, Effect::Deny) => "policy.enabled",
            _ => return Ok(Became::Left),
        };
        let Some(to) = row.state().after(self.verb) else {
            return Ok(Became::Left);
        };
        row.settle(to, view.now());
        view.put(&row);
        let told = draft(event, Action::Update, &system("consent"), &row)?;
        told.because_of(&self.lost).emit(view);
        Ok(Became::Retaken)
    }
}
