//! How keys are named: by whom, what and when they are of.

use chrono::DateTime;
use sammati_api::audit::v1::Leaf;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::Micros;

use super::KeyId;

/// The two keys that a payload is sealed under: the subject's in its class, and the class's in its month. Events about
/// nobody share one key per class.
pub(super) fn key_ids(leaf: &Leaf) -> [KeyId; 2] {
    let class = u8::try_from(leaf.class).unwrap_or_default();
    [subject_key_of(leaf), month_key(class, month_of(leaf))]
}

/// The month whose key a payload is sealed under.
pub(crate) fn month_of(leaf: &Leaf) -> &str {
    leaf.key_id.split('/').nth(1).unwrap_or_default()
}

/// The name of the subject's key that a payload is sealed under.
pub(crate) fn subject_key_of(leaf: &Leaf) -> Vec<u8> {
    subject_key(u8::try_from(leaf.class).unwrap_or_default(), &leaf.subject_tag)
}

/// Begins the names of subjects' keys.
pub(crate) const SUBJECT: u8 = b's';

/// Begins the names of months' keys.
pub(crate) const MONTH: u8 = b'm';

/// The name of a subject's key in a class.
pub(crate) fn subject_key(class: u8, tag: &[u8]) -> Vec<u8> {
    [&[SUBJECT, class], tag].concat()
}

/// The name of a month's key in a class.
pub(crate) fn month_key(class: u8, month: &str) -> Vec<u8> {
    [&[MONTH, class], month.as_bytes()].concat()
}

/// Which generation of the subject's key a payload is sealed under.
pub(crate) fn generation(leaf: &Leaf) -> i64 {
    let generation = leaf.key_id.split('/').nth(2);
    generation.and_then(|text| text.parse().ok()).unwrap_or_default()
}

pub(super) fn class_name(class: i32) -> &'static str {
    let class = RetentionClass::try_from(class).unwrap_or_default();
    class.as_str_name().trim_start_matches("RETENTION_CLASS_")
}

/// The month of a time, as keys are named by it.
pub(crate) fn month(time: Micros) -> String {
    DateTime::from_timestamp(time.seconds(), 0).map_or_else(String::new, |t| t.format("%Y-%m").to_string())
}
