//! Asking for consent.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::CareContextRef;
use sammati_kernel::{Caller, ConsentRequestId, Key, Micros, Reason, Refusal, Slot};
use sammati_server::event::Emitted;
use sammati_store::{Command, Keys, View};

use super::ask::Ask;
use super::{State, draft, renew, subject};
use crate::artefact::issue::Issuer;
use crate::directory::Directory;
use crate::lookup::Lookup;
use crate::notification::{Recipients, notify};
use crate::place::Place;
use crate::rows::{ConsentRow, RequestRow};
use crate::scope::Scope;
use crate::vault::{Private, Vault, seal};

/// Open requests of one asker to one address.
pub const MAX_OPEN: usize = 20;

/// How long the window is by default.
pub const WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

/// CreateConsentRequest.
pub struct CreateRequest {
    /// Who asks.
    pub caller: Caller,
    /// What.
    pub ask: Ask,
    /// Whom: an account, or an address that is nobody's.
    pub place: Place,
    /// Who takes part.
    pub directory: Arc<dyn Directory>,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals.
    pub vault: Vault,
    /// Makes the artefacts of what a policy grants.
    pub issuer: Issuer,
}

impl Command for CreateRequest {
    type Answer = RequestRow;

    const NAME: &'static str = "consent.request";

    fn slot(&self) -> Slot {
        self.place.slot
    }

    fn reads(&self, keys: &mut Keys) {
        keys.group::<RequestRow>("open_pair", self.pair());
        if let Some(renews) = self.ask.renews {
            keys.row::<ConsentRow>(renews.to_vec());
        }
        Vault::reads(keys, &self.place.owner);
        self.reads_policies(keys);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<RequestRow, Refusal> {
        self.ask.check(&*self.directory, view.now())?;
        self.check_open(view)?;
        let (scope, key) = (self.scope(), self.vault.key(view, &self.place.owner)?);
        if let Some(renews) = self.ask.renews {
            let old = view.get::<ConsentRow>(renews.as_bytes());
            let old = old.filter(|old| old.subject == self.place.owner);
            renew::check(view, &self.caller, &self.ask, &scope, old, &key)?;
        }
        let row = self.row(view, &scope, &key)?;
        view.put(&row);
        let told = self.announce(view, &row)?;
        let row = self.by_policy(view, row)?;
        // What is decided is no question to her.
        if row.state() == State::Requested {
            let her = Recipients::new().person(subject(&row));
            let name = row.id()?.name();
            notify(view, told, Kind::ConsentRequested, &name, &her, subject(&row));
        }
        Ok(row)
    }

    fn outcome(&self, row: &RequestRow) -> Vec<u8> {
        row.id.clone()
    }
}

impl CreateRequest {
    /// By the address: the count must not tell that two addresses are one person's.
    fn pair(&self) -> Vec<u8> {
        self.lookup.asker(&self.ask.patient, &self.ask.hiu).to_vec()
    }

    fn check_open(&self, view: &View<'_>) -> Result<(), Refusal> {
        let now = view.now();
        let mut open = view.group::<RequestRow>("open_pair", &self.pair());
        open.retain(|row| row.state_at(now) == State::Requested);
        if open.len() < MAX_OPEN {
            return Ok(());
        }
        let first = open.iter().map(|row| row.expire).min().unwrap_or(now.0);
        Err(Refusal::new(Reason::RequestLimit)
            .saying("20 requests of yours to this address are open; wait until she decides or one expires")
            .retry_after(Micros(first).since(now)))
    }

    /// What is asked, care contexts hashed for their patient.
    fn scope(&self) -> Scope {
        let (ask, owner) = (&self.ask, &self.place.owner);
        let mut scope = ask.scope.clone();
        if let [hip] = ask.hips.as_slice() {
            let key = |c: &CareContextRef| self.lookup.context(owner, hip, &c.care_context_reference);
            scope.care_contexts = ask.care_contexts.iter().map(key).collect();
        }
        scope
    }

    fn row(&self, view: &View<'_>, scope: &Scope, key: &Key) -> Result<RequestRow, Refusal> {
        let id: ConsentRequestId = view.id("consent request");
        let (ask, place, now) = (&self.ask, &self.place, view.now());
        let private = Private {
            patient: ask.patient.clone(),
            care_contexts: ask.care_contexts.clone(),
            text: String::new(),
        };
        Ok(RequestRow {
            id: id.to_vec(),
            owner: place.owner.clone(),
            known: place.subject.is_some(),
            hiu: ask.hiu.as_str().to_owned(),
            hips: ask.hips.iter().map(|hip| hip.as_str().to_owned()).collect(),
            requester: ask.requester.clone(),
            scope: scope.into(),
            notice: ask.notice.clone(),
            expire: ask.expire.unwrap_or_else(|| now.plus(WINDOW)).0,
            state: State::Requested.number(),
            created: now.0,
            updated: now.0,
            version: 1,
            sealed: seal(key, view, "request", id.as_bytes(), &private)?,
            pair: self.pair(),
            renews: ask.renews.map(|id| id.to_vec()).unwrap_or_default(),
            ..RequestRow::default()
        })
    }

    fn announce(&self, view: &mut View<'_>, row: &RequestRow) -> Result<Emitted, Refusal> {
        let mut asked = draft("consent.requested", Action::Create, &self.caller, row)?;
        for hip in &self.ask.hips {
            asked = asked.participant(hip);
        }
        let told = asked.emit(view);
        let mut bound = draft("consent.notice_bound", Action::Update, &self.caller, row)?;
        bound.payload().notice = Some(row.notice.clone());
        bound.emit(view);
        Ok(told)
    }
}
