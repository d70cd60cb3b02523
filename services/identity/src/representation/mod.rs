//! Who may act for whom? Its states and their edges, and who is of age.

mod age;
mod moves;
mod open;
mod propose;

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Fact, Reason, Refusal};
use sammati_server::event::Draft;

pub(crate) use age::majority;
pub(crate) use moves::{Lost, Move, Verb, end_of_account, expire, party};
pub(crate) use open::{OpenRepresented, in_force, of_representative};
pub(crate) use propose::Propose;

use crate::rows::RepresentationRow;

/// How long a proposal can be accepted.
pub(crate) const ACCEPT_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long the principal can object before a nominee acts.
pub(crate) const OBJECT_WITHIN: Duration = Duration::from_secs(72 * 3600);

/// The longest time that a delegate gets.
pub(crate) const DELEGATE_AT_MOST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many of one person may be open.
pub(crate) const OPEN: usize = 10;

/// The states, as the contract names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not accepted yet.
    Proposed,
    /// A nominee who waits.
    Standby,
    /// In force.
    Active,
    /// Over.
    Ended,
}

impl State {
    /// All of them, in the order of their numbers in the contract, from 1.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 4] = [Self::Proposed, Self::Standby, Self::Active, Self::Ended];

    /// Its number in the contract.
    pub(crate) const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; an unknown number gives no power.
    pub(crate) const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Proposed,
            2 => Self::Standby,
            3 => Self::Active,
            _ => Self::Ended,
        }
    }

    /// As refusals name it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "PROPOSED",
            Self::Standby => "STANDBY",
            Self::Active => "ACTIVE",
            Self::Ended => "ENDED",
        }
    }

    /// Where `verb` leads from here, if anywhere; of a nominee if `waits`.
    pub(crate) const fn after(self, verb: Verb, waits: bool) -> Option<Self> {
        match (self, verb) {
            (Self::Proposed, Verb::Accept) => Some(if waits { Self::Standby } else { Self::Active }),
            (Self::Standby, Verb::Activate) => Some(Self::Active),
            (Self::Proposed | Self::Standby | Self::Active, Verb::End | Verb::Expire) => Some(Self::Ended),
            _ => None,
        }
    }
}

fn conflict(state: State) -> Refusal {
    Refusal::new(Reason::StateConflict)
        .saying(format!("the representation is {}", state.as_str()))
        .with(Fact::State, state.as_str())
}

/// An event about a representation: in the principal's records, naming who acts once that is settled.
fn told(event_type: &str, action: Action, row: &RepresentationRow, caller: &Caller) -> Draft {
    let mut draft = Draft::new(event_type, action, RetentionClass::Admin, caller).resource(&row.name(), row.version);
    if let Some(principal) = row.principal() {
        draft = draft.subject(principal);
    }
    match row.representative().filter(|_| row.accept_time != 0) {
        Some(representative) => draft.object(representative.name()),
        None => draft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_verb_goes_where_the_graph_says() {
        use State::{Active, Ended, Proposed, Standby};
        let edges = [
            (Proposed, Verb::Accept, false, Active),
            (Proposed, Verb::Accept, true, Standby),
            (Standby, Verb::Activate, true, Active),
            (Standby, Verb::Activate, false, Active),
        ];
        for from in State::ALL {
            assert_eq!(State::from_number(from.number()), from);
            for verb in Verb::ALL {
                for waits in [false, true] {
                    let edge = edges.iter().find(|e| (e.0, e.1, e.2) == (from, verb, waits));
                    let ends = matches!(verb, Verb::End | Verb::Expire) && from != Ended;
                    let expected = edge.map(|e| e.3).or(ends.then_some(Ended));
                    assert_eq!(from.after(verb, waits), expected, "{from:?} {verb:?} {waits}");
                }
            }
        }
    }
}
