//! What identity reads of bytes from outside or from its disk and lets nobody else call: for tests, which bend such bytes.

use prost::Message;
use sammati_api::identity::v1 as api;
use sammati_kernel::{Caller, Violations};

use crate::account::Enrolled;
use crate::session::{Login, Rotated};
use crate::{password, rows, wire};

/// Reads `bytes` as everything that they could be, sent by `caller` where it matters.
pub fn read(bytes: &[u8], caller: &Caller) {
    for table in rows::tables() {
        let _ = table.reads(bytes);
    }
    let _ = (
        Enrolled::from_bytes(bytes),
        Login::from_bytes(bytes),
        Rotated::from_bytes(bytes),
    );
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = password::parse(text);
    }
    let mut v = Violations::new();
    if let Ok(request) = api::CreateTransactionRequest::decode(bytes) {
        let _ = wire::beginning(&request);
    }
    if let Ok(request) = api::VerifyTransactionRequest::decode(bytes) {
        let _ = wire::proof(&request);
    }
    if let Ok(request) = api::CreateRepresentationRequest::decode(bytes)
        && let Some(proposal) = wire::proposal(&mut v, caller, &request)
    {
        let _ = wire::may_propose(caller, &proposal);
    }
    if let Ok(given) = api::Participant::decode(bytes) {
        let fields = wire::fields_of(&mut v, &given, None);
        wire::kind(&mut v, &given);
        let kept = wire::resource(&mut v, &given, &fields);
        assert!(
            kept.name.is_empty() && kept.state == 0,
            "what is ours to say is not taken over"
        );
    }
}
