//! What is a discovery? A person's search for her records at one HIP: its states, whose turn it is, and how it ends.

pub mod answer;
pub mod choose;
pub mod sealed;
pub mod start;

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, DiscoveryId, Fact, Micros, Reason, Refusal};
use sammati_server::event::{Draft, Emitted, system};
use sammati_store::View;

use crate::notification::{Recipients, notify};
use crate::rows::{self, DiscoveryRow, broken};

/// How long the HIP may take for each answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long one may take in all.
pub const LIFE: Duration = Duration::from_secs(600);

/// Discoveries of one person at one HIP in a day.
pub const A_DAY: i32 = 10;

/// The states, as the contract names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The HIP has been asked.
    Pending,
    /// It found something; she chooses.
    Matched,
    /// It found nothing.
    Unmatched,
    /// She chose; the HIP has been told.
    Selected,
    /// The HIP challenged her.
    Challenged,
    /// She answered; the HIP has been told.
    Confirmed,
    /// Linked.
    Linked,
    /// The HIP gave up.
    Failed,
    /// Its time ran out.
    Expired,
}

/// What may be done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The HIP tells what it found.
    Find,
    /// The HIP found nothing.
    FindNothing,
    /// She chooses.
    Select,
    /// The HIP sends a challenge.
    Challenge,
    /// She answers it.
    Confirm,
    /// The HIP links.
    Link,
    /// The HIP gives up.
    Fail,
    /// Its time ends.
    Expire,
}

impl State {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Matched,
        Self::Unmatched,
        Self::Selected,
        Self::Challenged,
        Self::Confirmed,
        Self::Linked,
        Self::Failed,
        Self::Expired,
    ];

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; an unknown number is over.
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Pending,
            2 => Self::Matched,
            3 => Self::Unmatched,
            4 => Self::Selected,
            5 => Self::Challenged,
            6 => Self::Confirmed,
            7 => Self::Linked,
            9 => Self::Expired,
            _ => Self::Failed,
        }
    }

    /// As refusals name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Matched => "MATCHED",
            Self::Unmatched => "UNMATCHED",
            Self::Selected => "SELECTED",
            Self::Challenged => "CHALLENGED",
            Self::Confirmed => "CONFIRMED",
            Self::Linked => "LINKED",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Whether it is the HIP's turn.
    pub const fn waits_for_hip(self) -> bool {
        matches!(self, Self::Pending | Self::Selected | Self::Confirmed)
    }

    /// Whether its time can still run out.
    pub const fn is_open(self) -> bool {
        self.waits_for_hip() || matches!(self, Self::Matched | Self::Challenged)
    }

    /// Where `verb` leads from here, if anywhere.
    pub const fn after(self, verb: Verb) -> Option<Self> {
        match (self, verb) {
            (Self::Pending, Verb::Find) => Some(Self::Matched),
            (Self::Pending, Verb::FindNothing) => Some(Self::Unmatched),
            (Self::Matched, Verb::Select) => Some(Self::Selected),
            (Self::Selected | Self::Confirmed, Verb::Challenge) => Some(Self::Challenged),
            (Self::Challenged, Verb::Confirm) => Some(Self::Confirmed),
            (Self::Selected | Self::Confirmed, Verb::Link) => Some(Self::Linked),
            (Self::Pending | Self::Selected | Self::Confirmed, Verb::Fail) => Some(Self::Failed),
            (from, Verb::Expire) if from.is_open() => Some(Self::Expired),
            _ => None,
        }
    }
}

/// Where `verb` leads, after writing the expiry of one whose time is over: then the refusal keeps that.
///
/// # Errors
/// STATE_CONFLICT; CHALLENGE_EXPIRED for an answer that comes too late.
pub fn next(view: &mut View<'_>, row: &mut DiscoveryRow, verb: Verb) -> Result<State, Refusal> {
    let wrote = expire(view, row)?;
    if let Some(to) = row.state().after(verb) {
        return Ok(to);
    }
    // The same to whoever comes before its expiry is written and after.
    let late = verb == Verb::Confirm && row.expired_in == State::Challenged.number();
    let refusal = if late {
        challenge_expired()
    } else {
        conflict(row.state())
    };
    Err(if wrote { refusal.recorded() } else { refusal })
}

fn challenge_expired() -> Refusal {
    Refusal::new(Reason::ChallengeExpired).saying("the time to answer is over; look again")
}

fn conflict(state: State) -> Refusal {
    Refusal::new(Reason::StateConflict)
        .saying("it is not your turn, or the discovery is over; read it again, and begin another if need be")
        .with(Fact::State, state.as_str())
}

/// Writes the expiry of one whose time is over, and tells whether it did.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn expire(view: &mut View<'_>, row: &mut DiscoveryRow) -> Result<bool, Refusal> {
    let Some(to) = row.state().after(Verb::Expire).filter(|_| view.now().0 >= row.expire) else {
        return Ok(false);
    };
    let due = Micros(row.expire);
    row.expired_in = row.state;
    row.settle(to, view.now());
    view.put(row);
    let mut draft = draft("link.discovery_answered", &system("consent"), row)?.occurred(due);
    to.as_str().clone_into(&mut draft.event.reason_code);
    let told = draft.emit(view);
    tell(view, told, row, To::Both)?;
    Ok(true)
}

/// Ends one whose person's account is deleted, on that `ground`.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub(crate) fn end_of_account(view: &mut View<'_>, row: &mut DiscoveryRow, ground: &str) -> Result<(), Refusal> {
    if expire(view, row)? {
        return Ok(());
    }
    let Some(to) = row.state().after(Verb::Expire) else {
        return Ok(());
    };
    row.settle(to, view.now());
    view.put(row);
    let mut draft = draft("link.discovery_answered", &system("consent"), row)?;
    to.as_str().clone_into(&mut draft.event.reason_code);
    ground.clone_into(&mut draft.payload().legal_basis);
    let told = draft.emit(view);
    tell(view, told, row, To::Hip)
}

/// Who hears of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Hip,
    Her,
    Both,
}

pub(crate) fn tell(view: &mut View<'_>, told: Emitted, row: &DiscoveryRow, to: To) -> Result<(), Refusal> {
    let account = subject(row)?;
    let mut recipients = Recipients::new();
    if to != To::Her {
        recipients = recipients.participant(&row.hip);
    }
    if to != To::Hip {
        recipients = recipients.person(Some(account));
    }
    let name = row.id()?.name();
    notify(view, told, Kind::DiscoveryChanged, &name, &recipients, Some(account));
    Ok(())
}

/// Whose it is.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn subject(row: &DiscoveryRow) -> Result<AccountId, Refusal> {
    rows::account(&row.subject).ok_or_else(|| broken("a discovery's subject"))
}

/// An event about one: it changes nothing that a decision reads.
fn draft(kind: &str, caller: &Caller, row: &DiscoveryRow) -> Result<Draft, Refusal> {
    let id: DiscoveryId = row.id()?;
    let mut draft = Draft::new(kind, Action::Update, RetentionClass::General, caller)
        .resource(&id.name(), row.version)
        .participant(&rows::participant(&row.hip)?);
    draft.payload().subject = subject(row)?.name();
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_verb_goes_where_the_graph_says() {
        use State::*;
        use Verb::*;
        let edges = [
            (Pending, Find, Matched),
            (Pending, FindNothing, Unmatched),
            (Pending, Fail, Failed),
            (Pending, Expire, Expired),
            (Matched, Select, Selected),
            (Matched, Expire, Expired),
            (Selected, Challenge, Challenged),
            (Selected, Link, Linked),
            (Selected, Fail, Failed),
            (Selected, Expire, Expired),
            (Challenged, Confirm, Confirmed),
            (Challenged, Expire, Expired),
            (Confirmed, Challenge, Challenged),
            (Confirmed, Link, Linked),
            (Confirmed, Fail, Failed),
            (Confirmed, Expire, Expired),
        ];
        for from in State::ALL {
            for verb in [Find, FindNothing, Select, Challenge, Confirm, Link, Fail, Expire] {
                let expected = edges
                    .iter()
                    .find(|(f, v, _)| *f == from && *v == verb)
                    .map(|(_, _, to)| *to);
                assert_eq!(from.after(verb), expected, "{from:?} {verb:?}");
            }
            assert_eq!(State::from_number(from.number()), from);
        }
    }
}
