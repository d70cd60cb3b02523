//! What proves a consent: receipts for her, and the check of an artefact for anybody.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact_key::State as Key;
use sammati_api::consent::v1::verify_artefact_response::Finding;
use sammati_kernel::{Caller, ConsentId, Refusal, Violations, hex};

use super::Core;
use super::request::consent;
use crate::artefact::verify::{Wrong, read};
use crate::artefact::{Audience, canonical, sha256};
use crate::consent::State;
use crate::consent::receipt::{GiveReceipt, Parties, TYP};
use crate::rows::{ArtefactRow, ConsentRow};
use crate::wire::{check_text, optional_participant};

/// The longest artefact.
const LONGEST: usize = sammati_kernel::jws::MAX_TOKEN;

impl Core {
    pub(super) async fn receipt(
        &self,
        caller: &Caller,
        message: &api::GetReceiptRequest,
    ) -> Result<api::Receipt, Refusal> {
        let command = GiveReceipt {
            caller: caller.clone(),
            consent: consent("consent", &message.consent)?,
            vault: self.vault.clone(),
        };
        let given = self.store.once(command).await?;
        let issuer = self.issuer();
        let parties = Parties {
            manager: &self.manager,
            portal: &self.portal,
            hip: issuer.name_of(&given.row.hip),
            hiu: issuer.name_of(&given.row.hiu),
        };
        let json = canonical(&given.record(&parties)?);
        let key = self.keys.active();
        Ok(api::Receipt {
            jws: key.sign_input(&key.signing_input(TYP, json.as_bytes())),
            json,
            event_id: given.event_id,
        })
    }

    pub(super) async fn verify(
        &self,
        message: &api::VerifyArtefactRequest,
    ) -> Result<api::VerifyArtefactResponse, Refusal> {
        let mut v = Violations::new();
        check_text(&mut v, "jws", &message.jws, 1, LONGEST);
        let audience = optional_participant(&mut v, "audience", &message.audience);
        v.check()?;
        let now = self.now();
        let (claims, wrong) = match read(&self.keys, &message.jws, &self.manager, audience.as_ref(), now) {
            Ok(read) => read,
            Err(wrong) => return Ok(found(wrong)),
        };
        let (id, digest) = (claims.consent(), sha256(&message.jws));
        let row = match id {
            Some(id) => self.issued(id, claims.version, digest.clone()).await?,
            None => None,
        };
        // Signed, and not there: it was lost, or never committed.
        let Some((id, row)) = id.zip(row) else {
            return Ok(found(Wrong::Form));
        };
        let state = row.state_at(now);
        let finding = match wrong {
            Some(wrong) => found(wrong).finding(),
            None if claims.version != row.grant_version => Finding::Superseded,
            None if state != State::Granted => Finding::State,
            None => Finding::Good,
        };
        let kid = sammati_kernel::jws::header_of(&message.jws).map(|header| header.kid);
        let kid = kid.unwrap_or_default();
        let is_active = self.keys.active().kid() == kid;
        Ok(api::VerifyArtefactResponse {
            finding: finding.into(),
            key_state: if is_active { Key::Active } else { Key::Retired }.into(),
            kid,
            sha256: hex(&digest),
            consent: id.name(),
            version: claims.version,
            state: state.number(),
        })
    }

    /// The consent, if this very artefact was issued under it: after a restore the same version may be another.
    async fn issued(&self, id: ConsentId, version: i32, digest: Vec<u8>) -> Result<Option<ConsentRow>, Refusal> {
        self.store.confirm().await?;
        let read = self.store.read(move |r| {
            let mut is_issued = false;
            for audience in Audience::ALL {
                let key = ArtefactRow::key_of(id.as_bytes(), version, audience.number());
                let artefact = r.get::<ArtefactRow>(id.slot(), &key)?;
                is_issued |= artefact.is_some_and(|artefact| artefact.record.sha256 == digest);
            }
            let row = r.get::<ConsentRow>(id.slot(), id.as_bytes())?;
            Ok(row.filter(|_| is_issued).map(|stored| stored.record))
        });
        read.await
    }
}

fn found(wrong: Wrong) -> api::VerifyArtefactResponse {
    let finding = match wrong {
        Wrong::Form => Finding::Form,
        Wrong::KeyUnknown => Finding::KeyUnknown,
        Wrong::Signature => Finding::Signature,
        Wrong::Issuer => Finding::Issuer,
        Wrong::Audience => Finding::Audience,
        Wrong::Time => Finding::Time,
    };
    api::VerifyArtefactResponse {
        finding: finding.into(),
        ..Default::default()
    }
}
