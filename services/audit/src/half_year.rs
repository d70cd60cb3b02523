//! Half-years: what logs are named after. They are of UTC, as every time in a log is: one ends at 05:30 of an Indian morning.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime};
use sammati_kernel::Micros;

/// `2026h2`: the half-year of a time.
pub(crate) fn of(time: Micros) -> String {
    let date = DateTime::from_timestamp(time.seconds(), 0).unwrap_or_default();
    format!("{}h{}", date.year(), if date.month() <= 6 { 1 } else { 2 })
}

/// When the half-year of this name is over; `None` if it is the name of none.
pub(crate) fn end(name: &str) -> Option<Micros> {
    let (year, half) = name.split_once('h')?;
    let year: i32 = year.parse().ok()?;
    let next = match half {
        "1" => NaiveDate::from_ymd_opt(year, 7, 1),
        _ => NaiveDate::from_ymd_opt(year.checked_add(1)?, 1, 1),
    };
    let end = Micros::from_seconds(next?.and_time(NaiveTime::MIN).and_utc().timestamp());
    // Only as it is spelled here.
    (of(Micros(end.0 - 1)) == name).then_some(end)
}

/// A time as an operator reads it.
pub(crate) fn shown(time: Micros) -> String {
    let time = DateTime::from_timestamp(time.seconds(), 0).unwrap_or_default();
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_year_ends_when_the_next_begins() {
        for (name, ends, next) in [
            ("2026h2", "2027-01-01 00:00 UTC", "2027h1"),
            ("2027h1", "2027-07-01 00:00 UTC", "2027h2"),
        ] {
            let end = end(name).unwrap();
            assert_eq!(shown(end), ends);
            assert_eq!((of(Micros(end.0 - 1)), of(end)), (name.to_owned(), next.to_owned()));
        }
    }

    #[test]
    fn other_names_are_of_no_half_year() {
        for name in [
            "", "next", "2026", "2026h3", "2026h", "+2026h1", "02026h1", "2026h1 ", "h1",
        ] {
            assert_eq!(end(name), None, "{name}");
        }
    }
}
