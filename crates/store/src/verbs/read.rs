//! Reading the records of a database beside whoever serves it: of one that ended, or to make something of it.

use diesel_migrations::EmbeddedMigrations;

use super::fsck::PAGE;
use crate::error::Error;
use crate::schema::Schema;
use crate::table::{Raw, Record};
use crate::{AnyConn, Location, durable, sql};

/// One snapshot of a database.
pub struct Looking<'a> {
    conn: &'a mut AnyConn,
}

/// Reads a database whose schema is `migrations` in one snapshot, changing nothing. It takes no lock: a process may serve it
/// meanwhile.
///
/// # Errors
/// When it cannot be read, its schema is not this binary's, or `look` says so.
pub fn read<T>(
    location: &Location,
    migrations: &EmbeddedMigrations,
    look: impl FnOnce(&mut Looking<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut conn = location.look()?;
    sql::in_snapshot(&mut conn, |conn| {
        Schema::read(conn, migrations)?.expect_current()?;
        // The snapshot is taken, and what its server may yet lose nobody must build upon.
        if let Location::Sqlite(file) = location {
            durable::sync_beside(file)?;
        }
        look(&mut Looking { conn })
    })
}

impl Looking<'_> {
    /// The record with this key.
    ///
    /// # Errors
    /// When the database fails, or the record cannot be read.
    pub fn get<R: Record>(&mut self, partition: i64, key: &[u8]) -> Result<Option<R>, Error> {
        let row = sql::load(self.conn, R::TABLE, &[(partition, key.to_vec())])?.pop();
        row.map(decode).transpose()
    }

    /// The records of a partition after a key, in the order of their keys, as many as are read at a time; none when there
    /// are no more.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn page<R: Record>(&mut self, partition: i64, after: &[u8]) -> Result<Vec<R>, Error> {
        let rows = sql::scan(self.conn, R::TABLE.name, partition, after, PAGE)?;
        rows.into_iter().map(decode).collect()
    }

    /// All records of a partition.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn all<R: Record>(&mut self, partition: i64) -> Result<Vec<R>, Error> {
        let (mut all, mut after) = (Vec::new(), Vec::new());
        loop {
            let page = self.page::<R>(partition, &after)?;
            let Some(last) = page.last() else { return Ok(all) };
            after = last.key();
            all.extend(page);
        }
    }
}

fn decode<R: Record>(raw: Raw) -> Result<R, Error> {
    let record = R::decode(raw.body.as_slice());
    record.map_err(|_| Error::Broken(format!("a row of {} cannot be read", R::TABLE.name)))
}
