//! Fetching an artefact: a read that leaves its event.

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{Caller, ConsentId, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::about;
use crate::artefact::Audience;
use crate::policy;
use crate::rows::{ArtefactRow, ConsentRow};

/// GetArtefact.
pub struct FetchArtefact {
    /// Who asks.
    pub caller: Caller,
    /// Of which consent.
    pub consent: ConsentId,
    /// Which version; 0: the newest.
    pub version: i32,
    /// Whose copy; already one the caller may have.
    pub audience: Audience,
}

impl Command for FetchArtefact {
    type Answer = (ConsentRow, ArtefactRow, i32);

    const NAME: &'static str = "consent.fetch_artefact";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        if let Some(consent) = loaded.get::<ConsentRow>(self.consent.as_bytes()) {
            keys.row::<ArtefactRow>(self.key(self.version(&consent)));
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Self::Answer, Refusal> {
        let consent = policy::may_fetch(
            &self.caller,
            self.audience,
            view.get::<ConsentRow>(self.consent.as_bytes()),
        )?;
        let version = self.version(&consent);
        let artefact = view
            .get::<ArtefactRow>(&self.key(version))
            .ok_or_else(|| policy::unavailable(&self.caller))?;
        let name = format!(
            "{}/artefacts/{}-{}",
            self.consent.name(),
            self.audience.as_str(),
            version
        );
        let mut draft = about("consent.artefact_fetched", Action::Read, &self.caller, &consent)?;
        draft.payload().artefact_sha256.clone_from(&artefact.sha256);
        draft
            .resource(&self.consent.name(), consent.version)
            .object(name)
            .emit(view);
        Ok((consent, artefact, version))
    }
}

impl FetchArtefact {
    const fn version(&self, consent: &ConsentRow) -> i32 {
        if self.version == 0 {
            consent.grant_version
        } else {
            self.version
        }
    }

    fn key(&self, version: i32) -> Vec<u8> {
        ArtefactRow::key_of(self.consent.as_bytes(), version, self.audience.number())
    }
}
