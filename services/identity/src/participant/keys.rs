//! A participant's keys turn over: one that is replaced stays good for a day beside the new one.

use std::collections::BTreeSet;
use std::time::Duration;

use sammati_api::identity::v1::ParticipantKey;
use sammati_kernel::{Micros, Reason, Refusal};
use sammati_server::event::{micros, timestamp};

/// How long a replaced key stays good.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// The keys after `new` took the place of `old` at `now`.
pub(super) fn replace(
    old: &[ParticipantKey],
    new: &[ParticipantKey],
    now: Micros,
) -> Result<Vec<ParticipantKey>, Refusal> {
    let kids: BTreeSet<&str> = new.iter().map(|key| key.kid.as_str()).collect();
    // Leaving keys: those that new ones replace now, and those that were replaced within the last day.
    let leaving: Vec<ParticipantKey> = old
        .iter()
        .filter(|key| !kids.contains(key.kid.as_str()) && is_good_after(key, now))
        .map(|key| ending(key, now.plus(OVERLAP)))
        .collect();
    if leaving.len() > 1 {
        return Err(Refusal::new(Reason::KeyOverlap).saying(
            "one key at a time: the one replaced before is still good for up to 24 hours beside its successor",
        ));
    }
    Ok(new.iter().cloned().chain(leaving).collect())
}

fn is_good_after(key: &ParticipantKey, now: Micros) -> bool {
    key.to_time.as_ref().and_then(micros).is_none_or(|end| now < end)
}

fn ending(key: &ParticipantKey, at: Micros) -> ParticipantKey {
    let end = key.to_time.as_ref().and_then(micros).map_or(at, |end| end.min(at));
    ParticipantKey {
        to_time: Some(timestamp(end)),
        ..key.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kid: &str) -> ParticipantKey {
        ParticipantKey {
            kid: kid.into(),
            ..ParticipantKey::default()
        }
    }

    #[test]
    fn a_replaced_key_overlaps_for_a_day_and_only_one_does() {
        let t = Micros::from_seconds(1_790_000_000);
        let first = replace(&[key("a")], &[key("b")], t).unwrap();
        assert_eq!(first.iter().map(|k| k.kid.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(first[1].to_time, Some(timestamp(t.plus(OVERLAP))));
        let soon = t.plus(Duration::from_secs(3600));
        assert_eq!(
            replace(&first, &[key("c")], soon).unwrap_err().reason,
            Reason::KeyOverlap
        );
        let later = t.plus(OVERLAP);
        assert_eq!(replace(&first, &[key("c")], later).unwrap().len(), 2);
    }
}
