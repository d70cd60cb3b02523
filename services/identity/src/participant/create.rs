//! A participant is registered, PENDING.

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1 as api;
use sammati_kernel::{Caller, ParticipantId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::told;
use crate::rows::ParticipantRow;

/// Registers it.
#[derive(Debug)]
pub(crate) struct Create {
    pub(crate) caller: Caller,
    pub(crate) id: ParticipantId,
    /// Its fields, already without what is output only.
    pub(crate) resource: api::Participant,
}

impl Command for Create {
    type Answer = ();
    const NAME: &'static str = "identity.create_participant";

    fn slot(&self) -> Slot {
        Slot::of_participant(self.id.as_str())
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ParticipantRow>(self.id.as_str());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        if view.get::<ParticipantRow>(self.id.as_str().as_bytes()).is_some() {
            return Err(Refusal::new(Reason::ParticipantExists).saying("a participant with this id exists"));
        }
        let now = view.now();
        let mut resource = self.resource.clone();
        resource.set_state(api::participant::State::Pending);
        let row = ParticipantRow {
            id: self.id.as_str().to_owned(),
            version: 1,
            resource: Some(resource),
            create_time: now.0,
            update_time: now.0,
        };
        view.put(&row);
        told("identity.participant_created", Action::Create, &row, &self.caller).emit(view);
        Ok(())
    }
}
