//! RepresentationService: who may act for whom.

use sammati_api::identity::v1 as api;
use sammati_kernel::{AccountId, Caller, Micros, Reason, Refusal, RepresentationId, RepresentationKind, Violations};
use sammati_store::{Outcome, Reader, RequestKey};

use crate::policy;
use crate::providers::Notice;
use crate::representation::{Move, Propose, Verb, majority, party};
use crate::rows::{EvidenceRow, Mandate, RepresentationRow};
use crate::service::Inner;
use crate::vault::broken;
use crate::wire::{self, Proposal, Shown};

impl Inner {
    pub(crate) async fn create_representation(
        &self,
        caller: &Caller,
        request: api::CreateRepresentationRequest,
    ) -> Result<api::Representation, Refusal> {
        let key = self.request::<Propose>(caller, &request.request_id, &request);
        let mut v = Violations::new();
        let principal = whose(&mut v, "principal", caller, &request.principal);
        let named = wire::identifier_in(&mut v, "representative", request.representative.as_ref());
        let proposal = wire::proposal(&mut v, caller, &request);
        let (key, ()) = Refusal::both(key, v.check())?;
        let (principal, named, proposal) = (
            wire::present(principal)?,
            wire::present(named)?,
            wire::present(proposal)?,
        );
        policy::own_unless_operator(caller, principal)?;
        wire::may_propose(caller, &proposal)?;
        // A repeat needs nobody to be as he was, nor to be found by what he was found by.
        if let Some(id) = self.store.known(&key).await? {
            return self
                .shown_representation(caller, RepresentationId::from_slice(&id))
                .await;
        }
        let representative = self.find(&named).await?;
        if representative == Some(principal) {
            return Err(Refusal::field(
                "representative",
                "nobody represents herself; name somebody else",
            ));
        }
        let mandate = self.mandate(caller, principal, representative, &proposal).await?;
        let propose = Propose {
            caller: caller.clone(),
            principal,
            representative,
            mandate,
            evidence: proposal.evidence,
        };
        let id = match self.store.run(propose, Some(key)).await? {
            Outcome::Fresh(id) => Some(id),
            Outcome::Known(bytes) => RepresentationId::from_slice(&bytes),
        };
        self.shown_representation(caller, id).await
    }

    /// What is proposed, with its end; an operator is told what would never come to be.
    async fn mandate(
        &self,
        caller: &Caller,
        principal: AccountId,
        representative: Option<AccountId>,
        proposal: &Proposal,
    ) -> Result<Mandate, Refusal> {
        let now = self.now();
        let (hers, _) = self.her_account(caller, principal, false).await?;
        let period = proposal.period.map_or(0, |period| now.plus(period).0);
        let ends = match proposal.kind {
            RepresentationKind::Guardian => {
                of_age(&hers)
                    .filter(|at| now < *at)
                    .ok_or_else(|| not_eligible("the principal is of age, and has no guardian"))?
                    .0
            }
            _ => period,
        };
        if caller.is_operator() {
            let found = self.account_or_nobody(representative).await?;
            eligible(found.as_ref().map(|(shown, _)| shown), now)?;
        }
        Ok(Mandate {
            ends,
            ..proposal.mandate.clone()
        })
    }

    pub(crate) async fn accept_representation(
        &self,
        caller: &Caller,
        request: api::AcceptRepresentationRequest,
    ) -> Result<api::Representation, Refusal> {
        let key = self.moving(caller, "identity.accept_representation", &request.request_id, &request);
        let (key, id) = Refusal::both(key, representation(&request.name))?;
        let row = self.her_representation(caller, id).await?;
        if caller.account() != row.representative() {
            return Err(policy::unavailable(caller));
        }
        let account = caller.account().ok_or(Reason::CallerKind)?;
        // Who is of age and known stays so: it need not be read under the lock.
        let (shown, _) = self.her_account(caller, account, false).await?;
        eligible(Some(&shown), self.now())?;
        self.moved(caller, id, request.etag, Verb::Accept, None, key).await
    }

    pub(crate) async fn activate_representation(
        &self,
        caller: &Caller,
        request: api::ActivateRepresentationRequest,
    ) -> Result<api::Representation, Refusal> {
        let key = self.moving(
            caller,
            "identity.activate_representation",
            &request.request_id,
            &request,
        );
        let mut v = Violations::new();
        let id = wire::named(&mut v, "name", &request.name);
        let evidence = match &request.evidence {
            Some(given) => wire::evidence(&mut v, caller, given),
            None => None,
        };
        if request.evidence.is_none() && !v.is_empty() {
            v.add("evidence", "required");
        }
        let (key, ()) = Refusal::both(key, v.check())?;
        let evidence = evidence.ok_or_else(wire::no_evidence)?;
        let id = wire::present(id)?;
        let shown = self
            .moved(caller, id, request.etag, Verb::Activate, Some(evidence), key)
            .await?;
        self.tell_principal(caller, id).await;
        Ok(shown)
    }

    /// Tells the principal that a nominee was activated. Once for each, however often the call is repeated; a gateway that
    /// is away is an operator's concern, and the answer does not wait for it to come back.
    async fn tell_principal(&self, caller: &Caller, id: RepresentationId) {
        let told = async {
            let row = self.her_representation(caller, id).await?;
            let principal = row.principal().ok_or_else(|| broken("a representation's principal"))?;
            let (shown, _) = self.her_account(caller, principal, false).await?;
            let notice = Notice {
                message_id: id.to_string(),
                template: "representation-activated",
                language: shown
                    .row
                    .consent
                    .as_ref()
                    .map(|c| c.language.clone())
                    .unwrap_or_default(),
            };
            self.courier.tell(&shown.profile.mobile, notice).await
        };
        if let Err(refusal) = told.await {
            let reason = refusal.reason.as_str();
            tracing::warn!(reason, representation = %id, "the principal could not be told that a nominee was activated");
        }
    }

    pub(crate) async fn end_representation(
        &self,
        caller: &Caller,
        request: api::EndRepresentationRequest,
    ) -> Result<api::Representation, Refusal> {
        let key = self.moving(caller, "identity.end_representation", &request.request_id, &request);
        let (key, id) = Refusal::both(key, representation(&request.name))?;
        self.moved(caller, id, request.etag, Verb::End, None, key).await
    }

    fn moving(
        &self,
        caller: &Caller,
        method: &'static str,
        id: &str,
        message: &impl prost::Message,
    ) -> Result<RequestKey, Refusal> {
        self.store.request(&caller.id(), method, id, message)
    }

    async fn moved(
        &self,
        caller: &Caller,
        id: RepresentationId,
        etag: String,
        verb: Verb,
        evidence: Option<EvidenceRow>,
        key: RequestKey,
    ) -> Result<api::Representation, Refusal> {
        let command = Move {
            caller: caller.clone(),
            id,
            etag,
            verb,
            evidence,
            cause: None,
        };
        if let Outcome::Fresh(ended) = self.store.run(command, Some(key)).await? {
            self.facts.end(&ended, self.now());
        }
        self.shown_representation(caller, Some(id)).await
    }

    pub(crate) async fn list_representations(
        &self,
        caller: &Caller,
        request: api::ListRepresentationsRequest,
    ) -> Result<api::ListRepresentationsResponse, Refusal> {
        let query = api::ListRepresentationsRequest {
            account: request.account.clone(),
            ..Default::default()
        };
        let page = self.pages.page(
            caller,
            "ListRepresentations",
            &query,
            request.page_size,
            &request.page_token,
        );
        let mut v = Violations::new();
        let account = whose(&mut v, "account", caller, &request.account);
        let (page, ()) = Refusal::both(page, v.check())?;
        let account = wire::present(account)?;
        policy::own_unless_operator(caller, account)?;
        let (after, limit) = (page.after.clone(), i64::try_from(page.size).unwrap_or(i64::MAX) + 1);
        let read = move |r: &mut Reader<'_>| {
            let mut rows = Vec::new();
            for column in ["principal", "representative"] {
                rows.extend(r.page::<RepresentationRow>(column, account.as_bytes(), after.as_deref(), limit)?);
            }
            Ok(rows)
        };
        let mut rows: Vec<_> = self.store.read(read).await?.into_iter().map(|s| s.record).collect();
        rows.sort_by(|a, b| b.id.cmp(&a.id));
        let more = rows.len() > page.size;
        rows.truncate(page.size);
        let next_page_token = match rows.last().filter(|_| more) {
            Some(last) => page.next(&last.id).map_err(|_| Refusal::new(Reason::Internal))?,
            None => String::new(),
        };
        let now = self.now();
        let shown = rows.iter().map(|row| wire::representation(row, caller, now));
        Ok(api::ListRepresentationsResponse {
            representations: shown.collect(),
            next_page_token,
        })
    }

    /// One, to either side of it and to operators.
    async fn her_representation(&self, caller: &Caller, id: RepresentationId) -> Result<RepresentationRow, Refusal> {
        let row = self.representation(id).await?;
        row.filter(|row| caller.is_operator() || party(caller, row))
            .ok_or_else(|| policy::unavailable(caller))
    }

    async fn shown_representation(
        &self,
        caller: &Caller,
        id: Option<RepresentationId>,
    ) -> Result<api::Representation, Refusal> {
        let id = id.ok_or_else(|| broken("an outcome without id"))?;
        let row = self.her_representation(caller, id).await?;
        Ok(wire::representation(&row, caller, self.now()))
    }
}

/// Whose representations: an operator names the account, a person is it.
fn whose(v: &mut Violations, field: &'static str, caller: &Caller, name: &str) -> Option<AccountId> {
    match caller.account() {
        Some(account) if name.is_empty() => Some(account),
        _ => wire::named(v, field, name),
    }
}

fn representation(name: &str) -> Result<RepresentationId, Refusal> {
    let mut v = Violations::new();
    let id = wire::named(&mut v, "name", name);
    v.check()?;
    wire::present(id)
}

fn of_age(shown: &Shown) -> Option<Micros> {
    shown.profile.birth.as_ref().and_then(majority)
}

/// Somebody in use, known by e-KYC and of age.
fn eligible(shown: Option<&Shown>, now: Micros) -> Result<(), Refusal> {
    let good = shown.is_some_and(|s| s.row.is_active() && s.number.is_some() && of_age(s).is_some_and(|at| at <= now));
    if good {
        Ok(())
    } else {
        Err(not_eligible(
            "a representative is known by e-KYC, 18 or older, and has an account in use",
        ))
    }
}

fn not_eligible(why: &'static str) -> Refusal {
    Refusal::new(Reason::RepresentativeNotEligible).saying(why)
}
