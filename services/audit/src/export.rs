//! Events as a file, of one person or of a time: one JSON object a line, each with the proof that it is in the log.

mod fhir;
mod native;
mod ocsf;

use sammati_api::audit::v1::{ExportFormat, Leaf, Payload};
use sammati_log::bundle::Bundle;
use serde_json::Value;

/// One event, as an export tells of it.
pub(crate) struct Told<'a> {
    /// Its resource name.
    pub name: &'a str,
    /// The leaf, decoded.
    pub header: &'a Leaf,
    /// The payload, unless it is erased or archived.
    pub payload: Option<&'a Payload>,
    /// Whether it is archived.
    pub archived: bool,
    /// The leaf as it was hashed.
    pub leaf: &'a [u8],
    /// Its proof.
    pub bundle: &'a Bundle,
}

/// One line of an export, ended.
pub(crate) fn line(format: ExportFormat, told: &Told<'_>) -> String {
    let value: Value = match format {
        ExportFormat::Fhir => fhir::audit_event(told),
        ExportFormat::Ocsf => ocsf::event(told),
        ExportFormat::Native | ExportFormat::Unspecified => native::event(told),
    };
    format!("{value}\n")
}

/// The last line of all events of one person: what the log states of the whole. FHIR and OCSF have no word for it.
pub(crate) fn end(format: ExportFormat, note: &str, checkpoint: &str) -> Option<String> {
    let is_native = matches!(format, ExportFormat::Native | ExportFormat::Unspecified);
    is_native.then(|| format!("{}\n", native::head(note, checkpoint)))
}

/// The kinds of things an event may name, as `participants/{id}`.
fn parties(payload: &Payload) -> impl Iterator<Item = &str> {
    payload
        .object_refs
        .iter()
        .map(String::as_str)
        .filter(|name| name.starts_with("participants/"))
}

/// A time as text with its offset, in microseconds.
fn instant(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.copied().unwrap_or_default();
    let nanos = u32::try_from(time.nanos).unwrap_or_default();
    let at = chrono::DateTime::from_timestamp(time.seconds, nanos).unwrap_or_default();
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}
