//! Databases for tests: an SQLite file in a temporary folder, and a database of its own on a throwaway Postgres.
//!
//! `SAMMATI_TEST_POSTGRES` may name a server where databases may be created; without it one is started for the process
//! and goes with it. On a machine without Postgres the tests that want it are skipped loudly; with `CI` set they fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

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

#[expect(clippy::disallowed_methods, reason = "the two settings of the test suite itself")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn start_for_process() -> Option<String> {
    let Some(programs) = programs() else {
        assert!(
            setting("CI").is_none(),
            "no initdb found: install PostgreSQL 15 or later"
        );
        eprintln!("SKIPPED on Postgres: no initdb found; install PostgreSQL 15 or later to run this test on it");
        return None;
    };
    let server = Postgres::start_in(programs, tempfile::tempdir().expect("a temporary folder").keep(), &[]);
    let url = server.url().to_owned();
    // It lives as long as the process: its death signal ends it then.
    std::mem::forget(server);
    Some(url)
}

/// The newest installed Postgres.
fn programs() -> Option<PathBuf> {
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

/// A Postgres server of its own, with fsync on, on a Unix socket.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    url: String,
    pid: Option<u32>,
    settings: Vec<String>,
}

impl Postgres {
    /// Makes a cluster and starts it; `None` where Postgres is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with settings beside the usual ones, as `wal_writer_delay=10s`.
    pub fn start_with(settings: &[&str]) -> Option<Self> {
        let folder = || tempfile::tempdir().expect("a temporary folder").keep();
        programs().map(|bin| Self::start_in(bin, folder(), settings))
    }

    fn start_in(programs: PathBuf, folder: PathBuf, settings: &[&str]) -> Self {
        let encoded = folder.display().to_string().replace('/', "%2F");
        let url = format!("postgres://postgres@{encoded}");
        let mut server = Self {
            programs,
            folder,
            url,
            pid: None,
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
        };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&server.folder));
        }
        let mut initdb = as_postgres(&server.programs.join("initdb"));
        initdb.args([
            "-D",
            &server.data(),
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ]);
        run(&mut initdb);
        server.restart();
        server
    }

    /// Where databases can be reached: append `/{database}`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills the server as a power cut would: no shutdown, no checkpoint.
    pub fn kill(&mut self) {
        let Some(pid) = self.pid.take() else { return };
        // The postmaster's children notice that it is gone and end.
        let _ = nix::sys::signal::kill(process(pid), nix::sys::signal::Signal::SIGKILL);
        while is_alive(pid) {
            std::thread::yield_now();
        }
    }

    /// Starts the server again on the same data.
    pub fn restart(&mut self) {
        assert!(self.pid.is_none(), "the server runs");
        // While children of a killed server still end, a new one refuses the data and ends too: it is tried again.
        for _ in 0..600 {
            if self.pid.is_none_or(|pid| !is_alive(pid)) {
                self.pid = Some(self.spawn());
            }
            if self.is_ready() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("postgres did not become ready");
    }

    fn spawn(&self) -> u32 {
        let mut server = as_postgres(&self.programs.join("postgres"));
        server.args(["-D", &self.data(), "-k", &self.folder.display().to_string()]);
        for setting in [
            "listen_addresses=",
            "max_connections=300",
            "shared_buffers=256MB",
            "unix_socket_permissions=0777",
        ] {
            server.args(["-c", setting]);
        }
        for setting in &self.settings {
            server.args(["-c", setting]);
        }
        server.stdout(Stdio::null()).stderr(Stdio::null());
        let (sender, receiver) = std::sync::mpsc::channel();
        // A death signal goes off when the thread that started the child ends: this one waits for the child.
        std::thread::spawn(move || {
            let mut child = server.spawn().expect("postgres starts");
            let _ = sender.send(child.id());
            let _ = child.wait();
        });
        receiver.recv().expect("postgres started")
    }

    fn is_ready(&self) -> bool {
        let mut ask = Command::new(self.programs.join("pg_isready"));
        ask.args(["-q", "-t", "5", "-h", &self.folder.display().to_string()]);
        ask.status().is_ok_and(|status| status.success())
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn process(pid: u32) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"))
}

fn is_alive(pid: u32) -> bool {
    nix::sys::signal::kill(process(pid), None).is_ok()
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Postgres refuses to run as root; and it ends when we do.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
}

fn run(command: &mut Command) {
    let out = command.output().expect("the program runs");
    assert!(
        out.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}
