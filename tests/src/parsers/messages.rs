//! Messages: as a request brings them, and as the disk has them.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use sammati_api::consent::v1 as api;
use sammati_consent::decision::Granted;
use sammati_consent::lookup::Lookup;
use sammati_consent::rows::{ConsentRow, tables};
use sammati_consent::wire;
use sammati_kernel::{Caller, Key, Micros, Violations};

use super::{Family, callers, id};

pub(super) const FAMILY: Family = Family {
    name: "messages",
    read,
    seeds,
};

/// What is asked of the services and answered by them, so many of each.
static MESSAGES: LazyLock<Vec<MessageDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(sammati_api::DESCRIPTORS).expect("the contracts");
    let ours = |message: &MessageDescriptor| message.full_name().starts_with("sammati.") && !message.is_map_entry();
    pool.all_messages().filter(ours).collect()
});

fn read(bytes: &[u8]) {
    for caller in callers() {
        asked_of_consent(bytes, &caller);
        sammati_identity::fuzzed::read(bytes, &caller);
        sammati_audit::fuzzed::read(bytes, &caller);
    }
    for table in tables() {
        let _ = table.reads(bytes);
    }
    if let Ok(row) = ConsentRow::decode(bytes) {
        let _ = (Granted::try_from(&row), row.state(), row.resumes());
    }
    // The first bytes say which message, so that each is met, and not all are read each time.
    if let Some((which, rest)) = bytes.split_first_chunk() {
        let which = usize::from(u16::from_be_bytes(*which)) % MESSAGES.len();
        as_json(&MESSAGES[which], rest);
    }
}

/// What is read is written as what is read again, in both of the ways that our clients have.
fn as_json(descriptor: &MessageDescriptor, bytes: &[u8]) {
    let Ok(message) = DynamicMessage::decode(descriptor.clone(), bytes) else {
        return;
    };
    let written = message.encode_to_vec();
    let again = DynamicMessage::decode(descriptor.clone(), written.as_slice()).expect("what was written is read");
    assert_eq!(again.encode_to_vec(), written);
    let _ = serde_json::to_value(&message);
}

/// What was sent of `M`, if it can be.
fn sent<M: Message + Default>(bytes: &[u8], read: impl FnOnce(M)) {
    if let Ok(message) = M::decode(bytes) {
        read(message);
    }
}

fn asked_of_consent(bytes: &[u8], caller: &Caller) {
    let now = Micros::from_seconds(1_800_000_000);
    let lookup = Lookup::new(&Key::from_bytes([1; 32]));
    let v = &mut Violations::new();
    sent(bytes, |r: api::CheckAccessRequest| {
        let _ = (
            wire::decision::parse(&r, caller),
            wire::decision::parse_all(&[&r, &r], "checks", caller),
        );
    });
    sent(bytes, |r: api::ExplainAccessRequest| {
        drop(wire::explain::parse(&r, caller))
    });
    sent(bytes, |r: api::RevokeConsentsRequest| {
        drop(wire::consent::parse_revoke(&r, caller))
    });
    sent(bytes, |r: api::CreateSubscriptionRequest| {
        drop(wire::subscription::parse(&r, caller));
    });
    sent(bytes, |r: api::SetupLockerRequest| {
        drop(wire::subscription::parse_locker(&r))
    });
    sent(bytes, |r: api::CreateTransferRequest| {
        drop(wire::transfer::parse(&r, caller))
    });
    sent(bytes, |r: api::ReportTransferRequest| {
        drop(wire::transfer::parse_report(&r))
    });
    sent(bytes, |r: api::CreateDiscoveryRequest| {
        drop(wire::discovery::parse_start(&r, now))
    });
    sent(bytes, |r: api::AnnounceCareContextsRequest| {
        drop(wire::discovery::parse_announce(&r));
    });
    sent(bytes, |r: api::AnswerDiscoveryRequest| {
        drop(wire::discovery::parse_answer(&r))
    });
    sent(bytes, |r: api::SelectCareContextsRequest| {
        drop(wire::discovery::parse_select(&r))
    });
    sent(bytes, |r: api::ConfirmCareContextsRequest| {
        drop(wire::discovery::parse_confirm(&r))
    });
    sent(bytes, |r: api::IssueLinkTokenRequest| {
        drop(wire::link::parse_issue(&r, now))
    });
    sent(bytes, |r: api::SendDeepLinkRequest| {
        drop(wire::link::parse_deep_link(&r))
    });
    sent(bytes, |r: api::CreateNoticeRequest| drop(wire::notice::parse(&r)));
    sent(bytes, |r: api::AcknowledgeNotificationsRequest| {
        drop(wire::notification::parse(&r));
    });
    sent(bytes, |r: api::CreateRightsRequestRequest| {
        drop(wire::rights::parse_ask(&r))
    });
    sent(bytes, |r: api::AnswerRightsRequestRequest| {
        drop(wire::rights::parse_answer(&r))
    });
    sent(bytes, |r: api::CloseRightsRequestRequest| {
        drop(wire::rights::parse_close(&r))
    });
    sent(bytes, |r: api::CreateProfileShareRequest| {
        drop(wire::share::parse(&r, now))
    });
    sent(bytes, |r: api::AcknowledgeProfileShareRequest| {
        drop(wire::share::parse_acknowledge(&r));
    });
    sent(bytes, |r: api::CreatePolicyRequest| {
        drop(wire::standing::parse(&r, id(), &lookup))
    });
    sent(bytes, |r: api::ApproveConsentRequestRequest| {
        drop(wire::request::parse_grants(v, &r.grants))
    });
    sent(bytes, |r: api::ListConsentsRequest| {
        drop(wire::consent::Filter::parse(v, &r))
    });
    sent(bytes, |r: api::ListConsentRequestsRequest| {
        drop(wire::request::Filter::parse(v, &r))
    });
    sent(bytes, |r: api::ListTransfersRequest| {
        drop(wire::transfer::Filter::parse(v, &r))
    });
    sent(bytes, |r| drop(wire::scope::parse(v, "scope", Some(&r))));
}

/// Each message with every field set, once as it is sent, once behind the number that chooses it.
fn seeds() -> Vec<Vec<u8>> {
    let numbered = MESSAGES.iter().zip(0_u16..);
    let filled = numbered.flat_map(|(descriptor, n)| {
        let message = filled(descriptor, 3).encode_to_vec();
        [[n.to_be_bytes().as_slice(), &message].concat(), message]
    });
    filled.collect()
}

fn filled(descriptor: &MessageDescriptor, depth: u8) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields().filter(|field| !field.is_map()) {
        if let Some(value) = value(&field, depth) {
            let value = if field.is_list() {
                Value::List(vec![value])
            } else {
                value
            };
            message
                .try_set_field(&field, value)
                .expect("a value of the field's type");
        }
    }
    message
}

fn value(field: &FieldDescriptor, depth: u8) -> Option<Value> {
    Some(match field.kind() {
        Kind::Message(_) if depth == 0 => return None,
        Kind::Message(of) => Value::Message(filled(&of, depth - 1)),
        Kind::Enum(_) => Value::EnumNumber(1),
        Kind::String => Value::String(text(field.name())),
        Kind::Bytes => Value::Bytes(vec![1; 32].into()),
        Kind::Bool => Value::Bool(true),
        Kind::Float => Value::F32(1.0),
        Kind::Double => Value::F64(1.0),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(1),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(1),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(1_700_000_000),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(1),
    })
}

/// A good value of fields that are called so, as often as not.
fn text(field: &str) -> String {
    let id = id();
    match field {
        "subject" | "account" => id.name(),
        "hip" | "hiu" | "participant" | "recipient" => "participants/HOSP-1".to_owned(),
        "consent" | "name" | "names" => format!("consents/{id}"),
        "log" | "successor" => "logs/2026h2".to_owned(),
        "month" => "2026-11".to_owned(),
        "mobile" => "9876543210".to_owned(),
        "event_id" | "event_ids" | "request_id" => id.to_string(),
        _ => "good".to_owned(),
    }
}
