//! That somebody tried is recorded: in her log, if there is anybody of that address.

use sammati_api::audit::v1::event::{Action, Outcome};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, ParticipantId, PurposeCode, Reason, Refusal, Slot};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

use crate::place::Place;

/// Records a refusal.
pub struct RefuseGlass {
    /// Who asked.
    pub caller: Caller,
    /// Whom: an account, or an address that is nobody's.
    pub place: Place,
    /// From whom.
    pub hips: Vec<ParticipantId>,
}

impl Command for RefuseGlass {
    type Answer = ();

    const NAME: &'static str = "consent.refuse_break_glass";

    fn slot(&self) -> Slot {
        self.place.slot
    }

    fn reads(&self, _: &mut Keys) {}

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        record(view, &self.caller, self.place.subject, &self.hips);
        Ok(())
    }
}

/// That somebody tried, in the commit that refuses.
pub(super) fn record(view: &mut View<'_>, caller: &Caller, subject: Option<AccountId>, hips: &[ParticipantId]) {
    let mut draft = Draft::new("access.break_glass", Action::Execute, RetentionClass::Access, caller)
        .refused_for(Outcome::Serious, Reason::BreakGlassRefused);
    for hip in hips {
        draft = draft.participant(hip);
    }
    let payload = draft.payload();
    payload.purpose = PurposeCode::Btg.number();
    if let Some(account) = subject {
        payload.subject = account.name();
    }
    draft.emit(view);
}
