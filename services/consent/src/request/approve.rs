//! Granting a request, whole or in part: one consent for each HIP, two copies each, all in one commit or nothing.

use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::{CareContextRef, NoticeRef};
use sammati_kernel::{AccountId, Caller, ConsentId, ConsentRequestId, Key, ParticipantId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::given::Given;
use super::{Verb, advance, draft};
use crate::artefact::{self, ArtefactKeys, Audience, Claims};
use crate::consent;
use crate::directory::Directory;
use crate::lookup::Lookup;
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::representative;
use crate::rows::{self, ArtefactRow, CareContextRow, ConsentRow, LinkRow, RequestRow};
use crate::scope::Scope;
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
    /// Names of participants.
    pub directory: Arc<dyn Directory>,
    /// Whose key signs.
    pub keys: Arc<ArtefactKeys>,
    /// The consent manager.
    pub manager: Arc<str>,
    /// The log.
    pub log_origin: Arc<str>,
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
        Vault::reads(keys, self.account.as_bytes());
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        let request = loaded.get::<RequestRow>(self.request.as_bytes());
        let asked = request.and_then(|row| row.scope.read().ok());
        for key in asked.iter().flat_map(|scope| &scope.care_contexts) {
            keys.row::<CareContextRow>(*key);
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Approved, Refusal> {
        let mut request = policy::may_decide(&self.caller, view.get::<RequestRow>(self.request.as_bytes()))?;
        policy::recently_proved(&self.caller, view.now())?;
        rows::check_etag(&self.etag, request.version)?;
        advance(view, &mut request, Verb::Approve)?;
        self.check_notice(&request)?;
        let key = self.vault.key(view, &request.owner)?;
        let private = open(&key, "request", &request.id, &request.sealed)?;
        let given = self.given(view, &request, &private, &key)?;
        for one in &given {
            representative::within(&self.caller, Some(one.scope.purpose), [one.hip.as_str(), &request.hiu])?;
        }
        self.tell_shown(view, &request)?;
        let mut consents = Vec::with_capacity(given.len());
        for given in &given {
            consents.push(self.grant(view, &request, &private.patient, given, &key)?);
        }
        let asked = request.scope.read()?;
        request.narrowed = given.iter().any(|g| g.scope != asked) || given.len() < request.hips.len();
        request.decided_by = representative::kind(&self.caller);
        request.decided_under = representative::representation(&self.caller);
        request.consents = consents.iter().map(|consent| consent.id.clone()).collect();
        view.put(&request);
        Ok(Approved { request, consents, key })
    }

    fn outcome(&self, answer: &Approved) -> Vec<u8> {
        answer.request.id.clone()
    }
}

impl ApproveRequest {
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

    fn grant(
        &self,
        view: &mut View<'_>,
        request: &RequestRow,
        patient: &str,
        given: &Given,
        key: &Key,
    ) -> Result<ConsentRow, Refusal> {
        let row = self.row(view, request, patient, given, key)?;
        view.put(&row);
        let mut granted =
            consent::draft("consent.granted", Action::Create, &self.caller, &row)?.object(self.request.name());
        granted.payload().notice = Some(self.notice.clone());
        let told = granted.emit(view);
        let parties = Recipients::new().participant(&row.hip).participant(&row.hiu);
        notify(
            view,
            told,
            Kind::ConsentGranted,
            &row.id()?.name(),
            &parties,
            Some(self.account),
        );
        self.issue(view, &row, patient, given, key, &told.id.to_string())?;
        Ok(row)
    }

    fn row(
        &self,
        view: &View<'_>,
        request: &RequestRow,
        patient: &str,
        given: &Given,
        key: &Key,
    ) -> Result<ConsentRow, Refusal> {
        let id: ConsentId = view.id(&format!("consent {}", given.hip));
        let hiu = rows::participant(&request.hiu)?;
        let private = Private {
            patient: patient.to_owned(),
            care_contexts: given.care_contexts.clone(),
            text: String::new(),
        };
        let now = view.now().0;
        Ok(ConsentRow {
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
            ..ConsentRow::default()
        })
    }

    fn issue(
        &self,
        view: &mut View<'_>,
        row: &ConsentRow,
        patient: &str,
        given: &Given,
        key: &Key,
        event_id: &str,
    ) -> Result<(), Refusal> {
        let name = |id: &str| {
            let party = ParticipantId::parse(id)
                .ok()
                .and_then(|id| self.directory.participant(&id));
            party.map_or_else(|| id.to_owned(), |party| party.display_name)
        };
        let claims = Claims {
            manager: &self.manager,
            log_origin: &self.log_origin,
            consent: row,
            patient,
            care_contexts: &given.care_contexts,
            hip_name: &name(&row.hip),
            hiu_name: &name(&row.hiu),
            event_id,
            caller: &self.caller,
        };
        let kid = self.keys.active().kid();
        for audience in Audience::ALL {
            let input = artefact::input(kid, &claims, audience)?;
            // The signature is the same whenever it is made, so its digest can be told before anybody reads it.
            let sha256 = artefact::sha256(&self.keys.active().sign_input(&input));
            let row_key = ArtefactRow::key_of(&row.id, row.grant_version, audience.number());
            let private = Private {
                text: input,
                ..Private::default()
            };
            let sealed = seal(key, view, "artefact", &row_key, &private)?;
            view.put(&ArtefactRow {
                key: row_key,
                kid: kid.to_owned(),
                sealed,
                created: row.granted,
                sha256: sha256.clone(),
            });
            let name = format!(
                "{}/artefacts/{}-{}",
                row.id()?.name(),
                audience.as_str(),
                row.grant_version
            );
            let mut issued = consent::draft("consent.artefact_issued", Action::Create, &self.caller, row)?.object(name);
            issued.payload().artefact_sha256 = sha256;
            issued.emit(view);
        }
        Ok(())
    }
}
