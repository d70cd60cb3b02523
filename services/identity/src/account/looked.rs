//! That somebody looked is recorded.

use sammati_api::audit::v1::event::{Action, Outcome};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, Reason, Refusal, Slot};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

/// An operator saw everything of an account.
#[derive(Debug)]
pub(crate) struct Viewed {
    pub(crate) caller: Caller,
    pub(crate) account: AccountId,
}

impl Command for Viewed {
    type Answer = ();
    const NAME: &'static str = "identity.view_account";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        Draft::new("identity.viewed", Action::Read, RetentionClass::General, &self.caller)
            .resource(&self.account.name(), 0)
            .subject(self.account)
            .emit(view);
        Ok(())
    }
}

/// Somebody asked for a person and was not told.
#[derive(Debug)]
pub(crate) struct LookupRefused {
    pub(crate) caller: Caller,
    /// The person, if there is one.
    pub(crate) account: Option<AccountId>,
    /// Where it is recorded.
    pub(crate) slot: Slot,
}

impl Command for LookupRefused {
    type Answer = ();
    const NAME: &'static str = "identity.refuse_lookup";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let draft = Draft::new(
            "identity.lookup_refused",
            Action::Read,
            RetentionClass::General,
            &self.caller,
        )
        .refused_for(Outcome::Serious, Reason::NoMatch);
        match self.account {
            Some(account) => draft.subject(account).resource(&account.name(), 0),
            None => draft,
        }
        .emit(view);
        Ok(())
    }
}
