//! Pausing, resuming and narrowing a consent.

use sammati_api::consent::v1 as api;
use sammati_kernel::{Caller, ConsentId, Reason, Refusal, Violations};

use super::Core;
use super::request::person;
use crate::consent::narrow::NarrowConsent;
use crate::consent::pause::{PauseConsent, ResumeConsent};
use crate::policy;
use crate::wire::{self, scope, time};

impl Core {
    pub(super) async fn pause(
        &self,
        caller: &Caller,
        message: api::PauseConsentRequest,
    ) -> Result<api::Consent, Refusal> {
        let key = self.request_key(caller, "consent.pause", &message.request_id, &message);
        let mut v = Violations::new();
        let consent: Option<ConsentId> = wire::name(&mut v, "name", &message.name);
        let resume = message.resume_time.as_ref();
        let resume = resume.and_then(|at| time(&mut v, "resume_time", Some(at)));
        let (key, ()) = Refusal::both(key, v.check())?;
        let command = PauseConsent {
            caller: caller.clone(),
            consent: consent.ok_or(Reason::FieldInvalid)?,
            resume,
            etag: message.etag,
        };
        self.store.run(command, Some(key)).await?;
        self.get(caller, &message.name).await
    }

    pub(super) async fn resume(
        &self,
        caller: &Caller,
        message: api::ResumeConsentRequest,
    ) -> Result<api::Consent, Refusal> {
        let key = self.request_key(caller, "consent.resume", &message.request_id, &message);
        let mut v = Violations::new();
        let consent: Option<ConsentId> = wire::name(&mut v, "name", &message.name);
        let (key, ()) = Refusal::both(key, v.check())?;
        let command = ResumeConsent {
            caller: caller.clone(),
            consent: consent.ok_or(Reason::FieldInvalid)?,
            etag: message.etag,
        };
        self.store.run(command, Some(key)).await?;
        self.get(caller, &message.name).await
    }

    pub(super) async fn narrow(
        &self,
        caller: &Caller,
        message: api::NarrowConsentRequest,
    ) -> Result<api::Consent, Refusal> {
        let key = self.request_key(caller, "consent.narrow", &message.request_id, &message);
        let mut v = Violations::new();
        let consent: Option<ConsentId> = wire::name(&mut v, "name", &message.name);
        let scope = scope::parse(&mut v, "scope", message.scope.as_ref()).whole();
        let (key, ()) = Refusal::both(key, v.check())?;
        let consent = consent.ok_or(Reason::FieldInvalid)?;
        // Whose a consent is and between whom never changes; whether she may is decided again under the lock.
        let account = person(caller)?;
        let parties = self.subjects.parties(consent).await?;
        let parties = parties.filter(|parties| parties.subject == account);
        let command = NarrowConsent {
            caller: caller.clone(),
            account,
            consent,
            hip: parties.ok_or_else(|| policy::unavailable(caller))?.hip.clone(),
            scope: scope.ok_or(Reason::FieldInvalid)?,
            care_contexts: message.scope.unwrap_or_default().care_contexts,
            etag: message.etag,
            issuer: self.issuer(),
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
        };
        self.store.run(command, Some(key)).await?;
        self.get(caller, &message.name).await
    }
}
