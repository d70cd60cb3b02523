//! Asking for a subscription.

use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Caller, Micros, ParticipantId, PurposeCode, Reason, Refusal, Role, Slot, SubscriptionId};
use sammati_store::{Command, Keys, View};

use super::{MAX_OPEN, State, WINDOW, draft, subject};
use crate::directory::Directory;
use crate::lookup::Lookup;
use crate::notification::{Recipients, notify};
use crate::place::Place;
use crate::rows::{SourcesRow, SubscriptionRow};
use crate::vault::{Private, Vault, seal};

/// CreateSubscription.
pub struct CreateSubscription {
    /// Who asks.
    pub caller: Caller,
    /// The same, as it will be told.
    pub holder: ParticipantId,
    /// The address, in lower case.
    pub patient: String,
    /// What for.
    pub purpose: PurposeCode,
    /// What about.
    pub asked: SourcesRow,
    /// Whom: an account, or an address that is nobody's.
    pub place: Place,
    /// Who takes part.
    pub directory: Arc<dyn Directory>,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals.
    pub vault: Vault,
}

impl Command for CreateSubscription {
    type Answer = SubscriptionRow;

    const NAME: &'static str = "subscription.create";

    fn slot(&self) -> Slot {
        self.place.slot
    }

    fn reads(&self, keys: &mut Keys) {
        keys.group::<SubscriptionRow>("open_pair", self.pair());
        Vault::reads(keys, &self.place.owner);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<SubscriptionRow, Refusal> {
        self.check_holder()?;
        self.check_open(view)?;
        let now = view.now();
        let id: SubscriptionId = view.id("subscription");
        let key = self.vault.key(view, &self.place.owner)?;
        let private = Private {
            patient: self.patient.clone(),
            ..Private::default()
        };
        let row = SubscriptionRow {
            id: id.to_vec(),
            owner: self.place.owner.clone(),
            known: self.place.subject.is_some(),
            holder: self.holder.as_str().to_owned(),
            purpose: self.purpose.number(),
            asked: self.asked.clone(),
            state: State::Requested.number(),
            expire: now.plus(WINDOW).0,
            created: now.0,
            updated: now.0,
            version: 1,
            sealed: seal(&key, view, "subscription", id.as_bytes(), &private)?,
            pair: self.pair(),
            ..SubscriptionRow::default()
        };
        view.put(&row);
        let told = draft("subscription.requested", Action::Create, &self.caller, &row)?.emit(view);
        let her = Recipients::new().person(subject(&row));
        notify(view, told, Kind::SubscriptionRequested, &id.name(), &her, subject(&row));
        Ok(row)
    }

    fn outcome(&self, answer: &SubscriptionRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl CreateSubscription {
    fn pair(&self) -> Vec<u8> {
        self.lookup.subscriber(&self.patient, &self.holder).to_vec()
    }

    fn check_holder(&self) -> Result<(), Refusal> {
        self.directory.fresh()?;
        let mut roles = Role::ALL.into_iter().filter(|role| self.purpose.may_be_asked_by(*role));
        if roles.any(|role| self.directory.is_active_as(&self.holder, role)) {
            return Ok(());
        }
        Err(Refusal::new(Reason::ParticipantNotActive)
            .saying("your participant is not active in a role that may ask for this purpose; ask the operator"))
    }

    fn check_open(&self, view: &View<'_>) -> Result<(), Refusal> {
        let now = view.now();
        let mut open = view.group::<SubscriptionRow>("open_pair", &self.pair());
        open.retain(|row| row.state_at(now) == State::Requested);
        if open.len() < MAX_OPEN {
            return Ok(());
        }
        let first = open.iter().map(|row| row.expire).min().unwrap_or(now.0);
        Err(Refusal::new(Reason::RequestLimit)
            .saying("20 subscriptions that you asked this address for are open; wait until she decides or one expires")
            .retry_after(Micros(first).since(now)))
    }
}
