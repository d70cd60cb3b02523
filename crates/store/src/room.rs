//! How much room a database may take. When it is used up, what callers want written is refused before anything of it is
//! queued; what takes away, protects, or makes room goes on, and events are never given up for it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::sql_types::BigInt;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sammati_kernel::{Reason, Refusal};

use crate::AnyConn;
use crate::error::Error;

/// When a caller may come back whose command found no room.
const COME_BACK: Duration = Duration::from_secs(30);

/// The bounds of a database; `None` is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// The most bytes of the database. On SQLite free pages within the file do not count: pruning makes room. Postgres
    /// counts its files, which shrink by VACUUM alone.
    pub bytes: Option<u64>,
    /// The fewest bytes that must be free where an embedded database lies.
    pub free: Option<u64>,
}

/// What a database takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What is in use.
    pub bytes: u64,
    /// What can still be used of an embedded database's disk, free pages of its file included.
    pub free: Option<u64>,
}

impl Budget {
    /// Why this much is too much, if it is.
    pub fn exceeded(&self, usage: Usage) -> Option<String> {
        if let Some(most) = self.bytes.filter(|most| usage.bytes > *most) {
            let used = usage.bytes >> 20;
            return Some(format!(
                "it takes {used} MiB of the {} MiB that it may take",
                most >> 20
            ));
        }
        let (free, least) = (usage.free?, self.free?);
        (free < least).then(|| format!("{} MiB are free of the {} MiB that must be", free >> 20, least >> 20))
    }
}

/// The room of one store.
#[derive(Debug, Default)]
pub(crate) struct Room {
    budget: Budget,
    used_up: AtomicBool,
    gauges: Gauges,
}

#[derive(Debug, Default)]
struct Gauges {
    bytes: Gauge,
    budget: Gauge,
    free: Gauge,
    used_up: Gauge,
    shed: Counter,
}

impl Room {
    pub(crate) fn new(budget: Budget) -> Self {
        let room = Self {
            budget,
            ..Self::default()
        };
        room.gauges.budget.set(shown(budget.bytes));
        room
    }

    /// Whether one more command is taken on.
    pub(crate) fn admit(&self, is_essential: bool) -> Result<(), Refusal> {
        if is_essential || !self.used_up.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.gauges.shed.inc();
        let what =
            "the database has used up its room: what takes away or protects is still done, nothing else is written";
        Err(Refusal::new(Reason::Overloaded).saying(what).retry_after(COME_BACK))
    }

    /// Takes over what was measured.
    pub(crate) fn measured(&self, usage: Usage) {
        self.gauges.bytes.set(shown(Some(usage.bytes)));
        self.gauges.free.set(shown(usage.free));
        let exceeded = self.budget.exceeded(usage);
        self.gauges.used_up.set(i64::from(exceeded.is_some()));
        let before = self.used_up.swap(exceeded.is_some(), Ordering::Relaxed);
        match exceeded {
            Some(why) if !before => tracing::error!(
                "the database has used up its room: {why}; refusing what is not essential. Make room, or raise \
                 database.disk_budget_bytes"
            ),
            None if before => tracing::info!("the database has room again"),
            _ => {}
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let Gauges {
            bytes,
            budget,
            free,
            used_up,
            shed,
        } = &self.gauges;
        registry.register("store_disk_bytes", "What the database takes", bytes.clone());
        registry.register(
            "store_disk_budget_bytes",
            "What the database may take (database.disk_budget_bytes); 0: no bound",
            budget.clone(),
        );
        registry.register(
            "store_disk_free_bytes",
            "What an embedded database can still use of its disk; 0 on Postgres, whose disk is not seen from here",
            free.clone(),
        );
        registry.register(
            "store_disk_used_up",
            "1 while writes are refused for want of room: alert above 0; make room or raise database.disk_budget_bytes",
            used_up.clone(),
        );
        registry.register("store_disk_shed", "Commands refused for want of room", shed.clone());
    }
}

/// As a gauge shows it.
fn shown(bytes: Option<u64>) -> i64 {
    i64::try_from(bytes.unwrap_or(0)).unwrap_or(i64::MAX)
}

#[derive(diesel::QueryableByName)]
struct Measured {
    #[diesel(sql_type = BigInt)]
    used: i64,
    #[diesel(sql_type = BigInt)]
    spare: i64,
}

/// Measures a database; `path` is an embedded one's file.
pub(crate) fn measure(conn: &mut AnyConn, path: Option<&Path>) -> Result<Usage, Error> {
    let bytes = |n: i64| u64::try_from(n).unwrap_or(0);
    let found: Measured = match conn {
        AnyConn::Pg(c) => diesel::sql_query("SELECT pg_database_size(current_database()) AS used, 0::bigint AS spare")
            .get_result(c.diesel())?,
        AnyConn::Sqlite(c) => diesel::sql_query(
            "SELECT (page_count-freelist_count)*page_size AS used, freelist_count*page_size AS spare \
             FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
        )
        .get_result(c)?,
    };
    let free = match path {
        None => None,
        Some(path) => {
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            let free = fs4::available_space(folder.unwrap_or(Path::new(".")));
            let free = free.map_err(|error| Error::File(format!("{}: {error}", path.display())))?;
            Some(free + bytes(found.spare))
        }
    };
    Ok(Usage {
        bytes: bytes(found.used),
        free,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_exceeded_by_size_and_by_a_disk_that_is_nearly_full() {
        let usage = |bytes, free| Usage { bytes, free };
        let budget = Budget {
            bytes: Some(10 << 20),
            free: Some(5 << 20),
        };
        assert_eq!(budget.exceeded(usage(10 << 20, Some(5 << 20))), None);
        assert!(budget.exceeded(usage((10 << 20) + 1, Some(5 << 20))).is_some());
        assert!(budget.exceeded(usage(1, Some((5 << 20) - 1))).is_some());
        assert_eq!(budget.exceeded(usage(1, None)), None);
        assert_eq!(Budget::default().exceeded(usage(u64::MAX, Some(0))), None);
    }
}
