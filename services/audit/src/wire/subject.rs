//! Requests about one person.

use sammati_api::types::v1::TimeRange;
use sammati_kernel::{AccountId, Caller, Reason, Refusal, Violations};
use sammati_server::event::micros;

/// The most characters of a legal basis.
const MAX_BASIS: usize = 255;

/// Who is meant: a person herself, or whom an operator names, with a legal basis.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong; `NOT_AVAILABLE` when a person names another.
pub(crate) fn subject(caller: &Caller, subject: &str, legal_basis: &str) -> Result<AccountId, Refusal> {
    let mut wrong = Violations::new();
    let named = AccountId::parse_name(subject);
    if named.is_none() && (!subject.is_empty() || caller.account().is_none()) {
        wrong.add("subject", "must be accounts/{id}; a person may leave it empty");
    }
    if caller.account().is_some() {
        if !legal_basis.is_empty() {
            wrong.add("legal_basis", "for operators only");
        }
    } else {
        check_basis("legal_basis", legal_basis, &mut wrong);
    }
    wrong.check()?;
    match (caller.account(), named) {
        (Some(own), Some(named)) if own != named => Err(Reason::NotAvailable.into()),
        (own, named) => own.or(named).ok_or_else(|| Reason::NotAvailable.into()),
    }
}

/// About whom a service asks.
///
/// # Errors
/// `FIELD_INVALID`.
pub(crate) fn account(subject: &str) -> Result<AccountId, Refusal> {
    AccountId::parse_name(subject).ok_or_else(|| Refusal::field("subject", "required: accounts/{id}"))
}

/// On what ground an operator reads what lies in the archive; empty where nobody asks for that.
///
/// # Errors
/// `FIELD_INVALID`.
pub(crate) fn archive_basis(caller: &Caller, legal_basis: &str) -> Result<String, Refusal> {
    let mut wrong = Violations::new();
    if !legal_basis.is_empty() {
        if caller.is_operator() {
            check_basis("legal_basis", legal_basis, &mut wrong);
        } else {
            wrong.add("legal_basis", "for operators only");
        }
    }
    wrong.check()?;
    Ok(legal_basis.to_owned())
}

/// Why something is done.
pub(crate) fn check_basis(field: &'static str, text: &str, wrong: &mut Violations) {
    let count = text.chars().count();
    if !(1..=MAX_BASIS).contains(&count) || text.chars().any(char::is_control) || text.trim().is_empty() {
        wrong.add(field, "required: 1 to 255 characters, none a control character");
    }
}

/// A range of time, half open, in microseconds.
///
/// # Errors
/// `FIELD_INVALID`.
pub(crate) fn occurred(range: Option<&TimeRange>) -> Result<Option<(i64, i64)>, Refusal> {
    let Some(range) = range else { return Ok(None) };
    let end = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(micros);
    match end(&range.from).zip(end(&range.to)) {
        Some((from, to)) if from < to => Ok(Some((from.0, to.0))),
        _ => Err(Refusal::field(
            "occurred_range",
            "from and to are required, from before to",
        )),
    }
}
