//! A step-up is turned into the right to one call: its transaction is consumed, and the token follows from that.

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_kernel::{Caller, Micros, Refusal, Slot, TransactionId};
use sammati_store::{Command, Keys, View};

use super::told;
use crate::policy;
use crate::rows::{TransactionRow, check_etag};

/// AuthorizeAction.
#[derive(Debug)]
pub(crate) struct StepUp {
    pub(crate) caller: Caller,
    pub(crate) transaction: TransactionId,
    /// The etag that was read.
    pub(crate) etag: String,
}

impl Command for StepUp {
    /// When it was consumed: from then on the token lives.
    type Answer = Micros;
    const NAME: &'static str = "identity.authorize_action";

    fn slot(&self) -> Slot {
        self.transaction.slot()
    }

    /// Who cannot step up cannot take anything back, if she has set it so.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransactionRow>(self.transaction.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Micros, Refusal> {
        let now = view.now();
        let row = view.get::<TransactionRow>(self.transaction.as_bytes());
        let mut row = row.ok_or_else(|| policy::unavailable(&self.caller))?;
        policy::created_by(&row, &self.caller)?;
        check_etag(&self.etag, row.version)?;
        row.require_verified(Purpose::StepUp, now)?;
        row.consume(now);
        view.put(&row);
        let mut draft = told("identity.step_up_granted", Action::Execute, &row, &self.caller);
        if let Some(bound) = &row.bound_to {
            draft = draft.object(bound.resource.clone());
        }
        draft.emit(view);
        Ok(now)
    }

    fn outcome(&self, consumed: &Micros) -> Vec<u8> {
        consumed.0.to_be_bytes().to_vec()
    }
}
