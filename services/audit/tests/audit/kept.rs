//! What a database keeps, as somebody finds it who has its files.

use diesel::connection::SimpleConnection;
use diesel::sql_types::{Binary, Text};
use diesel::{QueryableByName, RunQueryDsl};
use sammati_store::{AnyConn, Location, on_conn};
use sammati_testkit::disk;
pub(crate) use sammati_testkit::disk::holds;

#[derive(QueryableByName)]
struct Bytes {
    #[diesel(sql_type = Binary)]
    body: Vec<u8>,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// The tables of a Postgres database, whoever made them, its own and those of its statistics included. Left out are those
/// that cannot be sent as bytes: what they hold is of the engine's own making.
const TABLES: &str = "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind IN ('r', 'm', 'p') AND NOT EXISTS \
    (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.atttypid IN ('aclitem'::regtype, 'aclitem[]'::regtype))";

fn with<T: Send + 'static>(location: &Location, work: impl FnOnce(&mut AnyConn) -> T + Send + 'static) -> T {
    let location = location.clone();
    std::thread::spawn(move || work(&mut location.connect().unwrap()))
        .join()
        .unwrap()
}

fn column(conn: &mut AnyConn, text: &str) -> Vec<Vec<u8>> {
    let rows: Vec<Bytes> = on_conn!(conn, |c| diesel::sql_query(text).load(c)).unwrap();
    rows.into_iter().map(|row| row.body).collect()
}

/// The bodies of a table.
pub(crate) fn bodies(location: &Location, table: &'static str) -> Vec<Vec<u8>> {
    with(location, move |conn| {
        column(conn, &format!("SELECT body FROM {table} ORDER BY id"))
    })
}

pub(crate) fn execute(location: &Location, sql: &str) {
    let sql = sql.to_owned();
    with(location, move |conn| on_conn!(conn, |c| c.batch_execute(&sql)).unwrap());
}

/// Every byte that a database keeps where an engine could find it: files and write-ahead logs, or on Postgres each column of
/// each row of all tables.
pub(crate) fn everything(location: &Location) -> Vec<u8> {
    if let Location::Sqlite(path) = location {
        let files = disk::files(path.parent().unwrap());
        return files.into_iter().flat_map(|(_, bytes)| bytes).collect();
    }
    with(location, |conn| {
        let tables: Vec<Name> = on_conn!(conn, |c| diesel::sql_query(TABLES).load(c)).unwrap();
        let rows = |table: Name| {
            // Samples of the engine's own tables are of what cannot be sent, too.
            let which = if table.name == "pg_statistic" {
                "WHERE starelid >= 16384"
            } else {
                ""
            };
            let text = format!("SELECT record_send(t) AS body FROM {} t {which}", table.name);
            column(conn, &text).concat()
        };
        tables.into_iter().flat_map(rows).collect()
    })
}

/// The sealed payload in a leaf's row, and the wrapped key in a key's: field 4 of the one, field 2 of the other.
pub(crate) fn sealed(rows: &[Vec<u8>]) -> Vec<Vec<u8>> {
    use prost::Message;
    #[derive(Clone, PartialEq, Message)]
    struct Row {
        #[prost(bytes = "vec", tag = "4")]
        payload: Vec<u8>,
    }
    let payload = |row: &Vec<u8>| Row::decode(row.as_slice()).unwrap_or_default().payload;
    rows.iter().map(payload).filter(|payload| !payload.is_empty()).collect()
}

/// What the rows of leaves are found by, beside what their bytes tell.
pub(crate) fn names(rows: &[Vec<u8>]) -> Vec<Vec<u8>> {
    use prost::Message;
    let row = |row: &Vec<u8>| sammati_audit::rows::LeafRow::decode(row.as_slice()).unwrap();
    rows.iter().map(|bytes| row(bytes).names).collect()
}

pub(crate) fn wrapped(rows: &[Vec<u8>]) -> Vec<Vec<u8>> {
    use prost::Message;
    rows.iter()
        .map(|row| {
            sammati_audit::rows::PayloadKeyRow::decode(row.as_slice())
                .unwrap()
                .wrapped
        })
        .collect()
}
