//! How often may something be done in a day?

use std::time::Duration;

use sammati_kernel::Micros;
use sammati_store::View;

use crate::rows::LinkTryRow;

/// A day of counting.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Counts one more under `key`, of at most `most` in a day, which begins with its first. Needs the row of that key.
///
/// # Errors
/// How long it takes until the next one, if there were as many; nothing is counted then.
pub(crate) fn count(view: &mut View<'_>, key: &[u8; 32], most: i32) -> Result<(), Duration> {
    let now = view.now();
    let mut tries = view.get::<LinkTryRow>(key).unwrap_or_default();
    if now.since(Micros(tries.since)) >= DAY {
        tries = LinkTryRow {
            key: key.to_vec(),
            since: now.0,
            ..LinkTryRow::default()
        };
    }
    if tries.count >= most {
        return Err(Micros(tries.since).plus(DAY).since(now));
    }
    tries.count += 1;
    view.put(&tries);
    Ok(())
}
