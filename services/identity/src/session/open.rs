//! A person's session begins where her account lives.

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::account::State;
use sammati_kernel::{Caller, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{Login, of_person, told};
use crate::rows::{AccountRow, SessionRow, TransactionRow};

/// The second half of a login. Harmless when repeated: the session's id was fixed by the first half.
#[derive(Debug)]
pub(crate) struct OpenSession {
    pub(crate) caller: Caller,
    pub(crate) login: Login,
    /// The transaction that the first half consumed, as it was VERIFIED or later: who proved what and when changes no more.
    pub(crate) transaction: TransactionRow,
}

impl Command for OpenSession {
    type Answer = ();
    const NAME: &'static str = "identity.open_session";

    fn slot(&self) -> Slot {
        self.login.account.slot()
    }

    /// Who cannot sign in cannot take anything back.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.login.account.to_vec());
        keys.row::<SessionRow>(self.login.session.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        if view.get::<SessionRow>(self.login.session.as_bytes()).is_some() {
            return Ok(());
        }
        let account = view
            .get::<AccountRow>(self.login.account.as_bytes())
            .ok_or(Reason::NotAvailable)?;
        may_enter(&account, &self.transaction)?;
        let row = of_person(self.login.session, self.login.account, &self.transaction, view.now());
        view.put(&row);
        told("identity.session_created", Action::Create, &row, &self.caller).emit(view);
        Ok(())
    }
}

/// Only into an account that is in use, and only by what was proved after all of its sessions were ended last. That holds of a
/// login too that was consumed before: until its session is open it has given nothing.
pub(crate) fn may_enter(account: &AccountRow, proof: &TransactionRow) -> Result<(), Refusal> {
    may_log_in(account.state())?;
    proof.require_proved_after(account.sessions_from)
}

/// Only into an account that is in use.
pub(crate) fn may_log_in(state: State) -> Result<(), Refusal> {
    match state {
        State::Active => Ok(()),
        State::Deactivated => Err(Reason::AccountDeactivated.into()),
        State::Deleted => Err(Reason::AccountDeleted.into()),
        State::Blocked | State::Merged | State::Unspecified => Err(Reason::NotAvailable.into()),
    }
}
