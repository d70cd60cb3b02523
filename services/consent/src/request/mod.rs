//! What is a consent request? Its states and their edges, and what happens at each.

pub mod approve;
pub mod ask;
mod by_policy;
pub mod cancel;
pub mod create;
pub mod deny;
mod given;
pub mod renew;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Fact, Micros, Reason, Refusal};
use sammati_server::event::{Draft, system};
use sammati_store::View;

use crate::notification::{Recipients, notify};
use crate::rows::{self, RequestRow};

/// The states, as the contract names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// She has not decided and the window is open.
    Requested,
    /// She granted all or a part.
    Granted,
    /// She denied it.
    Denied,
    /// The window closed first.
    Expired,
    /// Void.
    Cancelled,
}

/// What may be done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// She grants.
    Approve,
    /// She denies.
    Deny,
    /// The asker withdraws, or one of the two is gone.
    Cancel,
    /// The window ends.
    Expire,
}

impl State {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 5] = [
        Self::Requested,
        Self::Granted,
        Self::Denied,
        Self::Expired,
        Self::Cancelled,
    ];

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; an unknown number is void.
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Requested,
            2 => Self::Granted,
            3 => Self::Denied,
            4 => Self::Expired,
            _ => Self::Cancelled,
        }
    }

    /// As refusals name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Granted => "GRANTED",
            Self::Denied => "DENIED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Where `verb` leads from here, if anywhere.
    pub const fn after(self, verb: Verb) -> Option<Self> {
        match (self, verb) {
            (Self::Requested, Verb::Approve) => Some(Self::Granted),
            (Self::Requested, Verb::Deny) => Some(Self::Denied),
            (Self::Requested, Verb::Cancel) => Some(Self::Cancelled),
            (Self::Requested, Verb::Expire) => Some(Self::Expired),
            _ => None,
        }
    }
}

/// Moves a request along an edge, after expiring it if its window is over: then the refusal keeps that expiry.
///
/// # Errors
/// REQUEST_EXPIRED or STATE_CONFLICT.
pub fn advance(view: &mut View<'_>, row: &mut RequestRow, verb: Verb) -> Result<(), Refusal> {
    if row.state() == State::Requested && view.now().0 >= row.expire {
        expire(view, row)?;
        return Err(window_closed().recorded());
    }
    if row.state() == State::Expired && verb != Verb::Expire {
        return Err(window_closed());
    }
    let Some(to) = row.state().after(verb) else {
        return Err(conflict(row.state()));
    };
    row.settle(to, view.now());
    Ok(())
}

fn window_closed() -> Refusal {
    Refusal::new(Reason::RequestExpired)
        .saying("the time to decide is over; the asker must ask again")
        .with(Fact::State, State::Expired.as_str())
}

fn conflict(state: State) -> Refusal {
    Refusal::new(Reason::StateConflict)
        .saying("the request was decided before; read it to see how")
        .with(Fact::State, state.as_str())
}

/// Writes the expiry of a request whose window is over. Does nothing to any other.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn expire(view: &mut View<'_>, row: &mut RequestRow) -> Result<(), Refusal> {
    if row.state() != State::Requested || view.now().0 < row.expire {
        return Ok(());
    }
    let due = Micros(row.expire);
    row.settle(State::Expired, view.now());
    row.decided = due.0;
    view.put(row);
    let told = draft("consent.request_expired", Action::Update, &system("consent"), row)?
        .occurred(due)
        .emit(view);
    let recipients = asker(row).person(subject(row));
    notify(
        view,
        told,
        Kind::ConsentRequestExpired,
        &row.id()?.name(),
        &recipients,
        rows::account(&row.owner).filter(|_| row.known),
    );
    Ok(())
}

/// Who hears what became of a request beside her: a study hears of nobody who did not consent.
pub fn asker(row: &RequestRow) -> Recipients {
    match row.study.as_slice() {
        [] => Recipients::new().participant(&row.hiu),
        _ => Recipients::new(),
    }
}

/// Her account, if the address was somebody's.
pub fn subject(row: &RequestRow) -> Option<sammati_kernel::AccountId> {
    rows::account(&row.owner).filter(|_| row.known)
}

/// An event about a request.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn draft(kind: &str, action: Action, caller: &Caller, row: &RequestRow) -> Result<Draft, Refusal> {
    let mut draft = Draft::new(kind, action, RetentionClass::Consent, caller).resource(&row.id()?.name(), row.version);
    // A sponsor is no party to what names her: its study stands there.
    draft = match row.study.as_slice() {
        [] => draft.participant(&rows::participant(&row.hiu)?),
        study => draft.object(rows::study_id(study)?.name()),
    };
    if let Some(account) = subject(row) {
        draft = draft.subject(account);
    }
    draft.payload().purpose = row.scope.purpose().map_or(0, sammati_kernel::PurposeCode::number);
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_open_request_moves_and_every_other_pair_is_refused() {
        let verbs = [Verb::Approve, Verb::Deny, Verb::Cancel, Verb::Expire];
        for from in State::ALL {
            for verb in verbs {
                let expected = match (from, verb) {
                    (State::Requested, Verb::Approve) => Some(State::Granted),
                    (State::Requested, Verb::Deny) => Some(State::Denied),
                    (State::Requested, Verb::Cancel) => Some(State::Cancelled),
                    (State::Requested, Verb::Expire) => Some(State::Expired),
                    (State::Granted | State::Denied | State::Expired | State::Cancelled, _) => None,
                };
                assert_eq!(from.after(verb), expected, "{from:?} {verb:?}");
            }
            assert_eq!(State::from_number(from.number()), from);
        }
    }
}
