//! What a migration may say: the rules of CONTRIBUTING.md's section "Migrations", held against every one.

use std::collections::BTreeSet;

use crate::migrations::{Migration, of_services, own};

/// Tables that are not divided: one row for a database, a few for its schema.
const UNDIVIDED: [&str; 2] = ["database", "needed"];

/// What neither an expand nor a contract has: not to be had, or not alike, on SQLite, Postgres and Citus.
const FORBIDDEN: [&str; 9] = [
    "SERIAL",
    "BIGSERIAL",
    "SEQUENCE",
    "AUTOINCREMENT",
    "GENERATED",
    "JSONB",
    "TRIGGER",
    "REFERENCES",
    "FOREIGN",
];

const KINDS: [&str; 4] = ["BIGINT", "BYTEA", "TEXT", "BOOLEAN"];

const NEEDS: &str = "INSERT INTO NEEDED(VERSION) VALUES";

/// What is wrong with a migration; `earlier` are the versions of those before it and its own.
fn faults(up: &str, earlier: &BTreeSet<String>) -> Vec<String> {
    let statements = statements(up);
    let needs: Vec<_> = statements.iter().filter(|s| s.starts_with(NEEDS)).collect();
    let is_contract = !needs.is_empty();
    let mut faults = Vec::new();
    for statement in &needs {
        let version: String = statement.chars().filter(char::is_ascii_digit).collect();
        if !earlier.contains(&version) {
            faults.push(format!("needs {version}, which is no migration before it"));
        }
    }
    for statement in statements.iter().filter(|s| !s.starts_with(NEEDS)) {
        let words: Vec<_> = statement
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .collect();
        faults.extend(
            FORBIDDEN
                .iter()
                .filter(|bad| words.contains(bad))
                .map(|bad| format!("{bad}: {statement}")),
        );
        let fault = match words.as_slice() {
            ["CREATE", "TABLE", table, ..] => new_table(&table.to_lowercase(), statement),
            ["CREATE", "INDEX", ..] => None,
            ["CREATE", "UNIQUE", "INDEX", ..] if statement.contains("(PARTITION,") => None,
            ["CREATE", "UNIQUE", ..] => Some("a unique index that does not begin with partition"),
            ["ALTER", "TABLE", _, "ADD", "COLUMN", _, kind, rest @ ..] => new_column(kind, rest),
            _ if is_contract => None,
            _ => Some("no expand: it may take away what older code uses; a contract names what it needs"),
        };
        faults.extend(fault.map(|fault| format!("{fault}: {statement}")));
    }
    faults
}

/// In upper case, without comments, each on one line.
fn statements(sql: &str) -> Vec<String> {
    let lines: Vec<_> = sql.lines().map(|line| line.split("--").next().unwrap()).collect();
    let one = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ").to_uppercase();
    lines
        .join("\n")
        .split(';')
        .map(one)
        .filter(|s| !s.is_empty())
        .map(|s| s.replace("( ", "(").replace(" )", ")").replace(" (", "("))
        .collect()
}

fn new_table(table: &str, statement: &str) -> Option<&'static str> {
    let inner = statement.split_once('(').map_or("", |(_, inner)| inner);
    let mut keys = inner
        .match_indices("PRIMARY KEY(")
        .chain(inner.match_indices("UNIQUE("));
    let divided = inner.starts_with("PARTITION BIGINT NOT NULL")
        && keys.all(|(at, key)| inner[at + key.len()..].starts_with("PARTITION"));
    let keyed = inner.contains("PRIMARY KEY(PARTITION")
        || (inner.starts_with("PARTITION BIGINT NOT NULL PRIMARY KEY") && inner.matches("PRIMARY KEY").count() == 1);
    if !(UNDIVIDED.contains(&table) || divided && keyed) {
        return Some("a table whose every key does not begin with partition");
    }
    let columns = inner.split(',').filter_map(|column| {
        let mut words = column.split_whitespace();
        (words.next().is_some_and(|name| !name.contains('('))).then(|| words.next())?
    });
    let bad = |kind: &str| !KINDS.contains(&kind.trim_end_matches(')'));
    let mut kinds = columns.filter(|word| *word != "KEY(PARTITION");
    kinds.any(bad).then_some("a column of another type than the four")
}

fn new_column(kind: &str, rest: &[&str]) -> Option<&'static str> {
    if !KINDS.contains(&kind) {
        Some("a column of another type than the four")
    } else if rest.contains(&"UNIQUE") || rest.contains(&"PRIMARY") {
        Some("a new key")
    } else if rest.contains(&"NOT") && !rest.contains(&"DEFAULT") {
        Some("a column that older code's inserts would have to name")
    } else {
        None
    }
}

#[test]
fn every_migration_keeps_to_the_rules() {
    let own = own();
    let mut sets = vec![own.clone()];
    sets.extend(
        of_services()
            .into_values()
            .map(|service| [own.clone(), service].concat()),
    );
    for set in sets {
        let mut versions: Vec<_> = set.iter().map(Migration::version).collect();
        versions.sort();
        versions.dedup();
        assert_eq!(versions.len(), set.len(), "two of one version");
        for migration in &set {
            let earlier = versions
                .iter()
                .filter(|v| **v <= migration.version())
                .cloned()
                .collect();
            let faults = faults(&migration.up, &earlier);
            assert!(faults.is_empty(), "{}: {faults:#?}", migration.name);
            assert!(
                !statements(&migration.down).is_empty(),
                "{} has no way back",
                migration.name
            );
        }
    }
}

#[test]
fn the_rules_refuse_what_they_name_and_nothing_else() {
    let earlier = BTreeSet::from(["20261201000001".to_owned()]);
    for bad in [
        "DROP TABLE feed",
        "ALTER TABLE feed DROP COLUMN body",
        "ALTER TABLE feed RENAME COLUMN body TO payload",
        "ALTER TABLE feed RENAME TO events",
        "ALTER TABLE feed ADD COLUMN colour BYTEA NOT NULL",
        "ALTER TABLE feed ADD COLUMN colour BYTEA UNIQUE",
        "ALTER TABLE feed ADD COLUMN colour JSONB",
        "ALTER TABLE feed ADD COLUMN colour INTEGER",
        "ALTER TABLE feed ALTER COLUMN body SET NOT NULL",
        "UPDATE feed SET body = subject",
        "DROP INDEX counter_by_due",
        "CREATE SEQUENCE numbers",
        "CREATE TRIGGER t AFTER INSERT ON feed EXECUTE FUNCTION f()",
        "CREATE UNIQUE INDEX one ON feed (event_id)",
        "CREATE TABLE x (id BYTEA NOT NULL PRIMARY KEY)",
        "CREATE TABLE x (partition BIGINT NOT NULL, id BYTEA NOT NULL, PRIMARY KEY (id, partition))",
        "CREATE TABLE x (partition BIGINT NOT NULL, id BYTEA NOT NULL)",
        "CREATE TABLE x (partition BIGINT NOT NULL, id BYTEA, PRIMARY KEY (partition, id), UNIQUE (id))",
        "CREATE TABLE x (partition BIGINT NOT NULL, id BYTEA PRIMARY KEY)",
        "CREATE TABLE x (partition BIGINT NOT NULL, n BIGSERIAL, PRIMARY KEY (partition, n))",
        "CREATE TABLE x (partition BIGINT NOT NULL, n UUID, PRIMARY KEY (partition, n))",
        "CREATE TABLE x (partition BIGINT NOT NULL REFERENCES head, PRIMARY KEY (partition))",
        "DROP TABLE feed; INSERT INTO needed(version) VALUES ('20270101000001')",
        "CREATE SEQUENCE s; INSERT INTO needed(version) VALUES ('20261201000001')",
    ] {
        assert!(!faults(bad, &earlier).is_empty(), "this was let through: {bad}");
    }
    for good in [
        "-- DROP TABLE feed;\nALTER TABLE feed ADD COLUMN colour BYTEA",
        "ALTER TABLE feed ADD COLUMN weight BIGINT NOT NULL DEFAULT 1",
        "CREATE INDEX feed_by_colour ON feed(colour); CREATE UNIQUE INDEX one ON feed (partition, event_id)",
        "CREATE TABLE x (partition BIGINT NOT NULL PRIMARY KEY, n BIGINT)",
        "CREATE TABLE x (partition BIGINT NOT NULL, t TEXT NOT NULL, b BOOLEAN, PRIMARY KEY (partition, t))",
        "ALTER TABLE feed DROP COLUMN body; INSERT INTO needed(version) VALUES ('20261201000001')",
    ] {
        assert_eq!(faults(good, &earlier), Vec::<String>::new(), "{good}");
    }
}
