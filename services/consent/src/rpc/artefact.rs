//! `ArtefactService`: the signed form, and the keys to verify it with.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::artefact_service_server::ArtefactService;
use sammati_kernel::{Caller, ConsentId, Reason, Refusal, Violations, hex};
use sammati_server::event::timestamp;
use sammati_server::{authz, error};
use tonic::{Request, Response, Status};

use super::{Core, Rpc};
use crate::artefact::issue::name;
use crate::artefact::{ArtefactKey, Audience, is_shown_to_parties};
use crate::consent::fetch::FetchArtefact;
use crate::policy;
use crate::rows::{self, ArtefactRow, ConsentRow, broken};
use crate::wire::consent::audience as on_wire;
use crate::wire::{self, stamp};

#[tonic::async_trait]
impl ArtefactService for Rpc {
    async fn get_artefact(&self, request: Request<api::GetArtefactRequest>) -> Result<Response<api::Artefact>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .fetch(&caller, &request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn get_status_list(
        &self,
        request: Request<api::GetStatusListRequest>,
    ) -> Result<Response<api::StatusList>, Status> {
        self.0
            .status_list(request.get_ref())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_keys(
        &self,
        request: Request<api::ListKeysRequest>,
    ) -> Result<Response<api::ListKeysResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0.artefact_keys(&caller, request.into_inner()).map(Response::new)
    }

    async fn verify_artefact(
        &self,
        request: Request<api::VerifyArtefactRequest>,
    ) -> Result<Response<api::VerifyArtefactResponse>, Status> {
        let found = self.0.verify(request.get_ref()).await;
        found.map(Response::new).map_err(error::status)
    }
}

impl Core {
    async fn fetch(&self, caller: &Caller, message: &api::GetArtefactRequest) -> Result<api::Artefact, Refusal> {
        let mut v = Violations::new();
        let id: Option<ConsentId> = wire::name(&mut v, "consent", &message.consent);
        let wanted = match message.audience() {
            api::artefact::Audience::Unspecified if message.audience != 0 => {
                v.add("audience", "AUDIENCE_HIP or AUDIENCE_HIU");
                None
            }
            api::artefact::Audience::Unspecified => None,
            api::artefact::Audience::Hip => Some(Audience::Hip),
            api::artefact::Audience::Hiu => Some(Audience::Hiu),
        };
        if wanted.is_none() && caller.account().is_some() {
            v.add("audience", "required: AUDIENCE_HIP or AUDIENCE_HIU");
        }
        if message.version < 0 {
            v.add("version", "1 and up, or 0 for the newest");
        }
        v.check()?;
        let id = id.ok_or(Reason::FieldInvalid)?;
        let audience = self.audience(caller, id, wanted).await?;
        let command = FetchArtefact {
            caller: caller.clone(),
            consent: id,
            version: message.version,
            audience,
        };
        let (row, artefact, version) = self.store.once(command).await?;
        self.render_artefact(caller, (id, audience, version), &row, &artefact)
            .await
    }

    /// The copy that was asked for, or the caller's own.
    async fn audience(&self, caller: &Caller, id: ConsentId, wanted: Option<Audience>) -> Result<Audience, Refusal> {
        if let Some(audience) = wanted {
            return Ok(audience);
        }
        let parties = self
            .subjects
            .parties(id)
            .await?
            .ok_or_else(|| policy::unavailable(caller))?;
        Ok(if caller.participant() == Some(&parties.hip) {
            Audience::Hip
        } else {
            Audience::Hiu
        })
    }

    pub(super) async fn render_artefact(
        &self,
        caller: &Caller,
        (id, audience, version): (ConsentId, Audience, i32),
        row: &ConsentRow,
        artefact: &ArtefactRow,
    ) -> Result<api::Artefact, Refusal> {
        let state = row.state_at(self.now());
        let jws = self.jws(row, artefact).await?;
        let is_newest = version == row.grant_version;
        let shown = caller.account().is_some() || (is_newest && is_shown_to_parties(state));
        let supersedes = match version {
            1 if row.renews.is_empty() => String::new(),
            1 => name(rows::consent_id(&row.renews)?, audience, row.renews_version),
            _ => name(id, audience, version - 1),
        };
        Ok(api::Artefact {
            name: name(id, audience, version),
            consent: id.name(),
            audience: on_wire(audience).into(),
            version,
            jws: if shown { jws.to_string() } else { String::new() },
            kid: artefact.kid.clone(),
            sha256: hex(digest(&SHA256, jws.as_bytes()).as_ref()),
            supersedes,
            state: state.number(),
            create_time: stamp(artefact.created),
            revision: self.revision(id.slot()),
        })
    }

    /// The signature of committed bytes: the same on every replica, so it may be remembered, by its digest. After a restore
    /// the same version of a consent may be another.
    async fn jws(&self, row: &ConsentRow, artefact: &ArtefactRow) -> Result<Arc<str>, Refusal> {
        if let Some(known) = self.signed.get(&artefact.sha256) {
            return Ok(known);
        }
        let ring = self.ring(vec![(row.subject()?.slot(), row.subject.clone())]).await?;
        let input = ring
            .open(&row.subject, "artefact", &artefact.key, &artefact.sealed)?
            .text;
        let jws = self
            .keys
            .sign(&artefact.kid, &input)
            .ok_or_else(|| broken("an artefact's signing key, which is not configured any more,"))?;
        let jws: Arc<str> = jws.into();
        self.signed.insert(artefact.sha256.clone(), Arc::clone(&jws));
        Ok(jws)
    }

    fn artefact_keys(
        &self,
        caller: &Caller,
        mut message: api::ListKeysRequest,
    ) -> Result<api::ListKeysResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self
            .pages
            .page(caller, "consent.ListKeys", &message, size, &token)
            .map_err(error::status)?;
        let begin = page
            .after
            .as_deref()
            .and_then(|at| at.try_into().ok())
            .map_or(0, u64::from_be_bytes);
        let begin = usize::try_from(begin).unwrap_or(usize::MAX);
        let known: Vec<_> = self.keys.known().skip(begin).take(page.size).collect();
        let end = begin.saturating_add(known.len());
        let next_page_token = if end < self.keys.known().count() {
            page.next(&(end as u64).to_be_bytes())?
        } else {
            String::new()
        };
        let jwks = known
            .iter()
            .map(|(known, _)| known.key.public().to_jwk())
            .collect::<Vec<_>>()
            .join(",");
        Ok(api::ListKeysResponse {
            keys: known.into_iter().map(render_key).collect(),
            next_page_token,
            jwks: format!(r#"{{"keys":[{jwks}]}}"#),
        })
    }
}

fn render_key((known, active): (&ArtefactKey, bool)) -> api::ArtefactKey {
    use api::artefact_key::State;
    let public = known.key.public();
    api::ArtefactKey {
        jwk: public.to_jwk(),
        kid: public.kid,
        state: if active { State::Active } else { State::Retired }.into(),
        not_before_time: known.not_before.map(timestamp),
        expire_time: known.expire.map(timestamp),
        compromise_time: None,
    }
}
