//! The set-ups: everything on SQLite, and two replicas of identity and consent on Postgres.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use sammati_kernel::SystemClock;
use sammati_testkit::databases::psql;
use sammati_testkit::development::DatabaseKind;
use sammati_testkit::{Line, Postgres, Setup};
use sammati_tests::retry::until_answered;
use sammati_tests::story::{Failure, Story};
use sammati_tests::system::{Processes, Setting};
use tempfile::TempDir;
use tokio::process::Command;

/// As many as the register must have for each cycle: not everybody is an adult with a mobile of her own.
const PEOPLE: usize = 50;

/// A set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Where the data of a world is.
pub(crate) enum Databases {
    /// In a folder for each service.
    Sqlite,
    /// On one server, each process over a line of its own.
    Postgres {
        server: Box<Postgres>,
        lines: BTreeMap<String, Line>,
    },
}

/// A running set-up.
pub(crate) struct World {
    pub(crate) kind: Kind,
    pub(crate) processes: Processes,
    pub(crate) databases: Databases,
    pub(crate) replicas: usize,
    folder: TempDir,
}

impl World {
    /// Starts one; `None` where there is no Postgres. Without durability, only for the control: Postgres answers commits
    /// before they are on the disk.
    pub(crate) async fn start(kind: Kind, cycles: usize, is_durable: bool) -> Result<Option<Self>, Failure> {
        let folder = tempfile::Builder::new().prefix("chaos-").tempdir()?;
        let server = match kind {
            Kind::Sqlite => None,
            Kind::Postgres => {
                // Only what sessions say makes a commit durable: nothing else has a reason to write for a while.
                let settings: &[&str] = if is_durable {
                    &[]
                } else {
                    &["wal_writer_delay=10s", "wal_buffers=64MB", "autovacuum=off"]
                };
                let Some(server) = tokio::task::block_in_place(|| {
                    Postgres::start_with(&Setup {
                        settings,
                        ..Setup::default()
                    })
                }) else {
                    return Ok(None);
                };
                Some(server)
            }
        };
        let replicas = if server.is_some() { 2 } else { 1 };
        let database = match &server {
            None => DatabaseKind::Sqlite,
            Some(server) => tokio::task::block_in_place(|| created(server)),
        };
        let processes = Processes::prepare(&Setting {
            folder: Some(folder.path().to_owned()),
            database,
            replicas,
            ..Setting::new()
        })?;
        let mut world = Self {
            kind,
            processes,
            databases: Databases::Sqlite,
            replicas,
            folder,
        };
        let people = i64::try_from(PEOPLE * (cycles + 10))?;
        world.edit("sandbox", |config| set(config, "service", "people", people.into()))?;
        match server {
            None => world.give_folders()?,
            Some(server) => world.give_lines(server, is_durable)?,
        }
        world.processes.launch_all().await?;
        Ok(Some(world))
    }

    /// The processes that keep something.
    pub(crate) fn names(&self) -> Vec<String> {
        let all = self.processes.names().filter(|name| *name != "sandbox");
        all.map(str::to_owned).collect()
    }

    /// Everything of this world: databases, logs, the journal.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a process keeps its files, on SQLite.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// Everybody, with fresh tokens.
    pub(crate) async fn story(&self) -> Result<Story, Failure> {
        let mut story = Story::new(&self.processes.addresses, Arc::new(SystemClock))?;
        until_answered(async || story.open().await).await?;
        Ok(story)
    }

    fn edit(&self, name: &str, change: impl Fn(&mut toml::Table) -> Result<(), Failure>) -> Result<(), Failure> {
        let path = self.processes.config(name);
        let mut config = std::fs::read_to_string(path)?.parse()?;
        change(&mut config)?;
        Ok(std::fs::write(path, toml::to_string(&config)?)?)
    }

    /// Each service's files in a folder of their own: a disk of one service can be full, or lose its power.
    fn give_folders(&self) -> Result<(), Failure> {
        for name in self.names() {
            std::fs::create_dir_all(self.data(&name))?;
            let url = format!("sqlite:data/{name}/{name}.db");
            self.edit(&name, |config| set(config, "database", "url", url.clone().into()))?;
        }
        Ok(())
    }

    /// Each process its own line to the server.
    fn give_lines(&mut self, server: Postgres, is_durable: bool) -> Result<(), Failure> {
        let mut lines = BTreeMap::new();
        for name in self.names() {
            let line = if is_durable {
                Line::to(server.url())
            } else {
                Line::without_durability(server.url())
            };
            let service = name.split('-').next().unwrap_or_default().to_owned();
            self.edit(&name, |config| {
                set(config, "database", "url", line.url(&service).into())?;
                if service == "audit" {
                    set(config, "service", "keys_database", line.url("audit_keys").into())?;
                }
                Ok(())
            })?;
            lines.insert(name, line);
        }
        self.databases = Databases::Postgres {
            server: Box::new(server),
            lines,
        };
        Ok(())
    }

    /// Stops everything, and has every database checked by its own service; tells what disagrees.
    pub(crate) async fn fsck(&mut self) -> Result<Vec<String>, Failure> {
        self.processes.stop().await;
        let mut wrong = Vec::new();
        for name in ["identity", "consent", "audit"] {
            let mut fsck = Command::new(self.processes.binary());
            fsck.args([name, "fsck", "--config"]).arg(self.processes.config(name));
            let out = fsck.stdin(Stdio::null()).kill_on_drop(true).output().await?;
            let said = String::from_utf8_lossy(&out.stdout);
            if !out.status.success() || !said.contains(" 0 disagreements") {
                let said = format!("{said}{}", String::from_utf8_lossy(&out.stderr));
                wrong.push(format!("fsck of {name}: {}", said.trim().replace('\n', " | ")));
            }
        }
        Ok(wrong)
    }

    /// Ends everything; with `keep` the folder stays, and is told.
    pub(crate) async fn end(mut self, keep: bool) -> Option<PathBuf> {
        self.processes.stop().await;
        keep.then(|| self.folder.keep())
    }
}

fn created(server: &Postgres) -> DatabaseKind {
    let make = |name: &str| {
        psql(server.url(), "postgres", &format!("CREATE DATABASE {name}"));
        format!("{}/{name}", server.url())
    };
    DatabaseKind::Postgres {
        identity: make("identity"),
        consent: make("consent"),
        audit: make("audit"),
        audit_keys: make("audit_keys"),
    }
}

fn set(config: &mut toml::Table, table: &str, key: &str, value: toml::Value) -> Result<(), Failure> {
    let table = config.get_mut(table).and_then(toml::Value::as_table_mut);
    table
        .ok_or("a configuration without its table")?
        .insert(key.to_owned(), value);
    Ok(())
}
