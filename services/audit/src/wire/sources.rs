//! `ListSourceEventsRequest`: which partitions are asked about, and what their service has of them.

use std::collections::BTreeMap;

use sammati_api::audit::v1 as audit;
use sammati_kernel::{Refusal, Violations};

use super::event::is_uuid_v7;
use crate::rows::SourceRow;

/// The most partitions of one call.
const MAX_FEEDS: usize = 64;

/// The most ids of one partition.
const MAX_IDS: usize = 32;

/// Reads the partitions of a `ListSourceEventsRequest`, with the ids of events that are in them.
///
/// # Errors
/// `FIELD_INVALID` with everything that is wrong.
pub(crate) fn feeds(sent: Vec<audit::FeedEnd>) -> Result<BTreeMap<i32, Vec<String>>, Refusal> {
    let mut wrong = Violations::new();
    if sent.is_empty() || sent.len() > MAX_FEEDS {
        wrong.add("feeds", "required: 1 to 64 partitions");
    }
    let mut feeds = BTreeMap::new();
    for (at, end) in sent.into_iter().enumerate() {
        if !(0..4096).contains(&end.partition) {
            wrong.add(format!("feeds[{at}].partition"), "0 to 4095");
        }
        if end.event_ids.len() > MAX_IDS || !end.event_ids.iter().all(|id| is_uuid_v7(id)) {
            wrong.add(
                format!("feeds[{at}].event_ids"),
                "at most 32, each a UUIDv7 in lower case",
            );
        }
        if feeds.insert(end.partition, end.event_ids).is_some() {
            wrong.add(format!("feeds[{at}].partition"), "each partition once");
        }
    }
    wrong.check()?;
    Ok(feeds)
}

/// How far the log has come, on the wire.
pub(crate) fn position(row: &SourceRow) -> audit::SourcePosition {
    audit::SourcePosition {
        partition: row.partition,
        epoch: row.epoch,
        next_position: row.next,
    }
}

/// An index as a page token carries it, and back.
pub(crate) fn index_of(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}
