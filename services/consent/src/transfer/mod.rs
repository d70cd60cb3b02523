//! What is a transfer? One flow of records, brokered and never read: its states and how it ends.

pub mod acknowledge;
pub mod create;
pub mod halt;
pub mod key_material;
pub mod report;

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Micros, ParticipantId, Refusal};
use sammati_server::event::{Draft, Emitted, system};
use sammati_store::View;

use crate::decision::uses::Uses;
use crate::notification::{Recipients, notify};
use crate::rows::{self, ConsentRow, TransferRow, broken};

/// How long the HIP may take to acknowledge one.
pub const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(20 * 60);

/// How long one that was acknowledged may take, from its creation.
pub const DONE_WITHIN: Duration = Duration::from_secs(2 * 3600);

/// How many may be open under one consent: each command on the consent loads them all.
pub const MAX_OPEN: usize = 32;

/// The states, as the contract names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Opened; the HIP has been told.
    Requested,
    /// The HIP took it on.
    Acknowledged,
    /// The HIP says it has pushed.
    Transferred,
    /// The HIU says it has received.
    Received,
    /// One side says it failed.
    Failed,
    /// The consent ended first.
    Cancelled,
    /// Its time ran out.
    Expired,
}

/// What may be done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The HIP takes it on.
    Acknowledge,
    /// The HIP reports that it pushed.
    ReportTransferred,
    /// The HIU reports that it received.
    ReportReceived,
    /// Either reports failure.
    ReportFailed,
    /// The consent ends.
    Cancel,
    /// Its time ends.
    Expire,
}

impl State {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 7] = [
        Self::Requested,
        Self::Acknowledged,
        Self::Transferred,
        Self::Received,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; an unknown number is over.
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Requested,
            2 => Self::Acknowledged,
            3 => Self::Transferred,
            4 => Self::Received,
            6 => Self::Cancelled,
            7 => Self::Expired,
            _ => Self::Failed,
        }
    }

    /// As refusals name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Acknowledged => "ACKNOWLEDGED",
            Self::Transferred => "TRANSFERRED",
            Self::Received => "RECEIVED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Whether its time can still run out.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Requested | Self::Acknowledged | Self::Transferred)
    }

    /// Where `verb` leads from here, if anywhere.
    pub const fn after(self, verb: Verb) -> Option<Self> {
        match (self, verb) {
            (Self::Requested, Verb::Acknowledge) => Some(Self::Acknowledged),
            (Self::Acknowledged, Verb::ReportTransferred) => Some(Self::Transferred),
            (Self::Acknowledged | Self::Transferred, Verb::ReportReceived)
            | (Self::Received, Verb::ReportTransferred) => Some(Self::Received),
            (Self::Requested | Self::Acknowledged | Self::Transferred, Verb::ReportFailed) => Some(Self::Failed),
            (Self::Requested | Self::Acknowledged, Verb::Cancel) => Some(Self::Cancelled),
            (Self::Requested | Self::Acknowledged | Self::Transferred, Verb::Expire) => Some(Self::Expired),
            _ => None,
        }
    }
}

/// Cancels a transfer that must not go on, because of the event `cause` if there is one, and gives its use back if the HIP
/// never took it on; one that was pushed already goes on.
///
/// # Errors
/// INTERNAL when a row is damaged.
pub fn cancel(
    view: &mut View<'_>,
    row: &mut TransferRow,
    consent: Option<&mut ConsentRow>,
    caller: &Caller,
    cause: Option<Emitted>,
) -> Result<(), Refusal> {
    let Some(to) = row.state().after(Verb::Cancel) else {
        return Ok(());
    };
    let untouched = row.state() == State::Requested;
    row.settle(to, view.now());
    view.put(row);
    let mut draft = draft("transfer.cancelled", Action::Update, caller, row)?;
    draft.event.causation_event_id = cause.map(|told| told.id.to_string()).unwrap_or_default();
    let told = draft.emit(view);
    tell_both(view, told, Kind::TransferCancelled, row)?;
    match consent.filter(|_| untouched) {
        Some(consent) => give_back(view, row, consent, caller, told),
        None => Ok(()),
    }
}

/// Writes the expiry of a transfer whose time is over, giving its use back if the HIP never took it on; tells whether
/// it did. Does nothing to any other.
///
/// # Errors
/// INTERNAL when a row is damaged.
pub fn expire(view: &mut View<'_>, row: &mut TransferRow, consent: Option<&mut ConsentRow>) -> Result<bool, Refusal> {
    let Some(to) = row.state().after(Verb::Expire).filter(|_| view.now().0 >= row.expire) else {
        return Ok(false);
    };
    let untouched = row.state() == State::Requested;
    let due = Micros(row.expire);
    row.settle(to, view.now());
    view.put(row);
    let caller = system("consent");
    let told = draft("transfer.expired", Action::Update, &caller, row)?
        .occurred(due)
        .emit(view);
    tell_both(view, told, Kind::TransferExpired, row)?;
    if let Some(consent) = consent.filter(|_| untouched) {
        give_back(view, row, consent, &caller, told)?;
    }
    Ok(true)
}

/// Gives the use of a transfer under which nothing flowed back to its consent, because of the event `cause`.
fn give_back(
    view: &mut View<'_>,
    row: &TransferRow,
    consent: &mut ConsentRow,
    caller: &Caller,
    cause: Emitted,
) -> Result<(), Refusal> {
    Uses::of(consent).give_back(row.window).write(consent);
    consent.updated = view.now().0;
    view.put(consent);
    let mut draft = draft("data.use_returned", Action::Update, caller, row)?;
    draft.event.causation_event_id = cause.id.to_string();
    draft.emit(view);
    Ok(())
}

fn tell_both(view: &mut View<'_>, told: Emitted, kind: Kind, row: &TransferRow) -> Result<(), Refusal> {
    let recipients = Recipients::new().participant(&row.hip).participant(&row.hiu);
    notify(
        view,
        told,
        kind,
        &row.id()?.name(),
        &recipients,
        rows::account(&row.subject),
    );
    Ok(())
}

/// An event about a transfer.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn draft(kind: &str, action: Action, caller: &Caller, row: &TransferRow) -> Result<Draft, Refusal> {
    let id = row.id()?.name();
    let subject = rows::account(&row.subject).ok_or_else(|| broken("a transfer's subject"))?;
    let party = |id: &str| -> Result<ParticipantId, Refusal> { rows::participant(id) };
    let mut draft = Draft::new(kind, action, RetentionClass::Consent, caller)
        .subject(subject)
        .resource(&id, row.version)
        .participant(&party(&row.hip)?)
        .participant(&party(&row.hiu)?);
    draft.event.txn_id = id;
    let consent: sammati_kernel::ConsentId = rows::id(&row.consent)?;
    let payload = draft.payload();
    payload.purpose = row.purpose;
    payload.consent = consent.name();
    payload.consent_version = row.grant_version;
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
            (Requested, Acknowledge, Acknowledged),
            (Acknowledged, ReportTransferred, Transferred),
            (Acknowledged, ReportReceived, Received),
            (Transferred, ReportReceived, Received),
            (Requested, ReportFailed, Failed),
            (Acknowledged, ReportFailed, Failed),
            (Transferred, ReportFailed, Failed),
            (Requested, Cancel, Cancelled),
            (Acknowledged, Cancel, Cancelled),
            (Requested, Expire, Expired),
            (Acknowledged, Expire, Expired),
            (Transferred, Expire, Expired),
            (Received, ReportTransferred, Received),
        ];
        for from in State::ALL {
            for verb in [
                Acknowledge,
                ReportTransferred,
                ReportReceived,
                ReportFailed,
                Cancel,
                Expire,
            ] {
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
