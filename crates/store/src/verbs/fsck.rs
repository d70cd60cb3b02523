//! Does a database agree with itself? Whatever can be made again from it is made again and compared; nothing is changed.

use sammati_kernel::hex;
use std::collections::BTreeSet;
use std::fmt::{self, Display};

use diesel::RunQueryDsl;
use diesel::sql_types::BigInt;
use diesel_migrations::EmbeddedMigrations;

use crate::check::{self, Checked};
use crate::claim::ClaimRow;
pub use crate::damage::Indexes;
use crate::error::Error;
use crate::request::{self, RequestRow};
use crate::schema::Schema;
use crate::table::{Cell, Column, Raw, Record, Table};
use crate::{AnyConn, Location, Partitions, damage, on_conn, sql};

/// Rows that are read at a time.
pub(super) const PAGE: i64 = 500;

/// The key and look-up values that a body has, if it can be read.
type FoundBy = (Vec<u8>, Vec<Cell>);

/// A table of a service, and how one of its rows is read.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    table: Table,
    format: i64,
    read: fn(&[u8]) -> Option<FoundBy>,
}

impl Known {
    /// The table of `R`.
    pub const fn of<R: Record>() -> Self {
        Self {
            table: R::TABLE,
            format: R::FORMAT,
            read: |body| R::decode(body).ok().map(|record| (record.key(), record.cells())),
        }
    }

    /// The key and look-up values that a body has, if it can be read.
    pub fn reads(&self, body: &[u8]) -> Option<FoundBy> {
        (self.read)(body)
    }
}

/// What only the service can make again, asked once for each partition in its snapshot.
pub type More = Box<dyn Fn(&mut Fsck<'_>, i64) -> Result<(), Error>>;

/// Something that does not agree with the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The partition; `None` for the file as a whole.
    pub partition: Option<i64>,
    /// The table and key, or the position.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(partition) = self.partition {
            write!(f, "partition {partition}, ")?;
        }
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// How much was looked at, and how much of it does not agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Partitions.
    pub partitions: u64,
    /// Events of the feed.
    pub events: u64,
    /// Rows of tables.
    pub rows: u64,
    /// Those of them without a check value: older code wrote them.
    pub unchecked: u64,
    /// Whether the indexes were compared with their tables.
    pub indexes: Indexes,
    /// What was told.
    pub disagreements: u64,
}

/// One check of one database.
pub struct Fsck<'a> {
    pub(super) conn: &'a mut AnyConn,
    pub(super) summary: Summary,
    partitions: Partitions,
    tell: &'a mut dyn FnMut(&Disagreement),
}

/// Checks a database, telling each disagreement as it is found. It takes no lock: a process may serve it meanwhile. Each
/// partition is one snapshot.
///
/// # Errors
/// When it cannot be read, or its schema is not this binary's.
pub fn fsck(
    location: &Location,
    migrations: &EmbeddedMigrations,
    known: &[Known],
    more: Option<&More>,
    tell: &mut dyn FnMut(&Disagreement),
) -> Result<Summary, Error> {
    let mut conn = location.look()?;
    let damage = damage::integrity_check(&mut conn)?;
    for what in &damage {
        let place = "the file".to_owned();
        tell(&Disagreement {
            partition: None,
            place,
            what: what.clone(),
        });
    }
    if !damage.is_empty() {
        // What is read from it could be anything.
        return Ok(Summary {
            disagreements: damage.len() as u64,
            ..Summary::default()
        });
    }
    Schema::read(&mut conn, migrations)?.expect_current()?;
    let partitions = crate::setup::partitions_of(&mut conn)?;
    let (indexes, damage) = damage::indexes(&mut conn)?;
    let mut summary = Summary {
        indexes,
        disagreements: damage.len() as u64,
        ..Summary::default()
    };
    for (name, what) in damage {
        tell(&Disagreement {
            partition: None,
            place: format!("index {name}"),
            what,
        });
    }
    for partition in partitions.all() {
        summary = sql::in_snapshot(&mut conn, |conn| {
            let mut fsck = Fsck {
                conn,
                summary,
                partitions,
                tell,
            };
            fsck.partition(partition, known)?;
            if let Some(more) = more {
                more(&mut fsck, partition)?;
            }
            Ok(fsck.summary)
        })?;
    }
    sql::in_snapshot(&mut conn, |conn| {
        let mut fsck = Fsck {
            conn,
            summary,
            partitions,
            tell,
        };
        fsck.strays(known)?;
        Ok(fsck.summary)
    })
}

/// A key, and its record where that can be read.
pub type Keyed<R> = (Vec<u8>, Option<R>);

impl Fsck<'_> {
    /// Tells that something does not agree.
    pub fn disagree(&mut self, partition: Option<i64>, place: impl Display, what: impl Display) {
        self.summary.disagreements += 1;
        let (place, what) = (place.to_string(), what.to_string());
        (self.tell)(&Disagreement { partition, place, what });
    }

    /// The records of a partition after a key, as many as are read at a time, each with its key; none when there are no
    /// more. What cannot be read has no record: it was told already.
    ///
    /// # Errors
    /// When the database fails.
    pub fn page<R: Record>(&mut self, partition: i64, after: &[u8]) -> Result<Vec<Keyed<R>>, Error> {
        let rows = sql::scan(self.conn, R::TABLE.name, partition, after, PAGE)?;
        let read = |raw: Raw| (raw.id, R::decode(raw.body.as_slice()).ok());
        Ok(rows.into_iter().map(read).collect())
    }

    /// The record with this key.
    ///
    /// # Errors
    /// When the database fails.
    pub fn get<R: Record>(&mut self, partition: i64, key: &[u8]) -> Result<Option<R>, Error> {
        let row = sql::load(self.conn, R::TABLE, &[(partition, key.to_vec())])?.pop();
        Ok(row.and_then(|raw| R::decode(raw.body.as_slice()).ok()))
    }

    /// The keys of the records of a partition that are looked up by one of these values of a column.
    ///
    /// # Errors
    /// When the database fails.
    pub fn found_by<R: Record>(
        &mut self,
        partition: i64,
        column: &str,
        values: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let values: Vec<_> = values.into_iter().map(|value| (partition, value)).collect();
        let mut statement = sql::by_column(R::TABLE, column, &values);
        statement.head = "SELECT t.partition,t.id FROM ".to_owned();
        let keys = sql::written(self.conn, &[statement])?.into_iter().flatten();
        Ok(keys.map(|(_, key)| key).collect())
    }

    fn partition(&mut self, partition: i64, known: &[Known]) -> Result<(), Error> {
        self.summary.partitions += 1;
        self.feed(partition)?;
        self.table(partition, Known::of::<RequestRow>(), Some(request::home))?;
        self.table(partition, Known::of::<ClaimRow>(), Some(claim_home))?;
        for table in known {
            self.table(partition, *table, None)?;
        }
        Ok(())
    }

    /// Every row of a table in one partition; `home` tells where a key belongs.
    fn table(&mut self, partition: i64, table: Known, home: Option<fn(Partitions, &[u8]) -> i64>) -> Result<(), Error> {
        let mut after = Vec::new();
        loop {
            let rows = sql::scan(self.conn, table.table.name, partition, &after, PAGE)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after.clone_from(&last.id);
            self.look_ups(table, &rows)?;
            for row in &rows {
                self.row(table, row);
                let belongs = home.map_or(partition, |home| home(self.partitions, &row.id));
                if belongs != partition {
                    let what =
                        format!("belongs into partition {belongs}, where it is looked for; here nobody finds it");
                    self.disagree(Some(partition), place(table, row), what);
                }
            }
        }
    }

    /// Whether rows are found by what their bodies say that they are found by. What older code wrote may be found by what it
    /// knew then.
    fn look_ups(&mut self, table: Known, rows: &[Raw]) -> Result<(), Error> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for row in rows {
            if row.format > table.format || check::look(table.table.name, row) == Checked::Without {
                continue;
            }
            // One that cannot be read, or is not under its own key, is told as such.
            if let Some((_, cells)) = (table.read)(&row.body).filter(|(key, cells)| *key == row.id && !cells.is_empty())
            {
                keys.push((row.partition, row.id.clone()));
                values.push(cells);
            }
        }
        let found = looked_up_by(self.conn, table.table, &keys, values)?;
        for key in keys.iter().filter(|key| !found.contains(key)) {
            let what = "its look-up columns are not what its body says: it is found where it should not be";
            self.disagree(Some(key.0), format!("{} {}", table.table.name, hex(&key.1)), what);
        }
        Ok(())
    }

    fn row(&mut self, table: Known, row: &Raw) {
        self.summary.rows += 1;
        let checked = check::look(table.table.name, row);
        self.summary.unchecked += u64::from(checked == Checked::Without);
        let what = match (table.read)(&row.body) {
            _ if row.version < 1 => format!("its version is {}; the first is 1", row.version),
            None => "its body cannot be read".to_owned(),
            // A newer format may make keys of what this code does not know.
            Some((key, _)) if key != row.id && row.format <= table.format => {
                format!("its body says that its key is {}", hex(&key))
            }
            Some(_) if checked == Checked::Changed => {
                "its check value is another: it, or the row, was changed since it was written".to_owned()
            }
            Some(_) => return,
        };
        self.disagree(Some(row.partition), place(table, row), what);
    }

    /// What is in no partition of this database is found by nobody.
    fn strays(&mut self, known: &[Known]) -> Result<(), Error> {
        let own = ["head", "feed", "cursor", "request", "claim"];
        for name in own.into_iter().chain(known.iter().map(|table| table.table.name)) {
            let text = format!("SELECT COUNT(*) AS strays FROM {name} WHERE partition<0 OR partition>=$1");
            let count = i64::from(self.partitions.count());
            let found: Strays = on_conn!(&mut *self.conn, |c| diesel::sql_query(text.as_str())
                .bind::<BigInt, _>(count)
                .get_result(c))?;
            if found.strays > 0 {
                let what = format!(
                    "{} rows in partitions that a database of {count} does not have",
                    found.strays
                );
                self.disagree(None, name, what);
            }
        }
        Ok(())
    }
}

/// The keys of those rows that have these look-up values, those of each row in turn. Older code leaves columns `NULL` that it
/// does not know.
fn looked_up_by(
    conn: &mut AnyConn,
    table: Table,
    keys: &[sql::Key],
    values: Vec<Vec<Cell>>,
) -> Result<BTreeSet<sql::Key>, Error> {
    let same = |(i, c): (usize, &Column)| format!(" AND (t.{0} IS NULL OR t.{0}=v.column{1})", c.name, i + 3);
    let same: String = table.columns.iter().enumerate().map(same).collect();
    let kinds = table.columns.iter().map(|c| c.kind);
    let mut statement = sql::by_key(table, keys);
    statement.head = "SELECT t.partition,t.id FROM ".to_owned();
    statement.tail.push_str(&same);
    statement.kinds.extend(kinds);
    statement
        .cells
        .iter_mut()
        .zip(values)
        .for_each(|(key, values)| key.extend(values));
    Ok(sql::written(conn, &[statement])?.into_iter().flatten().collect())
}

#[derive(diesel::QueryableByName)]
struct Strays {
    #[diesel(sql_type = BigInt)]
    strays: i64,
}

/// A key that is too short for a claim's is looked for nowhere.
fn claim_home(partitions: Partitions, key: &[u8]) -> i64 {
    <&[u8; 32]>::try_from(key).map_or(-1, |key| partitions.of_hash(key))
}

fn place(table: Known, row: &Raw) -> String {
    format!("{} {}", table.table.name, hex(&row.id))
}
