//! Has a database the room that it may take?

use super::Remark;
use crate::Location;
use crate::room::{Budget, measure};

/// Compares what a database takes with what it may take. Nothing to say without bounds, or where it cannot be looked at.
pub fn room(location: &Location, budget: Budget) -> Option<Remark> {
    if budget == Budget::default() {
        return None;
    }
    let path = match location {
        Location::Sqlite(path) => Some(path.as_path()),
        Location::Postgres { .. } => None,
    };
    let usage = location.look().and_then(|mut conn| measure(&mut conn, path)).ok()?;
    let Some(why) = budget.exceeded(usage) else {
        let most = budget
            .bytes
            .map_or("as much as there is".to_owned(), |most| format!("{} MiB", most >> 20));
        return Some(Remark::ok(format!(
            "it takes {} MiB and may take {most}",
            usage.bytes >> 20
        )));
    };
    let advice = "make the disk larger, or raise database.disk_budget_bytes and start again: until then only what takes \
                  away or protects is written. A Postgres database shrinks by VACUUM FULL alone";
    Some(Remark::fail(
        format!("the database has used up its room: {why}"),
        advice,
    ))
}
