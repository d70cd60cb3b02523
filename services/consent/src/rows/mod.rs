//! How is it kept? The records of this service, one prost message each, and the columns they are looked up by.
//!
//! What is personal (addresses, references, words of hers) stands in `sealed` fields, under her data key.

mod break_glass;
mod consent;
mod discovery;
mod link;
mod notice;
mod request;
mod rights;
mod scope;
mod standing;
mod status_list;
mod step_up;
mod study;
mod subscription;
mod transfer;

pub use break_glass::{BreakGlassRow, GlassCountRow, OpenGlass, WordRow};
pub use consent::{ArtefactRow, ConsentRow};
pub use discovery::{DiscoveryRow, Known, ProfileShareRow};
pub use link::{CareContextRow, DataKeyRow, LinkRow, LinkTryRow};
pub use notice::{LISTED, NoticeRow, NoticeTextsRow, NoticeVersionRow, OF_OPERATORS};
pub use request::RequestRow;
pub use rights::{AGAINST_US, ALL_RIGHTS, AnswerRow, Answered, KeptRow, RightsRow};
pub use scope::ScopeRow;
pub use standing::{ExcludedRow, PolicyRow};
pub use status_list::StatusListRow;
pub use step_up::{SpentRow, StepUpRow};
pub use study::{CohortChunkRow, CohortCountRow, CohortUseRow, EVERY, EthicsRow, MemberRow, StudyAskRow, StudyRow};
pub use subscription::{SourcesRow, SubscriptionRow};
pub use transfer::{NotificationRow, TransferRow};

use sammati_kernel::{AccountId, Id, IdKind, Micros, ParticipantId, Reason, Refusal, RepresentationId};
use sammati_store::{Cell, verbs};
use sammati_store::{EmbeddedMigrations, embed_migrations};

/// The schema.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Its tables as fsck reads them.
pub fn tables() -> Vec<verbs::Known> {
    vec![
        verbs::Known::of::<ArtefactRow>(),
        verbs::Known::of::<CareContextRow>(),
        verbs::Known::of::<CohortChunkRow>(),
        verbs::Known::of::<CohortCountRow>(),
        verbs::Known::of::<CohortUseRow>(),
        verbs::Known::of::<ConsentRow>(),
        verbs::Known::of::<DataKeyRow>(),
        verbs::Known::of::<DiscoveryRow>(),
        verbs::Known::of::<GlassCountRow>(),
        verbs::Known::of::<LinkRow>(),
        verbs::Known::of::<LinkTryRow>(),
        verbs::Known::of::<NoticeRow>(),
        verbs::Known::of::<NoticeTextsRow>(),
        verbs::Known::of::<NotificationRow>(),
        verbs::Known::of::<PolicyRow>(),
        verbs::Known::of::<ProfileShareRow>(),
        verbs::Known::of::<RequestRow>(),
        verbs::Known::of::<RightsRow>(),
        verbs::Known::of::<StatusListRow>(),
        verbs::Known::of::<StepUpRow>(),
        verbs::Known::of::<StudyAskRow>(),
        verbs::Known::of::<StudyRow>(),
        verbs::Known::of::<SubscriptionRow>(),
        verbs::Known::of::<TransferRow>(),
    ]
}

/// A stored value that is not what was written: a bug or a damaged database.
pub fn broken(what: &'static str) -> Refusal {
    tracing::error!(what, "a stored record cannot be read");
    Reason::Internal.into()
}

/// An id from a row.
///
/// # Errors
/// INTERNAL when it is none.
pub fn id<K: IdKind>(bytes: &[u8]) -> Result<Id<K>, Refusal> {
    Id::from_slice(bytes).ok_or_else(|| broken("an id"))
}

/// A participant from a row.
///
/// # Errors
/// INTERNAL when it is none.
pub fn participant(id: &str) -> Result<ParticipantId, Refusal> {
    ParticipantId::parse(id).map_err(|_| broken("a participant id"))
}

/// The person a row belongs to; `None` when the address it was asked under is nobody's.
pub fn account(bytes: &[u8]) -> Option<AccountId> {
    AccountId::from_slice(bytes)
}

/// A time that may be absent, kept as 0.
pub fn time(micros: i64) -> Option<Micros> {
    (micros != 0).then_some(Micros(micros))
}

/// A look-up column of what names somebody; a row that was cleared is found by nobody.
fn named(value: &[u8]) -> Cell {
    Cell::Bytes((!value.is_empty()).then(|| value.to_vec()))
}

/// The name of a representation that may be absent.
pub fn representation(bytes: &[u8]) -> String {
    RepresentationId::from_slice(bytes)
        .map(|id| id.name())
        .unwrap_or_default()
}

/// The etag of a version.
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Refuses when the caller read another version than there is.
///
/// # Errors
/// ETAG_MISMATCH.
pub fn check_etag(sent: &str, version: i64) -> Result<(), Refusal> {
    if sent.is_empty() || sent == etag(version) {
        return Ok(());
    }
    Err(Refusal::new(Reason::EtagMismatch).saying("it changed since you read it; read it again and decide anew"))
}

macro_rules! typed { ($($name:ident $id:ident;)*) => { $(
    /// An id of this kind from a row.
    ///
    /// # Errors
    /// INTERNAL when it is none.
    pub fn $name(bytes: &[u8]) -> Result<sammati_kernel::$id, Refusal> {
        id(bytes)
    }
)* } }

typed! {
    consent_id ConsentId;
    discovery_id DiscoveryId;
    policy_id PolicyId;
    profile_share_id ProfileShareId;
    study_id StudyId;
    subscription_id SubscriptionId;
    request_id ConsentRequestId;
    link_id LinkId;
    notification_id NotificationId;
}
