//! Who decides for her? A guardian, nominee or delegate does what she could, within the mandate and for as long as it lasts.

use sammati_api::types::v1::CallerKind;
use sammati_kernel::{Caller, Power, PurposeCode, Reason, Refusal, Representing};

/// `CallerKind` of who decides.
pub fn kind(caller: &Caller) -> i32 {
    let kind = match caller.representing() {
        Some(_) => CallerKind::Representative,
        None => CallerKind::Person,
    };
    kind.into()
}

/// What entitles to it, 16 bytes; empty of what is her own doing.
pub fn representation(caller: &Caller) -> Vec<u8> {
    caller
        .representing()
        .map(|acting| acting.representation.to_vec())
        .unwrap_or_default()
}

/// When a consent that ends at `erase` ends at the latest: nothing that is granted for her outlives the mandate, be it that
/// she comes of age or that its period is over.
pub fn ends(caller: &Caller, erase: i64) -> i64 {
    let mandate = caller.representing().and_then(|acting| acting.ends);
    mandate.map_or(erase, |ends| erase.min(ends.0))
}

/// Refuses what a delegate is not let: another purpose, or another participant on either side. What has no purpose, as
/// looking for her records, is within none.
///
/// # Errors
/// POWER_MISSING.
pub fn within<'a>(
    caller: &Caller,
    purpose: Option<PurposeCode>,
    parties: impl IntoIterator<Item = &'a str>,
) -> Result<(), Refusal> {
    let Some(acting) = caller.representing() else {
        return Ok(());
    };
    limits(acting, purpose.as_slice(), parties)
}

/// The same of what is decided beforehand: where it names no purpose, no asker or no provider, it is about all of them, and
/// a delegate who is held to some may not.
///
/// # Errors
/// POWER_MISSING.
pub fn within_standing(caller: &Caller, purposes: &[PurposeCode], asker: &str, hips: &[String]) -> Result<(), Refusal> {
    let Some(acting) = caller.representing() else {
        return Ok(());
    };
    // Nobody is called so, and nobody is held to it.
    let all = hips.is_empty().then_some("");
    let parties = hips.iter().map(String::as_str).chain(all).chain([asker]);
    limits(acting, purposes, parties)
}

/// Refuses to bring back what gives until `end`, where the mandate is over before that.
///
/// # Errors
/// POWER_MISSING.
pub fn lasts(caller: &Caller, end: i64) -> Result<(), Refusal> {
    if ends(caller, end) == end {
        return Ok(());
    }
    Err(beyond(
        "it would go on giving when the representation is over; make one that ends with it",
    ))
}

/// Refuses who acts for her without this power; what she does herself needs none.
///
/// # Errors
/// POWER_MISSING.
pub fn needs(caller: &Caller, power: Power) -> Result<(), Refusal> {
    match caller.representing() {
        Some(acting) if !acting.powers.contains(&power) => Err(Refusal::new(Reason::PowerMissing).saying(format!(
            "the representation does not give the power {} that this needs",
            power.as_str()
        ))),
        _ => Ok(()),
    }
}

fn limits<'a>(
    acting: &Representing,
    purposes: &[PurposeCode],
    parties: impl IntoIterator<Item = &'a str>,
) -> Result<(), Refusal> {
    let let_for = |purpose: &PurposeCode| acting.purposes.contains(purpose);
    if !acting.purposes.is_empty() && (purposes.is_empty() || !purposes.iter().all(let_for)) {
        return Err(beyond("the representation is held to other purposes than this one"));
    }
    let held = |id: &str| acting.participants.iter().any(|held| held.as_str() == id);
    if !acting.participants.is_empty() && !parties.into_iter().all(held) {
        return Err(beyond(
            "the representation is held to other participants: provider and asker must both be among them",
        ));
    }
    Ok(())
}

fn beyond(why: &'static str) -> Refusal {
    Refusal::new(Reason::PowerMissing).saying(why)
}
