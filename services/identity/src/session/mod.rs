//! What is a session? How it begins, rotates and ends.

mod consume;
mod many;
mod open;
mod participant;
mod refresh;
mod revoke;

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::Factor;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, Micros, SessionId};
use sammati_server::event::Draft;
use sammati_store::View;

pub(crate) use consume::{ConsumeLogin, Login, chosen};
pub(crate) use many::{end_all, let_go};
pub(crate) use open::{OpenSession, may_enter, may_log_in};
pub(crate) use participant::OpenParticipantSession;
pub(crate) use refresh::{EndReused, Refresh, Rotated, expired};
pub(crate) use revoke::{Revoke, Revoked, Which, several_holders};

use crate::rows::{SessionRow, TransactionRow};
use crate::transaction::factor_name;

/// From login to end, for a person.
pub(crate) const PERSON_LIFE: Duration = Duration::from_secs(15 * 24 * 3600);

/// From login to end, for a participant: that of its tokens.
pub(crate) const PARTICIPANT_LIFE: Duration = Duration::from_secs(300);

/// The session of a person whom `transaction` proved.
pub(crate) fn of_person(id: SessionId, account: AccountId, transaction: &TransactionRow, now: Micros) -> SessionRow {
    SessionRow {
        id: id.to_vec(),
        version: 1,
        account: account.to_vec(),
        factors: vec![transaction.factor],
        app: transaction.app.clone(),
        auth_time: transaction.verify_time,
        generation: 1,
        create_time: now.0,
        update_time: now.0,
        expire_time: now.plus(PERSON_LIFE).0,
        ..SessionRow::default()
    }
}

/// An event about a session.
pub(crate) fn told(event_type: &str, action: Action, row: &SessionRow, caller: &Caller) -> Draft {
    let person = row.subject();
    let class = if person.is_some() {
        RetentionClass::General
    } else {
        RetentionClass::Admin
    };
    let mut draft = Draft::new(event_type, action, class, caller).resource(&row.name(), row.version);
    if let Some(actor) = &mut draft.payload().actor {
        let factors = row.factors.iter().filter_map(|f| Factor::try_from(*f).ok());
        actor.factors = factors.map(|f| factor_name(f).to_owned()).collect();
        actor.session = row.name();
    }
    match person {
        Some(account) => draft.subject(account),
        None => draft.object(row.holder()),
    }
}

/// Ends a live session, and tells it.
pub(crate) fn end(row: &mut SessionRow, event_type: &str, caller: &Caller, view: &mut View<'_>) {
    end_because(row, event_type, caller, "", view);
}

/// The same because of another event.
pub(crate) fn end_because(row: &mut SessionRow, event_type: &str, caller: &Caller, cause: &str, view: &mut View<'_>) {
    let now = view.now();
    row.end_time = now.0;
    row.version += 1;
    row.update_time = now.0;
    view.put(row);
    told(event_type, Action::Delete, row, caller)
        .because_of(cause)
        .emit(view);
}
