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
