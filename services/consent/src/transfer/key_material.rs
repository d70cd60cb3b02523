//! The receiver's half of a key agreement, in ABDM's shape: checked, passed on, never used.

use std::time::Duration;

use chrono::DateTime;
use sammati_kernel::{Micros, Reason, Refusal, Violations};
use serde::Deserialize;

/// The longest life of a key.
pub const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The longest text.
const MAX: usize = 4096;

const CONTENT: &str = "key_material.content";

const SHAPE: &str = "ABDM's keyMaterial object as JSON, at most 4096 characters: cryptoAlg, curve, dhPublicKey {expiry, keyValue}, nonce";

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

/// A key in the right shape. Whether it may still be used is a question of the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// As the receiver wrote it.
    pub content: String,
    /// When it expires.
    pub expire: Micros,
    /// When it expires by its own word.
    own_expire: Micros,
}

impl Key {
    /// Reads it; notes every field that has the wrong shape.
    pub fn read(v: &mut Violations, content: &str, expire: Option<Micros>) -> Option<Self> {
        if expire.is_none() {
            v.add("key_material.expire_time", "required");
        }
        let Some(material) = parse(content) else {
            v.add(CONTENT, SHAPE);
            return None;
        };
        let parts = [
            &material.crypto_alg,
            &material.curve,
            &material.public_key.key_value,
            &material.nonce,
        ];
        let filled = parts.iter().all(|part| !part.is_empty());
        if !filled {
            v.add(
                CONTENT,
                "cryptoAlg, curve, dhPublicKey.keyValue and nonce must not be empty",
            );
        }
        let own_expire = DateTime::parse_from_rfc3339(&material.public_key.expiry).ok();
        if own_expire.is_none() {
            v.add(CONTENT, "dhPublicKey.expiry must be a time, RFC 3339");
        }
        Some(Self {
            content: content.to_owned(),
            expire: expire?,
            own_expire: Micros(own_expire.filter(|_| filled)?.timestamp_micros()),
        })
    }

    /// Refuses a key that has expired at `now`, or lives too long.
    ///
    /// # Errors
    /// KEY_MATERIAL_INVALID with every field that is wrong.
    pub fn check_life(&self, now: Micros) -> Result<(), Refusal> {
        let mut v = Violations::new();
        if self.expire <= now {
            v.add("key_material.expire_time", "has passed; make a new key");
        } else if self.expire > now.plus(MAX_LIFE) {
            v.add("key_material.expire_time", "at most 24 hours from now");
        }
        if self.own_expire <= now {
            v.add(CONTENT, "dhPublicKey.expiry must be a time to come");
        }
        v.check_as(Reason::KeyMaterialInvalid)
    }
}

fn parse(content: &str) -> Option<KeyMaterial> {
    (1..=MAX)
        .contains(&content.len())
        .then(|| serde_json::from_str(content).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(expiry: &str, nonce: &str) -> String {
        format!(
            r#"{{"cryptoAlg":"ECDH","curve":"Curve25519","dhPublicKey":{{"expiry":"{expiry}","parameters":"x","keyValue":"AA=="}},"nonce":"{nonce}"}}"#
        )
    }

    fn faults(content: &str, expire: Option<Micros>) -> Vec<String> {
        let mut v = Violations::new();
        let key = Key::read(&mut v, content, expire);
        assert_eq!(key.is_none(), !v.is_empty());
        v.iter().map(|fault| fault.field.to_string()).collect()
    }

    #[test]
    fn abdms_shape_is_taken_and_anything_else_named() {
        let (good, at) = (content("2030-01-01T00:00:00.000Z", "n"), Some(Micros(1)));
        assert_eq!(faults(&good, at), [""; 0]);
        assert_eq!(faults(&good, None), ["key_material.expire_time"]);
        assert_eq!(faults(&content("soon", ""), at), [CONTENT, CONTENT]);
        assert_eq!(faults("{}", None), ["key_material.expire_time", CONTENT]);
        assert_eq!(faults(&"x".repeat(5000), at), [CONTENT]);
    }

    #[test]
    fn a_key_lives_from_now_on_and_for_a_day_at_most() {
        let now = Micros::from_seconds(1_700_000_000);
        let wrong = |expiry: &str, expire: Micros| {
            let key = Key::read(&mut Violations::new(), &content(expiry, "n"), Some(expire)).unwrap();
            key.check_life(now)
                .err()
                .map_or(0, |refusal| refusal.violations.iter().count())
        };
        let (past, future) = ("2020-01-01T00:00:00.000Z", "2030-01-01T00:00:00.000Z");
        assert_eq!((wrong(future, now.plus(MAX_LIFE)), wrong(future, now)), (0, 1));
        assert_eq!(wrong(future, now.plus(MAX_LIFE * 2)), 1);
        assert_eq!((wrong(past, now.plus(MAX_LIFE)), wrong(past, now)), (1, 2));
    }
}
