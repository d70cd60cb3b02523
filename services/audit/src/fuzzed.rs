//! What audit reads of bytes from outside or from its disk and lets nobody else call: for tests, which bend such bytes.

use prost::Message;
use sammati_api::audit::v1 as api;
use sammati_kernel::Caller;
use sammati_log::path::Resource;

use crate::list::Place;
use crate::rows::LeafRow;
use crate::subject::Walk;
use crate::{erase, http, posting, rows, wire, witness};

/// Reads `bytes` as everything that they could be, sent by `caller` where it matters.
pub fn read(bytes: &[u8], caller: &Caller) {
    disk(bytes);
    if let Some(place) = Place::read(bytes) {
        assert_eq!(place.write(), bytes);
    }
    if let Some(walk) = Walk::read(bytes) {
        assert_eq!(walk.write(), bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        paths(text);
        let _ = wire::account(text);
        let _ = wire::archive_basis(caller, text);
        let _ = wire::subject(caller, "", text);
    }
    requests(bytes);
}

fn disk(bytes: &[u8]) {
    let tables = [rows::log_tables(), rows::key_tables(), witness::tables()];
    for table in tables.iter().flatten() {
        let _ = table.reads(bytes);
    }
    if let Ok(row) = LeafRow::decode(bytes) {
        let header = row.header();
        let _ = (row.postings(), row.hash(), LeafRow::day(&header));
    }
    posting::read_page(bytes);
    let _ = (erase::month_of(bytes), wire::index_of(bytes));
}

fn paths(text: &str) {
    const ORIGIN: &str = "sammati.local/audit/2026h2";
    if let Some(path) = http::below(ORIGIN, text) {
        assert!(text.ends_with(path));
        let _ = Resource::parse(path);
    }
    if let Some((log, index)) = wire::parse_event_name(text) {
        assert_eq!(wire::event_name(&log, index), text);
    }
}

/// What was sent of `M`, if it can be.
fn sent<M: Message + Default>(bytes: &[u8], read: impl FnOnce(M)) {
    if let Ok(message) = M::decode(bytes) {
        read(message);
    }
}

fn requests(bytes: &[u8]) {
    sent(bytes, |r: api::AppendEventsRequest| drop(wire::batch(r.batch)));
    sent(bytes, |r: api::StreamEventsRequest| {
        drop(wire::direct_events(r.events, "events"));
    });
    sent(bytes, |r: api::GetEventRequest| drop(wire::which_event(r)));
    sent(bytes, |r: api::ListEventsRequest| drop(wire::filter(&r)));
    sent(bytes, |r: api::ExportEventsRequest| {
        let _ = (wire::how(&r), wire::exported(&r));
    });
    sent(bytes, |r: api::ListSourceEventsRequest| drop(wire::feeds(r.feeds)));
    sent(bytes, |r: api::WatchEventsRequest| drop(wire::watch_from(&r)));
    sent(bytes, |r: api::SealLogRequest| drop(wire::sealed(&r)));
    sent(bytes, |r: api::GetCheckpointRequest| drop(wire::which_checkpoint(&r)));
    sent(bytes, |r: api::GetProofRequest| drop(wire::which_leaves(&r)));
    sent(bytes, |r: api::GetConsistencyProofRequest| drop(wire::sizes(&r)));
    sent(bytes, |r: api::GetTileRequest| drop(wire::which_tile(&r)));
    sent(bytes, |r: api::AddCosignatureRequest| drop(wire::cosigned_size(&r)));
    sent(bytes, |r: api::ExpireClassRequest| drop(wire::expired_class(&r)));
    sent(bytes, |r: api::CreateLegalHoldRequest| drop(wire::hold(&r)));
    sent(bytes, |r: api::LiftLegalHoldRequest| drop(wire::lifted_hold(&r)));
    sent(bytes, |r: api::ExportArchiveRequest| drop(wire::archive(&r)));
    sent(bytes, |r: api::EraseSubjectRequest| drop(wire::erased_subject(&r)));
    sent(bytes, |r: api::SummarizeAccessRequest| {
        drop(wire::occurred(r.occurred_range.as_ref()));
    });
}
