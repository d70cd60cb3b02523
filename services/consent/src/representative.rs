//! Who decides for her? A guardian, nominee or delegate does what she could, within the mandate and for as long as it lasts.

use sammati_api::types::v1::CallerKind;
use sammati_kernel::{Caller, PurposeCode, Reason, Refusal};

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

/// Refuses what a delegate is not let: another purpose, or another participant on either side.
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
    let purposes = &acting.purposes;
    if !purposes.is_empty() && !purpose.is_some_and(|purpose| purposes.contains(&purpose)) {
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
