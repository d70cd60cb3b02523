//! Days and years begin by the clocks of India, where the people live, and not by UTC.

use std::time::Duration;

use chrono::{DateTime, Datelike};

use crate::Micros;

/// How far India's clocks are ahead of UTC.
pub const EAST: Duration = Duration::from_secs(5 * 3600 + 1800);

/// The year that it is in India.
pub fn year_in_india(now: Micros) -> i32 {
    // What no calendar has is before every year that is asked about.
    DateTime::from_timestamp_micros(now.plus(EAST).0).map_or(0, |there| there.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_begins_in_india_before_it_does_in_utc() {
        // 31 December 2026, 18:30 UTC.
        let midnight = Micros::from_seconds(1_798_741_800);
        assert_eq!(year_in_india(midnight), 2027);
        assert_eq!(year_in_india(Micros(midnight.0 - 1)), 2026);
        assert_eq!(year_in_india(Micros(i64::MAX)), 0);
    }
}
