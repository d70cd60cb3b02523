//! What she, or its holder, does with a subscription.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Caller, Fact, Reason, Refusal, Slot, SubscriptionId};
use sammati_store::{Command, Keys, View};

use super::{State, Verb, draft, expire, subject, wider};
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::rows::{self, SourcesRow, SubscriptionRow};

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

    fn decide(&self, view: &mut View<'_>) -> Result<SubscriptionRow, Refusal> {
        let row = view.get::<SubscriptionRow>(self.subscription.as_bytes());
        let mut row = match self.verb {
            Verb::Revoke => policy::may_end_subscription(&self.caller, row)?,
            _ => policy::may_decide_subscription(&self.caller, row)?,
        };
        rows::check_etag(&self.etag, row.version)?;
        let was_open = row.state() == State::Requested;
        if expire(view, &mut row)? {
            return Err(over(was_open, State::Expired).recorded());
        }
        let to = row.state().after(self.verb).ok_or_else(|| over(false, row.state()))?;
        if matches!(self.verb, Verb::Approve | Verb::Update) {
            self.give(view, &mut row)?;
        }
        if matches!(self.verb, Verb::Approve | Verb::Deny) {
            row.decided = view.now().0;
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
        Ok(row)
    }

    fn outcome(&self, answer: &SubscriptionRow) -> Vec<u8> {
        answer.id.clone()
    }
}

impl Decide {
    fn give(&self, view: &View<'_>, row: &mut SubscriptionRow) -> Result<(), Refusal> {
        let given = self.given.clone().unwrap_or_else(|| row.asked.clone());
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

fn over(was_open: bool, state: State) -> Refusal {
    let refusal = if was_open {
        Refusal::new(Reason::RequestExpired).saying("the two hours to decide are over; the asker must ask again")
    } else {
        Refusal::new(Reason::StateConflict).saying("its state does not allow this; read it again")
    };
    refusal.with(Fact::State, state.as_str())
}
