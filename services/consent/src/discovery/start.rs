//! Beginning a discovery: the HIP is asked, with what fits her account and what she says beside it.

use std::sync::Arc;

use sammati_kernel::{AccountId, Caller, DiscoveryId, ParticipantId, Reason, Refusal, Role, Slot};
use sammati_store::{Command, Keys, View};

use super::{A_DAY, ANSWER_WITHIN, LIFE, State, To, draft, tell};
use crate::daily;
use crate::directory::Directory;
use crate::lookup::Lookup;
use crate::representative;
use crate::rows::{DiscoveryRow, Known, LinkTryRow};
use crate::vault::{Vault, seal};

/// CreateDiscovery.
pub struct Start {
    /// Who asks.
    pub caller: Caller,
    /// The person.
    pub account: AccountId,
    /// Where she looks.
    pub hip: ParticipantId,
    /// What the HIP is told of her.
    pub known: Known,
    /// Who takes part.
    pub directory: Arc<dyn Directory>,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals.
    pub vault: Vault,
}

impl Command for Start {
    type Answer = DiscoveryRow;

    const NAME: &'static str = "discovery.create";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LinkTryRow>(self.attempt());
        Vault::reads(keys, self.account.as_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<DiscoveryRow, Refusal> {
        representative::within(&self.caller, None, [self.hip.as_str()])?;
        available(self.directory.as_ref(), &self.hip)?;
        self.count(view)?;
        let id: DiscoveryId = view.id("discovery");
        let now = view.now();
        let key = self.vault.key(view, self.account.as_bytes())?;
        let row = DiscoveryRow {
            id: id.to_vec(),
            subject: self.account.to_vec(),
            hip: self.hip.as_str().to_owned(),
            state: State::Pending.number(),
            sealed: seal(&key, view, "discovery", id.as_bytes(), &self.known)?,
            end: now.plus(LIFE).0,
            expire: now.plus(ANSWER_WITHIN).0,
            created: now.0,
            updated: now.0,
            version: 1,
            ..DiscoveryRow::default()
        };
        view.put(&row);
        let told = draft("link.discovery_started", &self.caller, &row)?.emit(view);
        tell(view, told, &row, To::Hip)?;
        Ok(row)
    }

    fn outcome(&self, answer: &DiscoveryRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl Start {
    fn attempt(&self) -> [u8; 32] {
        self.lookup.discovery_try(&self.hip, self.account)
    }

    fn count(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        daily::count(view, &self.attempt(), A_DAY).map_err(|wait| {
            Refusal::new(Reason::RequestLimit)
                .saying("you have looked at this provider 10 times since yesterday; try again later")
                .retry_after(wait)
        })
    }
}

/// Whether a HIP can be asked now.
///
/// # Errors
/// HIP_UNAVAILABLE, IDENTITY_STALE.
pub fn available(directory: &dyn Directory, hip: &ParticipantId) -> Result<(), Refusal> {
    directory.fresh()?;
    if directory.is_active_as(hip, Role::Hip) {
        return Ok(());
    }
    Err(Refusal::new(Reason::HipUnavailable).saying("this is no provider that takes part now; try another, or later"))
}
