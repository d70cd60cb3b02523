//! Who may? Object rules, as pure functions over the caller and rows. Whoever may not learns the same as about nothing.

use std::time::Duration;

use sammati_api::identity::v1::transaction::Purpose;
use sammati_kernel::{AccountId, Actor, Caller, CallerKind, Micros, ParticipantId, Reason, Refusal, Role};

use crate::rows::{SessionRow, TransactionRow};

/// What is absent, or somebody else's: to operators, who may know, that it is absent.
pub(crate) fn unavailable(caller: &Caller) -> Refusal {
    if caller.is_operator() {
        Reason::NotFound.into()
    } else {
        Reason::NotAvailable.into()
    }
}

/// Only the caller that created a transaction.
pub(crate) fn created_by(row: &TransactionRow, caller: &Caller) -> Result<(), Refusal> {
    if row.creator == caller.id() {
        Ok(())
    } else {
        Err(unavailable(caller))
    }
}

/// A person only for SET_CREDENTIAL and STEP_UP, who acts for her only for STEP_UP; everybody else for all the rest.
pub(crate) fn may_begin(caller: &Caller, purpose: Purpose) -> Result<(), Refusal> {
    let person = caller.account().is_some();
    let hers = matches!(purpose, Purpose::SetCredential | Purpose::StepUp);
    let acting = caller.representing().is_some();
    if person == hers && (!acting || purpose == Purpose::StepUp) {
        return Ok(());
    }
    let why = if acting {
        "you act for another; a transaction of yours can only be for STEP_UP"
    } else if person {
        "you are logged in; a transaction of yours can only be for SET_CREDENTIAL or STEP_UP"
    } else {
        "only the person herself, logged in, can change her password or step up"
    };
    Err(Refusal::new(Reason::NotAvailable).saying(why))
}

/// A person only her own account.
pub(crate) fn own_account(caller: &Caller, account: AccountId) -> Result<(), Refusal> {
    if caller.account() == Some(account) {
        Ok(())
    } else {
        Err(unavailable(caller))
    }
}

/// How old a person's authentication may be when she deletes her account.
const STEP_UP: Duration = Duration::from_secs(300);

/// A person only her own account, and freshly proved; an operator any.
pub(crate) fn may_delete(caller: &Caller, account: AccountId, now: Micros) -> Result<(), Refusal> {
    if caller.is_operator() {
        return Ok(());
    }
    own_account(caller, account)?;
    let Some(Actor::Person { auth_time, .. }) = &caller.actor else {
        return Err(unavailable(caller));
    };
    if now.minus(STEP_UP) <= Micros::from_seconds(*auth_time) {
        return Ok(());
    }
    Err(Refusal::new(Reason::StepUpRequired)
        .saying("deleting needs a login of the last 5 minutes; log in again, then delete"))
}

/// A person only her own account; operators and services any.
pub(crate) fn may_read_account(caller: &Caller, account: AccountId) -> Result<(), Refusal> {
    match caller.account() {
        Some(_) => own_account(caller, account),
        None => Ok(()),
    }
}

/// A person her own, an operator anybody's.
pub(crate) fn own_unless_operator(caller: &Caller, account: AccountId) -> Result<(), Refusal> {
    if caller.is_operator() {
        return Ok(());
    }
    own_account(caller, account)
}

/// An operator any session, everybody else only their own.
pub(crate) fn may_end(caller: &Caller, session: &SessionRow) -> Result<(), Refusal> {
    may_end_all_of(caller, &session.holder())
}

/// The same for the name of a holder.
pub(crate) fn may_end_all_of(caller: &Caller, holder: &str) -> Result<(), Refusal> {
    if caller.is_operator() || caller.id() == holder {
        Ok(())
    } else {
        Err(unavailable(caller))
    }
}

/// Only the app that a session was opened in.
pub(crate) fn app_of(session: &SessionRow, caller: &Caller) -> Result<(), Refusal> {
    if !session.app.is_empty() && caller.id() == session.app {
        Ok(())
    } else {
        Err(unavailable(caller))
    }
}

/// Keys and transfer origins are for the participant itself, for operators and services.
pub(crate) fn sees_keys(caller: &Caller, participant: &ParticipantId) -> bool {
    let kinds = caller.kinds();
    kinds.contains(&CallerKind::Operator)
        || kinds.contains(&CallerKind::Service)
        || caller.participant() == Some(participant)
}

/// The fields that a participant may change of itself; an operator may change all that are not immutable.
pub(crate) const OWN_FIELDS: [&str; 3] = ["grievance_contact", "keys", "languages"];

/// An operator any participant, a participant only itself and only [`OWN_FIELDS`].
pub(crate) fn may_update(caller: &Caller, participant: &ParticipantId, fields: &[String]) -> Result<(), Refusal> {
    if caller.is_operator() {
        return Ok(());
    }
    if caller.participant() != Some(participant) {
        return Err(unavailable(caller));
    }
    match fields.iter().find(|field| !OWN_FIELDS.contains(&field.as_str())) {
        None => Ok(()),
        Some(field) => Err(Refusal::new(Reason::NotAvailable).saying(format!(
            "{field} is changed by an operator; you can change grievance_contact, keys and languages"
        ))),
    }
}

/// Whether the caller is a facility that must show demographics: a HIP or a HIU.
pub(crate) fn must_match(caller: &Caller) -> bool {
    caller.has_role(Role::Hip) || caller.has_role(Role::Hiu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sammati_kernel::Peer;

    fn participant(id: &str) -> Caller {
        let id = ParticipantId::parse(id).unwrap();
        Caller {
            peer: Peer::Anonymous,
            actor: Some(Actor::Participant {
                id,
                roles: [Role::Hip].into(),
            }),
        }
    }

    #[test]
    fn a_participant_changes_only_itself_and_only_what_is_its_own() {
        let id = ParticipantId::parse("IN01").unwrap();
        let fields = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert!(may_update(&participant("IN01"), &id, &fields(&["keys", "languages"])).is_ok());
        assert!(may_update(&participant("IN01"), &id, &fields(&["keys", "roles"])).is_err());
        assert!(may_update(&participant("IN02"), &id, &fields(&["keys"])).is_err());
        let operator = Caller {
            peer: Peer::Operator("asha".into()),
            actor: None,
        };
        assert!(may_update(&operator, &id, &fields(&["roles"])).is_ok());
    }

    #[test]
    fn what_is_anothers_is_as_absent() {
        let row = TransactionRow {
            creator: "participants/IN01".into(),
            ..Default::default()
        };
        assert!(created_by(&row, &participant("IN01")).is_ok());
        assert_eq!(created_by(&row, &participant("IN02")), Err(Reason::NotAvailable.into()));
    }
}
