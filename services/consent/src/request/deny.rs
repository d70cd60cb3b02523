//! Denying a request, for good.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{AccountId, Caller, ConsentRequestId, Key, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{Verb, advance, asker, draft};
use crate::notification::notify;
use crate::policy;
use crate::representative;
use crate::rows::{self, RequestRow};
use crate::vault::{Private, Vault, seal};

/// DenyConsentRequest.
pub struct DenyRequest {
    /// Who asks.
    pub caller: Caller,
    /// The person.
    pub account: AccountId,
    /// Which.
    pub request: ConsentRequestId,
    /// Why, for the asker to read.
    pub reason: String,
    /// The etag that was read.
    pub etag: String,
    /// Seals the reason.
    pub vault: Vault,
}

impl Command for DenyRequest {
    type Answer = (RequestRow, Key);

    const NAME: &'static str = "consent.deny";

    fn slot(&self) -> Slot {
        self.request.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<RequestRow>(self.request.to_vec());
        Vault::reads(keys, self.account.as_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Self::Answer, Refusal> {
        let mut row = policy::may_decide(&self.caller, view.get::<RequestRow>(self.request.as_bytes()))?;
        rows::check_etag(&self.etag, row.version)?;
        advance(view, &mut row, Verb::Deny)?;
        let parties = row.hips.iter().map(String::as_str).chain([row.hiu.as_str()]);
        representative::within(&self.caller, row.scope.purpose(), parties)?;
        row.decided_by = representative::kind(&self.caller);
        row.decided_under = representative::representation(&self.caller);
        let key = self.vault.key(view, &row.owner)?;
        if !self.reason.is_empty() {
            let private = Private {
                text: self.reason.clone(),
                ..Private::default()
            };
            row.deny_reason = seal(&key, view, "deny reason", &row.id, &private)?;
        }
        view.put(&row);
        let told = draft("consent.denied", Action::Update, &self.caller, &row)?.emit(view);
        notify(
            view,
            told,
            Kind::ConsentRequestDenied,
            &self.request.name(),
            &asker(&row),
            Some(self.account),
        );
        Ok((row, key))
    }

    fn outcome(&self, answer: &Self::Answer) -> Vec<u8> {
        answer.0.id.clone()
    }
}
