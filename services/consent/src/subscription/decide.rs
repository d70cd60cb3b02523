//! What she, or its holder, does with a subscription.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Caller, Fact, PurposeCode, Reason, Refusal, Slot, SubscriptionId};
use sammati_store::{Command, Keys, View};

use super::{State, Verb, draft, expire, subject, wider};
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::representative;
use crate::rows::{self, PolicyRow, SourcesRow, SubscriptionRow};
use crate::standing::switch::switch;
use crate::standing::{self, Effect};
use crate::step_up::{self, Shown, Token};

/// All transitions but those of time.
pub struct Decide {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub subscription: SubscriptionId,
    /// What.
    pub verb: Verb,
    /// What she gives, with an approval or an update; `None`: as asked.
    pub given: Option<SourcesRow>,
    /// The etag that was read.
    pub etag: String,
    /// The action token that came with it.
    pub token: Option<Token>,
}

impl Command for Decide {
    type Answer = SubscriptionRow;

    const NAME: &'static str = "subscription.decide";

    fn slot(&self) -> Slot {
        self.subscription.slot()
    }

    fn is_essential(&self) -> bool {
        matches!(self.verb, Verb::Deny | Verb::Pause | Verb::Revoke)
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<SubscriptionRow>(self.subscription.to_vec());
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        let row = loaded.get::<SubscriptionRow>(self.subscription.as_bytes());
        if let Some(account) = row.as_ref().and_then(subject) {
            step_up::reads(keys, account);
        }
        if let Some(row) = row.filter(|row| row.locker) {
            keys.group::<PolicyRow>("subject", row.owner);
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<SubscriptionRow, Refusal> {
        let row = view.get::<SubscriptionRow>(self.subscription.as_bytes());
        let mut row = match self.verb {
            Verb::Revoke => policy::may_end_subscription(&self.caller, row)?,
            _ => policy::may_decide_subscription(&self.caller, row)?,
        };
        if self.verb != Verb::Approve {
            within(&self.caller, &row, row.given.as_ref().unwrap_or(&row.asked))?;
        }
        if self.verb == Verb::Resume {
            representative::lasts(&self.caller, row.given.as_ref().unwrap_or(&row.asked).to)?;
        }
        let shown = self.shown(view, &row)?;
        rows::check_etag(&self.etag, row.version)?;
        if expire(view, &mut row)? {
            return Err(over(&row).recorded());
        }
        let to = row.state().after(self.verb).ok_or_else(|| over(&row))?;
        if matches!(self.verb, Verb::Approve | Verb::Update) {
            self.give(view, &mut row)?;
        }
        if matches!(self.verb, Verb::Approve | Verb::Deny) {
            row.decided = view.now().0;
        }
        if matches!(self.verb, Verb::Approve | Verb::Deny | Verb::Update) {
            row.decided_by = representative::kind(&self.caller);
            row.decided_under = representative::representation(&self.caller);
        }
        if row.locker && self.verb != Verb::Update {
            switch_policy(view, &self.caller, &mut row, self.verb, "")?;
        }
        row.settle(to, view.now());
        view.put(&row);
        let told = draft(event(self.verb), Action::Update, &self.caller, &row)?.emit(view);
        // Whoever did it knows.
        let other = if self.caller.account().is_some() {
            Recipients::new().participant(&row.holder)
        } else {
            Recipients::new().person(subject(&row))
        };
        let name = self.subscription.name();
        notify(view, told, Kind::SubscriptionChanged, &name, &other, subject(&row));
        if let Some(shown) = shown {
            shown.spend(view);
        }
        Ok(row)
    }

    fn outcome(&self, answer: &SubscriptionRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl Decide {
    /// Her PIN, if she has set that what gives needs it: a subscription that she grants, one that is to tell more than she gave,
    /// and a locker's that she resumes, which is granted beforehand again what it asks for.
    fn shown(&self, view: &View<'_>, row: &SubscriptionRow) -> Result<Option<Shown>, Refusal> {
        let gives = match self.verb {
            Verb::Approve => true,
            Verb::Resume => row.locker,
            Verb::Update => self.widens(row),
            _ => return Ok(None),
        };
        let account = subject(row).ok_or_else(|| rows::broken("a subscription's subject"))?;
        let action = gives.then_some(step_up::APPROVE);
        step_up::check(view, &self.caller, account, action, self.token.as_ref()).map(Some)
    }

    /// Whether it gives more than she does now.
    fn widens(&self, row: &SubscriptionRow) -> bool {
        let given = self.given.as_ref().unwrap_or(&row.asked);
        row.given.as_ref().is_none_or(|now| wider(now, given).is_some())
    }

    fn give(&self, view: &View<'_>, row: &mut SubscriptionRow) -> Result<(), Refusal> {
        let mut given = self.given.clone().unwrap_or_else(|| row.asked.clone());
        within(&self.caller, row, &given)?;
        // What is given for her ends with the mandate; what she gave, and is made less, ends when she said.
        if self.widens(row) {
            given.to = representative::ends(&self.caller, given.to);
        }
        if let Some(field) = wider(&row.asked, &given) {
            return Err(Refusal::new(Reason::GrantWider)
                .saying("more than was asked for; narrow the field that is named")
                .with(Fact::Field, field));
        }
        if given.to <= view.now().0 {
            return Err(Refusal::field("sources.period", "must reach into the future"));
        }
        row.given = Some(given);
        Ok(())
    }
}

/// Refuses a representative what reaches beyond his limits.
fn within(caller: &Caller, row: &SubscriptionRow, sources: &SourcesRow) -> Result<(), Refusal> {
    let purpose = PurposeCode::from_number(row.purpose);
    representative::within_standing(caller, purpose.as_slice(), &row.holder, &sources.hips)
}

/// A locker that is told nothing is granted nothing either: the policy that came with it goes the same way, because of the
/// event `cause` if there is one. Needs the group of all of hers.
///
/// # Errors
/// STEP_UP_REQUIRED, POWER_MISSING, OPEN_LIMIT; INTERNAL when a row is damaged.
pub(crate) fn switch_policy(
    view: &mut View<'_>,
    caller: &Caller,
    row: &mut SubscriptionRow,
    verb: Verb,
    cause: &str,
) -> Result<(), Refusal> {
    let Some(mut policy) = policy_of(view, row) else {
        return Ok(());
    };
    // What she disabled by itself stays so, and what she enabled again while this was paused is hers too.
    let paused = std::mem::take(&mut row.policy_paused);
    let way = match (verb, policy.state()) {
        (Verb::Pause | Verb::Revoke, standing::State::Enabled) => standing::Verb::Disable,
        (Verb::Resume, standing::State::Disabled) if paused => standing::Verb::Enable,
        _ => return Ok(()),
    };
    if way == standing::Verb::Enable {
        policy::recently_proved(caller, view.now())?;
    }
    row.policy_paused = verb == Verb::Pause;
    switch(view, caller, &mut policy, way, cause)
}

/// The policy that came with a locker: where its id is not kept, the one that was made in the same commit.
pub(crate) fn policy_of(view: &View<'_>, row: &SubscriptionRow) -> Option<PolicyRow> {
    let came = |policy: &PolicyRow| {
        let same = policy.effect() == Effect::Approve && policy.hiu == row.holder && policy.created == row.created;
        if row.policy.is_empty() {
            same
        } else {
            policy.id == row.policy
        }
    };
    view.group::<PolicyRow>("subject", &row.owner).into_iter().find(came)
}

const fn event(verb: Verb) -> &'static str {
    match verb {
        Verb::Approve => "subscription.granted",
        Verb::Deny => "subscription.denied",
        Verb::Update => "subscription.modified",
        Verb::Pause => "subscription.paused",
        Verb::Resume => "subscription.resumed",
        Verb::Revoke => "subscription.withdrawn",
        Verb::Expire => "subscription.expired",
    }
}

/// Its state allows it no more; the same to whoever comes before its expiry is written and after.
fn over(row: &SubscriptionRow) -> Refusal {
    let refusal = if row.state() == State::Expired && row.given.is_none() {
        Refusal::new(Reason::RequestExpired).saying("the two hours to decide are over; the asker must ask again")
    } else {
        Refusal::new(Reason::StateConflict).saying("its state does not allow this; read it again")
    };
    refusal.with(Fact::State, row.state().as_str())
}
