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
use sammati_server::relay::CONSUMER;
use sammati_store::verbs::Known;
pub(crate) use sammati_store::{EmbeddedMigrations, embed_migrations};
use sammati_store::{KEPT, Passing, Pruning, Record};
pub(crate) use session::{EndedSession, RepresentedRow, SessionRow};
pub(crate) use transaction::{AttemptRow, Target, TransactionRow, Verdict};

use crate::session::PERSON_LIFE;
use crate::transaction::LIFE;

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

/// What leaves: sessions and transactions a week after none of them can be good any more, for whoever repeats a call or asks what
/// became of one. What was told of them stays in the log.
pub(crate) const PRUNING: Pruning = Pruning {
    consumers: &[CONSUMER],
    passing: &[
        Passing {
            table: SessionRow::TABLE,
            needed: PERSON_LIFE.saturating_add(LIFE).saturating_add(KEPT),
        },
        Passing {
            table: TransactionRow::TABLE,
            needed: LIFE.saturating_add(KEPT),
        },
    ],
};

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
