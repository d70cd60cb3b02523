//! Requests to erase, to expire and to hold back; and the answer to the first.

use std::collections::BTreeSet;

use sammati_api::audit::v1::{self as audit, class_erasure::State};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Micros, Reason, Refusal, Violations};
use sammati_server::event::timestamp;

use super::subject::check_basis;
use super::{done, event_name};
use crate::erase::Standing;
use crate::hold::HoldId;
use crate::retention::month_floor;

/// Whom and what to erase; no classes: all.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn erased_subject(
    request: &audit::EraseSubjectRequest,
) -> Result<(AccountId, Vec<RetentionClass>), Refusal> {
    let mut wrong = Violations::new();
    let subject = AccountId::parse_name(&request.subject).ok_or("required: accounts/{id}");
    let subject = wrong.keep("subject", subject);
    let classes = classes(&request.classes, &mut wrong);
    check_basis("legal_basis", &request.legal_basis, &mut wrong);
    done(wrong, subject.map(|subject| (subject, classes)))
}

/// The class to expire; its month is one.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn expired_class(request: &audit::ExpireClassRequest) -> Result<RetentionClass, Refusal> {
    let mut wrong = Violations::new();
    let class = class(request.class);
    let class = wrong.keep("class", class.ok_or("required: a retention class"));
    if month_floor(RetentionClass::Admin, &request.month).is_none() {
        wrong.add("month", "required: a month, as 2026-11");
    }
    check_basis("legal_basis", &request.legal_basis, &mut wrong);
    done(wrong, class)
}

/// Whom and what to hold back; nobody: everybody.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn hold(
    request: &audit::CreateLegalHoldRequest,
) -> Result<(Option<AccountId>, Vec<RetentionClass>), Refusal> {
    let mut wrong = Violations::new();
    let subject = AccountId::parse_name(&request.subject);
    if subject.is_none() && !request.subject.is_empty() {
        wrong.add("subject", "accounts/{id}; empty: everybody");
    }
    let classes = classes(&request.classes, &mut wrong);
    check_basis("legal_basis", &request.legal_basis, &mut wrong);
    wrong.check()?;
    Ok((subject, classes))
}

/// The hold to lift.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn lifted_hold(request: &audit::LiftLegalHoldRequest) -> Result<HoldId, Refusal> {
    let mut wrong = Violations::new();
    let id = wrong.keep(
        "name",
        HoldId::parse_name(&request.name).ok_or("required: legalHolds/{id}"),
    );
    check_basis("legal_basis", &request.legal_basis, &mut wrong);
    done(wrong, id)
}

fn class(number: i32) -> Option<RetentionClass> {
    RetentionClass::try_from(number)
        .ok()
        .filter(|class| *class != RetentionClass::Unspecified)
}

fn classes(numbers: &[i32], wrong: &mut Violations) -> Vec<RetentionClass> {
    let found: BTreeSet<_> = numbers.iter().filter_map(|number| class(*number)).collect();
    if found.len() != numbers.len() {
        wrong.add("classes", "retention classes, each once, at most 5");
    }
    found.into_iter().collect()
}

/// What became of one class, on the wire.
pub(crate) fn class_erasure(log: &str, class: RetentionClass, standing: Standing) -> audit::ClassErasure {
    let mut answer = audit::ClassErasure {
        class: class.into(),
        ..audit::ClassErasure::default()
    };
    match standing {
        Standing::Erased(done) => {
            answer.state = State::Erased.into();
            answer.erase_time = Some(timestamp(Micros(done.at)));
            answer.event = event_name(log, done.index);
        }
        Standing::Booked(due) => {
            answer.state = State::Booked.into();
            answer.due_time = Some(timestamp(due));
            answer.reason = Reason::RetentionFloor.as_str().to_owned();
        }
        Standing::Held(due) => {
            answer.state = State::Held.into();
            answer.due_time = Some(timestamp(due));
            answer.reason = Reason::LegalHold.as_str().to_owned();
        }
    }
    answer
}
