//! Notifications on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::acknowledge_notifications_request::Outcome;
use sammati_kernel::{NotificationId, Reason, Refusal, Violations};

use super::{check_text, name, stamp};
use crate::notification::acknowledge::is_late;
use crate::rows::{NotificationRow, etag, notification_id};

/// Acknowledgements of one call.
pub const ACKNOWLEDGE: usize = 1000;

/// Too many acknowledgements for one call.
pub fn too_many() -> Refusal {
    let mut refusal = Refusal::field("names", "at most 1000 in one call; with up_to, choose an earlier place");
    refusal.reason = Reason::BatchLimit;
    refusal
}

/// Which notifications are acknowledged by name; none with `up_to`.
///
/// # Errors
/// FIELD_INVALID or BATCH_LIMIT.
pub fn parse(request: &api::AcknowledgeNotificationsRequest) -> Result<Vec<NotificationId>, Refusal> {
    if request.names.len() > ACKNOWLEDGE {
        return Err(too_many());
    }
    let mut v = Violations::new();
    if request.names.is_empty() == request.up_to.is_empty() {
        v.add("names", "either names or up_to");
    }
    let names: Vec<NotificationId> = request
        .names
        .iter()
        .enumerate()
        .filter_map(|(n, text)| name(&mut v, &format!("names[{n}]"), text))
        .collect();
    if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
        v.add("names", "each once");
    }
    if !matches!(Outcome::try_from(request.outcome), Ok(Outcome::Ok | Outcome::Error)) {
        v.add("outcome", "OUTCOME_OK or OUTCOME_ERROR");
    }
    check_text(&mut v, "error_text", &request.error_text, 0, super::TEXT);
    if !request.error_text.is_empty() && request.outcome() != Outcome::Error {
        v.add("error_text", "only with OUTCOME_ERROR");
    }
    v.check()?;
    Ok(names)
}

/// A notification, with its place in the stream. It changes once, when it is acknowledged.
pub fn render(row: &NotificationRow, token: &str, revision: String) -> api::Notification {
    let name = notification_id(&row.id).map(|id| id.name()).unwrap_or_default();
    api::Notification {
        name,
        recipient: row.recipient.clone(),
        kind: row.kind,
        resource: row.resource.clone(),
        event_id: row.event_id.clone(),
        position: token.to_owned(),
        acknowledge_by_time: stamp(row.acknowledge_by),
        acknowledge_time: stamp(row.acknowledged),
        create_time: stamp(row.created),
        update_time: stamp(row.created.max(row.acknowledged)),
        etag: etag(1 + i64::from(row.acknowledged != 0)),
        revision,
        late: is_late(row, row.acknowledged),
        hip: if row.hip.is_empty() {
            String::new()
        } else {
            format!("participants/{}", row.hip)
        },
        hi_types: row.hi_types.clone(),
        pseudonym: String::new(),
    }
}
