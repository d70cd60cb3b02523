//! What is a study? Its states and their edges, and how the clock moves one.

pub mod authorize;
pub mod cohort;
pub mod count;
pub mod create;
pub mod identify;
pub mod invite;
pub mod known;
pub mod manifest;
pub mod moves;
pub mod pseudonym;
pub mod settle;
pub mod tell;

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Id, IdKind, Micros, Refusal};
use sammati_server::event::{Draft, system};
use sammati_store::View;

use crate::notification::{Recipients, notify};
use crate::rows::{self, StudyRow};

/// The smallest group that is counted, if no larger one is asked for.
pub const MIN_CELL: i32 = 10;

/// How long a node waits before it asks somebody again for the same study.
pub const ASK_AGAIN: Duration = Duration::from_secs(180 * 24 * 3600);

/// How long after its end a study is looked through once more: by then no call that knew it as ACTIVE is in work.
pub const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// How long the key of the pseudonyms is kept after the end: as long as the records of its consents at least.
pub const KEY_KEPT: Duration = Duration::from_secs(7 * 365 * 24 * 3600);

/// The states, as the contract names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Described.
    Draft,
    /// Nodes ask, nodes check.
    Active,
    /// Over.
    Closed,
}

/// What may be done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// An operator looked at its evidence.
    Activate,
    /// Its sponsor or an operator ends it.
    Close,
    /// Its ethics approval ends.
    Expire,
}

impl State {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 3] = [Self::Draft, Self::Active, Self::Closed];

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; under an unknown number nothing is permitted.
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Draft,
            2 => Self::Active,
            _ => Self::Closed,
        }
    }

    /// As refusals name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::Active => "ACTIVE",
            Self::Closed => "CLOSED",
        }
    }

    /// Where `verb` leads from here, if anywhere.
    pub const fn after(self, verb: Verb) -> Option<Self> {
        match (self, verb) {
            (Self::Draft, Verb::Activate) => Some(Self::Active),
            (Self::Active, Verb::Close | Verb::Expire) => Some(Self::Closed),
            _ => None,
        }
    }
}

/// Marks the id of a run, which its node chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run;

impl IdKind for Run {
    const COLLECTION: &'static str = "runs";
}

/// The id of a run.
pub type RunId = Id<Run>;

/// Closes a study, as of `at`, because of the event `cause` if there is one, and tells of it. The edge must exist.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn close(view: &mut View<'_>, row: &mut StudyRow, caller: &Caller, at: Micros, cause: &str) -> Result<(), Refusal> {
    row.state = State::Closed.number();
    row.closed = at.0;
    row.touch(view.now());
    view.put(row);
    let closed = draft("study.closed", Action::Update, caller, row)?;
    announce(view, row, closed.occurred(at).because_of(cause))
}

/// Writes the end of a study whose ethics approval is over, and tells whether it did.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn expire(view: &mut View<'_>, row: &mut StudyRow) -> Result<bool, Refusal> {
    if row.state().after(Verb::Expire).is_none() || view.now().0 < row.ethics.until {
        return Ok(false);
    }
    let at = Micros(row.ethics.until);
    close(view, row, &system("consent"), at, "")?;
    Ok(true)
}

/// Tells the log, its sponsor and its nodes of a change of the study.
fn announce(view: &mut View<'_>, row: &StudyRow, event: Draft) -> Result<(), Refusal> {
    let told = event.emit(view);
    let mut all = Recipients::new().participant(&row.sponsor);
    for node in &row.nodes {
        all = all.participant(node);
    }
    notify(view, told, Kind::StudyChanged, &row.id()?.name(), &all, None);
    Ok(())
}

/// An event that changes a study. What memory holds of it ends with the commit.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn draft(kind: &str, action: Action, caller: &Caller, row: &StudyRow) -> Result<Draft, Refusal> {
    Ok(about(kind, action, RetentionClass::Consent, caller, row)?.spoils(row.id.clone()))
}

/// An event about a study and nobody in it.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn about(
    kind: &str,
    action: Action,
    class: RetentionClass,
    caller: &Caller,
    row: &StudyRow,
) -> Result<Draft, Refusal> {
    let mut draft = Draft::new(kind, action, class, caller)
        .resource(&row.id()?.name(), row.version)
        .participant(&rows::participant(&row.sponsor)?);
    draft.payload().purpose = sammati_kernel::PurposeCode::Dsrch.number();
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
            (Draft, Activate, Active),
            (Active, Close, Closed),
            (Active, Expire, Closed),
        ];
        for from in State::ALL {
            for verb in [Activate, Close, Expire] {
                let expected = edges
                    .iter()
                    .find(|(f, v, _)| *f == from && *v == verb)
                    .map(|(_, _, to)| *to);
                assert_eq!(from.after(verb), expected, "{from:?} {verb:?}");
            }
            assert_eq!(State::from_number(from.number()), from);
        }
    }

    #[test]
    fn the_clock_closes_settles_and_destroys_in_that_order() {
        let mut row = StudyRow {
            state: State::Active.number(),
            ..StudyRow::default()
        };
        row.ethics.until = 50;
        assert_eq!((row.due(), row.state_at(Micros(49))), (Some(50), State::Active));
        assert_eq!(row.state_at(Micros(50)), State::Closed);
        (row.state, row.closed) = (State::Closed.number(), 50);
        assert_eq!(row.due(), Some(50 + 60_000_000));
        row.settled = 60;
        assert_eq!(row.due(), row.destroy().map(|at| at.0));
        row.destroyed = 70;
        assert_eq!(row.due(), None);
    }
}
