//! A care context in the words of the provider that linked it.

use sammati_api::types::v1::CareContextRef;
use sammati_kernel::{AccountId, Key, ParticipantId, Reason, Refusal};
use sammati_store::View;

use super::fits;
use crate::lookup::ContextKey;
use crate::rows::CareContextRow;
use crate::vault::open;

/// A care context of hers as its provider linked it to her, opened with her key: nothing that `said` tells of it is signed
/// unchecked (C3).
///
/// # Errors
/// CARE_CONTEXT_NOT_LINKED.
pub fn as_linked<'a>(
    view: &View<'_>,
    (account, hip, at): &(AccountId, &ParticipantId, ContextKey),
    key: &Key,
    said: impl IntoIterator<Item = &'a CareContextRef>,
) -> Result<CareContextRef, Refusal> {
    let row = view.get::<CareContextRow>(at);
    let row = row.filter(|row| row.hip == hip.as_str() && row.subject == account.as_bytes());
    let row = row.ok_or_else(not_linked)?;
    let private = open(key, "care context", &row.key, &row.sealed)?;
    let linked = private.care_contexts.into_iter().next().ok_or_else(not_linked)?;
    let mut said = said.into_iter();
    if said.all(|c| c.care_context_reference != linked.care_context_reference || fits(c, &linked)) {
        Ok(linked)
    } else {
        Err(not_linked())
    }
}

fn not_linked() -> Refusal {
    Refusal::new(Reason::CareContextNotLinked).saying(
        "a care context is not linked to her at this provider, or under another patient reference; leave it out, or let the provider link it",
    )
}
