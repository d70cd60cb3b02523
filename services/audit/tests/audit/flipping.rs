//! A2: what is kept and changes by a bit is found, wherever it is.

use std::collections::BTreeMap;
use std::ops::Range;

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::Binary;
use prost::Message;
use sammati_audit::rows::LeafRow;
use sammati_store::{AnyConn, Location, on_conn};

use crate::fixture::{everywhere, some_event};
use crate::fsck::check;

#[derive(Clone, diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Binary)]
    id: Vec<u8>,
    #[diesel(sql_type = Binary)]
    body: Vec<u8>,
}

fn rows(conn: &mut AnyConn, table: &str) -> Vec<Row> {
    let text = format!("SELECT id,body FROM {table} ORDER BY id");
    on_conn!(conn, |c| diesel::sql_query(text.as_str()).load(c)).unwrap()
}

fn put(conn: &mut AnyConn, table: &str, id: &[u8], row: &Row) {
    let is_postgres = matches!(conn, AnyConn::Pg(_));
    let literal = |bytes: &[u8]| {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if is_postgres {
            format!(r"'\x{digits}'")
        } else {
            format!("X'{digits}'")
        }
    };
    let (id, new, body) = (literal(id), literal(&row.id), literal(&row.body));
    let text = format!("UPDATE {table} SET id={new}, body={body} WHERE id={id}");
    on_conn!(conn, |c| c.batch_execute(&text)).unwrap();
}

/// Where a field with these bytes is, with its tag and length.
fn field(body: &[u8], bytes: &[u8]) -> Range<usize> {
    let at = body.windows(bytes.len()).position(|window| window == bytes).unwrap();
    let head = if bytes.len() < 128 { 2 } else { 3 };
    at - head..at + bytes.len()
}

/// What of a leaf's row nothing that is signed commits to, for only a key makes it again: by what it is found, and whether
/// it is the same that is sent again.
fn keyed(body: &[u8]) -> Vec<Range<usize>> {
    let row = LeafRow::decode(body).unwrap();
    vec![field(body, &row.digest), field(body, &row.names)]
}

/// Flips one bit of each byte of these rows, or of each `step`th, and puts it back; returns where that was not found.
fn flip(location: &Location, tables: &[&str], step: usize) -> (BTreeMap<String, Vec<usize>>, usize) {
    let mut conn = location.connect().unwrap();
    let (mut missed, mut tried) = (BTreeMap::<_, Vec<_>>::new(), 0);
    assert_eq!(check(location), Vec::<String>::new());
    for table in tables {
        for row in rows(&mut conn, table) {
            let passed = if *table == "leaf" { keyed(&row.body) } else { Vec::new() };
            let (keys, all) = (row.id.len(), row.id.len() + row.body.len());
            for at in (tried % step..all).step_by(step) {
                if at >= keys && passed.iter().any(|range| range.contains(&(at - keys))) {
                    continue;
                }
                let mut bent = row.clone();
                let byte = match at.checked_sub(keys) {
                    None => &mut bent.id[at],
                    Some(at) => &mut bent.body[at],
                };
                *byte ^= 1 << (at % 8);
                put(&mut conn, table, &row.id, &bent);
                if check(location).is_empty() {
                    let place = format!("{table} {:02x?}", row.id);
                    missed.entry(place).or_default().push(at);
                }
                put(&mut conn, table, &bent.id, &row);
                tried += 1;
            }
        }
    }
    assert_eq!(check(location), Vec::<String>::new(), "all is put back");
    (missed, tried)
}

/// A small log: on an embedded database every byte, on a server some.
#[tokio::test(flavor = "multi_thread")]
async fn a2_every_byte_that_was_changed_is_found() {
    for audit in everywhere().await {
        for n in 0..3 {
            audit.append_unsigned(vec![some_event(n % 2)]).await.unwrap();
            audit.log.newest().await.unwrap();
        }
        let (location, step) = (audit.location(), if audit.is_postgres() { 37 } else { 1 });
        let tables = ["log", "leaf", "subject", "checkpoint"];
        let flipped = std::thread::spawn(move || flip(&location, &tables, step));
        let (missed, tried) = flipped.join().unwrap();
        assert_eq!(missed, BTreeMap::new());
        assert!(tried > 2000 / step, "{tried} bytes");
    }
}

/// A log with full tiles and postings: some bytes of what a small one has not.
#[tokio::test(flavor = "multi_thread")]
async fn a2_changed_tiles_and_postings_are_found() {
    for audit in everywhere().await {
        for _ in 0..2 {
            let events = (0..130).map(|n| some_event(n % 7)).collect();
            audit.append_unsigned(events).await.unwrap();
        }
        audit.log.newest().await.unwrap();
        audit.log.post().await.unwrap();
        let location = audit.location();
        let flipped = std::thread::spawn(move || flip(&location, &["tile", "posting"], 173));
        let (missed, tried) = flipped.join().unwrap();
        assert_eq!(missed, BTreeMap::new());
        assert!(tried > 50, "{tried} bytes");
    }
}
