//! Making the two signed copies of one version of a consent.

use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{Caller, ConsentId, Key, ParticipantId, Refusal};
use sammati_store::View;

use super::{ArtefactKeys, Audience, Claims, inputs, sha256};
use crate::consent;
use crate::directory::Directory;
use crate::rows::{ArtefactRow, ConsentRow};
use crate::vault::{Private, seal};

/// What every artefact is made with.
#[derive(Clone)]
pub struct Issuer {
    /// Names of participants.
    pub directory: Arc<dyn Directory>,
    /// Whose key signs.
    pub keys: Arc<ArtefactKeys>,
    /// The consent manager.
    pub manager: Arc<str>,
    /// The log.
    pub log_origin: Arc<str>,
}

/// A version of a consent that is about to be issued.
pub struct Version<'a> {
    /// The consent.
    pub row: &'a ConsentRow,
    /// Her address, and the care contexts that are named.
    pub private: &'a Private,
    /// The event that made it.
    pub event_id: &'a str,
    /// The version whose place it takes.
    pub supersedes: Option<(ConsentId, i32)>,
    /// Who made it.
    pub caller: &'a Caller,
}

/// The two copies of a version, made and not signed yet: that takes longer than all else, and is of no concern to anybody
/// before the commit.
pub struct Copies {
    inputs: Vec<(Audience, String)>,
    row: ConsentRow,
    caller: Caller,
    keys: Arc<ArtefactKeys>,
    key: Key,
}

impl Copies {
    /// Keeps what is signed for both audiences, and says so in the feed.
    ///
    /// # Errors
    /// INTERNAL; it cannot fail for what was made.
    pub fn keep(self, view: &mut View<'_>) -> Result<(), Refusal> {
        let (row, active) = (&self.row, self.keys.active());
        for (audience, input) in self.inputs {
            // The signature is the same whenever it is made, so its digest can be told before anybody reads it.
            let sha256 = sha256(&active.sign_input(&input));
            let row_key = ArtefactRow::key_of(&row.id, row.grant_version, audience.number());
            let private = Private {
                text: input,
                ..Private::default()
            };
            let sealed = seal(&self.key, view, "artefact", &row_key, &private)?;
            view.put(&ArtefactRow {
                key: row_key,
                kid: active.kid().to_owned(),
                sealed,
                created: row.made(),
                sha256: sha256.clone(),
            });
            let name = name(row.id()?, audience, row.grant_version);
            let mut issued = consent::draft("consent.artefact_issued", Action::Create, &self.caller, row)?.object(name);
            issued.payload().artefact_sha256 = sha256;
            issued.emit(view);
        }
        Ok(())
    }
}

impl Issuer {
    /// Makes both copies; whoever keeps them signs and seals them.
    ///
    /// # Errors
    /// FIELD_INVALID when an artefact would be longer than anybody accepts.
    pub fn copies(&self, version: &Version<'_>, key: &Key) -> Result<Copies, Refusal> {
        Ok(Copies {
            inputs: self.inputs(version)?,
            row: version.row.clone(),
            caller: version.caller.clone(),
            keys: Arc::clone(&self.keys),
            key: key.clone(),
        })
    }

    /// Keeps what is signed for both audiences at once: of a consent that somebody may know already.
    ///
    /// # Errors
    /// As [`Self::copies`].
    pub fn issue(&self, view: &mut View<'_>, version: &Version<'_>, key: &Key) -> Result<(), Refusal> {
        self.copies(version, key)?.keep(view)
    }

    /// What would be signed for each audience.
    ///
    /// # Errors
    /// As [`Self::copies`].
    pub fn inputs(&self, version: &Version<'_>) -> Result<Vec<(Audience, String)>, Refusal> {
        let claims = Claims {
            manager: &self.manager,
            log_origin: &self.log_origin,
            consent: version.row,
            patient: &version.private.patient,
            care_contexts: &version.private.care_contexts,
            hip_name: &self.name_of(&version.row.hip),
            hiu_name: &self.name_of(&version.row.hiu),
            event_id: version.event_id,
            supersedes: version.supersedes,
            caller: version.caller,
        };
        let kid = self.keys.active().kid();
        Ok(Audience::ALL.into_iter().zip(inputs(kid, &claims)?).collect())
    }

    /// What people read for a participant.
    pub fn name_of(&self, id: &str) -> String {
        let party = ParticipantId::parse(id).ok();
        let name = party.and_then(|id| self.directory.display_name(&id));
        name.unwrap_or_else(|| id.to_owned())
    }
}

/// `consents/{id}/artefacts/{audience}-{version}`.
pub fn name(consent: ConsentId, audience: Audience, version: i32) -> String {
    format!("{}/artefacts/{}-{version}", consent.name(), audience.as_str())
}
