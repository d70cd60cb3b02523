//! Which provider keeps records of whom.

pub mod add;
pub mod announce;
pub mod deep_link;
pub mod issue;
mod linked;
pub mod token;

pub use linked::as_linked;

use sammati_api::types::v1::CareContextRef;

/// Whether `named` means the linked care context. Whoever names it need not know the patient reference there, but one
/// that it does name must be right.
pub fn fits(named: &CareContextRef, linked: &CareContextRef) -> bool {
    named.care_context_reference == linked.care_context_reference
        && (named.patient_reference.is_empty() || named.patient_reference == linked.patient_reference)
}
