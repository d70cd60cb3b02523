//! The receiver's half of a key agreement, in ABDM's shape: checked, passed on, never used.

use std::time::Duration;

use chrono::DateTime;
use sammati_kernel::Micros;
use serde::Deserialize;

/// The longest life of a key.
pub const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The longest text.
const MAX: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyMaterial {
    crypto_alg: String,
    curve: String,
    #[serde(rename = "dhPublicKey")]
    public_key: PublicKey,
    nonce: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    expiry: String,
    key_value: String,
}

/// What is wrong with `content` and its expiry at `now`, as fields and sentences; empty when nothing is.
pub fn faults(content: &str, expire: Option<Micros>, now: Micros) -> Vec<(&'static str, &'static str)> {
    let mut faults = Vec::new();
    match expire {
        None => faults.push(("key_material.expire_time", "required")),
        Some(at) if at <= now => faults.push(("key_material.expire_time", "has passed; make a new key")),
        Some(at) if at > now.plus(MAX_LIFE) => faults.push(("key_material.expire_time", "at most 24 hours from now")),
        Some(_) => {}
    }
    let read = (1..=MAX)
        .contains(&content.len())
        .then(|| serde_json::from_str::<KeyMaterial>(content).ok())
        .flatten();
    let Some(material) = read else {
        let shape = "ABDM's keyMaterial object as JSON, at most 4096 characters: cryptoAlg, curve, dhPublicKey {expiry, keyValue}, nonce";
        faults.push(("key_material.content", shape));
        return faults;
    };
    if [
        &material.crypto_alg,
        &material.curve,
        &material.public_key.key_value,
        &material.nonce,
    ]
    .iter()
    .any(|part| part.is_empty())
    {
        faults.push((
            "key_material.content",
            "cryptoAlg, curve, dhPublicKey.keyValue and nonce must not be empty",
        ));
    }
    match DateTime::parse_from_rfc3339(&material.public_key.expiry) {
        Ok(inner) if inner.timestamp_micros() > now.0 => {}
        _ => faults.push((
            "key_material.content",
            "dhPublicKey.expiry must be a time to come, RFC 3339",
        )),
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(expiry: &str, nonce: &str) -> String {
        format!(
            r#"{{"cryptoAlg":"ECDH","curve":"Curve25519","dhPublicKey":{{"expiry":"{expiry}","parameters":"x","keyValue":"AA=="}},"nonce":"{nonce}"}}"#
        )
    }

    #[test]
    fn abdms_shape_is_taken_and_anything_else_named() {
        let now = Micros::from_seconds(1_700_000_000);
        let later = Some(now.plus(Duration::from_secs(3600)));
        assert_eq!(faults(&content("2030-01-01T00:00:00.000Z", "n"), later, now), []);
        assert_eq!(
            faults(&content("2020-01-01T00:00:00.000Z", "n"), later, now)[0].0,
            "key_material.content"
        );
        assert_eq!(faults(&content("2030-01-01T00:00:00.000Z", ""), later, now).len(), 1);
        assert_eq!(faults("{}", Some(now), now).len(), 2);
        assert_eq!(faults(&"x".repeat(5000), None, now).len(), 2);
        let far = Some(now.plus(Duration::from_secs(25 * 3600)));
        assert_eq!(
            faults(&content("2030-01-01T00:00:00.000Z", "n"), far, now)[0].0,
            "key_material.expire_time"
        );
    }
}
