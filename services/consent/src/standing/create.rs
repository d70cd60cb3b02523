//! Making a policy: it is in force when the answer leaves.

use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::CareContextRef;
use sammati_kernel::{AccountId, Caller, PolicyId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::switch::switch;
use super::{Effect, MAX, State, Verb, decided, draft, within};
use crate::policy;
use crate::representative;
use crate::rows::PolicyRow;
use crate::step_up::{self, Shown, Token};
use crate::vault::{Private, Vault, seal};

/// CreatePolicy.
pub struct CreatePolicy {
    /// Who asks.
    pub caller: Caller,
    /// The person.
    pub account: AccountId,
    /// What it shall be.
    pub wanted: Wanted,
    /// The action token that came with it.
    pub token: Option<Token>,
    /// Seals references.
    pub vault: Vault,
}

/// A policy to make: its content, and the references of care contexts in clear.
#[derive(Clone)]
pub struct Wanted {
    /// The content; no id, person, state or time yet.
    pub content: PolicyRow,
    /// What its care contexts are called.
    pub references: Vec<String>,
}

impl Command for CreatePolicy {
    type Answer = PolicyRow;

    const NAME: &'static str = "policy.create";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn is_essential(&self) -> bool {
        self.wanted.content.effect() == Effect::Deny
    }

    fn reads(&self, keys: &mut Keys) {
        reads(keys, self.account);
        step_up::reads(keys, self.account);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<PolicyRow, Refusal> {
        let effect = self.wanted.content.effect();
        let shown = may_enable(view, &self.caller, self.account, effect, self.token.as_ref())?;
        let row = create(view, &self.caller, self.account, &self.wanted, &self.vault)?;
        shown.spend(view);
        Ok(row)
    }

    fn outcome(&self, answer: &PolicyRow) -> Vec<u8> {
        answer.id.clone()
    }
}

/// What approves beforehand needs a login of a moment ago, and her PIN if she has set that giving does; what denies needs
/// neither. Needs what [`step_up::reads`] names.
///
/// # Errors
/// STEP_UP_REQUIRED.
pub(super) fn may_enable(
    view: &View<'_>,
    caller: &Caller,
    account: AccountId,
    effect: Effect,
    token: Option<&Token>,
) -> Result<Shown, Refusal> {
    let gives = effect == Effect::Approve;
    if gives {
        policy::recently_proved(caller, view.now())?;
    }
    step_up::check(view, caller, account, gives.then_some(step_up::APPROVE), token)
}

/// What [`create`] reads.
pub fn reads(keys: &mut Keys, account: AccountId) {
    keys.group::<PolicyRow>("subject", account.to_vec());
    Vault::reads(keys, account.as_bytes());
}

/// Makes a policy of hers. One that a representative makes gives no longer than his mandate lasts.
///
/// # Errors
/// POWER_MISSING, POLICY_DUPLICATE, OPEN_LIMIT, FIELD_INVALID; INTERNAL when a row is damaged.
pub fn create(
    view: &mut View<'_>,
    caller: &Caller,
    account: AccountId,
    wanted: &Wanted,
    vault: &Vault,
) -> Result<PolicyRow, Refusal> {
    let now = view.now();
    within(caller, &wanted.content)?;
    let content = ending(caller, &wanted.content);
    let scope = content.scope.as_ref().map(|scope| scope.read()).transpose()?;
    if scope.is_some_and(|scope| scope.erase_time <= now) {
        return Err(Refusal::field(
            "scope.erase_time",
            "a time to come: nothing would be granted",
        ));
    }
    let all = view.group::<PolicyRow>("subject", account.as_bytes());
    if all.iter().any(|row| is_same(row, &content)) {
        return Err(Refusal::new(Reason::PolicyDuplicate)
            .saying("there is such a policy already; read the list, and enable it if it is disabled"));
    }
    check_room(&all)?;
    let id: PolicyId = view.id("policy");
    let mut row = PolicyRow {
        id: id.to_vec(),
        subject: account.to_vec(),
        state: State::Enabled.number(),
        created: now.0,
        updated: now.0,
        version: 1,
        ..content
    };
    decided(caller, &mut row);
    if !wanted.references.is_empty() {
        let key = vault.key(view, account.as_bytes())?;
        let context = |reference: &String| CareContextRef {
            care_context_reference: reference.clone(),
            ..CareContextRef::default()
        };
        let private = Private {
            care_contexts: wanted.references.iter().map(context).collect(),
            ..Private::default()
        };
        row.sealed = seal(&key, view, "policy", id.as_bytes(), &private)?;
    }
    view.put(&row);
    draft("policy.enabled", Action::Create, caller, &row)?.emit(view);
    Ok(row)
}

/// The policy of hers that decides the same, put into force if it is not; else a new one.
///
/// # Errors
/// As [`create`], but POLICY_DUPLICATE.
pub fn ensure(
    view: &mut View<'_>,
    caller: &Caller,
    account: AccountId,
    wanted: &Wanted,
    vault: &Vault,
) -> Result<PolicyRow, Refusal> {
    let all = view.group::<PolicyRow>("subject", account.as_bytes());
    let content = ending(caller, &wanted.content);
    let Some(mut row) = all.into_iter().find(|row| is_same(row, &content)) else {
        return create(view, caller, account, wanted, vault);
    };
    within(caller, &row)?;
    if row.state() == State::Disabled {
        switch(view, caller, &mut row, Verb::Enable, "")?;
    }
    Ok(row)
}

/// The content as `caller` may decide it: nothing that is granted by it outlives a mandate.
fn ending(caller: &Caller, content: &PolicyRow) -> PolicyRow {
    let mut content = content.clone();
    if let Some(bound) = &mut content.scope {
        bound.end_at(representative::ends(caller, bound.erase_time()));
    }
    content
}

/// Whether one more may be in force beside `all` of hers: those that are not take no room.
pub(super) fn check_room(all: &[PolicyRow]) -> Result<(), Refusal> {
    if all.iter().filter(|row| row.state() == State::Enabled).count() < MAX {
        return Ok(());
    }
    Err(Refusal::new(Reason::OpenLimit).saying("200 policies in force are the most; disable one that you have"))
}

/// Whether two decide the same.
fn is_same(a: &PolicyRow, b: &PolicyRow) -> bool {
    let what = |row: &PolicyRow| {
        (
            row.effect,
            row.hiu.clone(),
            row.hips.clone(),
            row.scope.clone(),
            row.excluded.clone(),
            row.purposes.clone(),
            row.care_contexts.clone(),
        )
    };
    what(a) == what(b)
}
