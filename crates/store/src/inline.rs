//! Bodies stay in their rows as they are, on Postgres up to 8 KiB.
//!
//! By itself it takes a body of two KiB or more out of its row: tries to compress it, which comes to nothing with what is sealed,
//! and writes it in pieces into a table beside with an index of its own. An artefact is of that size, and an approval makes two.

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;

use crate::error::Error;
use crate::{AnyConn, on_conn};

/// What is set of a table: its bodies are not compressed, and its rows may fill a page.
const SET: &str = "ALTER COLUMN body SET STORAGE EXTERNAL, SET (toast_tuple_target=8160)";

/// The tables of which it is not.
const UNSET: &str = "SELECT format('%I',c.relname) AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid=c.oid \
     WHERE c.relkind='r' AND c.relnamespace=current_schema()::regnamespace \
     AND a.attname='body' AND a.atttypid='bytea'::regtype AND NOT a.attisdropped \
     AND NOT (a.attstorage='e' AND 'toast_tuple_target=8160'=ANY(coalesce(c.reloptions,'{}'))) ORDER BY c.relname";

#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// The tables whose bodies may leave their rows.
fn unset(conn: &mut AnyConn) -> Result<Vec<String>, Error> {
    let names: Vec<Name> = on_conn!(conn, |c| diesel::sql_query(UNSET).load(c))?;
    Ok(names.into_iter().map(|name| name.name).collect())
}

/// Sets it of all tables of a Postgres database. It holds of rows that are written from then on; without it all is as good, and
/// slower: so a role that may not change tables, an engine that knows no such setting, or a table that a backup holds is no
/// reason not to serve. While it waits for a table all others wait behind it, so that is not long.
pub(crate) fn keep_bodies(conn: &mut AnyConn) -> Result<(), Error> {
    for table in unset(conn)? {
        let set = format!("SET LOCAL lock_timeout='500ms'; ALTER TABLE {table} {SET}");
        if let Err(error) = on_conn!(conn, |c| c.batch_execute(&set)) {
            tracing::info!(
                table,
                %error,
                "bodies above 2 KiB leave their rows here, and cost three times the records in the log: the next start tries \
                 again, and so does the verb migrate; the role must own the table"
            );
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use diesel::sql_types::{BigInt, Bool};
    use diesel_migrations::EmbeddedMigrations;
    use sammati_testkit::Database;

    use super::*;
    use crate::{Location, setup};

    #[derive(diesel::QueryableByName)]
    struct Held {
        #[diesel(sql_type = BigInt)]
        beside: i64,
        #[diesel(sql_type = Bool)]
        whole: bool,
    }

    /// How many bytes are beside the feed, and whether bodies of 7,000 bytes are in it uncompressed.
    fn held(conn: &mut AnyConn) -> Held {
        let text = "SELECT pg_relation_size(c.reltoastrelid) AS beside,\
                    (SELECT bool_and(pg_column_size(body)=7004) FROM feed) AS whole FROM pg_class c WHERE c.relname='feed'";
        on_conn!(conn, |c| diesel::sql_query(text).get_result(c)).unwrap()
    }

    #[test]
    fn a_body_of_seven_kib_stays_in_its_row_and_as_it_is() {
        let Some(database) = Database::postgres() else { return };
        let location = Location::parse(&database.url).unwrap();
        let prepare = || setup::prepare(&location, Some(4), EmbeddedMigrations::new(&[])).map(drop);
        prepare().unwrap();
        let mut conn = location.connect().unwrap();
        assert_eq!(unset(&mut conn).unwrap(), Vec::<String>::new());
        let rows = "INSERT INTO feed(partition,position,epoch,time,event_id,chain,body) \
                    SELECT 0,n,1,0,'','',decode(repeat('61',7000),'hex') FROM generate_series(1,5) n";
        on_conn!(&mut conn, |c| c.batch_execute(rows)).unwrap();
        let found = held(&mut conn);
        assert!(found.whole && found.beside == 0, "{} bytes beside", found.beside);
    }

    #[test]
    fn a_role_that_may_not_change_tables_serves_all_the_same() {
        let Some(database) = Database::postgres() else { return };
        let location = Location::parse(&database.url).unwrap();
        setup::prepare(&location, Some(4), EmbeddedMigrations::new(&[])).unwrap();
        let mut conn = location.connect().unwrap();
        let reset = "ALTER TABLE feed ALTER COLUMN body SET STORAGE EXTENDED; SET default_transaction_read_only=on";
        on_conn!(&mut conn, |c| c.batch_execute(reset)).unwrap();
        assert_eq!(unset(&mut conn).unwrap(), ["feed"]);
        keep_bodies(&mut conn).unwrap();
        assert_eq!(unset(&mut conn).unwrap(), ["feed"], "it only reads");
        on_conn!(&mut conn, |c| c.batch_execute("SET default_transaction_read_only=off")).unwrap();
        keep_bodies(&mut conn).unwrap();
        assert_eq!(unset(&mut conn).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_table_that_somebody_holds_is_left_for_the_next_start() {
        let Some(database) = Database::postgres() else { return };
        let location = Location::parse(&database.url).unwrap();
        setup::prepare(&location, Some(4), EmbeddedMigrations::new(&[])).unwrap();
        let (mut conn, mut backup) = (location.connect().unwrap(), location.connect().unwrap());
        let reset = "ALTER TABLE feed ALTER COLUMN body SET STORAGE EXTENDED";
        on_conn!(&mut conn, |c| c.batch_execute(reset)).unwrap();
        let reads = "BEGIN; LOCK TABLE feed IN ACCESS SHARE MODE";
        on_conn!(&mut backup, |c| c.batch_execute(reads)).unwrap();
        keep_bodies(&mut conn).unwrap();
        assert_eq!(unset(&mut conn).unwrap(), ["feed"]);
        on_conn!(&mut backup, |c| c.batch_execute("ROLLBACK")).unwrap();
        keep_bodies(&mut conn).unwrap();
        assert_eq!(unset(&mut conn).unwrap(), Vec::<String>::new());
    }
}
