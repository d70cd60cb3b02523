//! When is somebody of age?

use chrono::{Datelike, Months, NaiveDate};
use sammati_api::identity::v1::BirthDate;
use sammati_kernel::{EAST, Micros};

/// The years of a child.
const YEARS: u32 = 18;

/// The beginning, in India, of the 18th birthday; of one whose month or day is not known the last that it can be, so that
/// nobody is taken for an adult too early. `None` for what is no date.
pub(crate) fn majority(birth: &BirthDate) -> Option<Micros> {
    let known = |n: i32| u32::try_from(n).ok().filter(|n| *n != 0);
    let month = known(birth.month);
    let first = NaiveDate::from_ymd_opt(birth.year, month.unwrap_or(12), 1)?;
    let born = match known(birth.day).filter(|_| month.is_some()) {
        Some(day) => first.with_day(day)?,
        None => first.checked_add_months(Months::new(1))?.pred_opt()?,
    };
    let of_age = match born.with_year(born.year() + i32::try_from(YEARS).ok()?) {
        Some(day) => day,
        // Born on 29 February: it has passed when March begins.
        None => NaiveDate::from_ymd_opt(born.year() + i32::try_from(YEARS).ok()?, 3, 1)?,
    };
    let midnight = of_age.and_hms_opt(0, 0, 0)?.and_utc().timestamp();
    Some(Micros::from_seconds(midnight).minus(EAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i32, month: i32, day: i32) -> Option<String> {
        let time = majority(&BirthDate { year, month, day })?;
        let local = chrono::DateTime::from_timestamp(time.plus(EAST).seconds(), 0)?;
        Some(local.format("%Y-%m-%d %H:%M").to_string())
    }

    #[test]
    fn of_age_at_the_eighteenth_birthday_in_india_and_never_too_early() {
        for (birth, expected) in [
            ((2010, 3, 9), Some("2028-03-09 00:00")),
            ((2008, 2, 29), Some("2026-03-01 00:00")),
            ((2010, 2, 0), Some("2028-02-28 00:00")),
            ((2010, 0, 0), Some("2028-12-31 00:00")),
            ((2010, 0, 9), Some("2028-12-31 00:00")),
            ((2010, 13, 1), None),
            ((2010, 2, 30), None),
        ] {
            assert_eq!(at(birth.0, birth.1, birth.2).as_deref(), expected, "{birth:?}");
        }
    }
}
