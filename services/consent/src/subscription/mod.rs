//! What is a subscription? Leave to be told that there is something new: its states, what it covers, and how it ends.

pub mod create;
pub mod decide;
pub mod locker;
pub mod tell;

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, Micros, Refusal};
use sammati_server::event::{Draft, Emitted, system};
use sammati_store::View;

use crate::notification::{Recipients, notify};
use crate::rows::{self, SourcesRow, SubscriptionRow};

/// How long she has to decide.
pub const WINDOW: Duration = Duration::from_secs(2 * 3600);

/// Open ones of one asker to one address.
pub const MAX_OPEN: usize = 20;

/// The states, as the contract names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// She has not decided.
    Requested,
    /// The holder is told.
    Granted,
    /// She suspended it.
    Paused,
    /// She denied it.
    Denied,
    /// It was taken back, or given up.
    Revoked,
    /// Its time is over.
    Expired,
}

/// What may be done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// She grants it.
    Approve,
    /// She denies it.
    Deny,
    /// She changes what she gives.
    Update,
    /// She suspends it.
    Pause,
    /// She resumes it.
    Resume,
    /// She takes it back, or the holder gives it up.
    Revoke,
    /// Its time ends.
    Expire,
}

impl State {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 6] = [
        Self::Requested,
        Self::Granted,
        Self::Paused,
        Self::Denied,
        Self::Revoked,
        Self::Expired,
    ];

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; an unknown number tells nobody anything.
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Requested,
            2 => Self::Granted,
            3 => Self::Paused,
            4 => Self::Denied,
            6 => Self::Expired,
            _ => Self::Revoked,
        }
    }

    /// As refusals name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Granted => "GRANTED",
            Self::Paused => "PAUSED",
            Self::Denied => "DENIED",
            Self::Revoked => "REVOKED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Where `verb` leads from here, if anywhere.
    pub const fn after(self, verb: Verb) -> Option<Self> {
        match (self, verb) {
            (Self::Requested, Verb::Approve) | (Self::Paused, Verb::Resume) => Some(Self::Granted),
            (Self::Requested, Verb::Deny) => Some(Self::Denied),
            (Self::Granted | Self::Paused, Verb::Update) => Some(self),
            (Self::Granted, Verb::Pause) => Some(Self::Paused),
            (Self::Granted | Self::Paused, Verb::Revoke) => Some(Self::Revoked),
            (Self::Requested | Self::Granted | Self::Paused, Verb::Expire) => Some(Self::Expired),
            _ => None,
        }
    }
}

/// The first field in which `given` is more than `asked`; `None` when `asked` covers it.
pub fn wider(asked: &SourcesRow, given: &SourcesRow) -> Option<&'static str> {
    let within = |all: &[i32], some: &[i32]| some.iter().all(|n| all.contains(n));
    let hips =
        asked.hips.is_empty() || (!given.hips.is_empty() && given.hips.iter().all(|hip| asked.hips.contains(hip)));
    let excluded = asked.excluded.iter().all(|source| given.excluded.contains(source));
    let checks = [
        ("sources.categories", within(&asked.categories, &given.categories)),
        ("sources.hips", hips),
        ("sources.hi_types", within(&asked.hi_types, &given.hi_types)),
        ("sources.period", asked.from <= given.from && given.to <= asked.to),
        ("sources.excluded", excluded),
    ];
    checks.into_iter().find(|(_, holds)| !holds).map(|(field, _)| field)
}

/// Writes the expiry of one whose time is over, and tells whether it did.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn expire(view: &mut View<'_>, row: &mut SubscriptionRow) -> Result<bool, Refusal> {
    let due = row.end().filter(|end| view.now().0 >= *end);
    let (Some(due), Some(to)) = (due, row.state().after(Verb::Expire)) else {
        return Ok(false);
    };
    if row.state() == State::Requested {
        row.decided = due;
    }
    row.settle(to, view.now());
    view.put(row);
    let told = draft("subscription.expired", Action::Update, &system("consent"), row)?
        .occurred(Micros(due))
        .emit(view);
    tell_both(view, told, row)?;
    Ok(true)
}

/// Ends one whose person's account is deleted, on that `ground`: one that waits for her is denied.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub(crate) fn end_of_account(view: &mut View<'_>, row: &mut SubscriptionRow, ground: &str) -> Result<(), Refusal> {
    if expire(view, row)? {
        return Ok(());
    }
    let state = row.state();
    let (event, to) = match (state.after(Verb::Revoke), state.after(Verb::Deny)) {
        (Some(to), _) => ("subscription.withdrawn", to),
        (None, Some(to)) => ("subscription.denied", to),
        (None, None) => return Ok(()),
    };
    if state == State::Requested {
        row.decided = view.now().0;
    }
    row.settle(to, view.now());
    view.put(row);
    let mut told = draft(event, Action::Update, &system("consent"), row)?;
    ground.clone_into(&mut told.payload().legal_basis);
    let told = told.emit(view);
    let holder = Recipients::new().participant(&row.holder);
    notify(
        view,
        told,
        Kind::SubscriptionChanged,
        &row.id()?.name(),
        &holder,
        subject(row),
    );
    Ok(())
}

/// Her account, if the address was somebody's.
pub fn subject(row: &SubscriptionRow) -> Option<AccountId> {
    rows::account(&row.owner).filter(|_| row.known)
}

pub(crate) fn tell_both(view: &mut View<'_>, told: Emitted, row: &SubscriptionRow) -> Result<(), Refusal> {
    let both = Recipients::new().participant(&row.holder).person(subject(row));
    let name = row.id()?.name();
    notify(view, told, Kind::SubscriptionChanged, &name, &both, subject(row));
    Ok(())
}

/// An event about one: it changes nothing that a decision reads.
pub(crate) fn draft(kind: &str, action: Action, caller: &Caller, row: &SubscriptionRow) -> Result<Draft, Refusal> {
    let mut draft = Draft::new(kind, action, RetentionClass::Consent, caller)
        .resource(&row.id()?.name(), row.version)
        .participant(&rows::participant(&row.holder)?);
    let payload = draft.payload();
    payload.purpose = row.purpose;
    payload.subject = subject(row).map(|account| account.name()).unwrap_or_default();
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
            (Requested, Approve, Granted),
            (Requested, Deny, Denied),
            (Requested, Expire, Expired),
            (Granted, Update, Granted),
            (Granted, Pause, Paused),
            (Granted, Revoke, Revoked),
            (Granted, Expire, Expired),
            (Paused, Update, Paused),
            (Paused, Resume, Granted),
            (Paused, Revoke, Revoked),
            (Paused, Expire, Expired),
        ];
        for from in State::ALL {
            for verb in [Approve, Deny, Update, Pause, Resume, Revoke, Expire] {
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
    fn what_she_gives_is_never_more_than_what_was_asked() {
        let asked = SourcesRow {
            categories: vec![1],
            hips: vec!["hospital".into()],
            hi_types: vec![1, 2],
            from: 10,
            to: 20,
            excluded: Vec::new(),
        };
        assert_eq!(wider(&asked, &asked), None);
        let with = |change: fn(&mut SourcesRow)| {
            let mut given = asked.clone();
            change(&mut given);
            wider(&asked, &given)
        };
        assert_eq!(with(|s| s.hi_types = vec![2]), None);
        assert_eq!(with(|s| s.to = 21), Some("sources.period"));
        assert_eq!(with(|s| s.hips = Vec::new()), Some("sources.hips"));
        assert_eq!(with(|s| s.hi_types = vec![3]), Some("sources.hi_types"));
        assert_eq!(with(|s| s.categories = vec![1, 2]), Some("sources.categories"));
    }
}
