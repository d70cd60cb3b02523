//! Making a consent allow less: a new version with new artefacts, never more than before (C3).

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::CareContextRef;
use sammati_kernel::{AccountId, Caller, ConsentId, Fact, Micros, ParticipantId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{Verb, advance, draft, stop, tell_both};
use crate::artefact::issue::{Issuer, Version};
use crate::decision::uses::Uses;
use crate::link::as_linked;
use crate::lookup::{ContextKey, Lookup};
use crate::policy;
use crate::representative;
use crate::rows::{self, CareContextRow, ConsentRow, TransferRow};
use crate::scope::{Scope, wider};
use crate::vault::{Vault, open, seal};

/// NarrowConsent.
pub struct NarrowConsent {
    /// Who asks.
    pub caller: Caller,
    /// The person.
    pub account: AccountId,
    /// Which.
    pub consent: ConsentId,
    /// Its HIP, which never changes.
    pub hip: ParticipantId,
    /// What it allows from now on, care contexts not yet hashed in it.
    pub scope: Scope,
    /// The care contexts that are named.
    pub care_contexts: Vec<CareContextRef>,
    /// The etag that was read.
    pub etag: String,
    /// Makes the artefacts.
    pub issuer: Issuer,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals.
    pub vault: Vault,
}

impl Command for NarrowConsent {
    type Answer = ();

    const NAME: &'static str = "consent.narrow";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.group::<TransferRow>("open", self.consent.to_vec());
        for context in &self.care_contexts {
            keys.row::<CareContextRow>(self.key(context));
        }
        Vault::reads(keys, self.account.as_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = policy::hers(&self.caller, view.get::<ConsentRow>(self.consent.as_bytes()))?;
        representative::within(&self.caller, row.scope.purpose(), [row.hip.as_str(), &row.hiu])?;
        rows::check_etag(&self.etag, row.version)?;
        advance(view, &mut row, Verb::Narrow)?;
        let key = self.vault.key(view, &row.subject)?;
        let mut private = open(&key, "consent", &row.id, &row.sealed)?;
        let (before, scope) = (row.scope.read()?, self.scope());
        check(&before, &scope, view.now())?;
        let linked = self.care_contexts.iter().map(|named| {
            let at = (self.account, &self.hip, self.key(named));
            as_linked(view, &at, &key, [named])
        });
        private.care_contexts = linked.collect::<Result<_, _>>()?;
        let now = view.now();
        row.scope = (&scope).into();
        row.expire = row.expire.min(scope.erase_time.0);
        row.grant_version += 1;
        row.narrowed = now.0;
        // Who has not heard of it goes by a wider artefact.
        (row.hip_acknowledged, row.hiu_acknowledged) = (0, 0);
        row.sealed = seal(&key, view, "consent", &row.id, &private)?;
        row.touch(now);
        let mut narrowed = draft("consent.modified", Action::Update, &self.caller, &row)?;
        narrowed.payload().changed_fields = changed(&before, &scope);
        let told = narrowed.emit(view);
        row.narrowed_by = told.id.to_string();
        tell_both(view, &row, Kind::ConsentNarrowed, told)?;
        // A use that comes back does so in the window that it was taken in: before those are of another length.
        stop(view, &mut row, &self.caller, told)?;
        Uses::of(&row)
            .narrowed(&before, &scope, Micros(row.granted), now)
            .write(&mut row);
        view.put(&row);
        let version = Version {
            row: &row,
            private: &private,
            event_id: &row.narrowed_by,
            supersedes: Some((self.consent, row.grant_version - 1)),
            caller: &self.caller,
        };
        self.issuer.issue(view, &version, &key)
    }
}

impl NarrowConsent {
    fn key(&self, context: &CareContextRef) -> ContextKey {
        self.lookup
            .context(self.account.as_bytes(), &self.hip, &context.care_context_reference)
    }

    fn scope(&self) -> Scope {
        let mut scope = self.scope.clone();
        scope.care_contexts = self.care_contexts.iter().map(|context| self.key(context)).collect();
        scope
    }
}

/// Whether `after` lies inside `before` and is not the same, and would still permit something at `now`.
fn check(before: &Scope, after: &Scope, now: Micros) -> Result<(), Refusal> {
    if let Some(field) = wider(before, after) {
        return Err(Refusal::new(Reason::GrantWider)
            .saying("it would allow more than it does now; narrow the field that is named, or wait to be asked anew")
            .with(Fact::Field, field));
    }
    if before == after {
        return Err(Refusal::field(
            "scope",
            "the same as now; leave something out, or leave it as it is",
        ));
    }
    if after.erase_time <= now {
        return Err(Refusal {
            reason: Reason::GrantEmpty,
            ..Refusal::field(
                "scope.erase_time",
                "in the future; to end the consent at once, revoke it",
            )
        });
    }
    Ok(())
}

/// The fields in which two scopes differ.
fn changed(before: &Scope, after: &Scope) -> Vec<String> {
    let fields = [
        ("hi_types", before.hi_types == after.hi_types),
        ("access_mode", before.access_mode == after.access_mode),
        ("record_range", before.record_range == after.record_range),
        ("erase_time", before.erase_time == after.erase_time),
        ("frequency", before.frequency == after.frequency),
        ("max_uses", before.max_uses == after.max_uses),
        ("bind_requester", before.bind_requester == after.bind_requester),
        ("care_contexts", before.care_contexts == after.care_contexts),
    ];
    let differing = fields.into_iter().filter(|(_, same)| !same);
    differing.map(|(name, _)| format!("scope.{name}")).collect()
}
