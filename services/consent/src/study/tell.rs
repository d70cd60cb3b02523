//! What the sponsor of a study hears of a person: that something happened, and to which pseudonym.

use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{NotificationId, Refusal, StudyId};
use sammati_server::event::Emitted;
use sammati_store::View;

use crate::notification::ACKNOWLEDGE_WITHIN;
use crate::rows::{ConsentRow, NotificationRow, id};

/// Tells the sponsor of the event `told` about a consent that was given to its study. Her pseudonym is made when it reads.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn tell(view: &mut View<'_>, row: &ConsentRow, kind: Kind, told: Emitted) -> Result<(), Refusal> {
    let study: StudyId = id(&row.study)?;
    let recipient = format!("participants/{}", row.hiu);
    let notification: NotificationId = view.id(&format!("notification {} {recipient}", told.id));
    let now = view.now();
    view.put(&NotificationRow {
        id: notification.to_vec(),
        recipient,
        kind: kind.into(),
        resource: study.name(),
        event_id: told.id.to_string(),
        position: told.position,
        subject: row.subject.clone(),
        created: now.0,
        acknowledge_by: now.plus(ACKNOWLEDGE_WITHIN).0,
        study: row.study.clone(),
        ..NotificationRow::default()
    });
    Ok(())
}
