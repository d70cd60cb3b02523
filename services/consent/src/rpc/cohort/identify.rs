//! Telling an operator whose a pseudonym is.

use std::sync::Arc;

use sammati_api::consent::v1 as api;
use sammati_kernel::{AccountId, Caller, Micros, Reason, Refusal, StudyId, Violations};
use sammati_store::Outcome;

use crate::policy;
use crate::rows::{DataKeyRow, broken};
use crate::rpc::Core;
use crate::study::cohort::members;
use crate::study::identify::{Identify, is_gone};
use crate::study::known::not_active;
use crate::study::pseudonym;
use crate::wire;

impl Core {
    pub(in crate::rpc) async fn identify_subject(
        &self,
        caller: &Caller,
        message: api::IdentifySubjectRequest,
    ) -> Result<api::IdentifySubjectResponse, Refusal> {
        let key = self.request_key(caller, "study.identify", &message.request_id, &message);
        let mut v = Violations::new();
        let study: Option<StudyId> = wire::name(&mut v, "study", &message.study);
        if !pseudonym::is_one(&message.pseudonym) {
            v.add("pseudonym", "26 letters and digits of base32, as the study was told it");
        }
        wire::legal_basis(&mut v, caller, &message.legal_basis);
        let (key, ()) = Refusal::both(key, v.check())?;
        let study = study.ok_or(Reason::FieldInvalid)?;
        // A repeat too is told nothing any more of who is gone, and nothing once the study's key is.
        let (account, destroy) = self.whose(caller, study, &message.pseudonym).await?;
        let identify = Identify {
            caller: caller.clone(),
            account,
            study,
            legal_basis: message.legal_basis,
            destroy,
            directory: Arc::clone(&self.directory),
        };
        match self.store.run(identify, Some(key)).await? {
            Outcome::Fresh(answer) => told(&answer),
            Outcome::Known(answer) => told(&answer),
        }
    }

    async fn whose(&self, caller: &Caller, study: StudyId, text: &str) -> Result<(AccountId, Option<Micros>), Refusal> {
        self.directory.fresh()?;
        self.store.confirm().await?;
        let nobody = || policy::unavailable(caller);
        let known = self.studies.get(study).await?.ok_or_else(nobody)?;
        if known.key.is_none() {
            return Err(not_active());
        }
        let all = members(&self.store, &known, None).await?;
        let hers = all.iter().find(|one| one.pseudonym == text).ok_or_else(nobody)?;
        let account = hers.account;
        let read = self
            .store
            .read(move |r| r.get::<DataKeyRow>(account.slot(), account.as_bytes()));
        let key = read.await?.map(|stored| stored.record);
        if is_gone(self.directory.as_ref(), account, key.as_ref()) {
            return Err(nobody());
        }
        Ok((account, known.row.destroy()))
    }
}

fn told(answer: &[u8]) -> Result<api::IdentifySubjectResponse, Refusal> {
    let (account, event) = answer
        .split_at_checked(16)
        .ok_or_else(|| broken("who was identified"))?;
    let account = AccountId::from_slice(account).ok_or_else(|| broken("who was identified"))?;
    let event = uuid::Uuid::from_slice(event).map_err(|_| broken("the event of an identification"))?;
    Ok(api::IdentifySubjectResponse {
        subject: account.name(),
        event_id: event.to_string(),
    })
}
