//! How often a HIU breaks the glass is counted first, where it lives, and fixes what is made where she lives.

use chrono::{DateTime, Datelike, Months, NaiveTime};
use sammati_kernel::{ConsentId, Micros, ParticipantId, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::{LIFE, MONTHLY, OPEN};
use crate::rows::{GlassCountRow, OpenGlass};

/// Counts one opening, and fixes the ids of its consents.
pub struct CountGlass {
    /// Who asks.
    pub hiu: ParticipantId,
    /// A keyed hash of the professional.
    pub professional: [u8; 32],
    /// Where she lives.
    pub home: Slot,
    /// How many consents.
    pub consents: usize,
}

impl Command for CountGlass {
    type Answer = Vec<ConsentId>;

    const NAME: &'static str = "consent.break_glass";

    fn slot(&self) -> Slot {
        Slot::of_participant(self.hiu.as_str())
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<GlassCountRow>(self.hiu.as_str());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Vec<ConsentId>, Refusal> {
        let now = view.now();
        let mut row = view
            .get::<GlassCountRow>(self.hiu.as_str().as_bytes())
            .unwrap_or_else(|| GlassCountRow {
                hiu: self.hiu.as_str().to_owned(),
                ..GlassCountRow::default()
            });
        make_room(&mut row, &self.professional, now)?;
        row.count += 1;
        row.open.push(OpenGlass {
            professional: self.professional.to_vec(),
            until: now.plus(LIFE).0,
        });
        view.put(&row);
        let id = |n| view.seed().id(&format!("break glass {n}"), now, self.home);
        Ok((0..self.consents).map(id).collect())
    }

    fn outcome(&self, ids: &Vec<ConsentId>) -> Vec<u8> {
        ids.iter().flat_map(|id| id.to_vec()).collect()
    }
}

/// Forgets what is over, and refuses when there is no room for one more.
///
/// # Errors
/// BREAK_GLASS_LIMIT.
pub fn make_room(row: &mut GlassCountRow, professional: &[u8], now: Micros) -> Result<(), Refusal> {
    let (month, next) = month(now);
    if row.month != month {
        (row.month, row.count) = (month, 0);
    }
    if row.count >= MONTHLY {
        let why = "1000 openings a month are what a facility gets; an operator can tell more";
        return Err(limit(why).retry_after(next.since(now)));
    }
    row.open.retain(|open| now.0 < open.until);
    let mine = row.open.iter().filter(|open| open.professional == professional);
    let (count, first) = (mine.clone().count(), mine.map(|open| open.until).min());
    if count >= OPEN {
        let wait = first.map_or(LIFE, |until| Micros(until).since(now));
        return Err(limit("5 openings of this professional are open; wait until one is over").retry_after(wait));
    }
    Ok(())
}

/// The consents that an outcome names.
pub fn read(outcome: &[u8]) -> Vec<ConsentId> {
    outcome.chunks(16).filter_map(ConsentId::from_slice).collect()
}

pub(super) fn limit(why: &'static str) -> Refusal {
    Refusal::new(Reason::BreakGlassLimit).saying(why)
}

/// The month of `now` as 202611, and when the next one begins, by UTC.
fn month(now: Micros) -> (i64, Micros) {
    let date = DateTime::from_timestamp_micros(now.0).unwrap_or_default().date_naive();
    let next = date
        .with_day(1)
        .and_then(|first| first.checked_add_months(Months::new(1)));
    let next = next.map_or(now.0, |first| {
        first.and_time(NaiveTime::MIN).and_utc().timestamp_micros()
    });
    (i64::from(date.year()) * 100 + i64::from(date.month()), Micros(next))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_facility_has_a_thousand_a_month_and_a_professional_five_at_once() {
        // 2026-11-27T00:00:00Z; December begins four days later.
        let now = Micros(1_795_737_600_000_000);
        let mut row = GlassCountRow {
            month: 202_611,
            count: MONTHLY,
            ..GlassCountRow::default()
        };
        let refused = make_room(&mut row, &[1], now).unwrap_err();
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(
            (refused.reason, refused.retry_after),
            (Reason::BreakGlassLimit, Some(4 * day))
        );
        assert!(make_room(&mut row, &[1], now.plus(4 * day)).is_ok());
        assert_eq!((row.month, row.count), (202_612, 0));

        let until = |n: u64| now.plus(Duration::from_secs(n)).0;
        row.open = (1..=5)
            .map(|n| OpenGlass {
                professional: vec![1],
                until: until(n),
            })
            .collect();
        let refused = make_room(&mut row, &[1], now).unwrap_err();
        assert_eq!(refused.retry_after, Some(Duration::from_secs(1)));
        assert!(make_room(&mut row, &[2], now).is_ok());
        assert!(make_room(&mut row, &[1], Micros(until(1))).is_ok());
        assert_eq!(row.open.len(), 4);
    }
}
