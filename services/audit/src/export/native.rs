//! The events as the contract has them, in protobuf's own JSON: what `sammati-verify subject` reads.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Map, Value, json};

use super::Told;

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(sammati_api::DESCRIPTORS).ok());

pub(super) fn event(told: &Told<'_>) -> Value {
    let mut event = Map::new();
    event.insert("name".to_owned(), told.name.into());
    event.insert("header".to_owned(), message("sammati.audit.v1.Leaf", told.header));
    match told.payload {
        Some(payload) => event.insert("payload".to_owned(), message("sammati.audit.v1.Payload", payload)),
        None if told.archived => event.insert("payloadState".to_owned(), "PAYLOAD_STATE_ARCHIVED".into()),
        None => event.insert("payloadState".to_owned(), "PAYLOAD_STATE_ERASED".into()),
    };
    json!({
        "event": event,
        "leaf": STANDARD.encode(told.leaf),
        "proof": told.bundle.to_string(),
    })
}

pub(super) fn head(note: &str, checkpoint: &str) -> Value {
    json!({"subjectHead": {"note": note, "checkpoint": checkpoint}})
}

/// A message as grpcurl prints it.
fn message(name: &str, message: &impl Message) -> Value {
    let descriptor = POOL.as_ref().and_then(|pool| pool.get_message_by_name(name));
    let dynamic = descriptor.and_then(|of| DynamicMessage::decode(of, message.encode_to_vec().as_slice()).ok());
    // The descriptors are those that the message was generated from.
    dynamic
        .and_then(|message| serde_json::to_value(message).ok())
        .unwrap_or_default()
}
