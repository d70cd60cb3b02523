//! A replica decides by its own clock; so that must not be far from the database's, which all replicas share.

use std::time::Duration;

use sammati_kernel::{Clock, Micros};

use crate::error::Error;

/// How far this process's clock may be from the database's.
pub const SKEW: Duration = Duration::from_secs(1);

/// Holds what the database said against this process's clock. It said so after `began`, and some time before now.
pub(crate) fn compare(clock: &dyn Clock, began: Micros, reported: i64) -> Result<(), Error> {
    let database = clock.database(Micros(reported));
    let skew = began.since(database).max(database.since(clock.now()));
    if skew > SKEW {
        return Err(Error::ClockSkew(i64::try_from(skew.as_millis()).unwrap_or(i64::MAX)));
    }
    Ok(())
}
