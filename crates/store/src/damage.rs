//! Is the file of an embedded database what SQLite wrote?

use diesel::RunQueryDsl;
use diesel::sql_types::Text;

use crate::AnyConn;
use crate::error::Error;

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
