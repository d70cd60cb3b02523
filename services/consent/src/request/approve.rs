//! Granting a request, whole or in part: one consent for each HIP, two copies each, all in one commit or nothing.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::consent::Origin;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::{CareContextRef, NoticeRef};
use sammati_kernel::{AccountId, Caller, ConsentId, ConsentRequestId, Key, ParticipantId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::given::Given;
use super::{Verb, advance, draft, renew};
use crate::artefact::issue::{Issuer, Version};
use crate::consent;
use crate::lookup::Lookup;
use crate::policy;
use crate::representative;
use crate::rows::{self, CareContextRow, ConsentRow, LinkRow, RequestRow, TransferRow};
use crate::scope::Scope;
use crate::status_list;
use crate::step_up::{self, Shown, Token};
use crate::vault::{Private, Vault, open, seal};

/// What she gives from one HIP.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The HIP.
    pub hip: ParticipantId,
    /// The scope, care contexts not yet hashed in it; `None`: as asked.
    pub scope: Option<(Scope, Vec<CareContextRef>)>,
}

/// ApproveConsentRequest.
pub struct ApproveRequest {
    /// Who asks.
    pub caller: Caller,
    /// The person.
    pub account: AccountId,
    /// Which.
    pub request: ConsentRequestId,
    /// What she gives; empty: as asked.
    pub grants: Vec<Grant>,
    /// The notice as it was shown.
    pub notice: NoticeRef,
    /// Whether there are words to show in that notice's language.
    pub is_written: bool,
    /// The etag that was read.
    pub etag: String,
    /// Whether she only wants to see what an approval would make.
    pub dry_run: bool,
    /// The action token that came with it.
    pub token: Option<Token>,
    /// Makes the artefacts.
    pub issuer: Issuer,
    /// Hashes.
    pub lookup: Lookup,
    /// Seals.
    pub vault: Vault,
}

/// What came of it.
pub struct Approved {
    /// The request.
    pub request: RequestRow,
    /// The consents, in the order of the grants.
    pub consents: Vec<ConsentRow>,
    /// Opens both.
    pub key: Key,
}

impl Command for ApproveRequest {
    type Answer = Approved;

    const NAME: &'static str = "consent.approve";

    fn slot(&self) -> Slot {
        self.request.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<RequestRow>(self.request.to_vec());
        keys.group::<LinkRow>("subject", self.account.to_vec());
        for Grant { hip, scope } in &self.grants {
            for context in scope.iter().flat_map(|(_, contexts)| contexts) {
                keys.row::<CareContextRow>(self.context(hip, context));
            }
        }
        step_up::reads(keys, self.account);
        Vault::reads(keys, self.account.as_bytes());
        status_list::reads(keys);
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        let request = loaded.get::<RequestRow>(self.request.as_bytes());
        let renews = request
            .as_ref()
            .map(|row| row.renews.clone())
            .filter(|id| !id.is_empty());
        let asked = request.and_then(|row| row.scope.read().ok());
        for key in asked.iter().flat_map(|scope| &scope.care_contexts) {
            keys.row::<CareContextRow>(*key);
        }
        if let Some(old) = renews {
            keys.row::<ConsentRow>(old.clone());
            keys.group::<TransferRow>("open", old);
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Approved, Refusal> {
        let mut request = policy::may_decide(&self.caller, view.get::<RequestRow>(self.request.as_bytes()))?;
        policy::recently_proved(&self.caller, view.now())?;
        let shown = self.step_up(view)?;
        rows::check_etag(&self.etag, request.version)?;
        advance(view, &mut request, Verb::Approve)?;
        self.check_notice(&request)?;
        let key = self.vault.key(view, &request.owner)?;
        let private = open(&key, "request", &request.id, &request.sealed)?;
        let given = self.given(view, &request, &private, &key)?;
        for one in &given {
            representative::within(&self.caller, Some(one.scope.purpose), [one.hip.as_str(), &request.hiu])?;
        }
        let mut old = renew::superseded(view, &request, given.iter().map(|given| &given.scope))?;
        let rows = given.iter().map(|g| self.row(view, &request, g, old.as_ref(), &key));
        let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
        if self.dry_run {
            return self.shown(request, rows, key);
        }
        self.tell_shown(view, &request)?;
        for (row, private) in &mut rows {
            self.grant(view, row, private, &key)?;
            if let Some(old) = &mut old {
                renew::supersede(view, old, row, &self.caller)?;
            }
        }
        let asked = request.scope.read()?;
        request.narrowed = given.iter().any(|g| g.scope != asked) || given.len() < request.hips.len();
        request.decided_by = representative::kind(&self.caller);
        request.decided_under = representative::representation(&self.caller);
        let consents: Vec<_> = rows.into_iter().map(|(row, _)| row).collect();
        request.consents = consents.iter().map(|consent| consent.id.clone()).collect();
        view.put(&request);
        if let Some(shown) = shown {
            shown.spend(view);
        }
        Ok(Approved { request, consents, key })
    }

    fn outcome(&self, answer: &Approved) -> Vec<u8> {
        answer.request.id.clone()
    }
}

impl ApproveRequest {
    /// What an approval would make, of which nothing is kept: the same is checked.
    fn shown(&self, mut request: RequestRow, rows: Vec<(ConsentRow, Private)>, key: Key) -> Result<Approved, Refusal> {
        let id = "0".repeat(36);
        for (row, private) in &rows {
            self.issuer.inputs(&self.version(row, private, &id)?)?;
        }
        request.decided_by = representative::kind(&self.caller);
        request.decided_under = representative::representation(&self.caller);
        let consents = rows.into_iter().map(|(row, _)| row).collect();
        Ok(Approved { request, consents, key })
    }

    /// Her PIN, if she has set that this needs it; to see what an approval would make needs none.
    fn step_up(&self, view: &View<'_>) -> Result<Option<Shown>, Refusal> {
        if self.dry_run {
            return Ok(None);
        }
        step_up::check(view, &self.caller, self.account, step_up::APPROVE, self.token.as_ref()).map(Some)
    }

    /// The words must be those that were bound; she may have read them in another language of the same version.
    fn check_notice(&self, request: &RequestRow) -> Result<(), Refusal> {
        let (shown, bound) = (&self.notice, &request.notice);
        if (&shown.notice, shown.version, &shown.sha256) != (&bound.notice, bound.version, &bound.sha256) {
            return Err(Refusal::new(Reason::NoticeMismatch).saying(
                "the notice she was shown is not the one bound to the request; show her that one, then approve",
            ));
        }
        if !self.is_written {
            return Err(Refusal::new(Reason::NoticeMismatch)
                .saying("the notice does not exist in that language; name the one in which she was shown it"));
        }
        Ok(())
    }

    fn tell_shown(&self, view: &mut View<'_>, request: &RequestRow) -> Result<(), Refusal> {
        let mut shown = draft("consent.notice_shown", Action::Read, &self.caller, request)?;
        shown.payload().notice = Some(self.notice.clone());
        shown.emit(view);
        Ok(())
    }

    /// Keeps the consent, tells of it and issues its artefacts.
    pub(super) fn grant(
        &self,
        view: &mut View<'_>,
        row: &mut ConsentRow,
        private: &Private,
        key: &Key,
    ) -> Result<(), Refusal> {
        status_list::give(view, &self.lookup, row);
        view.put(row);
        let mut granted =
            consent::draft("consent.granted", Action::Create, &self.caller, row)?.object(self.request.name());
        granted.payload().notice = Some(self.notice.clone());
        let told = granted.emit(view);
        consent::tell_both(view, row, Kind::ConsentGranted, told)?;
        let event_id = told.id.to_string();
        let copies = self.issuer.copies(&self.version(row, private, &event_id)?, key)?;
        // Nobody can ask for them before the commit tells of the consent.
        view.later(move |view| copies.keep(view));
        Ok(())
    }

    fn version<'a>(
        &'a self,
        row: &'a ConsentRow,
        private: &'a Private,
        event_id: &'a str,
    ) -> Result<Version<'a>, Refusal> {
        let supersedes = match row.renews.as_slice() {
            [] => None,
            old => Some((rows::consent_id(old)?, row.renews_version)),
        };
        Ok(Version {
            row,
            private,
            event_id,
            supersedes,
            caller: &self.caller,
        })
    }

    pub(super) fn row(
        &self,
        view: &View<'_>,
        request: &RequestRow,
        given: &Given,
        old: Option<&ConsentRow>,
        key: &Key,
    ) -> Result<(ConsentRow, Private), Refusal> {
        let id: ConsentId = view.id(&format!("consent {}", given.hip));
        let hiu = rows::participant(&request.hiu)?;
        let private = Private {
            patient: given.patient.clone(),
            care_contexts: given.care_contexts.clone(),
            text: given.reference.clone(),
        };
        let now = view.now().0;
        let row = ConsentRow {
            id: id.to_vec(),
            subject: request.owner.clone(),
            request: request.id.clone(),
            hip: given.hip.as_str().to_owned(),
            hiu: request.hiu.clone(),
            requester: request.requester.clone(),
            scope: (&given.scope).into(),
            grant_version: 1,
            state: consent::State::Granted.number(),
            granted: now,
            expire: representative::ends(&self.caller, given.scope.erase_time.0),
            granted_by: representative::kind(&self.caller),
            granted_under: representative::representation(&self.caller),
            notice: self.notice.clone(),
            updated: now,
            version: 1,
            sealed: seal(key, view, "consent", id.as_bytes(), &private)?,
            pair: self.lookup.parties(&request.owner, &given.hip, &hiu).to_vec(),
            renews: old.map(|old| old.id.clone()).unwrap_or_default(),
            renews_version: old.map_or(0, |old| old.grant_version),
            origin: match (request.policy.is_empty(), request.study.is_empty()) {
                (false, _) => Origin::Policy.into(),
                (true, false) => Origin::Study.into(),
                (true, true) => 0,
            },
            study: request.study.clone(),
            ..ConsentRow::default()
        };
        Ok((row, private))
    }
}
