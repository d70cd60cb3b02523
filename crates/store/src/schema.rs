//! Where the schema of a database stands, for this binary: what it lacks, and what it has that this one does not know.
//!
//! A schema grows by *expands*, which older code does not see, and loses by *contracts*, a release later. A contract
//! names in the table `needed` the migration that a binary must know from then on. So an older binary starts anywhere
//! between: it passes over what it does not know, unless the database needs it.

use std::collections::BTreeSet;

use diesel::RunQueryDsl;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::sql_types::Text;
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::error::Error;
use crate::{AnyConn, on_conn};

/// The store's own migrations.
pub(crate) const OWN: EmbeddedMigrations = embed_migrations!("migrations");

/// The migration that made the table `needed`; before it nothing was.
const MADE_NEEDED: &str = "20261127000003";

/// A schema as one binary sees it.
#[derive(Debug)]
pub(crate) struct Schema {
    /// What it has of ours and the service's.
    pub(crate) applied: usize,
    /// What it lacks.
    pub(crate) pending: Vec<String>,
    /// What it has that this binary does not know.
    pub(crate) unknown: Vec<String>,
    /// What it needs a binary to know, and this one does not.
    needed: Vec<String>,
    /// Whether it has something of this service's.
    pub(crate) is_of_the_service: bool,
}

#[derive(diesel::QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

impl Schema {
    /// Reads it, changing nothing.
    pub(crate) fn read(conn: &mut AnyConn, service: &EmbeddedMigrations) -> Result<Self, Error> {
        let found = column(conn, "__diesel_schema_migrations");
        let found = found.map_err(|error| Error::Schema(format!("there is no schema of Sammati in it: {error}")))?;
        let needed = if found.contains(MADE_NEEDED) {
            column(conn, "needed")?
        } else {
            BTreeSet::new()
        };
        Self::of(&found, &needed, service)
    }

    /// The same where a new database may be: that one has no schema yet.
    pub(crate) fn begin(conn: &mut AnyConn, service: &EmbeddedMigrations) -> Result<Self, Error> {
        // Makes diesel's own table.
        on_conn!(&mut *conn, |c| c.applied_migrations().map(drop)).map_err(unreadable)?;
        Self::read(conn, service)
    }

    fn of(found: &BTreeSet<String>, needed: &BTreeSet<String>, service: &EmbeddedMigrations) -> Result<Self, Error> {
        let (own, service) = (versions(&OWN)?, versions(service)?);
        if let Some(twice) = own.intersection(&service).next() {
            return Err(Error::Schema(format!(
                "the store and the service both have a migration {twice}"
            )));
        }
        let known: BTreeSet<String> = own.union(&service).cloned().collect();
        Ok(Self {
            applied: found.intersection(&known).count(),
            pending: known.difference(found).cloned().collect(),
            unknown: found.difference(&known).cloned().collect(),
            needed: needed.difference(&known).cloned().collect(),
            is_of_the_service: service.is_empty() || !found.is_disjoint(&service),
        })
    }

    /// Refuses a schema that this binary cannot serve, even after it has brought what is pending.
    pub(crate) fn expect_served(&self) -> Result<(), Error> {
        let Some(unknown) = self.unknown.last() else {
            return Ok(());
        };
        let refuse = |what: String| Err(Error::Schema(what));
        if !self.is_of_the_service {
            return refuse(format!(
                "the database has the migration {unknown}, which this binary does not know, and none of this service: it \
                 is another service's; correct database.url"
            ));
        }
        if let Some(needed) = self.needed.last() {
            return refuse(format!(
                "the database needs a binary that knows the migration {needed}, and this one does not: a newer version \
                 took away what this one uses. Run the version that last served it, or a later one; to come back to \
                 this one, restore the backup that was made before the change"
            ));
        }
        if let Some(pending) = self.pending.first() {
            return refuse(format!(
                "the database has the migration {unknown}, which this binary does not know, and lacks {pending}, which \
                 this binary brings: they are of two lines of versions. Run the version that last served it, or a later \
                 one that has both"
            ));
        }
        Ok(())
    }

    /// Refuses a schema that this binary cannot read as it is.
    pub(crate) fn expect_current(&self) -> Result<(), Error> {
        self.expect_served()?;
        match self.pending.first() {
            None => Ok(()),
            Some(pending) => Err(Error::Schema(format!(
                "the database lacks the migration {pending}; run the verb migrate first, or the binary that last served it"
            ))),
        }
    }
}

/// The versions in a table.
fn column(conn: &mut AnyConn, table: &str) -> Result<BTreeSet<String>, Error> {
    let text = format!("SELECT version FROM {table}");
    let found: Vec<Version> = on_conn!(conn, |c| diesel::sql_query(text.as_str()).load(c))?;
    Ok(found.into_iter().map(|row| row.version).collect())
}

/// Runs what is pending; tells what that was.
pub(crate) fn run_migrations(conn: &mut AnyConn, migrations: EmbeddedMigrations) -> Result<Vec<String>, Error> {
    let names = |all: Vec<MigrationVersion<'_>>| all.iter().map(ToString::to_string).collect();
    on_conn!(conn, |c| c.run_pending_migrations(migrations).map(names))
        .map_err(|e| Error::Schema(format!("cannot bring the schema up to date: {e}")))
}

/// The versions of a set of migrations: the same for every database.
pub(crate) fn versions(migrations: &EmbeddedMigrations) -> Result<BTreeSet<String>, Error> {
    let all: Vec<Box<dyn Migration<Sqlite>>> = migrations.migrations().map_err(unreadable)?;
    Ok(all
        .iter()
        .map(|m| MigrationVersion::to_string(&m.name().version()))
        .collect())
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Schema(format!("the migrations cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(found: &[&str], needed: &[&str]) -> Schema {
        let own = versions(&OWN).unwrap();
        let found = own.into_iter().chain(found.iter().map(|v| (*v).to_owned()));
        let needed = needed.iter().map(|v| (*v).to_owned()).collect();
        Schema::of(&found.collect(), &needed, &EmbeddedMigrations::new(&[])).unwrap()
    }

    #[test]
    fn a_schema_that_is_ahead_is_served_until_it_needs_what_is_not_known() {
        schema(&[], &[]).expect_current().unwrap();
        schema(&["20991231000001"], &[]).expect_current().unwrap();
        schema(&["20991231000001"], &[MADE_NEEDED]).expect_current().unwrap();
        let refused = schema(&["20991231000001", "20991231000002"], &["20991231000001"]);
        let refused = refused.expect_served().unwrap_err().to_string();
        assert!(
            refused.contains("20991231000001") && refused.contains("Run the version that last served it"),
            "{refused}"
        );
    }

    #[test]
    fn a_schema_of_another_line_is_refused() {
        let found = BTreeSet::from(["20991231000001".to_owned(), MADE_NEEDED.to_owned()]);
        let refused = Schema::of(&found, &BTreeSet::new(), &EmbeddedMigrations::new(&[]));
        let refused = refused.unwrap().expect_served().unwrap_err().to_string();
        assert!(refused.contains("two lines"), "{refused}");
    }
}
