//! Issuing a link token: counted, whatever comes of it.

use std::time::Duration;

use sammati_api::audit::v1::event::{Action, Outcome};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, LinkId, Micros, ParticipantId, Reason, Refusal, Slot};
use sammati_server::event::Draft;
use sammati_store::{Command, Keys, View};

use super::token::Parts;
use crate::rows::LinkTryRow;

/// Tries of one provider for one person in a day, however she is named.
pub const MAX_TRIES: i32 = 3;

/// A day, and how long one try too many blocks.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// What identity says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// It was not asked: the provider is blocked for this identifier.
    NotAsked,
    /// There is nobody, or something does not fit.
    Nobody,
    /// Everything fits this person.
    Person(AccountId),
}

/// IssueLinkToken.
pub struct IssueToken {
    /// Who asks.
    pub caller: Caller,
    /// The provider.
    pub hip: ParticipantId,
    /// The keyed hash of provider and person.
    pub attempt: [u8; 32],
    /// Whether it is she.
    pub matched: Matched,
}

impl Command for IssueToken {
    type Answer = Parts;

    const NAME: &'static str = "link.issue_token";

    fn slot(&self) -> Slot {
        Slot::of_hash(&self.attempt)
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LinkTryRow>(self.attempt.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Parts, Refusal> {
        let now = view.now();
        let mut tries = view.get::<LinkTryRow>(&self.attempt).unwrap_or_default();
        if is_blocked(&tries, now) || self.matched == Matched::NotAsked {
            self.refuse(view, Reason::LinkTokenLimit);
            return Err(blocked(Micros(tries.blocked).since(now)).recorded());
        }
        count(&mut tries, now);
        tries.key = self.attempt.to_vec();
        view.put(&tries);
        if is_blocked(&tries, now) {
            self.refuse(view, Reason::LinkTokenLimit);
            return Err(blocked(DAY).recorded());
        }
        let Matched::Person(account) = self.matched else {
            self.refuse(view, Reason::NoMatch);
            return Err(no_match().recorded());
        };
        let id: LinkId = view.id("link token");
        let mut draft = Draft::new(
            "link.token_issued",
            Action::Create,
            RetentionClass::General,
            &self.caller,
        );
        draft.payload().subject = account.name();
        draft.participant(&self.hip).emit(view);
        Ok(Parts {
            account,
            issued: now,
            id: *id.as_bytes(),
        })
    }

    fn outcome(&self, answer: &Parts) -> Vec<u8> {
        answer.encode()
    }
}

impl IssueToken {
    fn refuse(&self, view: &mut View<'_>, reason: Reason) {
        let draft = Draft::new(
            "link.token_refused",
            Action::Create,
            RetentionClass::General,
            &self.caller,
        );
        draft
            .participant(&self.hip)
            .refused_for(Outcome::Serious, reason)
            .emit(view);
    }
}

/// Whether tries are refused now, without asking who it is.
pub const fn is_blocked(tries: &LinkTryRow, now: Micros) -> bool {
    tries.blocked > now.0
}

/// Counts one try: a day begins with the first one, and the fourth in it blocks for another.
fn count(tries: &mut LinkTryRow, now: Micros) {
    if now.since(Micros(tries.since)) >= DAY || tries.blocked != 0 {
        *tries = LinkTryRow {
            since: now.0,
            ..LinkTryRow::default()
        };
    }
    tries.count += 1;
    if tries.count > MAX_TRIES {
        tries.blocked = now.plus(DAY).0;
    }
}

fn blocked(left: Duration) -> Refusal {
    Refusal::new(Reason::LinkTokenLimit)
        .saying("more than 3 link tokens were asked for this patient in a day; try again when the block ends")
        .retry_after(left)
}

/// The same for every cause, so that nobody learns who exists.
fn no_match() -> Refusal {
    Refusal::new(Reason::NoMatch).saying(
        "no account matches all of what was sent; compare name, gender and year of birth with her card and try again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourth_try_of_a_day_blocks_for_a_day() {
        let (mut tries, start) = (LinkTryRow::default(), Micros::from_seconds(10_000_000));
        for _ in 0..3 {
            count(&mut tries, start);
            assert_eq!(tries.blocked, 0);
        }
        count(&mut tries, start);
        assert_eq!(tries.blocked, start.plus(DAY).0);
        count(&mut tries, start.plus(DAY));
        assert_eq!((tries.count, tries.blocked), (1, 0));
    }
}
