//! Withdrawing a request before she decides.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Caller, ConsentRequestId, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{Verb, advance, asker, draft, subject};
use crate::notification::notify;
use crate::policy;
use crate::rows::{self, RequestRow};

/// CancelConsentRequest.
pub struct CancelRequest {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub request: ConsentRequestId,
    /// The etag that was read.
    pub etag: String,
}

impl Command for CancelRequest {
    type Answer = ();

    const NAME: &'static str = "consent.cancel_request";

    fn slot(&self) -> Slot {
        self.request.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<RequestRow>(self.request.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = policy::may_cancel(&self.caller, view.get::<RequestRow>(self.request.as_bytes()))?;
        rows::check_etag(&self.etag, row.version)?;
        advance(view, &mut row, Verb::Cancel)?;
        cancel(view, &row, &self.caller, Grounds::default())
    }
}

/// What a cancellation rests on, beside the word of its asker.
#[derive(Default)]
pub(crate) struct Grounds<'a> {
    /// The event that caused it; empty: none.
    pub(crate) cause: &'a str,
    /// The law or fact; empty: none.
    pub(crate) legal_basis: &'a str,
}

/// Keeps a request that was cancelled, and tells of it.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub(crate) fn cancel(
    view: &mut View<'_>,
    row: &RequestRow,
    caller: &Caller,
    grounds: Grounds<'_>,
) -> Result<(), Refusal> {
    view.put(row);
    let mut told = draft("consent.request_cancelled", Action::Update, caller, row)?.because_of(grounds.cause);
    grounds.legal_basis.clone_into(&mut told.payload().legal_basis);
    let told = told.emit(view);
    let both = asker(row).person(subject(row));
    let kind = Kind::ConsentRequestCancelled;
    notify(view, told, kind, &row.id()?.name(), &both, subject(row));
    Ok(())
}
