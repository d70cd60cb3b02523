//! How long is what kept? The floor that the law sets, below which nothing goes, and the ceiling at which it must.

use std::time::Duration;

use chrono::{DateTime, Months, NaiveDate};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::Micros;

/// The longest life of a consent, in years: as long one may be in force of which no end is known.
const CONSENT_LIFE: u32 = 5;

/// From the floor to the ceiling.
const GRACE: Duration = Duration::from_secs(90 * 86_400);

/// The classes there are.
pub(crate) const CLASSES: [RetentionClass; 5] = [
    RetentionClass::Consent,
    RetentionClass::Access,
    RetentionClass::AadhaarAuth,
    RetentionClass::General,
    RetentionClass::Admin,
];

/// The years that a class is kept.
const fn years(class: RetentionClass) -> u32 {
    match class {
        RetentionClass::Access | RetentionClass::General => 1,
        // What is of no class that is known is kept as long as anything.
        RetentionClass::Consent | RetentionClass::AadhaarAuth | RetentionClass::Admin | RetentionClass::Unspecified => {
            7
        }
    }
}

/// The years that what Aadhaar's regulations have kept may be read as anything else; then it lies in the archive until its floor.
const READABLE: u32 = 2;

/// Whether an event of this class that was taken in then lies in the archive.
pub(crate) fn is_archived(class: RetentionClass, accepted: Micros, now: Micros) -> bool {
    class == RetentionClass::AadhaarAuth && now >= plus_years(accepted, READABLE)
}

/// When the floor of one person's events in a class has passed: counted from the newest; with a consent in force, from the
/// latest end that it can have.
pub(crate) fn floor(class: RetentionClass, newest: Micros, in_force: bool) -> Micros {
    let more = if in_force && class == RetentionClass::Consent {
        CONSENT_LIFE
    } else {
        0
    };
    plus_years(newest, years(class) + more)
}

/// When the floor of a class in a month has passed for everybody; `None` for what is no month.
pub(crate) fn month_floor(class: RetentionClass, month: &str) -> Option<Micros> {
    Some(floor(class, month_end(month)?, true))
}

/// When a month's key must be gone.
pub(crate) fn month_ceiling(class: RetentionClass, month: &str) -> Option<Micros> {
    let floor = month_floor(class, month)?;
    Some(if class == RetentionClass::AadhaarAuth {
        floor
    } else {
        floor.plus(GRACE)
    })
}

fn month_end(month: &str) -> Option<Micros> {
    let (year, number) = month.split_once('-')?;
    let plain = year.len() == 4 && number.len() == 2 && month.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let first = NaiveDate::from_ymd_opt(year.parse().ok()?, number.parse().ok()?, 1).filter(|_| plain)?;
    let next = first.checked_add_months(Months::new(1))?.and_hms_opt(0, 0, 0)?;
    Some(Micros::from_seconds(next.and_utc().timestamp()))
}

fn plus_years(time: Micros, years: u32) -> Micros {
    let later = DateTime::from_timestamp_micros(time.0).and_then(|t| t.checked_add_months(Months::new(12 * years)));
    // Beyond the calendar: never.
    later.map_or(Micros(i64::MAX), |t| Micros(t.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Micros {
        Micros(DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    #[test]
    fn floors_and_ceilings_are_those_of_the_catalogue() {
        use RetentionClass::*;
        let newest = at("2026-11-22T10:00:00Z");
        let floors = [
            (Consent, 2033),
            (Access, 2027),
            (AadhaarAuth, 2033),
            (General, 2027),
            (Admin, 2033),
        ];
        for (class, year) in floors {
            let floor = floor(class, newest, false);
            assert_eq!(floor, at(&format!("{year}-11-22T10:00:00Z")), "{class:?}");
        }
        assert_eq!(floor(Consent, newest, true), at("2038-11-22T10:00:00Z"));
        assert_eq!(month_floor(Access, "2026-11"), Some(at("2027-12-01T00:00:00Z")));
        assert_eq!(month_ceiling(Access, "2026-11"), Some(at("2028-02-29T00:00:00Z")));
        assert_eq!(month_floor(Consent, "2026-12"), Some(at("2039-01-01T00:00:00Z")));
        assert_eq!(
            month_floor(AadhaarAuth, "2026-12"),
            month_ceiling(AadhaarAuth, "2026-12")
        );
        for class in CLASSES {
            let two = at("2028-11-22T10:00:00Z");
            assert!(!is_archived(class, newest, Micros(two.0 - 1)), "{class:?}");
            assert_eq!(is_archived(class, newest, two), class == AadhaarAuth, "{class:?}");
        }
        for wrong in ["", "2026", "2026-13", "26-01", "2026-1", "2026-01-01", "+026-01"] {
            assert_eq!(month_floor(Access, wrong), None, "{wrong}");
        }
    }
}
