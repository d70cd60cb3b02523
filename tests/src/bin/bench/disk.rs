//! What an event takes on the disk, while its log takes events and after.

use std::path::{Path, PathBuf};

use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Binary, Text};
use prost::Message;
use sammati_audit::rows::LeafRow;
use sammati_store::{AnyConn, Location, on_conn};

use crate::goal::Goal;
use crate::measure::{Failure, f64_of};
use crate::summary::Summary;

/// Bytes for each event beyond its leaf and its sealed payload: indexes, look-ups, tiles, keys and room in pages.
const HOT: f64 = 450.0;

/// The same in the archive of a sealed log: the tiles, and what holds the files together.
const SEALED: f64 = 100.0;

/// What a log holds: *hot*, in its database and that of its keys, and *sealed*, in the files of its archive.
pub(crate) struct Disk {
    log: f64,
    keys: f64,
    archive: f64,
    leaves: f64,
    told: Told,
    bodies: Vec<(String, f64)>,
}

#[derive(diesel::QueryableByName)]
struct Sum {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    rows: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

#[derive(diesel::QueryableByName)]
struct Leaf {
    #[diesel(sql_type = Binary)]
    id: Vec<u8>,
    #[diesel(sql_type = Binary)]
    body: Vec<u8>,
}

/// Bytes that nothing is saved of: all leaves as they are hashed, and their payloads as they are sealed.
#[derive(Default)]
struct Told {
    leaves: usize,
    payloads: usize,
}

fn told(conn: &mut AnyConn) -> Result<Told, Failure> {
    let (mut told, mut after) = (Told::default(), Vec::new());
    loop {
        let text = "SELECT id,body FROM leaf WHERE partition=0 AND id>$1 ORDER BY id LIMIT 4096";
        let query = diesel::sql_query(text).bind::<Binary, _>(&after);
        let rows: Vec<Leaf> = on_conn!(&mut *conn, |c| query.load(c))?;
        let Some(last) = rows.last() else { return Ok(told) };
        after.clone_from(&last.id);
        for row in &rows {
            let row = LeafRow::decode(row.body.as_slice())?;
            told.leaves += row.leaf.len();
            told.payloads += row.payload.len();
        }
    }
}

/// The bytes of the file of a database, into which its last connection has moved all of the WAL.
fn file(path: &Path) -> Result<f64, Failure> {
    Ok(f64_of(usize::try_from(std::fs::metadata(path)?.len())?))
}

impl Disk {
    /// Of the files of a log and of its keys, after the service has stopped, and of an archive of so many bytes. It blocks.
    pub(crate) fn of((log, keys): &(PathBuf, PathBuf), archive: usize) -> Result<Self, Failure> {
        let mut conn = Location::Sqlite(log.to_owned()).connect()?;
        let one = |table: &str| {
            format!("SELECT '{table}' AS name, COUNT(*) AS rows, COALESCE(SUM(LENGTH(body)),0) AS bytes FROM {table}")
        };
        let text = ["leaf", "posting", "tile", "subject", "checkpoint"]
            .map(one)
            .join(" UNION ALL ");
        let sums: Vec<Sum> = on_conn!(&mut conn, |c| diesel::sql_query(text).load(c))?;
        let number = |n: i64| f64_of(usize::try_from(n).unwrap_or_default());
        Ok(Self {
            log: file(log)?,
            keys: file(keys)?,
            archive: f64_of(archive),
            told: told(&mut conn)?,
            leaves: sums
                .iter()
                .find(|sum| sum.name == "leaf")
                .map_or(1.0, |sum| number(sum.rows)),
            bodies: sums.iter().map(|sum| (sum.name.clone(), number(sum.bytes))).collect(),
        })
    }

    pub(crate) fn tell(&self, leaves: usize, summary: &mut Summary) {
        let name = format!("audit.disk.{leaves}");
        let mut tell = |what: &str, bytes: f64| summary.value(&format!("{name}{what}"), bytes / self.leaves, "B/event");
        for (table, bytes) in &self.bodies {
            tell(&format!(".{table}"), *bytes);
        }
        let (hashed, sealed) = (f64_of(self.told.leaves), f64_of(self.told.payloads));
        tell(".keys", self.keys);
        tell("", self.log + self.keys);
        tell(".overhead", self.log + self.keys - hashed - sealed);
        tell(".sealed", self.archive);
        // No payload is in an archive.
        tell(".sealed.overhead", self.archive - hashed);
        summary.goal(&format!("{name}.overhead"), Goal::AtMost(HOT));
        summary.goal(&format!("{name}.sealed.overhead"), Goal::AtMost(SEALED));
    }
}
