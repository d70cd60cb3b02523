//! Would a failover lose what was acknowledged? What the primary says of its standbys, now and then.

use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Bool, Text};
use tokio::time::Instant;

use crate::AnyConn;
use crate::error::Error;

/// How often the primary is asked.
const EVERY: Duration = Duration::from_secs(10);

/// What is wanted of replication.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// Standbys that commits do not wait for are accepted.
    pub(crate) asynchronous: bool,
    /// Confirmations wait for a standby.
    pub(crate) confirm_by_write: bool,
}

/// What was last seen, and when it is looked at again.
pub(crate) struct Standbys {
    wanted: Wanted,
    next: Option<Instant>,
    seen: Result<(), String>,
}

/// What a primary says of its standbys.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
pub(crate) struct Replication {
    #[diesel(sql_type = Text)]
    pub(crate) names: String,
    /// Whether the role may see more than that somebody follows.
    #[diesel(sql_type = Bool)]
    pub(crate) sees: bool,
    /// Those that follow by streaming; a base backup and a logical subscriber do not count.
    #[diesel(sql_type = BigInt)]
    pub(crate) attached: i64,
    /// Those of them that commits wait for.
    #[diesel(sql_type = BigInt)]
    pub(crate) synchronous: i64,
}

impl Replication {
    pub(crate) fn read(conn: &mut AnyConn) -> Result<Option<Self>, Error> {
        let AnyConn::Pg(c) = conn else { return Ok(None) };
        let text = "SELECT current_setting('synchronous_standby_names') AS names, \
                    pg_has_role(current_user,'pg_read_all_stats','USAGE') AS sees, \
                    count(*) AS attached, count(*) FILTER (WHERE r.sync_state IN ('sync','quorum')) AS synchronous \
                    FROM pg_stat_replication r WHERE r.state IN ('streaming','catchup') AND NOT EXISTS \
                    (SELECT 1 FROM pg_replication_slots s WHERE s.active_pid=r.pid AND s.slot_type='logical')";
        Ok(Some(diesel::sql_query(text).get_result(c.diesel())?))
    }

    /// Whether a failover would lose what was acknowledged, and what to do.
    pub(crate) fn verdict(&self, wanted: Wanted) -> Result<(), String> {
        let is_named = !self.names.is_empty();
        if wanted.confirm_by_write && !is_named {
            return Err(
                "database.confirm_by_write proves nothing without a synchronous standby: set synchronous_standby_names at \
                 the server"
                    .to_owned(),
            );
        }
        if !is_named && self.attached > 0 && !wanted.asynchronous {
            return Err(format!(
                "{} standby follows and none is synchronous, so a failover would lose acknowledged commits: set \
                 synchronous_standby_names = 'ANY 1 (…)' at the server, or accept the loss with \
                 database.allow_asynchronous_standby = true",
                self.attached
            ));
        }
        if is_named && self.sees && self.synchronous == 0 {
            return Err(format!(
                "no standby of synchronous_standby_names = '{}' is attached: every commit waits for one",
                self.names
            ));
        }
        Ok(())
    }
}

impl Standbys {
    pub(crate) const fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            next: None,
            seen: Ok(()),
        }
    }

    /// Looks, if it is time to.
    pub(crate) fn look(&mut self, conn: &mut AnyConn) -> Result<(), Error> {
        if self.next.is_some_and(|next| Instant::now() < next) {
            return Ok(());
        }
        if let Some(replication) = Replication::read(conn)? {
            self.seen = replication.verdict(self.wanted);
        }
        self.next = Some(Instant::now() + EVERY);
        Ok(())
    }

    /// What was last seen.
    pub(crate) fn seen(&self) -> Result<(), String> {
        self.seen.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_rests_on_what_is_known() {
        let seen = |names: &str, sees, attached, synchronous| Replication {
            names: names.to_owned(),
            sees,
            attached,
            synchronous,
        };
        let usual = Wanted::default();
        assert_eq!(seen("", true, 0, 0).verdict(usual), Ok(()), "no replication");
        assert_eq!(
            seen("", false, 0, 0).verdict(usual),
            Ok(()),
            "what it may not see it does not judge"
        );
        let lossy = seen("", true, 1, 0);
        assert!(lossy.verdict(usual).unwrap_err().contains("allow_asynchronous_standby"));
        let accepted = Wanted {
            asynchronous: true,
            ..usual
        };
        assert_eq!(lossy.verdict(accepted), Ok(()));
        assert_eq!(seen("ANY 1 (a)", true, 2, 1).verdict(usual), Ok(()));
        assert!(
            seen("ANY 1 (a)", true, 1, 0)
                .verdict(accepted)
                .unwrap_err()
                .contains("waits")
        );
        assert_eq!(seen("ANY 1 (a)", false, 0, 0).verdict(usual), Ok(()));
        let by_write = Wanted {
            confirm_by_write: true,
            ..usual
        };
        assert!(seen("", true, 0, 0).verdict(by_write).is_err());
        assert_eq!(seen("a", true, 1, 1).verdict(by_write), Ok(()));
    }
}
