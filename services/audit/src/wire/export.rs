//! Requests for events as a file.

use sammati_api::audit::v1 as audit;
use sammati_kernel::{Refusal, Violations};

use super::subject::check_basis;
use super::{Filter, done, filter, size};

/// How a file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct How {
    /// In which words.
    pub format: audit::ExportFormat,
    /// Behind which event it begins.
    pub after: Option<u64>,
    /// The size of the tree; 0: the newest.
    pub size: u64,
}

/// In which words.
///
/// # Errors
/// `FIELD_INVALID`.
pub(crate) fn export_format(format: i32) -> Result<audit::ExportFormat, Refusal> {
    audit::ExportFormat::try_from(format).map_err(|_| Refusal::field("format", "EXPORT_FORMAT_NATIVE, _FHIR or _OCSF"))
}

/// What narrows an `ExportEventsRequest`: the filters of a list.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn exported(request: &audit::ExportEventsRequest) -> Result<Filter, Refusal> {
    let request = request.clone();
    filter(&audit::ListEventsRequest {
        subject: request.subject,
        actor: request.actor,
        resource: request.resource,
        consent: request.consent,
        participant: request.participant,
        event_type_prefix: request.event_type_prefix,
        trace_id: request.trace_id,
        occurred_range: request.occurred_range,
        ..audit::ListEventsRequest::default()
    })
}

/// The rest of it.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn how(request: &audit::ExportEventsRequest) -> Result<How, Refusal> {
    let mut wrong = Violations::new();
    check_basis("legal_basis", &request.legal_basis, &mut wrong);
    let after = match request.after_index {
        None => Some(None),
        Some(index) => size("after_index", index, &mut wrong).map(Some),
    };
    let tree = size("tree_size", request.tree_size, &mut wrong);
    let found = after.zip(tree);
    let (format, (after, size)) = Refusal::both(export_format(request.format), done(wrong, found))?;
    Ok(How { format, after, size })
}
