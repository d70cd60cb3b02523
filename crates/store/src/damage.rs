//! Is the file of an embedded database what SQLite wrote, and do the indexes of a Postgres database have what their tables
//! have?

use diesel::RunQueryDsl;
use diesel::sql_types::Text;

use crate::AnyConn;
use crate::error::Error;

/// The function of Postgres's extension amcheck that compares an index with its table, where this role may call it. Only CASE
/// says what is tried first: to ask about a function in a schema that one may not look into is an error.
const CHECK: &str = "SELECT format('%I.bt_index_check', n.nspname) AS found \
    FROM pg_extension e JOIN pg_namespace n ON n.oid=e.extnamespace \
    WHERE CASE WHEN e.extname<>'amcheck' OR NOT has_schema_privilege(n.oid, 'USAGE') THEN false \
    ELSE has_function_privilege(format('%I.bt_index_check(regclass,boolean)', n.nspname), 'EXECUTE') END";

/// The indexes that statements may use.
const INDEXES: &str = "SELECT c.oid::regclass::text AS found \
    FROM pg_index i JOIN pg_class c ON c.oid=i.indexrelid JOIN pg_am a ON a.oid=c.relam \
    WHERE i.indisvalid AND a.amname='btree' AND c.relnamespace=current_schema()::regnamespace ORDER BY 1";

/// Whether the indexes of a database were compared with its tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Indexes {
    /// All of them.
    #[default]
    Compared,
    /// All but so many, which took longer than a statement may.
    InPart(u64),
    /// None: the server has not the extension `amcheck` in this database, or this role may not call it.
    Not,
}

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    found: String,
}

/// What is wrong with the file of an embedded database, if anything, in one pass over it.
pub(crate) fn quick_check(conn: &mut AnyConn) -> Result<Option<String>, Error> {
    let found = of_the_file(conn, "SELECT quick_check AS found FROM pragma_quick_check LIMIT 1")?;
    Ok(found.into_iter().next())
}

/// The same thoroughly: also that every index has what its table has.
pub(crate) fn integrity_check(conn: &mut AnyConn) -> Result<Vec<String>, Error> {
    of_the_file(
        conn,
        "SELECT integrity_check AS found FROM pragma_integrity_check LIMIT 100",
    )
}

/// What is wrong with each index of a Postgres database, by its name: pages that do not fit together, or a row of its table that
/// it has not. A process may serve it meanwhile. [`integrity_check`] does the same for a file.
pub(crate) fn indexes(conn: &mut AnyConn) -> Result<(Indexes, Vec<(String, String)>), Error> {
    let AnyConn::Pg(pg) = conn else {
        return Ok(Default::default());
    };
    let conn = pg.diesel();
    let check: Vec<Found> = diesel::sql_query(CHECK).load(conn)?;
    let Some(Found { found: check }) = check.first() else {
        return Ok((Indexes::Not, Vec::new()));
    };
    let compare = format!("SELECT {check}($1::text::regclass, true)");
    let (mut skipped, mut damage) = (0, Vec::new());
    let names: Vec<Found> = diesel::sql_query(INDEXES).load(conn)?;
    for Found { found: name } in names {
        match diesel::sql_query(&compare)
            .bind::<Text, _>(&name)
            .execute(conn)
            .map_err(Error::from)
        {
            Ok(_) => {}
            Err(error) if error.lost_connection() => return Err(error),
            Err(error) if error.is_passing() => skipped += 1,
            Err(error) => damage.push((name, error.to_string())),
        }
    }
    let indexes = match skipped {
        0 => Indexes::Compared,
        some => Indexes::InPart(some),
    };
    Ok((indexes, damage))
}

fn of_the_file(conn: &mut AnyConn, text: &str) -> Result<Vec<String>, Error> {
    let AnyConn::Sqlite(c) = conn else {
        return Ok(Vec::new());
    };
    let found: Result<Vec<Found>, _> = diesel::sql_query(text).load(c);
    // A page that the check itself needs may be the damaged one.
    let found = match found {
        Err(error) if is_damage(&error) => return Ok(vec![error.to_string()]),
        found => found?,
    };
    Ok(found
        .into_iter()
        .map(|row| row.found)
        .filter(|found| found != "ok")
        .collect())
}

/// Whether SQLite says that the file is not what it wrote.
pub(crate) fn is_damage(error: &diesel::result::Error) -> bool {
    let text = error.to_string();
    text.contains("malformed") || text.contains("not a database")
}
