//! Does the server have room for a service, and what would a failover lose? What a doctor asks of a Postgres that answers.

use diesel::RunQueryDsl;
use diesel::sql_types::BigInt;

use super::look::Remark;
use crate::error::Error;
use crate::standby::{Replication, Wanted};
use crate::{AnyConn, Location};

/// Databases of a deployment, of which each replica of a service has its own connections.
const DATABASES: i64 = 4;

/// Two replicas, and one more while they are replaced.
const REPLICAS: i64 = 3;

/// What a service wants of its database.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Connections of one replica: its lanes, its readers, and one that confirms.
    pub connections: usize,
    /// As [`crate::Options::confirm_by_write`].
    pub confirm_by_write: bool,
    /// As [`crate::Options::allow_asynchronous_standby`].
    pub allow_asynchronous_standby: bool,
}

#[derive(diesel::QueryableByName)]
struct Limits {
    #[diesel(sql_type = BigInt)]
    server: i64,
    #[diesel(sql_type = BigInt)]
    role: i64,
    #[diesel(sql_type = BigInt)]
    database: i64,
}

/// Looks at what a server grants; nothing on SQLite, and nothing where [`super::look`] told why it cannot be reached.
pub fn primary(location: &Location, needs: &Needs) -> Vec<Remark> {
    let Ok(mut conn) = location.look() else {
        return Vec::new();
    };
    seen(&mut conn, needs).unwrap_or_else(|error| {
        vec![Remark::warn(
            error.to_string(),
            "look whether it is a PostgreSQL of its own",
        )]
    })
}

fn seen(conn: &mut AnyConn, needs: &Needs) -> Result<Vec<Remark>, Error> {
    let replication = Replication::read(conn)?;
    let AnyConn::Pg(c) = conn else { return Ok(Vec::new()) };
    let text = "SELECT current_setting('max_connections')::bigint-current_setting('superuser_reserved_connections')::bigint\
                -coalesce(current_setting('reserved_connections',true),'0')::bigint AS server,\
                r.rolconnlimit::bigint AS role,d.datconnlimit::bigint AS database FROM pg_roles r,pg_database d \
                WHERE r.rolname=current_user AND d.datname=current_database()";
    let limits: Limits = diesel::sql_query(text).get_result(c.diesel())?;
    let mut remarks = vec![connections(&limits, needs.connections)];
    remarks.extend(replication.into_iter().flat_map(|seen| standbys(&seen, needs)));
    Ok(remarks)
}

fn connections(limits: &Limits, needed: usize) -> Remark {
    let needed = i64::try_from(needed).unwrap_or(i64::MAX);
    let least = [limits.server, limits.role, limits.database];
    // -1 is no limit.
    let least = least.into_iter().filter(|limit| *limit >= 0).min().unwrap_or(0);
    let what = format!("a replica opens at most {needed} connections; the server grants this role {least}");
    let all = needed.saturating_mul(DATABASES).saturating_mul(REPLICAS);
    if least < needed.saturating_mul(2) {
        let advice = "raise max_connections, or the limit of the role or database: a replica and the one that replaces it \
                      must have room";
        return Remark::fail(what, advice);
    }
    if limits.server < all {
        let advice =
            format!("raise max_connections: two replicas of each service and their successors need about {all}");
        return Remark::warn(what, advice);
    }
    Remark::ok(what)
}

fn standbys(seen: &Replication, needs: &Needs) -> Vec<Remark> {
    let wanted = Wanted {
        asynchronous: needs.allow_asynchronous_standby,
        confirm_by_write: needs.confirm_by_write,
    };
    let mut remarks = Vec::new();
    if !seen.sees {
        remarks.push(Remark::warn(
            "this role may not see the state of standbys, so readiness cannot tell of one that is lost",
            "GRANT pg_monitor TO this role",
        ));
    }
    remarks.push(match seen.verdict(wanted) {
        Ok(()) => Remark::ok(format!(
            "{} standbys follow, {} of them synchronous",
            seen.attached, seen.synchronous
        )),
        Err(what) => Remark::fail(what, "until then readiness fails"),
    });
    remarks
}

#[cfg(test)]
mod tests {
    use super::super::look::Health;
    use super::*;

    #[test]
    fn room_is_for_a_replica_and_its_successor_and_the_other_services() {
        let of = |server, role| {
            let limits = Limits {
                server,
                role,
                database: -1,
            };
            connections(&limits, 11).health
        };
        assert_eq!(of(197, -1), Health::Ok);
        assert_eq!(of(97, -1), Health::Warn);
        assert_eq!(of(21, -1), Health::Fail);
        assert_eq!(of(197, 21), Health::Fail);
        assert_eq!(of(197, 22), Health::Ok);
    }
}
