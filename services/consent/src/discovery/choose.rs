//! Her two turns: what shall be linked, and the answer to the HIP's challenge.

use sammati_api::types::v1::CareContextRef;
use sammati_kernel::{AccountId, Caller, DiscoveryId, Fact, ParticipantId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{To, Verb, draft, next, tell};
use crate::lookup::Lookup;
use crate::policy;
use crate::representative;
use crate::rows::{self, DiscoveryRow, Known};
use crate::vault::{Vault, open_as, seal};

/// SelectCareContexts.
pub struct Select {
    /// Who asks.
    pub caller: Caller,
    /// The person.
    pub account: AccountId,
    /// Which.
    pub discovery: DiscoveryId,
    /// What she chooses.
    pub references: Vec<String>,
    /// The etag that was read.
    pub etag: String,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals.
    pub vault: Vault,
}

impl Command for Select {
    type Answer = DiscoveryRow;

    const NAME: &'static str = "discovery.select";

    fn slot(&self) -> Slot {
        self.discovery.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<DiscoveryRow>(self.discovery.to_vec());
        Vault::reads(keys, self.account.as_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<DiscoveryRow, Refusal> {
        let row = view.get::<DiscoveryRow>(self.discovery.as_bytes());
        let mut row = policy::may_choose(&self.caller, row)?;
        representative::within(&self.caller, None, [row.hip.as_str()])?;
        rows::check_etag(&self.etag, row.version)?;
        let to = next(view, &mut row, Verb::Select)?;
        let key = self.vault.key(view, &row.subject)?;
        let mut known: Known = open_as(&key, "discovery", &row.id, &row.sealed)?;
        let chosen = self.chosen(&known.candidates)?;
        let hip = rows::participant(&row.hip)?;
        row.selected = chosen.iter().map(|c| self.key(&hip, c)).collect();
        row.claims = chosen.iter().map(|c| self.claim(&hip, c)).collect();
        known.selected.clone_from(&self.references);
        row.settle(to, view.now());
        row.sealed = seal(&key, view, "discovery", &row.id, &known)?;
        view.put(&row);
        let told = draft("link.care_contexts_selected", &self.caller, &row)?.emit(view);
        tell(view, told, &row, To::Hip)?;
        Ok(row)
    }

    fn outcome(&self, answer: &DiscoveryRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl Select {
    /// The candidates that she names, all of one patient reference.
    fn chosen<'a>(&self, candidates: &'a [CareContextRef]) -> Result<Vec<&'a CareContextRef>, Refusal> {
        let mut chosen: Vec<&CareContextRef> = Vec::with_capacity(self.references.len());
        for (n, reference) in self.references.iter().enumerate() {
            let found = candidates.iter().find(|c| c.care_context_reference == *reference);
            let fits = |c: &&CareContextRef| {
                chosen
                    .first()
                    .is_none_or(|f| f.patient_reference == c.patient_reference)
            };
            let found = found.filter(fits).ok_or_else(|| {
                Refusal::new(Reason::CandidateUnknown)
                    .saying("choose among the candidates, all under one patient reference; for another, look again")
                    .with(Fact::Position, n)
            })?;
            chosen.push(found);
        }
        Ok(chosen)
    }

    fn key(&self, hip: &ParticipantId, context: &CareContextRef) -> Vec<u8> {
        let owner = self.account.as_bytes();
        self.lookup
            .context(owner, hip, &context.care_context_reference)
            .to_vec()
    }

    fn claim(&self, hip: &ParticipantId, context: &CareContextRef) -> Vec<u8> {
        self.lookup.linked_once(hip, &context.care_context_reference).to_vec()
    }
}

/// ConfirmCareContexts.
pub struct Confirm {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub discovery: DiscoveryId,
    /// Her answer, sealed to the HIP; `None` where there was no key to seal it to.
    pub sealed_token: Option<Vec<u8>>,
    /// The key it was sealed to.
    pub token_key: Vec<u8>,
    /// The etag that was read.
    pub etag: String,
}

impl Command for Confirm {
    type Answer = DiscoveryRow;

    const NAME: &'static str = "discovery.confirm";

    fn slot(&self) -> Slot {
        self.discovery.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<DiscoveryRow>(self.discovery.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<DiscoveryRow, Refusal> {
        let row = view.get::<DiscoveryRow>(self.discovery.as_bytes());
        let mut row = policy::may_choose(&self.caller, row)?;
        representative::within(&self.caller, None, [row.hip.as_str()])?;
        rows::check_etag(&self.etag, row.version)?;
        let to = next(view, &mut row, Verb::Confirm)?;
        // Another challenge came between: what was sealed to the key before is no answer to this one.
        let sealed = self.sealed_token.clone().filter(|_| self.token_key == row.token_key);
        row.sealed_token = sealed.ok_or_else(|| Refusal::new(Reason::EtagMismatch))?;
        row.settle(to, view.now());
        view.put(&row);
        let told = draft("link.confirmed", &self.caller, &row)?.emit(view);
        tell(view, told, &row, To::Hip)?;
        Ok(row)
    }

    fn outcome(&self, answer: &DiscoveryRow) -> Vec<u8> {
        answer.id.clone()
    }
}
