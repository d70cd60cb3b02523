//! How many: in steps, and so often a day, that nobody is found by subtracting.

use std::collections::BTreeMap;
use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_kernel::{Caller, HiType, Micros, Reason, Refusal, Slot};
use sammati_store::{Command, Keys, View};

use super::authorize::Noted;
use crate::rows::{CohortCountRow, StudyRow};

/// Counts a caller has in a day.
pub const BUDGET: i32 = 50;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Takes one of the counts of a day.
pub struct TakeCount {
    /// Who counts.
    pub caller: Caller,
    /// What.
    pub study: StudyRow,
    /// Where it lives.
    pub slot: Slot,
    /// Keyed hash of study and caller.
    pub key: [u8; 32],
}

impl Command for TakeCount {
    /// How many are left.
    type Answer = i32;

    const NAME: &'static str = "study.count";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<CohortCountRow>(self.key.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<i32, Refusal> {
        let row = view.get::<CohortCountRow>(&self.key);
        let row = taken(row.unwrap_or_default(), view.now())?;
        let left = BUDGET - row.count;
        view.put(&CohortCountRow {
            key: self.key.to_vec(),
            ..row
        });
        let noted = Noted {
            event: "study.counted",
            ..Noted::default()
        };
        noted.emit(view, &self.caller, &self.study)?;
        Ok(left)
    }
}

fn taken(mut row: CohortCountRow, now: Micros) -> Result<CohortCountRow, Refusal> {
    let end = Micros(row.since).plus(DAY);
    if row.count == 0 || now >= end {
        (row.since, row.count) = (now.0, 0);
    }
    if row.count >= BUDGET {
        return Err(Refusal::new(Reason::QueryBudget)
            .saying("50 counts of a study are what a caller has in a day; wait until the day is over")
            .retry_after(end.since(now)));
    }
    row.count += 1;
    Ok(row)
}

/// People who permit, by node and kind of record.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<(String, HiType), i64>);

impl Tally {
    /// Of these nodes and kinds, nobody yet: a cell that is empty is told as one that is small.
    pub fn of<'a>(nodes: impl IntoIterator<Item = &'a String>, kinds: impl Iterator<Item = HiType> + Clone) -> Self {
        let cells = nodes.into_iter().flat_map(|node| {
            let kinds = kinds.clone();
            kinds.map(move |kind| ((node.clone(), kind), 0))
        });
        Self(cells.collect())
    }

    /// One more.
    pub fn add(&mut self, node: &str, kinds: &[i32]) {
        for kind in kinds.iter().filter_map(|number| HiType::from_number(*number)) {
            *self.0.entry((node.to_owned(), kind)).or_default() += 1;
        }
    }

    /// In steps of `cell`.
    pub fn rounded(self, cell: i32) -> Vec<api::CohortCount> {
        let cell = i64::from(cell.max(1));
        let told = |((node, kind), count): ((String, HiType), i64)| api::CohortCount {
            node: format!("participants/{node}"),
            hi_type: kind.number(),
            at_least: count / cell * cell,
            fewer: count < cell,
        };
        self.0.into_iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_cell_and_an_empty_one_are_told_alike_and_the_rest_in_steps() {
        let nodes = ["hospital".to_owned(), "lab".to_owned()];
        let mut tally = Tally::of(&nodes, [HiType::Prescription].into_iter());
        for _ in 0..29 {
            tally.add("hospital", &[HiType::Prescription.number()]);
        }
        let counts = tally.rounded(10);
        let told: Vec<_> = counts.iter().map(|c| (c.node.as_str(), c.at_least, c.fewer)).collect();
        assert_eq!(
            told,
            [("participants/hospital", 20, false), ("participants/lab", 0, true)]
        );
        let mut four = Tally::of(&nodes[..1], [HiType::Prescription].into_iter());
        (0..4).for_each(|_| four.add("hospital", &[HiType::Prescription.number()]));
        assert_eq!((four.rounded(10)[0].at_least, 4), (0, 4));
    }

    #[test]
    fn fifty_a_day_and_no_more() {
        let (mut row, day) = (CohortCountRow::default(), Micros(5).plus(DAY));
        for _ in 0..BUDGET {
            row = taken(row, Micros(5)).unwrap();
        }
        let refused = taken(row.clone(), Micros(6)).unwrap_err();
        assert_eq!(refused.reason, Reason::QueryBudget);
        assert_eq!(refused.retry_after, Some(day.since(Micros(6))));
        assert_eq!(taken(row, day).unwrap().count, 1);
    }
}
