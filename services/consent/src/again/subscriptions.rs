//! Subscriptions that she ended or held back tell nobody again.

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{PolicyId, Refusal, Slot, SubscriptionId};
use sammati_server::event::system;
use sammati_store::{Command, Keys, View};

use super::Became;
use crate::rows::{PolicyRow, SubscriptionRow};
use crate::subscription::decide::{policy_of, switch_policy};
use crate::subscription::{self, State, Verb, draft, tell_both};

/// Does again to a subscription what took away of it.
pub(super) struct SubscriptionAgain {
    pub(super) subscription: SubscriptionId,
    /// A change whose content is lost pauses it.
    pub(super) verb: Verb,
    /// The event that tells of it.
    pub(super) lost: String,
    /// The policy that went out of force in the same commit.
    pub(super) with: Option<PolicyId>,
}

impl Command for SubscriptionAgain {
    type Answer = Became;

    const NAME: &'static str = "subscription.again";

    fn slot(&self) -> Slot {
        self.subscription.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<SubscriptionRow>(self.subscription.to_vec());
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        let row = loaded.get::<SubscriptionRow>(self.subscription.as_bytes());
        if let Some(row) = row.filter(|row| row.locker) {
            keys.group::<PolicyRow>("subject", row.owner);
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Became, Refusal> {
        let Some(mut row) = view.get::<SubscriptionRow>(self.subscription.as_bytes()) else {
            return Ok(Became::Lost);
        };
        if subscription::expire(view, &mut row)? {
            return Ok(Became::Left);
        }
        let (verb, event) = match self.verb {
            Verb::Deny => (Verb::Deny, "subscription.denied"),
            Verb::Revoke => (Verb::Revoke, "subscription.withdrawn"),
            _ => (Verb::Pause, "subscription.paused"),
        };
        let Some(to) = row.state().after(verb) else {
            // She must change it anew before she resumes it, though there is nothing to pause.
            let is_told = row.state() == State::Paused && self.verb == Verb::Update;
            return Ok(if is_told { Became::Retaken } else { Became::Left });
        };
        if verb == Verb::Deny {
            row.decided = view.now().0;
        }
        if row.locker {
            switch_policy(view, &system("consent"), &mut row, verb, &self.lost)?;
            // The log tells of the policy first, so that it is disabled by now; what the pause took, resuming brings back.
            let came = policy_of(view, &row).map(|policy| policy.id);
            row.policy_paused |=
                self.verb == Verb::Pause && came.is_some() && came == self.with.map(|with| with.to_vec());
        }
        row.settle(to, view.now());
        view.put(&row);
        let told = draft(event, Action::Update, &system("consent"), &row)?;
        let told = told.because_of(&self.lost).emit(view);
        tell_both(view, told, &row)?;
        Ok(Became::Retaken)
    }
}
