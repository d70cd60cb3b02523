//! Giving her everything that is kept of her decisions: a read that leaves its event before the first page.

use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, Micros, Refusal, Slot};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

use crate::policy;

/// ExportConsents.
pub struct ExportConsents {
    /// Who asks: she, or who acts for her.
    pub caller: Caller,
    /// Whose they are.
    pub account: AccountId,
}

/// The event that tells of it, and when it was.
pub struct Exporting {
    /// Its id.
    pub event_id: String,
    /// When.
    pub at: Micros,
}

impl Command for ExportConsents {
    type Answer = Exporting;

    const NAME: &'static str = "consent.export";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<Exporting, Refusal> {
        policy::recently_proved(&self.caller, view.now())?;
        let mut draft = Draft::new("consent.exported", Action::Read, RetentionClass::Consent, &self.caller);
        draft.payload().subject = self.account.name();
        let told = draft.emit(view);
        Ok(Exporting {
            event_id: told.id.to_string(),
            at: view.now(),
        })
    }
}
