//! What is a participant? Its states, and the commands that move it.

mod change;
mod create;
mod keys;

use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::Caller;
use sammati_server::event::Draft;

pub(crate) use change::{Change, What};
pub(crate) use create::Create;

use crate::rows::ParticipantRow;

/// An event about a participant.
fn told(event_type: &str, action: Action, row: &ParticipantRow, caller: &Caller) -> Draft {
    let name = row.id().map(|id| id.name()).unwrap_or_default();
    Draft::new(event_type, action, RetentionClass::Admin, caller).resource(&name, row.version)
}
