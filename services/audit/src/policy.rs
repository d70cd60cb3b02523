//! Who may? The object rules, as functions of the caller and of what the rows say.

use sammati_api::audit::v1::Payload;
use sammati_kernel::{Caller, Peer, Reason, Refusal, Violations};

use crate::keyring::Opened;
use crate::rows::{LeafRow, role};
use crate::tags::Tagger;
use crate::wire::Filter;

/// The most that an operator's list spans when it names no subject, microseconds: 31 days.
const WIDEST: i64 = 31 * 86_400 * 1_000_000;

/// The service that appends.
///
/// # Errors
/// `NOT_AVAILABLE` when it is none, or relays the feed of another.
pub(crate) fn appender<'a>(caller: &'a Caller, source: Option<&str>) -> Result<&'a str, Refusal> {
    match (&caller.peer, &caller.actor) {
        (Peer::Service(name), None) if source.is_none_or(|source| source == name) => Ok(name),
        _ => Err(Refusal::new(Reason::NotAvailable).saying("a service relays its own feed and no other")),
    }
}

/// Whether `caller` may see this event: its subject or who acts for her, a participant in it, or an operator.
pub(crate) fn may_see(caller: &Caller, tags: &Tagger, row: &LeafRow) -> bool {
    if let Some(account) = caller.account() {
        return row.header().subject_tag == tags.subject(&account.name());
    }
    if let Some(participant) = caller.participant() {
        return row.names(tags.name(&participant.name()), role::PARTY);
    }
    caller.is_operator()
}

/// Narrows a list to what `caller` may see.
///
/// # Errors
/// `NOT_AVAILABLE` for another's events, `FIELD_INVALID` for a filter that is not for this caller, `QUERY_TOO_WIDE`.
pub(crate) fn narrow(caller: &Caller, mut filter: Filter) -> Result<Filter, Refusal> {
    if let Some(account) = caller.account() {
        own(&mut filter.subject, account.name())?;
        return Ok(filter);
    }
    if let Some(participant) = caller.participant() {
        if !filter.subject.is_empty() {
            return Err(Refusal::field(
                "subject",
                "must be empty: a participant lists the events it is named in",
            ));
        }
        own(&mut filter.participant, participant.name())?;
        return Ok(filter);
    }
    if !caller.is_operator() {
        return Err(Reason::NotAvailable.into());
    }
    let short = filter
        .occurred
        .is_some_and(|(from, to)| to.saturating_sub(from) <= WIDEST);
    if filter.subject.is_empty() && !short {
        let mut wrong = Violations::new();
        wrong.add("subject", "required, unless occurred_range is at most 31 days");
        wrong.add("occurred_range", "at most 31 days, unless a subject is named");
        wrong.check_as(Reason::QueryTooWide)?;
    }
    Ok(filter)
}

/// Empty or one's own.
fn own(asked: &mut String, mine: String) -> Result<(), Refusal> {
    if !asked.is_empty() && *asked != mine {
        return Err(Reason::NotAvailable.into());
    }
    *asked = mine;
    Ok(())
}

/// What `caller` gets of a payload: a participant learns neither accounts nor sessions, nor where a person called from.
pub(crate) fn show(caller: &Caller, mut payload: Payload) -> Payload {
    // Of use to the service that claimed them, after a restore.
    payload.claims.clear();
    if caller.participant().is_none() {
        return payload;
    }
    let hide = |text: &mut String| {
        if text.starts_with("accounts/") || text.starts_with("sessions/") {
            text.clear();
        }
    };
    payload
        .object_refs
        .retain(|name| !name.starts_with("accounts/") && !name.starts_with("sessions/"));
    if let Some(actor) = &mut payload.actor {
        if actor.id.starts_with("accounts/") {
            payload.client = None;
        }
        hide(&mut actor.id);
        hide(&mut actor.session);
    }
    hide(&mut payload.subject);
    hide(&mut payload.resource);
    payload
}

/// What `caller` gets of what was opened. What lies in the archive is for an operator who says on what ground.
pub(crate) fn shown(caller: &Caller, legal_basis: &str, opened: Opened) -> Opened {
    match opened {
        Opened::Readable(payload) => Opened::Readable(Box::new(show(caller, *payload))),
        Opened::Archived(payload) if caller.is_operator() && !legal_basis.is_empty() => {
            Opened::Readable(Box::new(show(caller, *payload)))
        }
        other => other,
    }
}

/// What somebody gets who asks for what is not there, or is not his: the same, but for operators.
pub(crate) fn unavailable(caller: &Caller) -> Refusal {
    if caller.is_operator() {
        Reason::NotFound.into()
    } else {
        Reason::NotAvailable.into()
    }
}
