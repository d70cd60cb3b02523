//! What is an account? How a person gets one, her addresses, her password, and who she is to those who ask.

mod address;
mod credential;
mod delete;
mod demographics;
mod enrol;
mod looked;

use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{Caller, Micros};
use sammati_server::event::Draft;

pub(crate) use address::{CreateAddress, PreferAddress};
pub(crate) use credential::{ApplyCredential, ConsumeCredential, UpgradeCredential, may_set, time_of};
pub use delete::Erases;
pub(crate) use delete::{Delete, PATIENCE, have_erased, purge};
pub(crate) use demographics::{Found, compare};
pub(crate) use enrol::{Enrol, Enrolled};
pub(crate) use looked::{LookupRefused, Viewed};

use crate::rows::AccountRow;

impl AccountRow {
    /// Notes a change.
    pub(crate) const fn touch(&mut self, now: Micros) {
        self.version += 1;
        self.update_time = now.0;
    }
}

/// An event about an account.
pub(crate) fn told(event_type: &str, action: Action, row: &AccountRow, caller: &Caller) -> Draft {
    let draft = Draft::new(event_type, action, RetentionClass::General, caller).resource(&row.name(), row.version);
    match row.id() {
        Some(id) => draft.subject(id),
        None => draft,
    }
}
