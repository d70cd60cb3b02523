//! Every migration of the store and of the services: up, down and up again, twice, with rows in the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Bool, Text};
use sammati_store::{AnyConn, Location, on_conn};
use sammati_testkit::databases;

/// One migration as it stands in its folder.
#[derive(Debug, Clone)]
pub(crate) struct Migration {
    pub(crate) name: String,
    pub(crate) up: String,
    pub(crate) down: String,
}

impl Migration {
    /// What the database calls it.
    pub(crate) fn version(&self) -> String {
        let version = self.name.split('_').next().unwrap();
        version.chars().filter(char::is_ascii_digit).collect()
    }
}

/// The store's own migrations.
pub(crate) fn own() -> Vec<Migration> {
    read(&root().join("crates/store/migrations"))
}

/// Those of the services, by the folder they stand in: each is the schema of one database, with the store's before it.
pub(crate) fn of_services() -> BTreeMap<PathBuf, Vec<Migration>> {
    let mut sets = BTreeMap::new();
    for service in folders(&root().join("services")) {
        find(&service.join("migrations"), &mut sets);
    }
    assert!(sets.len() >= 4, "identity, consent, and audit's two: {:?}", sets.keys());
    sets
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn find(folder: &Path, sets: &mut BTreeMap<PathBuf, Vec<Migration>>) {
    let inner = folders(folder);
    if inner.iter().any(|one| one.join("up.sql").exists()) {
        sets.insert(folder.to_owned(), read(folder));
    } else {
        inner.iter().for_each(|one| find(one, sets));
    }
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.map(|e| e.path()).filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

fn read(set: &Path) -> Vec<Migration> {
    let text = |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let one = |folder: PathBuf| Migration {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        up: text(folder.join("up.sql")),
        down: text(folder.join("down.sql")),
    };
    folders(set).into_iter().map(one).collect()
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, diesel::QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Bool)]
    required: bool,
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// A schema while it goes up and down.
struct Walk {
    conn: AnyConn,
    rows: i64,
}

impl Walk {
    fn run(&mut self, migration: &Migration, sql: &str) {
        let sql = format!("BEGIN; {sql} COMMIT;");
        on_conn!(&mut self.conn, |c| c.batch_execute(&sql)).unwrap_or_else(|e| panic!("{}: {e}", migration.name));
    }

    fn columns(&mut self) -> BTreeSet<Column> {
        let text = match self.conn {
            AnyConn::Pg(_) => {
                "SELECT table_name::text AS table, column_name::text AS name, upper(data_type::text) AS kind, \
                 is_nullable='NO' AND column_default IS NULL AS required \
                 FROM information_schema.columns WHERE table_schema='public'"
            }
            AnyConn::Sqlite(_) => {
                "SELECT m.name AS \"table\", p.name AS name, upper(p.type) AS kind, \
                 p.\"notnull\" AND p.dflt_value IS NULL AS required \
                 FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type='table'"
            }
        };
        let found: Vec<Column> = on_conn!(&mut self.conn, |c| diesel::sql_query(text).load(c)).unwrap();
        found.into_iter().collect()
    }

    /// One row into every table that there is.
    fn fill(&mut self) {
        self.rows += 1;
        let mut tables: BTreeMap<String, Vec<Column>> = BTreeMap::new();
        for column in self.columns().into_iter().filter(|column| column.required) {
            tables.entry(column.table.clone()).or_default().push(column);
        }
        for (table, columns) in tables {
            let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
            let values: Vec<_> = columns.iter().map(|column| self.value(&column.kind)).collect();
            let insert = format!("INSERT INTO {table}({}) VALUES ({})", names.join(","), values.join(","));
            on_conn!(&mut self.conn, |c| c.batch_execute(&insert)).unwrap();
        }
    }

    fn value(&self, kind: &str) -> String {
        match (kind, &self.conn) {
            ("BIGINT", _) => self.rows.to_string(),
            ("TEXT", _) => format!("'{}'", self.rows),
            ("BYTEA", AnyConn::Pg(_)) => format!(r"'\x{:08x}'", self.rows),
            ("BYTEA", AnyConn::Sqlite(_)) => format!("X'{:08x}'", self.rows),
            ("BOOLEAN", _) => "true".to_owned(),
            (other, _) => panic!("what is a {other}?"),
        }
    }

    fn counts(&mut self) -> BTreeMap<String, i64> {
        let tables: BTreeSet<_> = self.columns().into_iter().map(|column| column.table).collect();
        let count = |table: String| {
            let text = format!("SELECT COUNT(*) AS count FROM {table}");
            let found: Count = on_conn!(&mut self.conn, |c| diesel::sql_query(text.as_str()).get_result(c)).unwrap();
            (table, found.count)
        };
        tables.into_iter().map(count).collect()
    }
}

#[test]
fn every_migration_goes_up_and_down_and_up_again_twice_and_keeps_the_rows() {
    for (set, service) in of_services() {
        let all: Vec<_> = own().into_iter().chain(service).collect();
        for database in databases() {
            let conn = Location::parse(&database.url).unwrap().connect().unwrap();
            let mut walk = Walk { conn, rows: 0 };
            for _ in 0..2 {
                up(&mut walk, &all);
                for migration in all.iter().rev() {
                    walk.run(migration, &migration.down);
                }
                assert_eq!(walk.columns(), BTreeSet::new(), "{} leaves something", set.display());
            }
        }
    }
}

fn up(walk: &mut Walk, all: &[Migration]) {
    for migration in all {
        let (before, rows) = (walk.columns(), walk.counts());
        walk.run(migration, &migration.up);
        let after = walk.columns();
        walk.run(migration, &migration.down);
        assert_eq!(walk.columns(), before, "{} is not undone", migration.name);
        assert_eq!(walk.counts(), rows, "{} loses rows on its way down", migration.name);
        walk.run(migration, &migration.up);
        assert_eq!(walk.columns(), after, "{} differs the second time", migration.name);
        let kept = walk.counts();
        assert!(
            // What a binary must know is for migrations to say.
            rows.iter()
                .all(|(table, count)| table == "needed" || kept.get(table) == Some(count)),
            "{} loses rows: {rows:?}, then {kept:?}",
            migration.name
        );
        walk.fill();
    }
}
