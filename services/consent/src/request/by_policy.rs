//! A request that a policy of hers decides, in the commit that makes it.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{AccountId, ParticipantId, Reason, Refusal};
use sammati_server::event::system;
use sammati_store::{Keys, View};

use super::approve::{ApproveRequest, Grant};
use super::create::CreateRequest;
use super::{Verb, advance, draft};
use crate::daily;
use crate::notification::{Recipients, notify};
use crate::rows::{self, CareContextRow, LinkRow, LinkTryRow, PolicyRow, RequestRow, broken};
use crate::scope::Scope;
use crate::standing;
use crate::standing::apply::{Asked, Said, apply};
use crate::status_list;
use crate::vault::open;
use crate::wire::request::HIPS;

/// Requests of one asker to one address that her policies decide in a day.
const A_DAY: i32 = 20;

impl CreateRequest {
    /// What policies are read with.
    pub(super) fn reads_policies(&self, keys: &mut Keys) {
        let Some(account) = self.place.subject else { return };
        keys.group::<PolicyRow>("enabled", account.to_vec());
        keys.group::<LinkRow>("subject", account.to_vec());
        keys.row::<LinkTryRow>(self.decided());
        status_list::reads(keys);
        if let [hip] = self.ask.hips.as_slice() {
            for context in &self.ask.care_contexts {
                let reference = &context.care_context_reference;
                keys.row::<CareContextRow>(self.lookup.context(account.as_bytes(), hip, reference));
            }
        }
    }

    /// The request as her policies leave it.
    pub(super) fn by_policy(&self, view: &mut View<'_>, row: RequestRow) -> Result<RequestRow, Refusal> {
        let Some(account) = self.place.subject else {
            return Ok(row);
        };
        let policies = view.group::<PolicyRow>("enabled", account.as_bytes());
        if policies.is_empty() {
            return Ok(row);
        }
        let links = view.group::<LinkRow>("subject", account.as_bytes());
        let linked = links.iter().map(|link| rows::participant(&link.hip));
        let (linked, hips, scope) = (linked.collect::<Result<_, _>>()?, row.hips()?, row.scope.read()?);
        let asked = Asked {
            hiu: &self.ask.hiu,
            hips: &hips,
            linked: &linked,
            scope: &scope,
        };
        match apply(&policies, asked)? {
            Said::Deny(policy) => self.deny(view, row, policy, account),
            Said::Approve(policy, grants) if self.ask.renews.is_none() => {
                self.approve(view, row, policy, grants, account)
            }
            // A renewal takes the place of what she has granted herself: hers to look at.
            Said::Nothing | Said::Approve(..) => Ok(row),
        }
    }

    /// By the address, as what is open is counted: it must not tell that two addresses are one person's.
    fn decided(&self) -> [u8; 32] {
        self.lookup.decided(&self.ask.patient, &self.ask.hiu)
    }

    /// What is decided at once is never open: so many a day, or it would have no limit.
    fn count(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        daily::count(view, &self.decided(), A_DAY).map_err(|wait| {
            Refusal::new(Reason::RequestLimit)
                .saying("20 requests of yours to this address were decided at once since yesterday; try again later")
                .retry_after(wait)
        })
    }

    fn deny(
        &self,
        view: &mut View<'_>,
        mut row: RequestRow,
        policy: Vec<u8>,
        account: AccountId,
    ) -> Result<RequestRow, Refusal> {
        self.count(view)?;
        advance(view, &mut row, Verb::Deny)?;
        row.policy = policy;
        decided(view, &mut row)?;
        view.put(&row);
        let told = draft("consent.denied", Action::Update, &system("consent"), &row)?.emit(view);
        let asker = Recipients::new().participant(&row.hiu);
        let name = row.id()?.name();
        notify(view, told, Kind::ConsentRequestDenied, &name, &asker, Some(account));
        applied(view, &row, account)?;
        Ok(row)
    }

    /// Grants as she would have: by the same checks, in the same way. What cannot be granted is hers to look at.
    fn approve(
        &self,
        view: &mut View<'_>,
        mut row: RequestRow,
        policy: Vec<u8>,
        grants: Vec<(ParticipantId, Scope)>,
        account: AccountId,
    ) -> Result<RequestRow, Refusal> {
        let approval = self.approval(&row, grants, account)?;
        let key = self.vault.key(view, &row.owner)?;
        let private = open(&key, "request", &row.id, &row.sealed)?;
        let given = match approval.given(view, &row, &private, &key) {
            Ok(given) if given.len() <= HIPS => given,
            Err(refusal) if refusal.reason == Reason::Internal => return Err(refusal),
            _ => return Ok(row),
        };
        self.count(view)?;
        advance(view, &mut row, Verb::Approve)?;
        row.policy = policy;
        decided(view, &mut row)?;
        let asked = row.scope.read()?;
        let mut consents = Vec::with_capacity(given.len());
        for given in &given {
            let (mut consent, private) = approval.row(view, &row, given, None, &key)?;
            consent.granted_by = row.decided_by;
            consent.granted_under.clone_from(&row.decided_under);
            approval.grant(view, &mut consent, &private, &key)?;
            consents.push(consent.id);
        }
        row.narrowed = given.iter().any(|g| g.scope != asked) || given.len() < row.hips.len();
        row.consents = consents;
        view.put(&row);
        applied(view, &row, account)?;
        Ok(row)
    }

    fn approval(
        &self,
        row: &RequestRow,
        grants: Vec<(ParticipantId, Scope)>,
        account: AccountId,
    ) -> Result<ApproveRequest, Refusal> {
        let contexts = &self.ask.care_contexts;
        let grant = |(hip, scope)| Grant {
            hip,
            scope: Some((scope, contexts.clone())),
        };
        Ok(ApproveRequest {
            caller: system("consent"),
            account,
            request: row.id()?,
            grants: grants.into_iter().map(grant).collect(),
            notice: row.notice.clone(),
            is_written: true,
            etag: String::new(),
            dry_run: false,
            token: None,
            issuer: self.issuer.clone(),
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
        })
    }
}

/// The policy that decided a request.
fn policy_of(view: &View<'_>, request: &RequestRow) -> Result<PolicyRow, Refusal> {
    let policy = view.get::<PolicyRow>(&request.policy);
    policy.ok_or_else(|| broken("a policy"))
}

/// It is the word of whoever put the policy into force.
fn decided(view: &View<'_>, request: &mut RequestRow) -> Result<(), Refusal> {
    let policy = policy_of(view, request)?;
    request.decided_by = policy.decider();
    request.decided_under = policy.decided_under;
    Ok(())
}

/// Counts it with the policy, and tells her.
fn applied(view: &mut View<'_>, request: &RequestRow, account: AccountId) -> Result<(), Refusal> {
    let mut policy = policy_of(view, request)?;
    policy.uses += 1;
    view.put(&policy);
    let name = request.id()?.name();
    let draft = standing::draft("policy.applied", Action::Update, &system("consent"), &policy)?;
    let told = draft.object(name.clone()).emit(view);
    let her = Recipients::new().person(Some(account));
    notify(view, told, Kind::PolicyApplied, &name, &her, Some(account));
    Ok(())
}
