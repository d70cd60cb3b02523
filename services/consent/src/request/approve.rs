//! Granting a request, whole or in part: one consent for each HIP, two copies each, all in one commit or nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::{CallerKind, CareContextRef, NoticeRef};
use sammati_kernel::{AccountId, Caller, ConsentId, ConsentRequestId, Fact, Key, ParticipantId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{Verb, advance, draft};
use crate::artefact::{self, ArtefactKeys, Audience, Claims};
use crate::consent;
use crate::directory::Directory;
use crate::link::fits;
use crate::lookup::{ContextKey, Lookup};
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::rows::{self, ArtefactRow, CareContextRow, ConsentRow, LinkRow, RequestRow};
use crate::scope::{Scope, wider};
use crate::vault::{Private, Vault, open, seal};

/// HIPs of one approval.
const HIPS: usize = crate::wire::request::HIPS;

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

/// What a grant is measured by.
struct Asked<'a> {
    scope: &'a Scope,
    care_contexts: &'a [CareContextRef],
    /// Who may give: the HIPs that are named, or else those she has links with.
    sources: &'a [ParticipantId],
    /// Opens what is hers.
    key: &'a Key,
}

/// A grant that was found good; its care contexts in the words of the provider that linked them.
struct Given {
    hip: ParticipantId,
    scope: Scope,
    care_contexts: Vec<CareContextRef>,
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
        self.tell_shown(view, &request)?;
        let mut consents = Vec::with_capacity(given.len());
        for given in &given {
            consents.push(self.grant(view, &request, &private.patient, given, &key)?);
        }
        let asked = request.scope.read()?;
        request.narrowed = given.iter().any(|g| g.scope != asked) || given.len() < request.hips.len();
        request.decided_by = CallerKind::Person.into();
        request.consents = consents.iter().map(|consent| consent.id.clone()).collect();
        view.put(&request);
        Ok(Approved { request, consents, key })
    }

    fn outcome(&self, answer: &Approved) -> Vec<u8> {
        answer.request.id.clone()
    }
}

impl ApproveRequest {
    fn context(&self, hip: &ParticipantId, context: &CareContextRef) -> ContextKey {
        self.lookup
            .context(self.account.as_bytes(), hip, &context.care_context_reference)
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

    fn given(
        &self,
        view: &View<'_>,
        request: &RequestRow,
        private: &Private,
        key: &Key,
    ) -> Result<Vec<Given>, Refusal> {
        let scope = request.scope.read()?;
        if scope.erase_time <= view.now() {
            return Err(empty("the time asked for is over already; the asker must ask again"));
        }
        let named = request.hips()?;
        let sources = if named.is_empty() { self.linked(view)? } else { named };
        let grants = if self.grants.is_empty() {
            as_asked(&sources)?
        } else {
            self.grants.clone()
        };
        let asked = Asked {
            scope: &scope,
            care_contexts: &private.care_contexts,
            sources: &sources,
            key,
        };
        let given = grants.into_iter().map(|grant| self.check(view, grant, &asked));
        let given = given.collect::<Result<Vec<_>, _>>()?;
        if given.iter().any(|g| g.scope.erase_time <= view.now()) {
            return Err(empty(
                "an erase_time that has passed grants nothing; choose one to come",
            ));
        }
        Ok(given)
    }

    fn check(&self, view: &View<'_>, grant: Grant, asked: &Asked<'_>) -> Result<Given, Refusal> {
        let Grant { hip, scope } = grant;
        if !asked.sources.contains(&hip) {
            return Err(too_wide(
                "hip",
                "a grant names a provider that was not asked for, or that she has no link with",
            ));
        }
        let (mut scope, named) = scope.unwrap_or_else(|| (asked.scope.clone(), asked.care_contexts.to_vec()));
        scope.care_contexts = named.iter().map(|context| self.context(&hip, context)).collect();
        if let Some(field) = wider(asked.scope, &scope) {
            return Err(too_wide(
                field,
                "a grant allows more than was asked; narrow the field that is named",
            ));
        }
        let care_contexts = named.iter().map(|named| self.as_linked(view, &hip, named, asked));
        let care_contexts = care_contexts.collect::<Result<_, _>>()?;
        Ok(Given {
            hip,
            scope,
            care_contexts,
        })
    }

    /// A care context as its provider linked it to her: nothing that whoever asks said of it is signed unchecked (C3).
    fn as_linked(
        &self,
        view: &View<'_>,
        hip: &ParticipantId,
        named: &CareContextRef,
        asked: &Asked<'_>,
    ) -> Result<CareContextRef, Refusal> {
        let row = view.get::<CareContextRow>(&self.context(hip, named));
        let row = row.filter(|row| row.hip == hip.as_str() && row.subject == self.account.as_bytes());
        let row = row.ok_or_else(not_linked)?;
        let private = open(asked.key, "care context", &row.key, &row.sealed)?;
        let linked = private.care_contexts.into_iter().next().ok_or_else(not_linked)?;
        let mut said = asked.care_contexts.iter().chain([named]);
        // What was asked must mean it too, not only what she gives.
        if said.all(|c| c.care_context_reference != linked.care_context_reference || fits(c, &linked)) {
            Ok(linked)
        } else {
            Err(not_linked())
        }
    }

    /// The providers she has links with.
    fn linked(&self, view: &View<'_>) -> Result<Vec<ParticipantId>, Refusal> {
        let links = view.group::<LinkRow>("subject", self.account.as_bytes());
        let ids: BTreeSet<&str> = links.iter().map(|row| row.hip.as_str()).collect();
        ids.into_iter().map(rows::participant).collect()
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
            expire: given.scope.erase_time.0,
            granted_by: CallerKind::Person.into(),
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

/// One grant for each provider, as asked.
fn as_asked(sources: &[ParticipantId]) -> Result<Vec<Grant>, Refusal> {
    if sources.is_empty() {
        return Err(empty(
            "she has no links with any provider, so nothing would be granted; link a provider first",
        ));
    }
    if sources.len() > HIPS {
        return Err(Refusal {
            reason: Reason::BatchLimit,
            ..Refusal::field(
                "grants",
                "she has links with more than 20 providers: name those that may give, at most 20",
            )
        });
    }
    let grant = |hip: &ParticipantId| Grant {
        hip: hip.clone(),
        scope: None,
    };
    Ok(sources.iter().map(grant).collect())
}

fn empty(why: &'static str) -> Refusal {
    Refusal {
        reason: Reason::GrantEmpty,
        ..Refusal::field("grants", why)
    }
}

fn not_linked() -> Refusal {
    Refusal::new(Reason::CareContextNotLinked).saying(
        "a care context is not linked to her at this provider, or under another patient reference; leave it out, or let the provider link it",
    )
}

fn too_wide(field: &'static str, why: &'static str) -> Refusal {
    Refusal::new(Reason::GrantWider).saying(why).with(Fact::Field, field)
}
