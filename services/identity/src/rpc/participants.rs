//! ParticipantService: facilities, apps, professionals and research bodies.

use sammati_api::identity::v1 as api;
use sammati_kernel::{Caller, ParticipantId, Refusal, Slot, Violations};
use sammati_store::RequestKey;

use crate::participant::{Change, Create, What};
use crate::policy;
use crate::service::Inner;
use crate::wire;

impl Inner {
    pub(crate) async fn create_participant(
        &self,
        caller: &Caller,
        request: api::CreateParticipantRequest,
    ) -> Result<api::Participant, Refusal> {
        let key = self.request::<Create>(caller, &request.request_id, &request);
        let mut v = Violations::new();
        let id = v.keep("participant_id", ParticipantId::parse(&request.participant_id));
        let given = request.participant.unwrap_or_default();
        wire::kind(&mut v, &given);
        let resource = wire::resource(&mut v, &given, &wire::all_fields());
        let (key, ()) = Refusal::both(key, v.check())?;
        let id = wire::present(id)?;
        self.store
            .run(
                Create {
                    caller: caller.clone(),
                    id: id.clone(),
                    resource,
                },
                Some(key),
            )
            .await?;
        self.shown_participant(caller, &id).await
    }

    pub(crate) async fn get_participant(
        &self,
        caller: &Caller,
        request: api::GetParticipantRequest,
    ) -> Result<api::Participant, Refusal> {
        let id = participant_id("name", &request.name)?;
        self.shown_participant(caller, &id).await
    }

    pub(crate) async fn update_participant(
        &self,
        caller: &Caller,
        request: api::UpdateParticipantRequest,
    ) -> Result<api::Participant, Refusal> {
        let key = self.store.request(
            &caller.id(),
            "identity.update_participant",
            &request.request_id,
            &request,
        );
        let mut v = Violations::new();
        let given = request.participant.unwrap_or_default();
        let id = wire::participant_named(&mut v, "participant.name", &given.name);
        let fields = wire::fields_of(
            &mut v,
            &given,
            request.update_mask.as_ref().map(|mask| mask.paths.as_slice()),
        );
        let values = wire::resource(&mut v, &given, &fields);
        let (key, ()) = Refusal::both(key, v.check())?;
        let id = wire::present(id)?;
        policy::may_update(caller, &id, &fields)?;
        self.change(caller, id, request.etag, What::Update(fields, Box::new(values)), key)
            .await
    }

    pub(crate) async fn activate_participant(
        &self,
        caller: &Caller,
        request: api::ActivateParticipantRequest,
    ) -> Result<api::Participant, Refusal> {
        let key = self.store.request(
            &caller.id(),
            "identity.activate_participant",
            &request.request_id,
            &request,
        );
        let (key, id) = Refusal::both(key, participant_id("name", &request.name))?;
        self.change(caller, id, request.etag, What::Activate, key).await
    }

    pub(crate) async fn suspend_participant(
        &self,
        caller: &Caller,
        request: api::SuspendParticipantRequest,
    ) -> Result<api::Participant, Refusal> {
        let key = self.store.request(
            &caller.id(),
            "identity.suspend_participant",
            &request.request_id,
            &request,
        );
        let mut v = Violations::new();
        wire::told(&mut v, "reason", &request.reason, 0, 255);
        let id = wire::participant_named(&mut v, "name", &request.name);
        let (key, ()) = Refusal::both(key, v.check())?;
        self.change(
            caller,
            wire::present(id)?,
            request.etag,
            What::Suspend(request.reason),
            key,
        )
        .await
    }

    async fn change(
        &self,
        caller: &Caller,
        id: ParticipantId,
        etag: String,
        what: What,
        key: RequestKey,
    ) -> Result<api::Participant, Refusal> {
        let change = Change {
            caller: caller.clone(),
            id: id.clone(),
            etag,
            what,
        };
        let (activates, suspends) = (
            matches!(change.what, What::Activate),
            matches!(change.what, What::Suspend(_)),
        );
        // Those that a suspension was cut off over are not good again.
        if activates {
            self.end_stopped(caller, &id).await?;
        }
        self.store.run(change, Some(key)).await?;
        if suspends {
            self.end_stopped(caller, &id).await?;
        }
        self.shown_participant(caller, &id).await
    }

    /// Ends the sessions of a participant that is not active, and so opens none meanwhile.
    async fn end_stopped(&self, caller: &Caller, id: &ParticipantId) -> Result<(), Refusal> {
        if self.participant(id).await?.is_some_and(|row| !row.is_active()) {
            self.end_all(caller, Slot::of_participant(id.as_str()), id.name())
                .await?;
        }
        Ok(())
    }

    async fn shown_participant(&self, caller: &Caller, id: &ParticipantId) -> Result<api::Participant, Refusal> {
        let row = self.participant(id).await?.ok_or_else(|| policy::unavailable(caller))?;
        Ok(wire::participant(&row, policy::sees_keys(caller, id)))
    }
}

fn participant_id(field: &'static str, name: &str) -> Result<ParticipantId, Refusal> {
    let mut v = Violations::new();
    let id = wire::participant_named(&mut v, field, name);
    v.check()?;
    wire::present(id)
}
