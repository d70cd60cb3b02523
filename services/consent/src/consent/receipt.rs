//! A receipt: what she consented to, as a record of ISO/IEC TS 27560.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::consent::Origin;
use sammati_kernel::{Caller, ConsentId, Key, Micros, Refusal, Slot, hex};
use sammati_store::{Command, Keys, View};
use serde_json::{Value, json};

use super::{State, about};
use crate::artefact::issue::name;
use crate::artefact::{Audience, iso};
use crate::policy;
use crate::rows::{self, ArtefactRow, ConsentRow};
use crate::vault::{Private, Vault, open};

/// The `typ` of a receipt.
pub const TYP: &str = "consent-receipt+jwt";

/// GetReceipt: a read that leaves its event.
pub struct GiveReceipt {
    /// Who asks.
    pub caller: Caller,
    /// Of which consent.
    pub consent: ConsentId,
    /// Opens what is hers.
    pub vault: Vault,
}

/// What a receipt is made of.
pub struct Given {
    /// The consent.
    pub row: ConsentRow,
    /// Its personal part.
    pub private: Private,
    /// The signed copies of this version, those that are kept: their names, and SHA-256 of each.
    pub artefacts: Vec<(String, Vec<u8>)>,
    /// The event that tells of the receipt.
    pub event_id: String,
    /// When.
    pub at: Micros,
}

impl Command for GiveReceipt {
    type Answer = Given;

    const NAME: &'static str = "consent.receipt";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        if let Some(account) = self.caller.account() {
            Vault::reads(keys, account.as_bytes());
        }
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        let Some(row) = loaded.get::<ConsentRow>(self.consent.as_bytes()) else {
            return;
        };
        for audience in Audience::ALL {
            keys.row::<ArtefactRow>(ArtefactRow::key_of(&row.id, row.grant_version, audience.number()));
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Given, Refusal> {
        let row = policy::hers(&self.caller, view.get::<ConsentRow>(self.consent.as_bytes()))?;
        let key: Key = self.vault.key(view, &row.subject)?;
        let private = open(&key, "consent", &row.id, &row.sealed)?;
        let draft = about("consent.receipt_issued", Action::Read, &self.caller, &row)?;
        let told = draft.resource(&self.consent.name(), row.version).emit(view);
        Ok(Given {
            artefacts: self.artefacts(view, &row),
            row,
            private,
            event_id: told.id.to_string(),
            at: view.now(),
        })
    }
}

impl GiveReceipt {
    fn artefacts(&self, view: &View<'_>, row: &ConsentRow) -> Vec<(String, Vec<u8>)> {
        let kept = |audience: Audience| {
            let key = ArtefactRow::key_of(&row.id, row.grant_version, audience.number());
            let artefact = view.get::<ArtefactRow>(&key)?;
            Some((name(self.consent, audience, row.grant_version), artefact.sha256))
        };
        Audience::ALL.into_iter().filter_map(kept).collect()
    }
}

/// Who is who in a receipt: the consent manager, where she withdraws, and the names of the two.
pub struct Parties<'a> {
    /// The consent manager.
    pub manager: &'a str,
    /// Where a person withdraws consent and uses her rights.
    pub portal: &'a str,
    /// The giver's name.
    pub hip: String,
    /// The receiver's name.
    pub hiu: String,
}

impl Given {
    /// The record, in the words of the specification.
    ///
    /// # Errors
    /// INTERNAL when the row is damaged.
    pub fn record(&self, parties: &Parties<'_>) -> Result<Value, Refusal> {
        let (row, scope) = (&self.row, self.row.scope.read()?);
        let state = row.state_at(self.at);
        let kinds = scope
            .hi_types
            .iter()
            .map(|kind| json!({ "pii_type": kind.as_str(), "sensitive": true }));
        let (basis, given_by) = self.ground();
        let given = if row.origin == i32::from(Origin::BreakGlass) {
            "opened-in-an-emergency"
        } else {
            "consent-given"
        };
        let mut events = vec![event(given, row.granted)?];
        if row.narrowed != 0 {
            events.push(event("consent-narrowed", row.narrowed)?);
        }
        // One that the clock has ended and no sweep has met has ended all the same.
        let ended = if state == State::Expired { row.expire } else { row.ended };
        if ended != 0 {
            let kind = format!("consent-{}", state.as_str().to_ascii_lowercase());
            events.push(event(&kind, ended)?);
        }
        Ok(json!({
            "schema_version": "ISO/IEC TS 27560:2023",
            "record_id": self.row.id()?.name(),
            "receipt_id": self.event_id,
            "receipt_time": iso(self.at)?,
            "pii_principal_id": self.private.patient,
            "given_by": given_by,
            "privacy_notice": { "id": row.notice.notice, "version": row.notice.version, "language": row.notice.language, "sha256": row.notice.sha256 },
            "purposes": [{
                "purpose": scope.purpose.code(),
                "purpose_text": scope.purpose.text(),
                "purpose_uri": scope.purpose.ref_uri(),
                "lawful_basis": basis,
                "pii_information": kinds.collect::<Vec<_>>(),
                "processing_methods": [scope.access_mode.as_str()],
                "data_period": { "from": iso(scope.record_range.from)?, "to": iso(scope.record_range.to)? },
                "retention_until": iso(scope.erase_time)?,
                "max_uses": scope.max_uses,
                "frequency": { "unit": scope.frequency.unit.as_str(), "value": scope.frequency.value, "repeats": scope.frequency.repeats },
                "recipients": [format!("participants/{}", row.hiu)],
                "jurisdiction": "IN",
                "withdrawal_method": format!("{}/consents", parties.portal),
                "privacy_rights": format!("{}/rights", parties.portal),
            }],
            "party_identification": [
                { "party_id": format!("participants/{}", row.hip), "party_name": parties.hip, "party_role": "PII controller, source" },
                { "party_id": format!("participants/{}", row.hiu), "party_name": parties.hiu, "party_role": "PII controller, recipient" },
                { "party_id": parties.manager, "party_name": parties.manager, "party_role": "consent manager" },
            ],
            "version": row.grant_version,
            "artefacts": self.artefacts.iter().map(|(name, sha256)| json!({ "name": name, "sha256": hex(sha256) })).collect::<Vec<_>>(),
            "state": state.as_str(),
            "valid_until": iso(Micros(row.expire))?,
            "events": events,
        }))
    }
}

impl Given {
    /// On which ground, and by whose word.
    fn ground(&self) -> (&'static str, Value) {
        let row = &self.row;
        match Origin::try_from(row.origin).unwrap_or_default() {
            Origin::BreakGlass => ("medical emergency", json!({ "kind": "HIU" })),
            Origin::Policy => ("consent", json!({ "kind": "POLICY" })),
            Origin::Request | Origin::Study | Origin::Unspecified => match rows::representation(&row.granted_under) {
                name if name.is_empty() => ("consent", json!({ "kind": "PERSON" })),
                name => ("consent", json!({ "kind": "REPRESENTATIVE", "representation": name })),
            },
        }
    }
}

fn event(kind: &str, at: i64) -> Result<Value, Refusal> {
    Ok(json!({ "event_type": kind, "event_time": iso(Micros(at))? }))
}
