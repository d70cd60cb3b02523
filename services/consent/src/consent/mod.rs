//! What is a consent? Its states and their edges, and how one ends.

pub mod export;
pub mod fetch;
pub mod narrow;
pub mod pause;
pub mod receipt;
pub mod revoke;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Fact, Micros, Reason, Refusal};
use sammati_server::event::{Draft, Emitted, system};
use sammati_store::View;

use crate::notification::{Recipients, notify};
use crate::rows::{self, ConsentRow, TransferRow};
use crate::study;
use crate::transfer;

/// The states, as the contract names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In force.
    Granted,
    /// Suspended by her.
    Paused,
    /// Taken back.
    Revoked,
    /// Its time is over.
    Expired,
    /// A renewal took its place.
    Superseded,
}

/// What may be done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// She suspends it.
    Pause,
    /// She takes it up again.
    Resume,
    /// She narrows it.
    Narrow,
    /// She takes it back.
    Revoke,
    /// A renewal is approved.
    Supersede,
    /// Its time ends.
    Expire,
}

impl State {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 5] = [
        Self::Granted,
        Self::Paused,
        Self::Revoked,
        Self::Expired,
        Self::Superseded,
    ];

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; an unknown number permits nothing.
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Granted,
            2 => Self::Paused,
            4 => Self::Expired,
            5 => Self::Superseded,
            _ => Self::Revoked,
        }
    }

    /// As refusals and artefacts name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "GRANTED",
            Self::Paused => "PAUSED",
            Self::Revoked => "REVOKED",
            Self::Expired => "EXPIRED",
            Self::Superseded => "SUPERSEDED",
        }
    }

    /// Whether it can still end.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Granted | Self::Paused)
    }

    /// Where `verb` leads from here, if anywhere.
    pub const fn after(self, verb: Verb) -> Option<Self> {
        match (self, verb) {
            (Self::Granted, Verb::Pause) => Some(Self::Paused),
            (Self::Paused, Verb::Resume) => Some(Self::Granted),
            (Self::Granted | Self::Paused, Verb::Narrow) => Some(self),
            (Self::Granted | Self::Paused, Verb::Revoke) => Some(Self::Revoked),
            (Self::Granted | Self::Paused, Verb::Supersede) => Some(Self::Superseded),
            (Self::Granted | Self::Paused, Verb::Expire) => Some(Self::Expired),
            _ => None,
        }
    }
}

/// Ends a consent along an edge; the edge must exist. Open transfers under it end too.
pub(crate) struct Ending<'a> {
    pub(crate) state: State,
    pub(crate) event: &'a str,
    pub(crate) kind: Kind,
    pub(crate) caller: &'a Caller,
    /// When it happened: now, or when it was due.
    pub(crate) at: Micros,
    pub(crate) legal_basis: &'a str,
    /// The event that caused it; empty without one.
    pub(crate) cause: &'a str,
}

/// Needs the group of its open transfers. What time has ended by then is expired, as everybody read it.
pub(crate) fn end(view: &mut View<'_>, row: &mut ConsentRow, ending: &Ending<'_>) -> Result<(), Refusal> {
    lapse(view, row)?;
    row.state = ending.state.number();
    row.ended = ending.at.0;
    row.touch(view.now());
    view.put(row);
    let mut draft = draft(ending.event, Action::Update, ending.caller, row)?
        .occurred(ending.at)
        .because_of(ending.cause);
    ending.legal_basis.clone_into(&mut draft.payload().legal_basis);
    let told = draft.emit(view);
    tell_both(view, row, ending.kind, told)?;
    stop(view, row, ending.caller, told)
}

/// Tells the HIP and the HIU of the event `told`; the sponsor of a study by a pseudonym.
pub(crate) fn tell_both(view: &mut View<'_>, row: &ConsentRow, kind: Kind, told: Emitted) -> Result<(), Refusal> {
    let (mut parties, is_study) = (Recipients::new().participant(&row.hip), !row.study.is_empty());
    if !is_study {
        parties = parties.participant(&row.hiu);
    }
    let subject = Some(row.subject()?);
    notify(view, told, kind, &row.id()?.name(), &parties, subject);
    if is_study {
        study::tell::tell(view, row, kind, told)?;
    }
    Ok(())
}

/// Cancels the open transfers under a consent: what they were opened for is allowed no more. Needs the group of these.
fn stop(view: &mut View<'_>, row: &mut ConsentRow, caller: &Caller, cause: Emitted) -> Result<(), Refusal> {
    for mut open in view.group::<TransferRow>("open", &row.id) {
        transfer::cancel(view, &mut open, Some(&mut *row), caller, Some(cause))?;
    }
    Ok(())
}

/// Where `verb` leads a consent, once what time has done to it is written: a refusal keeps that. Needs the group of its
/// open transfers.
///
/// # Errors
/// STATE_CONFLICT.
pub(crate) fn advance(view: &mut View<'_>, row: &mut ConsentRow, verb: Verb) -> Result<State, Refusal> {
    let wrote = catch_up(view, row)?;
    row.state().after(verb).ok_or_else(|| {
        let refused = conflict(row.state());
        if wrote { refused.recorded() } else { refused }
    })
}

fn conflict(state: State) -> Refusal {
    let why = match state {
        State::Granted => "the consent is in force, so there is nothing to resume",
        State::Paused => "the consent is paused already; resume it, or take it back",
        State::Superseded => "a renewal took the consent's place; read it, and name the one in `renewed_by`",
        State::Revoked | State::Expired => "the consent has ended; read it to see how",
    };
    Refusal::new(Reason::StateConflict)
        .saying(why)
        .with(Fact::State, state.as_str())
}

/// Writes what time has done by now to a consent or to the open transfers under it, and tells whether it was anything.
/// Needs the group of these.
///
/// # Errors
/// INTERNAL when a row is damaged.
pub fn catch_up(view: &mut View<'_>, row: &mut ConsentRow) -> Result<bool, Refusal> {
    let before = row.state();
    let lapsed = !expire(view, row)? && lapse(view, row)?;
    Ok(lapsed || row.state() != before)
}

/// Expires the transfers under a consent whose time is over.
fn lapse(view: &mut View<'_>, row: &mut ConsentRow) -> Result<bool, Refusal> {
    let mut wrote = false;
    for mut open in view.group::<TransferRow>("open", &row.id) {
        wrote |= transfer::expire(view, &mut open, Some(row))?;
    }
    Ok(wrote)
}

/// Writes the end of a pause that is over and the expiry of a consent whose time is over, and tells whether it expired.
/// Needs the group of its open transfers.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn expire(view: &mut View<'_>, row: &mut ConsentRow) -> Result<bool, Refusal> {
    if row.resumes() && view.now().0 >= row.resume {
        let at = Micros(row.resume);
        pause::resume(view, row, &system("consent"), at)?;
    }
    let overdue = row.state().after(Verb::Expire).is_some() && view.now().0 >= row.expire;
    if overdue {
        let at = Micros(row.expire);
        let caller = &system("consent");
        let kind = Kind::ConsentExpired;
        end(
            view,
            row,
            &Ending {
                state: State::Expired,
                event: "consent.expired",
                kind,
                caller,
                at,
                legal_basis: "",
                cause: "",
            },
        )?;
    }
    Ok(overdue)
}

/// An event about a consent.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn draft(kind: &str, action: Action, caller: &Caller, row: &ConsentRow) -> Result<Draft, Refusal> {
    let draft = about(kind, action, caller, row)?.resource(&row.id()?.name(), row.version);
    Ok(draft.subject(row.subject()?))
}

/// An event under a consent, about another resource or none. It names her, and leaves her cached state as it is.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn about(kind: &str, action: Action, caller: &Caller, row: &ConsentRow) -> Result<Draft, Refusal> {
    let (hip, hiu) = row.parties()?;
    let mut draft = Draft::new(kind, action, RetentionClass::Consent, caller).participant(&hip);
    // A sponsor is no party to what names her: its study stands there.
    draft = match row.study.as_slice() {
        [] => draft.participant(&hiu),
        study => draft.object(rows::study_id(study)?.name()),
    };
    let payload = draft.payload();
    payload.subject = row.subject()?.name();
    payload.consent = row.id()?.name();
    payload.consent_version = row.grant_version;
    payload.purpose = row.scope.purpose().map_or(0, sammati_kernel::PurposeCode::number);
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
            (Granted, Pause, Paused),
            (Paused, Resume, Granted),
            (Granted, Narrow, Granted),
            (Paused, Narrow, Paused),
            (Granted, Revoke, Revoked),
            (Paused, Revoke, Revoked),
            (Granted, Supersede, Superseded),
            (Paused, Supersede, Superseded),
            (Granted, Expire, Expired),
            (Paused, Expire, Expired),
        ];
        for from in State::ALL {
            for verb in [Pause, Resume, Narrow, Revoke, Supersede, Expire] {
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
    fn what_has_ended_never_moves() {
        for from in [State::Revoked, State::Expired, State::Superseded] {
            for verb in [
                Verb::Pause,
                Verb::Resume,
                Verb::Narrow,
                Verb::Revoke,
                Verb::Supersede,
                Verb::Expire,
            ] {
                assert_eq!(from.after(verb), None);
            }
        }
    }
}
