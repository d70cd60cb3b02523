//! A participant's session: short, bound to its certificate, never refreshed.

use std::collections::BTreeSet;

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{Caller, Fact, ParticipantId, Reason, Refusal, Role, SessionId, Slot};
use sammati_store::{ClaimKey, Command, Keys, View};

use super::{PARTICIPANT_LIFE, told};
use crate::rows::{ParticipantRow, SessionRow};
use crate::wire::role_of;

/// Opens it. Who asks has been proved before.
#[derive(Debug)]
pub(crate) struct OpenParticipantSession {
    pub(crate) caller: Caller,
    pub(crate) participant: ParticipantId,
    pub(crate) roles: BTreeSet<Role>,
    /// base64url of the SHA-256 of the certificate.
    pub(crate) certificate: String,
    /// The claim that the assertion's id is used, where an assertion was the proof.
    pub(crate) assertion: Option<ClaimKey>,
}

impl Command for OpenParticipantSession {
    type Answer = SessionId;
    const NAME: &'static str = "identity.create_participant_session";

    fn slot(&self) -> Slot {
        Slot::of_participant(self.participant.as_str())
    }

    /// Who cannot sign in cannot take anything back.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ParticipantRow>(self.participant.as_str());
        self.assertion.iter().for_each(|claim| keys.claim(*claim));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<SessionId, Refusal> {
        let now = view.now();
        let row = view
            .get::<ParticipantRow>(self.participant.as_str().as_bytes())
            .ok_or(Reason::AssertionInvalid)?;
        self.may_open(&row)?;
        let id: SessionId = view.id("session");
        if let Some(claim) = self.assertion {
            if view.claimed(&claim).is_some() {
                return Err(Refusal::new(Reason::AssertionReplayed).saying("each assertion needs a jti of its own"));
            }
            view.claim(claim, id.to_vec());
        }
        let session = SessionRow {
            id: id.to_vec(),
            version: 1,
            participant: self.participant.as_str().to_owned(),
            roles: self.roles.iter().map(|role| role.as_str().to_owned()).collect(),
            generation: 1,
            create_time: now.0,
            update_time: now.0,
            expire_time: now.plus(PARTICIPANT_LIFE).0,
            certificate: self.certificate.clone(),
            ..SessionRow::default()
        };
        view.put(&session);
        told(
            "identity.participant_session_created",
            Action::Create,
            &session,
            &self.caller,
        )
        .claims(self.assertion)
        .emit(view);
        Ok(id)
    }

    fn outcome(&self, id: &SessionId) -> Vec<u8> {
        id.to_vec()
    }
}

impl OpenParticipantSession {
    fn may_open(&self, row: &ParticipantRow) -> Result<(), Refusal> {
        let held = row
            .resource
            .iter()
            .flat_map(|r| r.roles().filter_map(role_of))
            .collect::<BTreeSet<_>>();
        if !self.roles.is_subset(&held) {
            return Err(Refusal::new(Reason::AssertionInvalid)
                .saying("a role was asked for that the participant does not have"));
        }
        if !row.is_active() {
            return Err(Refusal::new(Reason::ParticipantNotActive)
                .saying("the participant is not active; an operator activates it")
                .with(Fact::State, row.state().as_str_name().trim_start_matches("STATE_")));
        }
        Ok(())
    }
}
