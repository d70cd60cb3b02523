//! A participant is changed, put into use, or stopped.

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::participant::{Kind, State};
use sammati_api::identity::v1::{Participant, Registration};
use sammati_kernel::{Caller, Fact, ParticipantId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{keys, told};
use crate::policy;
use crate::rows::{ParticipantRow, check_etag};

/// What is done to it.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// These fields take the values of this resource.
    Update(Vec<String>, Box<Participant>),
    Activate,
    Suspend(String),
}

/// Changes a participant. The sessions of one that is suspended end behind it: from then on it opens none.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) caller: Caller,
    pub(crate) id: ParticipantId,
    pub(crate) etag: String,
    pub(crate) what: What,
}

impl Command for Change {
    type Answer = ();
    const NAME: &'static str = "identity.change_participant";

    fn slot(&self) -> Slot {
        Slot::of_participant(self.id.as_str())
    }

    fn is_essential(&self) -> bool {
        matches!(self.what, What::Suspend(_))
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ParticipantRow>(self.id.as_str());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<ParticipantRow>(self.id.as_str().as_bytes());
        let mut row = row.ok_or_else(|| policy::unavailable(&self.caller))?;
        if let What::Update(fields, _) = &self.what {
            policy::may_update(&self.caller, &self.id, fields)?;
        }
        check_etag(&self.etag, row.version)?;
        match &self.what {
            What::Update(fields, values) => self.update(&mut row, fields, values, view),
            What::Activate => self.activate(&mut row, view),
            What::Suspend(reason) => self.suspend(&mut row, reason, view),
        }
    }
}

impl Change {
    fn update(
        &self,
        row: &mut ParticipantRow,
        fields: &[String],
        values: &Participant,
        view: &mut View<'_>,
    ) -> Result<(), Refusal> {
        if row.state() == State::Retired {
            return Err(conflict(row));
        }
        let now = view.now();
        let resource = row.resource.get_or_insert_default();
        for field in fields {
            match field.as_str() {
                "display_name" => resource.display_name.clone_from(&values.display_name),
                "roles" => resource.roles.clone_from(&values.roles),
                "registrations" => {
                    resource.registrations = kept_verified(&resource.registrations, &values.registrations)
                }
                "spiffe_id" => resource.spiffe_id.clone_from(&values.spiffe_id),
                "keys" => resource.keys = keys::replace(&resource.keys, &values.keys, now)?,
                "transfer_origins" => resource.transfer_origins.clone_from(&values.transfer_origins),
                "grievance_contact" => resource.grievance_contact.clone_from(&values.grievance_contact),
                "languages" => resource.languages.clone_from(&values.languages),
                "rates" => resource.rates = values.rates,
                _ => return Err(Reason::Internal.into()),
            }
        }
        row.touch(now);
        view.put(row);
        let mut draft = told("identity.participant_updated", Action::Update, row, &self.caller);
        draft.payload().changed_fields = fields.to_vec();
        draft.emit(view);
        Ok(())
    }

    fn activate(&self, row: &mut ParticipantRow, view: &mut View<'_>) -> Result<(), Refusal> {
        if !matches!(row.state(), State::Pending | State::Suspended) {
            return Err(conflict(row));
        }
        let resource = row.resource.get_or_insert_default();
        let registered = matches!(resource.kind(), Kind::Facility | Kind::Professional);
        if registered && resource.registrations.is_empty() {
            return Err(Refusal::new(Reason::RegistrationUnverified)
                .saying("a facility or professional needs a registration before it is activated; add one with UpdateParticipant"));
        }
        // The operator's word, until registries are asked.
        resource.registrations.iter_mut().for_each(|r| r.verified = true);
        resource.set_state(State::Active);
        row.touch(view.now());
        view.put(row);
        told("identity.participant_activated", Action::Update, row, &self.caller).emit(view);
        Ok(())
    }

    fn suspend(&self, row: &mut ParticipantRow, reason: &str, view: &mut View<'_>) -> Result<(), Refusal> {
        if row.state() != State::Active {
            return Err(conflict(row));
        }
        row.resource.get_or_insert_default().set_state(State::Suspended);
        row.touch(view.now());
        view.put(row);
        let mut draft = told("identity.participant_suspended", Action::Update, row, &self.caller);
        reason.clone_into(&mut draft.payload().legal_basis);
        draft.emit(view);
        Ok(())
    }
}

fn conflict(row: &ParticipantRow) -> Refusal {
    let state = row.state().as_str_name().trim_start_matches("STATE_");
    Refusal::new(Reason::StateConflict)
        .saying(format!("the participant is {state}"))
        .with(Fact::State, state)
}

/// A registration that was confirmed stays so; a new one is not confirmed yet.
fn kept_verified(old: &[Registration], new: &[Registration]) -> Vec<Registration> {
    let known = |new: &Registration| {
        old.iter()
            .any(|o| o.verified && o.registry == new.registry && o.id == new.id)
    };
    new.iter()
        .map(|r| Registration {
            verified: known(r),
            ..r.clone()
        })
        .collect()
}
