//! Is this artefact good? From its bytes, and then from what its consent is now.

use sammati_kernel::jws::{self, Bad};
use sammati_kernel::{ConsentId, Micros, ParticipantId};
use serde::Deserialize;

use super::{ArtefactKeys, TYP};

/// What clocks may differ by, in seconds.
const SKEW: i64 = 60;

/// The claims that are looked at.
#[derive(Debug, Clone, Deserialize)]
pub struct Read {
    /// The consent manager.
    pub iss: String,
    aud: String,
    nbf: i64,
    exp: i64,
    consent_id: String,
    /// The version that it is of.
    pub version: i32,
}

impl Read {
    /// The consent.
    pub fn consent(&self) -> Option<ConsentId> {
        ConsentId::parse_name(&format!("consents/{}", self.consent_id))
    }
}

/// The first thing that is wrong with the bytes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// No artefact.
    Form,
    /// No key of ours.
    KeyUnknown,
    /// Not signed by it.
    Signature,
    /// Of another consent manager.
    Issuer,
    /// Another's copy.
    Audience,
    /// Not now.
    Time,
}

/// Reads an artefact whose signature verifies, and says what else is wrong with it at `now`.
///
/// # Errors
/// What is wrong with its form or signature.
pub fn read(
    keys: &ArtefactKeys,
    token: &str,
    manager: &str,
    audience: Option<&ParticipantId>,
    now: Micros,
) -> Result<(Read, Option<Wrong>), Wrong> {
    let read = jws::verify::<Read>(token, TYP, |kid| keys.find(kid)).map_err(|bad| match bad {
        Bad::Form | Bad::Kind => Wrong::Form,
        Bad::UnknownKey => Wrong::KeyUnknown,
        Bad::Signature => Wrong::Signature,
    })?;
    let now = now.seconds();
    let wrong = if read.iss != manager {
        Some(Wrong::Issuer)
    } else if audience.is_some_and(|id| id.name() != read.aud) {
        Some(Wrong::Audience)
    } else if now + SKEW < read.nbf || now >= read.exp.saturating_add(SKEW) {
        Some(Wrong::Time)
    } else {
        None
    };
    Ok((read, wrong))
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::Ed25519KeyPair;
    use sammati_kernel::jws::SigningKey;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// What is wrong now with an artefact of these times.
    fn wrong(nbf: i64, exp: i64) -> Option<Wrong> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let keys = ArtefactKeys::of(SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap());
        let claims = json!({
            "iss": "manager", "aud": "participants/lab", "nbf": nbf, "exp": exp, "consent_id": "none", "version": 1,
        });
        let token = keys.active().sign(TYP, &claims).unwrap();
        read(&keys, &token, "manager", None, Micros::from_seconds(NOW))
            .unwrap()
            .1
    }

    #[test]
    fn an_artefact_is_good_from_its_first_second_to_its_last_and_as_far_as_clocks_differ() {
        assert_eq!(wrong(NOW, NOW + 1), None);
        assert_eq!(wrong(NOW + SKEW, NOW - SKEW + 1), None);
        assert_eq!(wrong(NOW + SKEW + 1, NOW + 2 * SKEW), Some(Wrong::Time), "not yet");
        assert_eq!(wrong(NOW - 2 * SKEW, NOW - SKEW), Some(Wrong::Time), "no more");
    }

    /// A key that was stolen may sign anything: no time overflows.
    #[test]
    fn times_at_the_ends_of_their_range_are_times() {
        assert_eq!(wrong(i64::MIN, i64::MAX), None);
        assert_eq!(wrong(i64::MAX, i64::MAX), Some(Wrong::Time));
        assert_eq!(wrong(i64::MIN, i64::MIN), Some(Wrong::Time));
    }
}
