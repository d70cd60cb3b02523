//! What does a person ask about her rights? Complaints, and requests for access, correction and erasure: their states, and
//! what time does when nobody answers (DPDP s.11 to 13, Rule 14).

pub mod act;
pub mod create;

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Fact, Micros, ParticipantId, Reason, Refusal};
use sammati_server::event::{Draft, Emitted, system};
use sammati_store::View;

use crate::notification::{Recipients, notify};
use crate::rows::RightsRow;

/// By when it must be answered (Rule 14).
pub const DUE: Duration = Duration::from_secs(90 * 24 * 3600);

/// The number of `Kind.ERASURE` in the contract.
const ERASURE: i32 = sammati_api::consent::v1::rights_request::Kind::Erasure as i32;

/// Those of one person that are not settled.
pub const MAX_OPEN: usize = 50;

/// The states, as the contract names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits for an answer.
    Open,
    /// It was answered; she says whether that will do.
    Answered,
    /// She is satisfied, or her account is deleted.
    Closed,
    /// It goes to the Board: she says so, or nobody answered in time.
    Escalated,
}

/// What may be done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Who was asked answers.
    Answer,
    /// She is satisfied.
    Close,
    /// She takes it to the Board.
    Escalate,
    /// The time to answer is over.
    Lapse,
    /// Her account is deleted: nobody is left to be answered.
    End,
}

impl State {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 4] = [Self::Open, Self::Answered, Self::Closed, Self::Escalated];

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; of an unknown number nothing follows.
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Open,
            2 => Self::Answered,
            4 => Self::Escalated,
            _ => Self::Closed,
        }
    }

    /// As refusals name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Answered => "ANSWERED",
            Self::Closed => "CLOSED",
            Self::Escalated => "ESCALATED",
        }
    }

    /// Where `verb` leads from here, if anywhere.
    pub const fn after(self, verb: Verb) -> Option<Self> {
        match (self, verb) {
            (Self::Open, Verb::Answer) => Some(Self::Answered),
            (Self::Answered, Verb::Close) | (Self::Open | Self::Answered, Verb::End) => Some(Self::Closed),
            (Self::Answered, Verb::Escalate) | (Self::Open, Verb::Lapse) => Some(Self::Escalated),
            _ => None,
        }
    }
}

/// Escalates one that nobody answered in time, and tells whether it did.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn expire(view: &mut View<'_>, row: &mut RightsRow) -> Result<bool, Refusal> {
    let overdue = view.now().0 >= row.due;
    let (true, Some(to)) = (overdue, row.state().after(Verb::Lapse)) else {
        return Ok(false);
    };
    row.closed = row.due;
    row.settle(to, view.now());
    view.put(row);
    let told = draft("rights.escalated", Action::Update, &system("consent"), row)?
        .occurred(Micros(row.due))
        .emit(view);
    let all = against(row).person(Some(row.subject()?)).operators();
    tell(view, told, row, &all)?;
    Ok(true)
}

/// Closes one whose person's account is deleted, on that `ground`. Who was to answer is told.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub(crate) fn end_of_account(view: &mut View<'_>, row: &mut RightsRow, ground: &str) -> Result<(), Refusal> {
    if row.state() == State::Open && expire(view, row)? {
        return Ok(());
    }
    let Some(to) = row.state().after(Verb::End) else {
        return Ok(());
    };
    row.closed = view.now().0;
    row.settle(to, view.now());
    view.put(row);
    let mut draft = draft("rights.closed", Action::Update, &system("consent"), row)?;
    ground.clone_into(&mut draft.payload().legal_basis);
    let told = draft.emit(view);
    tell(view, told, row, &against(row))
}

/// Whom it is against: a participant, or, where it is us, the operators.
fn against(row: &RightsRow) -> Recipients {
    match row.against.strip_prefix("participants/") {
        Some(id) => Recipients::new().participant(id),
        None => Recipients::new().operators(),
    }
}

fn tell(view: &mut View<'_>, told: Emitted, row: &RightsRow, who: &Recipients) -> Result<(), Refusal> {
    let name = row.id()?.name();
    notify(view, told, Kind::RightsChanged, &name, who, Some(row.subject()?));
    Ok(())
}

/// An event about one: it changes nothing that a decision reads.
fn draft(kind: &str, action: Action, caller: &Caller, row: &RightsRow) -> Result<Draft, Refusal> {
    let mut draft = Draft::new(kind, action, RetentionClass::Consent, caller).resource(&row.id()?.name(), row.version);
    if let Ok(id) = ParticipantId::parse_name(&row.against) {
        draft = draft.participant(&id);
    }
    for about in &row.about {
        draft = draft.object(about.clone());
    }
    draft.payload().subject = row.subject()?.name();
    Ok(draft)
}

fn conflict(state: State) -> Refusal {
    let why = match state {
        State::Open => "it is not answered yet; wait for the answer, or until it is due",
        State::Answered => "it is answered; the person says whether that will do",
        State::Closed => "it is closed; open another one",
        State::Escalated => "it has gone to the Board; nothing more is done with it here",
    };
    Refusal::new(Reason::StateConflict)
        .saying(why)
        .with(Fact::State, state.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_verb_goes_where_the_graph_says() {
        use State::*;
        use Verb::*;
        let edges = [
            (Open, Answer, Answered),
            (Open, Lapse, Escalated),
            (Answered, Close, Closed),
            (Open, End, Closed),
            (Answered, End, Closed),
            (Answered, Escalate, Escalated),
        ];
        for from in State::ALL {
            for verb in [Answer, Close, Escalate, Lapse, End] {
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
