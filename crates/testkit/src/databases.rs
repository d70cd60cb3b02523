//! Databases for tests: an SQLite file in a temporary folder, and a database of its own on a throwaway Postgres.
//!
//! `SAMMATI_TEST_POSTGRES` may name a server where databases may be created, as `postgres://user:password@host:port`;
//! without it one is started for the process and goes with it. `SAMMATI_TEST_POSTGRES_BIN` may name the folder of the
//! server's programs. On a machine without Postgres the tests that want it are skipped loudly; with `CI` set they fail.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::postgres::{Postgres, Setup};

/// A database of one test: gone when dropped, but for a database on a shared server, which goes with the server.
#[derive(Debug)]
pub struct Database {
    /// As a configuration names it: `sqlite:…` or `postgres://…`.
    pub url: String,
    _folder: Option<TempDir>,
}

impl Database {
    /// A new SQLite file.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        Self {
            url,
            _folder: Some(folder),
        }
    }

    /// A new database on the throwaway Postgres; `None` where there is none to be had.
    pub fn postgres() -> Option<Self> {
        let server = server_url()?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        psql(&server, "postgres", &format!("CREATE DATABASE {name}"));
        Some(Self {
            url: format!("{server}/{name}"),
            _folder: None,
        })
    }

    /// A new database on a server of the test's own.
    pub fn on(server: &Postgres, name: &str) -> Self {
        psql(server.url(), "postgres", &format!("CREATE DATABASE {name}"));
        Self {
            url: format!("{}/{name}", server.url()),
            _folder: None,
        }
    }

    /// Runs statements beside the store, as nobody should.
    ///
    /// # Panics
    /// On SQLite, which one process has to itself.
    pub fn execute(&self, sql: &str) {
        let (server, name) = self.url.rsplit_once('/').expect("a Postgres database");
        psql(server, name, sql);
    }
}

/// One of each kind: every storage test runs on both.
pub fn databases() -> Vec<Database> {
    let mut all = vec![Database::sqlite()];
    all.extend(Database::postgres());
    all
}

/// Runs one statement with psql.
pub fn psql(server: &str, database: &str, sql: &str) -> String {
    let out = Command::new("psql")
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
            &format!("{server}/{database}"),
        ])
        .output()
        .expect("psql runs");
    assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// The Postgres server of this process, without a database's name; `None` where there is none to be had.
///
/// # Panics
/// With `CI` set, where there is none.
pub fn server_url() -> Option<String> {
    static SERVER: Mutex<Option<Option<String>>> = Mutex::new(None);
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    server
        .get_or_insert_with(|| setting("SAMMATI_TEST_POSTGRES").or_else(start_for_process))
        .clone()
}

#[expect(clippy::disallowed_methods, reason = "the settings of the test suite itself")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether the tests run against a server that somebody else looks after: nobody may stop or change that one.
pub(crate) fn is_given() -> bool {
    setting("SAMMATI_TEST_POSTGRES").is_some()
}

fn start_for_process() -> Option<String> {
    let server = Postgres::start_in(&programs()?, &Setup::default());
    let url = server.url().to_owned();
    // It lives as long as the process: its death signal ends it then.
    std::mem::forget(server);
    Some(url)
}

/// The folder of the programs that were asked for, or of the newest installed Postgres.
///
/// # Panics
/// With `CI` set, where there is none.
pub(crate) fn programs() -> Option<PathBuf> {
    let found = match setting("SAMMATI_TEST_POSTGRES_BIN").map(PathBuf::from) {
        Some(asked) => {
            let shown = asked.display();
            assert!(
                asked.join("initdb").exists(),
                "SAMMATI_TEST_POSTGRES_BIN: no initdb in {shown}"
            );
            Some(asked)
        }
        None => installed(),
    };
    if found.is_none() {
        assert!(!is_ci(), "no initdb found: install PostgreSQL 15 or later");
        eprintln!("SKIPPED on Postgres: no initdb found; install PostgreSQL 15 or later to run this test on it");
    }
    found
}

/// Whether nothing may be skipped.
pub(crate) fn is_ci() -> bool {
    setting("CI").is_some()
}

fn installed() -> Option<PathBuf> {
    let on_path = Command::new("pg_config").arg("--bindir").output().ok();
    let on_path = on_path.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim().to_owned()));
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path().join("bin"));
    let mut found: Vec<_> = debian
        .chain(on_path)
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}
