//! How is a database? What a doctor sees of it without changing anything.

use std::path::Path;

use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_migrations::EmbeddedMigrations;
use sammati_kernel::Micros;

use super::recover::is_unfinished;
use crate::clock::SKEW;
use crate::error::Error;
use crate::postgres::{Purpose, is_english};
use crate::schema::Schema;
use crate::{AnyConn, Location, damage, heads};

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// As it must be.
    Ok,
    /// It serves, and somebody should look.
    Warn,
    /// It does not serve, or loses what it acknowledges.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// How it is.
    pub health: Health,
    /// What was seen.
    pub what: String,
    /// What to do about it; empty when it is well.
    pub advice: String,
}

impl Remark {
    /// It is as it must be.
    pub fn ok(what: impl Into<String>) -> Self {
        Self::of(Health::Ok, what, "")
    }

    /// Somebody should look.
    pub fn warn(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::of(Health::Warn, what, advice)
    }

    /// It does not serve, or loses what it acknowledges.
    pub fn fail(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::of(Health::Fail, what, advice)
    }

    fn of(health: Health, what: impl Into<String>, advice: impl Into<String>) -> Self {
        let (what, advice) = (what.into(), advice.into());
        Self { health, what, advice }
    }

    /// Well if `good`, and a failure with this advice otherwise.
    pub fn must(good: bool, what: impl Into<String>, advice: impl Into<String>) -> Self {
        if good { Self::ok(what) } else { Self::fail(what, advice) }
    }
}

/// Looks at the database of a service whose schema is `migrations`; `now` tells the time of this process.
pub fn look(location: &Location, migrations: &EmbeddedMigrations, now: impl Fn() -> Micros) -> Vec<Remark> {
    let mut remarks = Vec::new();
    if let Location::Sqlite(path) = location {
        remarks.push(disk(path));
        if matches!(path.try_exists(), Ok(false)) {
            remarks.push(Remark::warn(
                format!("{} is not there yet", path.display()),
                "nothing, if this is new: the first start makes it. If it is not, look at database.url before you start",
            ));
            return remarks;
        }
    }
    let found = location.look().and_then(|conn| {
        location.expect_sessions(Purpose::Look)?;
        Ok(conn)
    });
    let mut conn = match found {
        Ok(conn) => conn,
        Err(Error::Unfit(what)) => {
            remarks.push(Remark::fail(what, "change that first: nothing is served over it"));
            return remarks;
        }
        Err(error) => {
            let advice =
                "is it up, does a network policy let us through, and are user, password and certificate right?";
            remarks.push(Remark::fail(error.to_string(), advice));
            return remarks;
        }
    };
    let seen = match &mut conn {
        AnyConn::Sqlite(_) => file(&mut conn),
        AnyConn::Pg(_) => server(&mut conn, now),
    };
    remarks.extend(
        seen.unwrap_or_else(|error| vec![Remark::fail(error.to_string(), "read the sentence before this one")]),
    );
    remarks.push(schema(&mut conn, migrations));
    // A database without that table is new.
    if is_unfinished(&mut conn).unwrap_or(false) {
        remarks.push(Remark::fail(
            Error::Unfinished.to_string(),
            "run the verb recover: no service starts before, and replicas that run answer nothing",
        ));
    }
    remarks
}

fn schema(conn: &mut AnyConn, migrations: &EmbeddedMigrations) -> Remark {
    let schema = match Schema::read(conn, migrations) {
        Ok(schema) => schema,
        Err(error) => {
            let advice = "nothing, if this is new: the first start makes it, or the verb migrate. If it is not, it is \
                          another database than you think";
            return Remark::warn(error.to_string(), advice);
        }
    };
    if let Err(error) = schema.expect_served() {
        return Remark::fail(error.to_string(), "as it says: this binary refuses to start on it");
    }
    if !schema.unknown.is_empty() {
        let what = format!(
            "the schema has {}, which this binary does not know and need not",
            schema.unknown.join(", ")
        );
        return Remark::warn(
            what,
            "nothing while a newer version is rolled out or was taken back; otherwise finish what was begun",
        );
    }
    if !schema.pending.is_empty() {
        let what = format!("the schema lacks {}", schema.pending.join(", "));
        return Remark::warn(
            what,
            "make a backup; the next start brings it up to date, or the verb migrate does",
        );
    }
    Remark::ok(format!("the schema is this binary's, {} migrations", schema.applied))
}

/// Below this nothing is sure to be written any more.
const LEAST: u64 = 64 << 20;

/// With this much there is time to look, however large the volume is.
const ROOMY: u64 = 20 << 30;

fn disk(path: &Path) -> Remark {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let (free, all) = match fs4::available_space(folder).and_then(|free| Ok((free, fs4::total_space(folder)?))) {
        Ok(both) => both,
        Err(error) => {
            let what = format!("the folder {} of the database: {error}", folder.display());
            return Remark::fail(what, "make it, for this service's user alone, or correct database.url");
        }
    };
    let what = format!(
        "{} MiB of {} MiB are free in {}",
        free >> 20,
        all >> 20,
        folder.display()
    );
    if free < LEAST {
        return Remark::fail(what, "make room: without it every change is refused as UNAVAILABLE");
    }
    if free < (all / 5).min(ROOMY) {
        return Remark::warn(what, "make room, or the volume larger: logs only grow");
    }
    Remark::ok(what)
}

#[derive(diesel::QueryableByName)]
struct Journal {
    #[diesel(sql_type = Text)]
    journal_mode: String,
}

fn file(conn: &mut AnyConn) -> Result<Vec<Remark>, Error> {
    let damage = damage::quick_check(conn)?;
    let AnyConn::Sqlite(c) = conn else {
        return Ok(Vec::new());
    };
    let mode = "SELECT journal_mode FROM pragma_journal_mode";
    let journal: Journal = diesel::sql_query(mode).get_result(c)?;
    let whole = Remark::must(
        damage.is_none(),
        format!("quick_check says {}", damage.as_deref().unwrap_or("ok")),
        "look after the disk first; then keep a copy of this file with its -wal, and bring back the last backup with \
         the verb restore",
    );
    let journal = match journal.journal_mode.as_str() {
        "wal" => Remark::ok("its journal is a write-ahead log"),
        other => Remark::warn(
            format!("its journal mode is {other}, not wal"),
            "nothing, if it was just restored: the next start changes it. Otherwise nobody else may change this file",
        ),
    };
    Ok(vec![whole, journal])
}

#[derive(diesel::QueryableByName)]
struct Server {
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Text)]
    fsync: String,
    #[diesel(sql_type = Text)]
    full_page_writes: String,
    #[diesel(sql_type = Text)]
    synchronous_commit: String,
    #[diesel(sql_type = Text)]
    standbys: String,
    #[diesel(sql_type = Text)]
    messages: String,
    #[diesel(sql_type = Bool)]
    standby: bool,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = Bool)]
    citus: bool,
}

fn server(conn: &mut AnyConn, now: impl Fn() -> Micros) -> Result<Vec<Remark>, Error> {
    let before = now();
    let clock = heads::database_time(conn)?.map(|theirs| skew(before, theirs, now()));
    let one_partition = conn.keeps_to_one_partition();
    let AnyConn::Pg(c) = conn else { return Ok(Vec::new()) };
    let text = "SELECT current_setting('server_version_num')::bigint AS version, current_setting('fsync') AS fsync, \
                current_setting('full_page_writes') AS full_page_writes, \
                current_setting('synchronous_commit') AS synchronous_commit, \
                current_setting('synchronous_standby_names') AS standbys, current_setting('lc_messages') AS messages, \
                pg_is_in_recovery() AS standby, pg_database_size(current_database()) AS bytes, \
                EXISTS (SELECT 1 FROM pg_extension WHERE extname='citus') AS citus";
    let seen: Server = diesel::sql_query(text).get_result(c.diesel())?;
    let lost = "turn it on at the server: without it a crash loses or tears what was acknowledged";
    let mut remarks = vec![
        Remark::must(
            seen.version >= 150_000,
            format!("PostgreSQL {}.{}", seen.version / 10_000, seen.version % 10_000),
            "PostgreSQL 15 or later is needed",
        ),
        Remark::must(
            !seen.standby,
            "it takes writes: it is not a standby",
            "connect to the primary, not to a standby",
        ),
        Remark::must(seen.fsync == "on", format!("fsync is {}", seen.fsync), lost),
        Remark::must(
            seen.full_page_writes == "on",
            format!("full_page_writes is {}", seen.full_page_writes),
            lost,
        ),
        Remark::must(
            ["on", "remote_apply"].contains(&seen.synchronous_commit.as_str()),
            format!("synchronous_commit is {}", seen.synchronous_commit),
            "something between here and there changes the session's settings; connect directly, without a pooler",
        ),
        Remark::must(
            is_english(&seen.messages),
            format!("lc_messages is {}", seen.messages),
            "the store reads messages: GRANT SET ON PARAMETER lc_messages to this role, or set it to C at the server",
        ),
    ];
    remarks.push(match seen.standbys.as_str() {
        "" => Remark::warn(
            "no synchronous standby is named",
            "on one machine that is as it is; with failover set synchronous_standby_names = 'ANY 1 (…)', or a failover \
             loses acknowledged commits",
        ),
        names => Remark::ok(format!("synchronous standbys: {names}")),
    });
    if seen.citus || one_partition {
        remarks.push(Remark::must(
            one_partition,
            "the extension citus, or database.one_partition_per_transaction, is there",
            "set database.one_partition_per_transaction = true: without it Citus refuses the store's locks",
        ));
    }
    remarks.extend(clock);
    remarks.push(Remark::ok(format!(
        "{} MiB; the server's disk cannot be seen from here",
        seen.bytes >> 20
    )));
    Ok(remarks)
}

/// How far the database's clock is away from ours, which was read before and after it.
fn skew(before: Micros, theirs: i64, after: Micros) -> Remark {
    let away = (before.0 - theirs).max(theirs - after.0).max(0);
    let what = format!("the clock is within {} ms of the database's", away / 1000 + 1);
    let most = i64::try_from(SKEW.as_micros()).unwrap_or(i64::MAX);
    let advice = "run NTP on both machines: above a second nothing is written";
    match away {
        away if away > most => Remark::fail(what, advice),
        away if away > most / 5 => Remark::warn(what, advice),
        _ => Remark::ok(what),
    }
}
