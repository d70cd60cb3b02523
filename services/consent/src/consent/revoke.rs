//! Taking consents back: all that are named, in one commit, or none.

use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{AccountId, Caller, ConsentId, Fact, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{Ending, State, Verb, end, expire};
use crate::policy;
use crate::representative;
use crate::rows::{self, ConsentRow, TransferRow};
use crate::step_up::{self, Token};
use crate::vault::{Private, Vault, seal};

/// RevokeConsents.
pub struct RevokeConsents {
    /// Who asks.
    pub caller: Caller,
    /// The person, as the first consent names her.
    pub subject: AccountId,
    /// Which.
    pub names: Vec<ConsentId>,
    /// Why, in her words.
    pub reason: String,
    /// An operator's ground.
    pub legal_basis: String,
    /// The etag that was read; only with one name.
    pub etag: String,
    /// The action token that came with it.
    pub token: Option<Token>,
    /// Seals the reason.
    pub vault: Vault,
}

/// What came of it.
pub struct Revoked {
    /// The consents as they are now, in the order of the names.
    pub consents: Vec<ConsentRow>,
    /// How many this call changed.
    pub changed: i32,
}

impl Command for RevokeConsents {
    type Answer = Revoked;

    const NAME: &'static str = "consent.revoke";

    fn slot(&self) -> Slot {
        self.subject.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        for id in &self.names {
            keys.row::<ConsentRow>(id.to_vec());
            keys.group::<TransferRow>("open", id.to_vec());
        }
        step_up::reads(keys, self.subject);
        Vault::reads(keys, self.subject.as_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Revoked, Refusal> {
        let mut consents = Vec::with_capacity(self.names.len());
        for id in &self.names {
            let row = policy::revocable(&self.caller, view.get::<ConsentRow>(id.as_bytes()))?;
            if row.subject()? != self.subject {
                return Err(several_persons());
            }
            representative::within(&self.caller, row.scope.purpose(), [row.hip.as_str(), &row.hiu])?;
            rows::check_etag(&self.etag, row.version)?;
            consents.push(row);
        }
        // All are looked at before the first is changed: all or none.
        if let Some(successor) = consents.iter().find(|row| row.state() == State::Superseded) {
            return Err(superseded(successor));
        }
        let shown = step_up::check(view, &self.caller, self.subject, step_up::REVOKE, self.token.as_ref())?;
        let mut changed = 0;
        for row in &mut consents {
            changed += i32::from(self.revoke(view, row)?);
        }
        shown.spend(view);
        Ok(Revoked { consents, changed })
    }

    fn outcome(&self, answer: &Revoked) -> Vec<u8> {
        answer.changed.to_be_bytes().to_vec()
    }
}

impl RevokeConsents {
    fn revoke(&self, view: &mut View<'_>, row: &mut ConsentRow) -> Result<bool, Refusal> {
        if expire(view, row)? {
            return Ok(false);
        }
        let Some(state) = row.state().after(Verb::Revoke) else {
            return Ok(false);
        };
        if !self.reason.is_empty() {
            let key = self.vault.key(view, &row.subject)?;
            let private = Private {
                text: self.reason.clone(),
                ..Private::default()
            };
            row.revoke_reason = seal(&key, view, "consent reason", &row.id, &private)?;
        }
        let at = view.now();
        row.revoked = at.0;
        let ending = Ending {
            state,
            event: "consent.withdrawn",
            kind: Kind::ConsentRevoked,
            caller: &self.caller,
            at,
            legal_basis: &self.legal_basis,
            cause: "",
        };
        end(view, row, &ending)?;
        Ok(true)
    }
}

/// Consents of more than one person in one call.
pub fn several_persons() -> Refusal {
    Refusal {
        reason: Reason::BatchSubjects,
        ..Refusal::field("names", "consents of one person only; make one call for each person")
    }
}

fn superseded(row: &ConsentRow) -> Refusal {
    let refusal = Refusal::new(Reason::StateConflict)
        .saying("a renewal took the place of one of them; name the renewal, or nothing would be taken back");
    let name = row.id().map(|id| id.name()).unwrap_or_default();
    refusal
        .with(Fact::Consent, name)
        .with(Fact::State, State::Superseded.as_str())
}
