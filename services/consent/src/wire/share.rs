//! Profile shares on the wire.

use sammati_api::consent::v1 as api;
use sammati_kernel::{Micros, ParticipantId, ProfileShareId, Reason, Refusal, Violations};

use super::discovery::herself;
use super::{Person, check_text, name, participant, stamp};
use crate::rows::{ProfileShareRow, etag};
use crate::share::SEALED;
use crate::vault::Ring;

/// What she shares, and with whom.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse(request: &api::CreateProfileShareRequest, now: Micros) -> Result<(ParticipantId, Person), Refusal> {
    use api::profile_share::Intent;
    let mut v = Violations::new();
    let hip = participant(&mut v, "hip", &request.hip);
    if !is_word(&request.counter, |_| false) {
        v.add("counter", "1 to 20 letters and digits");
    }
    if !matches!(Intent::try_from(request.intent), Ok(intent) if intent != Intent::Unspecified) {
        v.add(
            "intent",
            "INTENT_PROFILE_SHARE, INTENT_PAYMENT or INTENT_HEALTH_RECORD_SHARING",
        );
    }
    let who = match &request.profile {
        None => {
            v.add("profile", "required");
            None
        }
        Some(profile) => {
            for (field, number, most) in [
                ("profile.day_of_birth", profile.day_of_birth, 31),
                ("profile.month_of_birth", profile.month_of_birth, 12),
            ] {
                if !(0..=most).contains(&number) {
                    v.add(field, format!("1 to {most}, or 0"));
                }
            }
            check_text(&mut v, "profile.address", &profile.address, 0, super::TEXT);
            let (identifier, demographics) = (profile.identifier.as_ref(), profile.demographics.as_ref());
            herself(&mut v, "profile.", identifier, demographics, now)
        }
    };
    v.check()?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    Ok((hip.ok_or_else(missing)?, who.ok_or_else(missing)?))
}

/// Her number in the queue.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse_acknowledge(request: &api::AcknowledgeProfileShareRequest) -> Result<ProfileShareId, Refusal> {
    let mut v = Violations::new();
    let share = name(&mut v, "name", &request.name);
    if !is_word(&request.token_number, |b| b == b'-') {
        v.add("token_number", "1 to 20 letters, digits and hyphens");
    }
    v.check()?;
    share.ok_or_else(|| Reason::FieldInvalid.into())
}

fn is_word(text: &str, also: impl Fn(u8) -> bool) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || also(b))
}

/// What she and the HIP see of a share.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn render(row: &ProfileShareRow, ring: &Ring, now: Micros, revision: String) -> Result<api::ProfileShare, Refusal> {
    Ok(api::ProfileShare {
        name: row.id()?.name(),
        hip: format!("participants/{}", row.hip),
        counter: row.counter.clone(),
        intent: row.intent,
        profile: ring.open_as(&row.subject, SEALED, &row.id, &row.sealed)?,
        token_number: row.token_number.clone(),
        state: row.state_at(now).number(),
        expire_time: stamp(row.expire),
        create_time: stamp(row.created),
        update_time: stamp(row.updated),
        etag: etag(row.version),
        revision,
    })
}
