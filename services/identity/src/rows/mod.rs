//! How is it kept? The records of this service and what they are looked up by.

mod account;
mod guard;
mod participant;
mod representation;
mod session;
mod transaction;

pub(crate) use account::{AccountRow, AddressRow, Credential, DataKeyRow, Portrait, PortraitRow, Profile};
pub(crate) use guard::{GuardRow, PurposeBlock};
pub(crate) use participant::ParticipantRow;
pub(crate) use representation::{EvidenceRow, Mandate, RepresentationRow};
use sammati_store::verbs::Known;
pub(crate) use sammati_store::{EmbeddedMigrations, embed_migrations};
pub(crate) use session::{EndedSession, RepresentedRow, SessionRow};
pub(crate) use transaction::{AttemptRow, Target, TransactionRow, Verdict};

/// The tables of this service.
pub(crate) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Its tables as fsck reads them.
pub(crate) fn tables() -> Vec<Known> {
    vec![
        Known::of::<AccountRow>(),
        Known::of::<DataKeyRow>(),
        Known::of::<GuardRow>(),
        Known::of::<ParticipantRow>(),
        Known::of::<PortraitRow>(),
        Known::of::<RepresentationRow>(),
        Known::of::<SessionRow>(),
        Known::of::<TransactionRow>(),
    ]
}

/// The etag of a resource in `version`.
pub(crate) fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Refuses when the caller names an etag and it is not the current one.
pub(crate) fn check_etag(given: &str, version: i64) -> Result<(), sammati_kernel::Refusal> {
    if given.is_empty() || given == etag(version) {
        Ok(())
    } else {
        Err(sammati_kernel::Reason::EtagMismatch.into())
    }
}
