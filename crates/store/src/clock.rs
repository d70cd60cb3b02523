//! A replica decides by its own clock; so that must not be far from the database's, which all replicas share, nor far
//! behind what was committed, whose time no later commit goes back of.

use std::time::Duration;

use sammati_kernel::{Clock, Micros};

use crate::error::Error;

/// How far this process's clock may be from the database's.
pub const SKEW: Duration = Duration::from_secs(1);

/// How far a commit may lie ahead of this process's clock: as far as two replicas may be apart.
const AHEAD: Duration = Duration::from_secs(2 * SKEW.as_secs());

/// Holds what the database said against this process's clock. It said so after `began`, and some time before now.
pub(crate) fn compare(clock: &dyn Clock, began: Micros, reported: i64) -> Result<(), Error> {
    let database = clock.database(Micros(reported));
    let skew = began.since(database).max(database.since(clock.now()));
    if skew > SKEW {
        return Err(Error::ClockSkew(i64::try_from(skew.as_millis()).unwrap_or(i64::MAX)));
    }
    Ok(())
}

/// Holds the time of a commit against this process's clock. Far ahead of it, all that is decided there would be decided as of
/// that time: request ids, OTPs and consents that are good would be expired.
pub(crate) fn expect_past(clock: &dyn Clock, committed: Micros) -> Result<(), Error> {
    let ahead = committed.since(clock.now());
    if ahead > AHEAD {
        return Err(Error::Ahead(ahead.as_secs()));
    }
    Ok(())
}
