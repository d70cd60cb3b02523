//! After a restore, or a failover that lost commits, a new epoch begins: positions may be used again, and whoever holds
//! the old epoch drops everything and reloads.
//!
//! An epoch that is being opened is marked in the database until whatever rests on it is done: a process that finds the
//! mark does not start, and one that runs neither confirms nor commits in that epoch.

use std::path::Path;

use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Binary};
use diesel_migrations::EmbeddedMigrations;
use sammati_kernel::{Id, Micros, Seed, Slot};

use crate::batch::chain;
use crate::error::Error;
use crate::feed::FeedEvent;
use crate::heads::{self, HeadRow};
use crate::setup::{self, FileLock, PREDECESSOR};
use crate::shared::Shared;
use crate::view::AnyEvent;
use crate::{AnyConn, Location, Partitions, Revision, on_conn, readers, sql};

/// The consumer whose cursors are the mark.
const MARK: &[u8] = b"recover";

/// The chain hash before the first event of a feed.
const NO_CHAIN: [u8; 32] = [0; 32];

/// Where a partition's feed stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its head: partition, epoch, the position that comes next and the chain hash before it.
    pub head: Revision,
    /// The first position that it still has.
    pub floor: i64,
}

/// What a partition's feed ended with when a new epoch was opened in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The last place that is of the epochs before.
    pub at: Revision,
    /// The new epoch.
    pub epoch: i64,
    /// When.
    pub time: Micros,
    /// The id of the event that records it.
    pub event_id: [u8; 16],
}

/// A database in which a new epoch is being opened. On SQLite no other process serves it meanwhile.
pub struct Recovery {
    conn: AnyConn,
    partitions: Partitions,
    _lock: Option<FileLock>,
}

impl Recovery {
    /// Takes hold of the database, bringing its schema up to date as serving does.
    ///
    /// # Errors
    /// When the database is away, is held by another process (SQLite), or has a schema from a newer version.
    pub fn begin(location: &Location, partitions: Option<u16>, migrations: EmbeddedMigrations) -> Result<Self, Error> {
        let lock = match location {
            Location::Sqlite(path) => Some(FileLock::take(path, PREDECESSOR)?),
            Location::Postgres { .. } => None,
        };
        let partitions = setup::prepare(location, partitions, migrations)?.partitions;
        let conn = location.connect()?;
        Ok(Self {
            conn,
            partitions,
            _lock: lock,
        })
    }

    /// Where each partition stands.
    ///
    /// # Errors
    /// When the database fails.
    pub fn standings(&mut self) -> Result<Vec<Standing>, Error> {
        let all: Vec<i64> = self.partitions.all().collect();
        let heads = heads::read_heads(&mut self.conn, &all)?;
        let standing = |head: HeadRow| Standing {
            floor: head.floor,
            head: revision(&head),
        };
        Ok(heads.into_iter().map(standing).collect())
    }

    /// Events of a partition's feed from `from` on, in commit order.
    ///
    /// # Errors
    /// When the database fails.
    pub fn feed(&mut self, partition: i64, from: i64, limit: i64) -> Result<Vec<FeedEvent>, Error> {
        readers::feed(&mut self.conn, partition, from, limit)
    }

    /// Opens `epoch` in a partition, in one transaction under its head's lock. It begins at `from`, where the feed and
    /// the log part, or without that at the head; what was committed from there on is of it. `tell` writes the event
    /// that records the cut.
    ///
    /// # Errors
    /// When the partition has this epoch already or one above it, or ends before `from`, and when the database fails.
    pub fn open_epoch(
        &mut self,
        partition: i64,
        epoch: i64,
        from: Option<i64>,
        now: Micros,
        tell: impl FnOnce(&Cut) -> Vec<u8>,
    ) -> Result<Cut, Error> {
        let conn = &mut self.conn;
        match conn {
            AnyConn::Pg(_) => sql::batch(conn, "BEGIN")?,
            AnyConn::Sqlite(_) => sql::batch(conn, "BEGIN IMMEDIATE")?,
        }
        let opened = locked(conn, partition, epoch, from, now, tell);
        sql::batch(conn, if opened.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        opened
    }

    /// Lets go of the database. The mark stays, until [`finish`].
    pub fn release(self) {}
}

fn locked(
    conn: &mut AnyConn,
    partition: i64,
    epoch: i64,
    from: Option<i64>,
    now: Micros,
    tell: impl FnOnce(&Cut) -> Vec<u8>,
) -> Result<Cut, Error> {
    let mut head = heads::lock_heads(conn, &[partition])?.remove(0);
    let from = from.unwrap_or(head.next);
    if epoch <= head.epoch || from > head.next || from < head.floor {
        return Err(Error::Broken(format!(
            "epoch {epoch} cannot be opened at position {from} of partition {partition}, which is in epoch {} and has {} to \
             {}: somebody else recovered it meanwhile; run it again",
            head.epoch, head.floor, head.next
        )));
    }
    let at = Revision {
        next: from,
        chain: chain_before(conn, partition, from)?,
        ..revision(&head)
    };
    let time = now.max(Micros(head.time));
    let seed = Seed::draw().map_err(|_| Error::File("the system has no randomness".into()))?;
    let slot = Slot::new(u16::try_from(partition).unwrap_or_default());
    let id: Id<AnyEvent> = seed.id("cut", time, slot);
    let cut = Cut {
        at,
        epoch,
        time,
        event_id: *id.as_bytes(),
    };
    let body = tell(&cut);
    let restamp = "UPDATE feed SET epoch=$1 WHERE partition=$2 AND position>=$3";
    on_conn!(&mut *conn, |c| diesel::sql_query(restamp)
        .bind::<BigInt, _>(epoch)
        .bind::<BigInt, _>(partition)
        .bind::<BigInt, _>(from)
        .execute(c))?;
    let after = chain(&head.chain, &body);
    let row = vec![
        partition.into(),
        head.next.into(),
        epoch.into(),
        time.0.into(),
        cut.event_id.as_slice().into(),
        None::<Vec<u8>>.into(),
        after.clone().into(),
        body.into(),
    ];
    let appended = sql::write_all(conn, &[sql::feed(vec![row])])?;
    sql::expect_all(appended.iter().sum(), 1, "feed")?;
    head.next += 1;
    let advance = "UPDATE head SET epoch=$1,next=$2,time=$3,chain=$4 WHERE partition=$5";
    on_conn!(&mut *conn, |c| diesel::sql_query(advance)
        .bind::<BigInt, _>(epoch)
        .bind::<BigInt, _>(head.next)
        .bind::<BigInt, _>(time.0)
        .bind::<Binary, _>(&after)
        .bind::<BigInt, _>(partition)
        .execute(c))?;
    mark(conn, partition)?;
    Ok(cut)
}

fn revision(head: &HeadRow) -> Revision {
    Revision {
        partition: head.partition,
        epoch: head.epoch,
        next: head.next,
        chain: head.chain.clone(),
    }
}

fn chain_before(conn: &mut AnyConn, partition: i64, position: i64) -> Result<Vec<u8>, Error> {
    if position == 0 {
        return Ok(NO_CHAIN.to_vec());
    }
    let before = readers::feed(conn, partition, position - 1, 1)?.pop();
    let before = before.filter(|event| event.position == position - 1);
    before.map(|event| event.chain).ok_or_else(|| {
        Error::Broken(format!(
            "partition {partition} has no event before position {position}; fsck tells more"
        ))
    })
}

fn mark(conn: &mut AnyConn, partition: i64) -> Result<(), Error> {
    let text = "INSERT INTO cursor(partition,consumer,next) VALUES ($1,$2,0) ON CONFLICT DO NOTHING";
    on_conn!(&mut *conn, |c| diesel::sql_query(text)
        .bind::<BigInt, _>(partition)
        .bind::<Binary, _>(MARK)
        .execute(c))?;
    Ok(())
}

/// Marks the database in the file `path`, which nobody serves: nobody will before it was recovered.
pub(super) fn mark_file(path: &Path) -> Result<(), Error> {
    mark(&mut Location::Sqlite(path.to_owned()).connect()?, 0)
}

/// Refuses to serve while an epoch was opened and what rests on it is not done; whoever does it serves itself.
pub(crate) fn finished(conn: &mut AnyConn, shared: &Shared) -> Result<(), Error> {
    if shared.recovers || !is_unfinished(conn)? {
        return Ok(());
    }
    Err(Error::Unfinished)
}

/// Whether an epoch was opened and what rests on it is not done.
pub(super) fn is_unfinished(conn: &mut AnyConn) -> Result<bool, Error> {
    #[derive(diesel::QueryableByName)]
    struct Marks {
        #[diesel(sql_type = BigInt)]
        marks: i64,
    }
    let text = "SELECT COUNT(*) AS marks FROM cursor WHERE consumer=$1";
    let found: Marks = on_conn!(conn, |c| diesel::sql_query(text).bind::<Binary, _>(MARK).get_result(c))?;
    Ok(found.marks > 0)
}

/// Takes the mark away: the database can be served.
///
/// # Errors
/// When the database fails.
pub fn finish(location: &Location) -> Result<(), Error> {
    let mut conn = location.connect()?;
    on_conn!(&mut conn, |c| diesel::sql_query("DELETE FROM cursor WHERE consumer=$1")
        .bind::<Binary, _>(MARK)
        .execute(c))?;
    Ok(())
}
