//! How is it spelled? Requests into what the log works with, gathering everything that is wrong; rows into answers.

mod append;
mod archive;
mod event;
mod export;
mod list;
mod proof;
mod retention;
mod sources;
mod subject;
mod tile;

use std::time::Duration;

use sammati_api::audit::v1 as audit;
use sammati_kernel::{Refusal, Violations};

pub(crate) use append::{Mended, batch, direct_events};
pub(crate) use archive::{archive, piece};
pub(crate) use export::{export_format, exported, how};
pub(crate) use list::{Filter, filter};
pub(crate) use proof::{Leaves, inclusion, which_leaves};
pub(crate) use retention::{class_erasure, erased_subject, expired_class, hold, lifted_hold};
pub(crate) use sources::{feeds, index_of, position};
pub(crate) use subject::{account, archive_basis, occurred, subject};

use sammati_log::subject::Head;
pub(crate) use tile::{Asked, which_tile};

use crate::keyring::Opened;
use crate::rows::{CheckpointRow, LeafRow, LogKeyRow};

/// The longest wait for an event on its way.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Which event is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// By its place.
    Index(u64),
    /// By its producer's id, waiting that long.
    Event(String, Duration),
}

/// Reads a `GetEventRequest`: the log's name if the event was named by its place, and which event.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn which_event(request: audit::GetEventRequest) -> Result<(Option<String>, Which), Refusal> {
    use audit::get_event_request::Event;
    let mut wrong = Violations::new();
    let wait = wait(
        request.wait,
        matches!(request.event, Some(Event::EventId(_))),
        &mut wrong,
    );
    let found = match request.event {
        None => wrong.keep("name", Err("set name or event_id")),
        Some(Event::Name(name)) => {
            let parsed = parse_event_name(&name).map(|(log, index)| (Some(log), Which::Index(index)));
            wrong.keep("name", parsed.ok_or("must be logs/{id}/events/{index}"))
        }
        Some(Event::EventId(id)) => event_id("event_id", id, &mut wrong).map(|id| (None, Which::Event(id, wait))),
    };
    done(wrong, found)
}

/// Reads the sizes of a `GetConsistencyProofRequest`; 0 is the newest.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn sizes(request: &audit::GetConsistencyProofRequest) -> Result<(u64, u64), Refusal> {
    let mut wrong = Violations::new();
    log_name(&request.log, &mut wrong);
    let first = size("first", request.first, &mut wrong);
    if first == Some(0) {
        wrong.add("first", "1 and up");
    }
    let second = size("second", request.second, &mut wrong);
    let found = first.zip(second);
    if found.is_some_and(|(first, second)| second != 0 && second < first) {
        wrong.add("second", "not below first, or 0 for the newest");
    }
    done(wrong, found)
}

/// Reads the index in a `WatchEventsRequest`.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn watch_from(request: &audit::WatchEventsRequest) -> Result<u64, Refusal> {
    let mut wrong = Violations::new();
    log_name(&request.log, &mut wrong);
    let from = size("from_index", request.from_index, &mut wrong);
    if from.is_some_and(|from| from > 0) && !request.resume_token.is_empty() {
        wrong.add("from_index", "not together with resume_token");
    }
    done(wrong, from)
}

/// The most cosignatures that can be asked for.
const MAX_COSIGNATURES: usize = 16;

/// The longest line of a cosignature: a name and its base64.
const MAX_LINE: usize = 512;

/// Reads a `GetCheckpointRequest`: the size, 0 for the newest, and how many cosignatures it must have.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn which_checkpoint(request: &audit::GetCheckpointRequest) -> Result<(u64, usize), Refusal> {
    let mut wrong = Violations::new();
    log_name(&request.log, &mut wrong);
    let size = size("size", request.size, &mut wrong);
    let at_least = usize::try_from(request.min_cosignatures).ok();
    let at_least = at_least.filter(|n| *n <= MAX_COSIGNATURES).ok_or("0 to 16");
    let found = size.zip(wrong.keep("min_cosignatures", at_least));
    done(wrong, found)
}

/// Reads the size in an `AddCosignatureRequest`.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn cosigned_size(request: &audit::AddCosignatureRequest) -> Result<u64, Refusal> {
    let mut wrong = Violations::new();
    log_name(&request.log, &mut wrong);
    let size = u64::try_from(request.size).ok().filter(|size| *size > 0);
    let size = wrong.keep("size", size.ok_or("1 and up"));
    let line = &request.cosignature;
    if line.is_empty() || line.chars().count() > MAX_LINE || line.contains('\0') {
        wrong.add("cosignature", "a signature line, at most 512 characters");
    }
    done(wrong, size)
}

/// Checks a `SealLogRequest`.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn sealed(request: &audit::SealLogRequest) -> Result<(), Refusal> {
    let mut wrong = Violations::new();
    log_name(&request.log, &mut wrong);
    if !is_log_name(&request.successor) {
        wrong.add("successor", "must be logs/{id}");
    }
    wrong.check()
}

/// `logs/{id}`, whether there is one or not.
fn log_name(name: &str, wrong: &mut Violations) {
    if !is_log_name(name) {
        wrong.add("log", "must be logs/{id}");
    }
}

fn is_log_name(name: &str) -> bool {
    let plain =
        |id: &str| !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    name.strip_prefix("logs/").is_some_and(plain)
}

fn size(field: &'static str, size: i64, wrong: &mut Violations) -> Option<u64> {
    wrong.keep(field, u64::try_from(size).map_err(|_| "0 and up"))
}

fn wait(wait: Option<prost_types::Duration>, by_id: bool, wrong: &mut Violations) -> Duration {
    let Some(asked) = wait else { return Duration::ZERO };
    if !by_id {
        wrong.add("wait", "only with an event id");
    }
    // The conversion carries nanoseconds over into seconds; on the wire they are less than one.
    let whole = (0..1_000_000_000).contains(&asked.nanos);
    let asked = Duration::try_from(asked)
        .ok()
        .filter(|asked| whole && *asked <= MAX_WAIT);
    wrong.keep("wait", asked.ok_or("0 to 10 s")).unwrap_or_default()
}

fn event_id(field: &'static str, id: String, wrong: &mut Violations) -> Option<String> {
    wrong.keep(
        field,
        event::is_uuid_v7(&id)
            .then_some(id)
            .ok_or("must be a UUIDv7 in lower case"),
    )
}

fn done<T>(wrong: Violations, found: Option<T>) -> Result<T, Refusal> {
    wrong.check()?;
    // Nothing wrong was found, so it was read.
    found.ok_or_else(|| sammati_kernel::Reason::Internal.into())
}

pub(crate) fn parse_event_name(name: &str) -> Option<(String, u64)> {
    let (log, index) = name.rsplit_once("/events/")?;
    let number: u64 = index.parse().ok().filter(|n| *n <= sammati_log::MAX_SIZE)?;
    (log.starts_with("logs/") && number.to_string() == index).then(|| (log.to_owned(), number))
}

/// The resource name of the event at `index`.
pub(crate) fn event_name(log: &str, index: u64) -> String {
    format!("{log}/events/{index}")
}

/// A size or index on the wire.
pub(crate) fn number(n: u64) -> i64 {
    // No log has more than i64::MAX leaves.
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// An event of the log on the wire.
pub(crate) fn log_event(log: &str, row: &LeafRow, header: audit::Leaf, opened: Opened) -> audit::LogEvent {
    use audit::log_event::PayloadState;
    let (state, payload) = match opened {
        Opened::Readable(payload) => (PayloadState::Readable, Some(*payload)),
        Opened::Archived(_) => (PayloadState::Archived, None),
        Opened::Erased | Opened::Damaged => (PayloadState::Erased, None),
    };
    audit::LogEvent {
        name: event_name(log, row.index),
        log: log.to_owned(),
        index: number(row.index),
        leaf_hash: row.hash().0.to_vec(),
        header: Some(header),
        payload,
        payload_state: state.into(),
        erasure: None,
    }
}

/// A key of the log on the wire.
pub(crate) fn log_key(row: LogKeyRow) -> audit::LogKey {
    audit::LogKey {
        vkey: row.vkey,
        after_size: number(row.after),
    }
}

/// What the log states of one subject, on the wire.
pub(crate) fn subject_head(head: &Head, note: String, checkpoint: &CheckpointRow) -> audit::SubjectHead {
    audit::SubjectHead {
        subject_tag: head.tag.clone(),
        seq: number(head.seq),
        index: head.index.map(number),
        checkpoint: checkpoint.note.clone(),
        note,
    }
}

/// A checkpoint on the wire.
pub(crate) fn checkpoint(log: &str, row: CheckpointRow) -> audit::Checkpoint {
    audit::Checkpoint {
        name: checkpoint_name(log, row.size),
        log: log.to_owned(),
        size: number(row.size),
        root_hash: row.root,
        note: row.note,
    }
}

/// The name of the checkpoint of this size.
pub(crate) fn checkpoint_name(log: &str, size: u64) -> String {
    format!("{log}/checkpoints/{size}")
}
