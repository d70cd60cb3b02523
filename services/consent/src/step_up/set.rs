//! She sets what needs her PIN, and shows it for that.

use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, Refusal, Slot};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

use super::{Token, reads, take};
use crate::rows::{self, StepUpRow};

/// SetStepUp.
pub struct SetStepUp {
    /// Who asks.
    pub caller: Caller,
    /// The person.
    pub account: AccountId,
    /// `StepUp.Action` numbers, in order.
    pub actions: Vec<i32>,
    /// The etag that was read.
    pub etag: String,
    /// The token that came with it.
    pub token: Token,
}

impl Command for SetStepUp {
    type Answer = ();

    const NAME: &'static str = "consent.set_step_up";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        reads(keys, self.account);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let now = view.now();
        let row = view.get::<StepUpRow>(self.account.as_bytes());
        let row = row.unwrap_or_else(|| StepUpRow::of(self.account.as_bytes()));
        rows::check_etag(&self.etag, row.version)?;
        let mut row = take(row, &self.token, now)?;
        row.actions.clone_from(&self.actions);
        row.updated = now.0;
        row.version += 1;
        view.put(&row);
        let name = name(self.account);
        Draft::new(
            "consent.step_up_set",
            Action::Update,
            RetentionClass::Consent,
            &self.caller,
        )
        .resource(&name, row.version)
        .subject(self.account)
        .emit(view);
        Ok(())
    }
}

/// `stepUps/{id}`.
pub fn name(account: AccountId) -> String {
    format!("stepUps/{account}")
}
