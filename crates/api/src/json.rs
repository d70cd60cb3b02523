//! Messages as JSON, as Protocol Buffers has it: names in lowerCamelCase, times in RFC 3339, enums by name.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

/// Read once: it is all contracts.
static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(crate::DESCRIPTORS).ok());

/// A message called `full_name`, as `sammati.consent.v1.Consent`; `None` if it is called otherwise.
pub fn encode(full_name: &str, message: &impl Message) -> Option<serde_json::Value> {
    let descriptor = POOL.as_ref()?.get_message_by_name(full_name)?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok()?;
    serde_json::to_value(&message).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::v1::{Consent, consent};

    #[test]
    fn a_message_is_written_as_the_contract_names_it() {
        let consent = Consent {
            name: "consents/1".to_owned(),
            state: consent::State::Granted.into(),
            effective_expire_time: Some(prost_types::Timestamp {
                seconds: 1_800_000_000,
                nanos: 0,
            }),
            ..Consent::default()
        };
        let written = encode("sammati.consent.v1.Consent", &consent).unwrap();
        assert_eq!(
            written,
            serde_json::json!({
                "name": "consents/1",
                "state": "STATE_GRANTED",
                "effectiveExpireTime": "2027-01-15T08:00:00Z",
            })
        );
        assert!(encode("sammati.consent.v1.Nothing", &consent).is_none());
    }
}
