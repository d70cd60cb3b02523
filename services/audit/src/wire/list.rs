//! `ListEventsRequest`: what narrows a list.

use sammati_api::audit::v1 as audit;
use sammati_kernel::{AccountId, ConsentId, ParticipantId, Refusal, Violations};

use super::event;

/// What narrows a list; empty and `None` narrow nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// About this person, `accounts/{id}`.
    pub subject: String,
    /// By this actor.
    pub actor: String,
    /// About this resource.
    pub resource: String,
    /// Under this consent.
    pub consent: String,
    /// Naming this participant, `participants/{id}`.
    pub participant: String,
    /// Types that begin so.
    pub event_type_prefix: String,
    /// Of this trace.
    pub trace_id: String,
    /// Occurred within, microseconds, half open.
    pub occurred: Option<(i64, i64)>,
}

/// Whether `name` may name who did something.
fn is_actor(name: &str) -> bool {
    let account = AccountId::parse_name(name).is_some();
    let named = ["operators/", "services/"].iter().any(|kind| name.starts_with(kind)) && is_resource(name);
    account || named || ParticipantId::parse_name(name).is_ok()
}

/// Whether `name` may name a resource: `{collection}/{id}`, perhaps followed by more of the same.
fn is_resource(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let mut parts = name.split('/');
    event::is_name(name)
        && name.contains('/')
        && parts.all(|part| part.bytes().all(plain) && !part.trim_matches('.').is_empty())
}

/// Reads the filters of a list.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn filter(request: &audit::ListEventsRequest) -> Result<Filter, Refusal> {
    let mut wrong = Violations::new();
    let mut must = |holds: bool, field: &'static str, allowed: &'static str| {
        if !holds {
            wrong.add(field, allowed);
        }
    };
    let request = request.clone();
    let or_empty = |text: &str, good: bool| text.is_empty() || good;
    must(
        or_empty(&request.subject, AccountId::parse_name(&request.subject).is_some()),
        "subject",
        "accounts/{id}",
    );
    must(
        or_empty(&request.actor, is_actor(&request.actor)),
        "actor",
        "accounts/{id}, participants/{id}, operators/{name} or services/{name}",
    );
    must(
        or_empty(&request.resource, is_resource(&request.resource)),
        "resource",
        "a resource name, as transfers/{id}, at most 255 characters",
    );
    must(
        or_empty(&request.consent, ConsentId::parse_name(&request.consent).is_some()),
        "consent",
        "consents/{id}",
    );
    let participant = ParticipantId::parse_name(&request.participant).is_ok();
    must(
        or_empty(&request.participant, participant),
        "participant",
        "participants/{id}",
    );
    let prefix = &request.event_type_prefix;
    let plain = prefix.len() <= 64
        && prefix
            .bytes()
            .all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'_'));
    must(
        plain,
        "event_type_prefix",
        "the beginning of an event type, as \"access.\"",
    );
    must(
        or_empty(&request.trace_id, event::is_trace(&request.trace_id)),
        "trace_id",
        "32 lower-case hexadecimal digits",
    );
    let occurred = request.occurred_range.as_ref().map(|range| {
        let end = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(sammati_server::event::micros);
        end(&range.from)
            .zip(end(&range.to))
            .filter(|(from, to)| from < to)
            .map(|(from, to)| (from.0, to.0))
    });
    must(
        occurred != Some(None),
        "occurred_range",
        "from and to are required, from before to",
    );
    wrong.check()?;
    Ok(Filter {
        subject: request.subject,
        actor: request.actor,
        resource: request.resource,
        consent: request.consent,
        participant: request.participant,
        event_type_prefix: request.event_type_prefix,
        trace_id: request.trace_id,
        occurred: occurred.flatten(),
    })
}
