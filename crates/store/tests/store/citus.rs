//! `deploy/sql/citus.sql` names every table. Citus is not to be had for tests: its functions are stood in for.

use std::collections::BTreeSet;

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use sammati_store::{Location, on_conn};
use sammati_testkit::Database;

use crate::migrations::{of_services, own, root};

/// What the file calls, as Citus has it; each call is noted, and a table cannot be divided twice.
const STAND_IN: &str = "
    CREATE TABLE pg_dist_partition (logicalrelid REGCLASS PRIMARY KEY, how TEXT NOT NULL);
    CREATE FUNCTION create_reference_table(name REGCLASS) RETURNS VOID LANGUAGE SQL AS
        $$ INSERT INTO pg_dist_partition VALUES (name, 'everywhere') $$;
    CREATE FUNCTION create_distributed_table(name REGCLASS, by TEXT, colocate_with TEXT) RETURNS VOID LANGUAGE SQL AS
        $$ INSERT INTO pg_dist_partition VALUES (name, by || ' with ' || colocate_with) $$;";

#[derive(diesel::QueryableByName)]
struct Divided {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    how: String,
}

#[test]
fn the_file_for_citus_divides_every_table_once() {
    let file = std::fs::read_to_string(root().join("deploy/sql/citus.sql")).unwrap();
    for (set, service) in of_services() {
        let Some(database) = Database::postgres() else { return };
        let mut conn = Location::parse(&database.url).unwrap().connect().unwrap();
        let mut run = |sql: &str| on_conn!(&mut conn, |c| c.batch_execute(sql)).unwrap();
        own().iter().chain(&service).for_each(|migration| run(&migration.up));
        run(STAND_IN);
        run(&file);
        run(&file);
        let text = "SELECT c.relname::text AS name, COALESCE(d.how, 'not at all') AS how FROM pg_class c \
                    LEFT JOIN pg_dist_partition d ON d.logicalrelid=c.oid \
                    WHERE c.relkind='r' AND c.relnamespace='public'::regnamespace AND c.relname<>'pg_dist_partition'";
        let found: Vec<Divided> = on_conn!(&mut conn, |c| diesel::sql_query(text).load(c)).unwrap();
        assert!(found.len() > own().len(), "{}", set.display());
        let mut forgotten = BTreeSet::new();
        for Divided { name, how } in found {
            let wanted = match name.as_str() {
                "database" | "needed" => "everywhere",
                "head" => "partition with none",
                _ => "partition with head",
            };
            if how != wanted {
                forgotten.insert(format!("{name}: {how}, not {wanted}"));
            }
        }
        assert!(forgotten.is_empty(), "{}: {forgotten:#?}", set.display());
    }
}
