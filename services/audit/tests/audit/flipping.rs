//! A2: what is kept and changes by a bit is found, wherever it is.

use std::collections::{BTreeMap, BTreeSet};

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use sammati_api::types::v1::RetentionClass::{Consent, General};
use sammati_store::{AnyConn, Location, on_conn};

use crate::erasing::{YEAR, classed, states};
use crate::fixture::{Audit, Feed, everywhere, some_event};
use crate::fsck::{check, check_keys, check_with};
use crate::succession::seal;
use crate::witnessing::{Running, all_of};

/// The tables of a log that grows, of which each leaf makes some.
const GROWING: [&str; 4] = ["log", "leaf", "subject", "checkpoint"];

/// Those that a small log has nothing in.
const LARGE: [&str; 2] = ["tile", "posting"];

/// All others of a log.
const OTHERS: [&str; 7] = [
    "source",
    "erasure",
    "legal_hold",
    "cosignature",
    "log_key",
    "succession",
    "request",
];

/// The books of the store, beside its rows: what it is and where it stands. `mention` nobody reads, and `claim` and `feed` have
/// nothing of a log, nor has anybody a cursor in it.
const BOOKS: [&str; 8] = [
    "__diesel_schema_migrations",
    "claim",
    "cursor",
    "database",
    "feed",
    "head",
    "mention",
    "needed",
];

#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

#[derive(diesel::QueryableByName)]
struct Bytes {
    #[diesel(sql_type = Nullable<Binary>)]
    value: Option<Vec<u8>>,
}

#[derive(diesel::QueryableByName)]
struct Int {
    #[diesel(sql_type = Nullable<BigInt>)]
    value: Option<i64>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Bytes(Vec<u8>),
    Int(i64),
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Int(_) => 8,
        }
    }

    /// With one bit of this byte changed.
    fn bent(&self, at: usize) -> Self {
        match self {
            Self::Bytes(bytes) => {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << (at % 8);
                Self::Bytes(bytes)
            }
            Self::Int(int) => Self::Int(int ^ 1 << (9 * at)),
        }
    }

    fn literal(&self, is_postgres: bool) -> String {
        match self {
            Self::Int(int) => int.to_string(),
            Self::Bytes(bytes) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let begin = if is_postgres { r"'\x" } else { "X'" };
                format!("{begin}{digits}'")
            }
        }
    }
}

/// The values of a row, by column; without those that are `NULL`.
type Row = BTreeMap<String, Value>;

fn names(conn: &mut AnyConn, on_sqlite: &str, on_postgres: &str) -> Vec<Name> {
    let text = if is_postgres(conn) { on_postgres } else { on_sqlite };
    on_conn!(conn, |c| diesel::sql_query(text).load(c)).unwrap()
}

const fn is_postgres(conn: &AnyConn) -> bool {
    matches!(conn, AnyConn::Pg(_))
}

fn tables(conn: &mut AnyConn) -> BTreeSet<String> {
    let found = names(
        conn,
        "SELECT name, type AS kind FROM sqlite_master WHERE type='table'",
        "SELECT tablename::text AS name, 'table' AS kind FROM pg_tables WHERE schemaname='public'",
    );
    found.into_iter().map(|table| table.name).collect()
}

fn rows(conn: &mut AnyConn, table: &str) -> Vec<Row> {
    let columns = names(
        conn,
        &format!("SELECT name, type AS kind FROM pragma_table_info('{table}')"),
        &format!(
            "SELECT column_name::text AS name, upper(data_type::text) AS kind FROM information_schema.columns \
             WHERE table_schema='public' AND table_name='{table}'"
        ),
    );
    let mut rows = Vec::new();
    for Name { name, kind } in columns {
        let text = format!("SELECT {name} AS value FROM {table} ORDER BY partition,id");
        let values: Vec<Option<Value>> = match kind.as_str() {
            "BYTEA" => {
                let found: Vec<Bytes> = on_conn!(&mut *conn, |c| diesel::sql_query(text).load(c)).unwrap();
                found.into_iter().map(|one| one.value.map(Value::Bytes)).collect()
            }
            "BIGINT" => {
                let found: Vec<Int> = on_conn!(&mut *conn, |c| diesel::sql_query(text).load(c)).unwrap();
                found.into_iter().map(|one| one.value.map(Value::Int)).collect()
            }
            other => panic!("{table}.{name} is {other}"),
        };
        rows.resize_with(values.len(), Row::new);
        for (row, value) in rows.iter_mut().zip(values) {
            row.extend(value.map(|value| (name.clone(), value)));
        }
    }
    rows
}

/// Sets a column of a row, which is found by the key that it has.
fn set(conn: &mut AnyConn, table: &str, row: &Row, (column, value): (&str, &Value)) {
    let is_postgres = is_postgres(conn);
    let literal = |value: &Value| value.literal(is_postgres);
    let [partition, id] = ["partition", "id"].map(|key| literal(&row[key]));
    let value = literal(value);
    let text = format!("UPDATE {table} SET {column}={value} WHERE partition={partition} AND id={id}");
    on_conn!(conn, |c| c.batch_execute(&text)).unwrap();
}

/// Flips one bit of each byte of these rows, or of each `step`th, and puts it back; returns where that was not found, and
/// how many were tried.
fn flip(
    location: &Location,
    tables: &[&str],
    step: usize,
    check: impl Fn(&Location) -> Vec<String>,
) -> (BTreeMap<String, Vec<usize>>, usize) {
    let mut conn = location.connect().unwrap();
    let (mut missed, mut tried, mut next) = (BTreeMap::<_, Vec<_>>::new(), 0, 0);
    assert_eq!(check(location), Vec::<String>::new());
    for table in tables {
        let rows = rows(&mut conn, table);
        assert!(!rows.is_empty(), "{table} has nothing that could change");
        for row in rows {
            for (column, value) in &row {
                while next < value.bytes() {
                    let bent = value.bent(next);
                    let changed = Row::from_iter(row.clone().into_iter().chain([(column.clone(), bent.clone())]));
                    set(&mut conn, table, &row, (column, &bent));
                    if check(location).is_empty() {
                        let place = format!("{table}.{column} {:02x?}", row["id"]);
                        missed.entry(place).or_default().push(next);
                    }
                    set(&mut conn, table, &changed, (column, value));
                    tried += 1;
                    next += step;
                }
                next -= value.bytes();
            }
        }
    }
    assert_eq!(check(location), Vec::<String>::new(), "all is put back");
    (missed, tried)
}

/// Of an embedded database every byte, of one on a server some.
fn step(audit: &Audit) -> usize {
    if audit.is_postgres() { 37 } else { 1 }
}

/// Whoever adds a table says here how a change of it is found.
#[tokio::test(flavor = "multi_thread")]
async fn a2_no_table_is_left_out() {
    for audit in everywhere().await {
        for (location, own) in [
            (audit.location(), [&GROWING[..], &LARGE, &OTHERS].concat()),
            (audit.key_location(), vec!["payload_key", "request"]),
        ] {
            let found = std::thread::spawn(move || tables(&mut location.connect().unwrap()));
            let known = own.into_iter().chain(BOOKS).map(str::to_owned).collect::<BTreeSet<_>>();
            let found = found.join().unwrap();
            let found: Vec<_> = found.difference(&known).collect();
            assert_eq!(found, Vec::<&String>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_every_byte_that_was_changed_is_found() {
    for audit in everywhere().await {
        for n in 0..3 {
            audit.append_unsigned(vec![some_event(n % 2)]).await.unwrap();
            audit.log.newest().await.unwrap();
        }
        let (location, step) = (audit.location(), step(&audit));
        let flipped = std::thread::spawn(move || flip(&location, &GROWING, step, check));
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
        let flipped = std::thread::spawn(move || flip(&location, &LARGE, 173, check));
        let (missed, tried) = flipped.join().unwrap();
        assert_eq!(missed, BTreeMap::new());
        assert!(tried > 50, "{tried} bytes");
    }
}

/// Has of all that a log keeps beside its leaves something: feeds, holds, erasures done and booked, keys that were replaced
/// and destroyed, cosignatures, and its end.
pub(crate) async fn eventful(audit: Audit) -> (Audit, Running) {
    audit
        .append(vec![classed(1, General, &audit), some_event(2)])
        .await
        .unwrap();
    audit.relay(Feed::of(2).stretch(0, 2)).await.unwrap();
    let hold = audit.hold(Some(2), &[Consent]).await;
    audit.lift(&hold).await;
    audit.hold(Some(3), &[]).await;
    audit.clock.advance(YEAR);
    let done = audit.erase(1, &[General]).await.unwrap();
    assert_eq!(states(&done).len(), 1);
    audit.erase(2, &[Consent]).await.unwrap();
    let (old, new) = (audit.log_key(), crate::keys::new_key());
    let audit = audit.restart_signed(&new, Some(&old)).await.unwrap();
    // What the witness is shown is signed by the new key.
    audit.log.newest().await.unwrap();
    let witness = Running::start(&audit, "w.example/1").await;
    let audit = audit.restart_witnessed(all_of(&[&witness], 1)).await;
    seal(&audit, "logs/next").await.unwrap();
    audit.log.newest().await.unwrap();
    audit.log.cosign().await.unwrap();
    (audit, witness)
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_every_byte_that_was_changed_beside_the_leaves_is_found() {
    for audit in everywhere().await {
        let (audit, witness) = eventful(audit).await;
        let (location, step, key) = (audit.location(), step(&audit), witness.key());
        let all = std::slice::from_ref(&key).to_vec();
        let check = move |location: &Location| check_with(location, &all);
        let flipped = std::thread::spawn(move || flip(&location, &OTHERS, step, check));
        let (missed, tried) = flipped.join().unwrap();
        assert_eq!(missed, BTreeMap::new());
        assert!(tried > 1500 / step, "{tried} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_every_byte_that_was_changed_of_the_keys_is_found() {
    for audit in everywhere().await {
        let (audit, _witness) = eventful(audit).await;
        let (location, step) = (audit.key_location(), step(&audit));
        let flipped = std::thread::spawn(move || flip(&location, &["payload_key"], step, check_keys));
        let (missed, tried) = flipped.join().unwrap();
        assert_eq!(missed, BTreeMap::new());
        assert!(tried > 500 / step, "{tried} bytes");
    }
}
