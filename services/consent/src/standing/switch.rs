//! Putting a policy into force and out of it, at once.

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{Caller, Fact, PolicyId, Power, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::create::{check_room, may_enable};
use super::{Effect, State, Verb, decided, draft, within};
use crate::policy;
use crate::representative;
use crate::rows::{self, PolicyRow};
use crate::step_up::{self, Shown, Token};

/// EnablePolicy and DisablePolicy.
pub struct SwitchPolicy {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub policy: PolicyId,
    /// Which way.
    pub verb: Verb,
    /// The etag that was read.
    pub etag: String,
    /// The action token that came with it.
    pub token: Option<Token>,
}

impl Command for SwitchPolicy {
    type Answer = PolicyRow;

    const NAME: &'static str = "policy.switch";

    fn slot(&self) -> Slot {
        self.policy.slot()
    }

    /// Either may take away: an APPROVE that ends, a DENY that begins.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<PolicyRow>(self.policy.to_vec());
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        if let Some(row) = loaded.get::<PolicyRow>(self.policy.as_bytes()) {
            if let Some(account) = rows::account(&row.subject) {
                step_up::reads(keys, account);
            }
            keys.group::<PolicyRow>("subject", row.subject);
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<PolicyRow, Refusal> {
        let row = view.get::<PolicyRow>(self.policy.as_bytes());
        let mut row = policy::may_switch(&self.caller, row)?;
        within(&self.caller, &row)?;
        if (self.verb, row.effect()) == (Verb::Disable, Effect::Deny) {
            // What she denied is allowed again as far as she has granted it.
            representative::needs(&self.caller, Power::Decide)?;
        }
        let shown = self.shown(view, &row)?;
        rows::check_etag(&self.etag, row.version)?;
        switch(view, &self.caller, &mut row, self.verb, "")?;
        if let Some(shown) = shown {
            shown.spend(view);
        }
        Ok(row)
    }

    fn outcome(&self, answer: &PolicyRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl SwitchPolicy {
    /// What enabling it needs; disabling needs nothing.
    fn shown(&self, view: &View<'_>, row: &PolicyRow) -> Result<Option<Shown>, Refusal> {
        if self.verb == Verb::Disable {
            return Ok(None);
        }
        let account = rows::account(&row.subject).ok_or_else(|| rows::broken("a policy's subject"))?;
        may_enable(view, &self.caller, account, row.effect(), self.token.as_ref()).map(Some)
    }
}

/// Puts one of hers into force or out of it, because of the event `cause` if there is one. Needs the group of all of them.
///
/// # Errors
/// POWER_MISSING for what would outlive a representative's mandate; STATE_CONFLICT; OPEN_LIMIT; INTERNAL when the row is damaged.
pub fn switch(
    view: &mut View<'_>,
    caller: &Caller,
    row: &mut PolicyRow,
    verb: Verb,
    cause: &str,
) -> Result<(), Refusal> {
    let to = row.state().after(verb).ok_or_else(|| conflict(row.state()))?;
    let event = match to {
        State::Enabled => "policy.enabled",
        State::Disabled => "policy.disabled",
    };
    if to == State::Enabled {
        if let Some(bound) = &row.scope {
            representative::lasts(caller, bound.erase_time())?;
        }
        check_room(&view.group::<PolicyRow>("subject", &row.subject))?;
        decided(caller, row);
    }
    row.settle(to, view.now());
    view.put(row);
    draft(event, Action::Update, caller, row)?.because_of(cause).emit(view);
    Ok(())
}

fn conflict(state: State) -> Refusal {
    Refusal::new(Reason::StateConflict)
        .saying("the policy is so already; read it again")
        .with(Fact::State, state.as_str())
}
