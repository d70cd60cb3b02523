//! Is what was committed ahead of the clock? What a doctor says of a clock that was fast once.

use sammati_kernel::{Clock, Micros};

use super::look::Remark;
use crate::error::Error;
use crate::{Location, clock, heads};

/// Looks at when a database was last committed to; nothing where [`super::look`] told why it cannot be read, or that it is new.
/// `time_only_orders` is as [`crate::Options::time_only_orders`].
pub fn ahead(location: &Location, clock: &dyn Clock, time_only_orders: bool) -> Option<Remark> {
    let latest = location.look().and_then(|mut conn| heads::latest(&mut conn)).ok()??;
    let Err(error) = clock::expect_past(clock, Micros(latest)) else {
        return Some(Remark::ok("nothing was committed ahead of this machine's clock"));
    };
    Some(remark(&error, time_only_orders))
}

fn remark(error: &Error, time_only_orders: bool) -> Remark {
    match time_only_orders {
        true => Remark::warn(
            error.to_string(),
            "this database goes on, and its time stands still until the clock has come so far",
        ),
        false => Remark::fail(
            error.to_string(),
            "as it says: until then nothing is written or confirmed",
        ),
    }
}
