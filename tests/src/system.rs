//! A whole system of services for a test, the tour or a benchmark: as real processes, or in this process with a clock
//! that the test moves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sammati_kernel::Clock;
use sammati_server::{Config, Running, Service, serve_on};
use sammati_testkit::development::{DatabaseKind, Development, Port, Ports};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::caller::Addresses;
use crate::story::Failure;

mod faults;

/// How a system is set up.
#[derive(Debug)]
pub struct Setting {
    /// Where everything is kept; `None`: a temporary folder.
    pub folder: Option<PathBuf>,
    /// The first of four ports; `None`: free ones.
    pub first_port: Option<u16>,
    /// Where the data is: SQLite files in the folder, or databases on a Postgres server.
    pub database: DatabaseKind,
    /// How many replicas of consent and of identity run; more than one needs Postgres.
    pub replicas: usize,
}

impl Setting {
    /// One of each, on SQLite, in a temporary folder, on free ports.
    #[expect(
        clippy::new_without_default,
        reason = "a default would hide that folders and ports are taken"
    )]
    pub fn new() -> Self {
        Self {
            folder: None,
            first_port: None,
            database: DatabaseKind::Sqlite,
            replicas: 1,
        }
    }
}

/// How long a start may take.
const START: Duration = Duration::from_secs(60);

/// What both kinds of system are made from: configurations by the name of the process, and addresses.
struct Plan {
    configs: BTreeMap<String, PathBuf>,
    addresses: Addresses,
    temporary: Option<TempDir>,
}

impl Plan {
    fn make(setting: &Setting) -> Result<Self, Failure> {
        let temporary = if setting.folder.is_none() {
            Some(tempfile::tempdir()?)
        } else {
            None
        };
        let folder = match (&setting.folder, &temporary) {
            (Some(folder), _) => folder.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => return Err("no folder".into()),
        };
        std::fs::create_dir_all(&folder)?;
        let folder = folder.canonicalize()?;
        let ports = match setting.first_port {
            Some(first) => Ports::from_first(first),
            None => Ports {
                tiles: None,
                ..Ports::free()?
            },
        };
        let at = |port: Port| format!("https://127.0.0.1:{}", port.rpc);
        let urls = [ports.identity, ports.consent, ports.audit, ports.sandbox].map(at);
        let [identity, consent, audit, sandbox] = urls;
        let written = Development {
            folder: folder.clone(),
            ports,
            database: setting.database.clone(),
        }
        .write()?;
        let mut configs = BTreeMap::from([
            ("identity".to_owned(), written.identity),
            ("consent".to_owned(), written.consent),
            ("audit".to_owned(), written.audit),
            ("sandbox".to_owned(), written.sandbox),
        ]);
        let (mut consents, mut identities) = (vec![consent.clone()], vec![identity.clone()]);
        for n in 2..=setting.replicas {
            for (name, urls) in [("identity", &mut identities), ("consent", &mut consents)] {
                let port = Port::free()?;
                let replica = format!("{name}-{n}");
                let config = folder.join(format!("{replica}.toml"));
                std::fs::write(&config, with_ports(&std::fs::read_to_string(&configs[name])?, port)?)?;
                configs.insert(replica, config);
                urls.push(at(port));
            }
        }
        let addresses = Addresses {
            folder,
            identity,
            consent,
            consents,
            identities,
            audit,
            sandbox,
        };
        Ok(Self {
            configs,
            addresses,
            temporary,
        })
    }
}

/// The same configuration on other ports.
///
/// # Errors
/// When it is none.
pub fn with_ports(config: &str, port: Port) -> Result<String, Failure> {
    let mut table: toml::Table = config.parse()?;
    let server = table
        .get_mut("server")
        .and_then(toml::Value::as_table_mut)
        .ok_or("a configuration without [server]")?;
    server.insert("listen".into(), format!("127.0.0.1:{}", port.rpc).into());
    server.insert("admin_listen".into(), format!("127.0.0.1:{}", port.admin).into());
    Ok(toml::to_string(&table)?)
}

/// A program of this workspace, beside the running one.
///
/// # Errors
/// When it was not built.
pub fn program(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let mut folder = own.parent().unwrap_or(Path::new(".")).to_owned();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is not built; run: cargo build --workspace --bins", path.display()).into())
    }
}

/// The services as processes of their own.
pub struct Processes {
    /// Where they are.
    pub addresses: Addresses,
    configs: BTreeMap<String, PathBuf>,
    children: BTreeMap<String, Child>,
    binary: PathBuf,
    _temporary: Option<TempDir>,
}

impl Processes {
    /// Starts them all, and waits until each is ready.
    ///
    /// # Errors
    /// The first that did not start.
    pub async fn start(setting: Setting) -> Result<Self, Failure> {
        let mut system = Self::prepare(&setting)?;
        system.launch_all().await?;
        Ok(system)
    }

    /// Writes what they need, and starts none yet.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn prepare(setting: &Setting) -> Result<Self, Failure> {
        let Plan {
            configs,
            addresses,
            temporary,
        } = Plan::make(setting)?;
        Ok(Self {
            addresses,
            configs,
            children: BTreeMap::new(),
            binary: program("sammati")?,
            _temporary: temporary,
        })
    }

    /// Starts them all, and waits until each is ready.
    ///
    /// # Errors
    /// The first that did not start.
    pub async fn launch_all(&mut self) -> Result<(), Failure> {
        self.launch_all_as(|program| Command::new(program)).await
    }

    /// The same, each by a command that runs the program.
    ///
    /// # Errors
    /// The first that did not start.
    pub async fn launch_all_as(&mut self, command: impl Fn(&Path) -> Command) -> Result<(), Failure> {
        // The sandbox first: identity calls it; then identity, whose facts the others follow.
        let names: Vec<_> = self.configs.keys().cloned().collect();
        for wave in ["sandbox", "identity", "audit", "consent"] {
            for name in names.iter().filter(|name| name.split('-').next() == Some(wave)) {
                let program = command(&self.binary);
                self.launch_as(name, program).await?;
            }
        }
        Ok(())
    }

    /// One more process: of `name`'s first part up to a dash, with this configuration. It is not started yet.
    pub fn add(&mut self, name: &str, config: PathBuf) {
        self.configs.insert(name.to_owned(), config);
    }

    /// The names of the processes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.configs.keys().map(String::as_str)
    }

    /// Starts the process called `name` and waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead.
    pub async fn launch(&mut self, name: &str) -> Result<(), Failure> {
        let program = Command::new(&self.binary);
        self.launch_by(name, program, START).await
    }

    /// The same, for one that may take longer: SQLite reads a large file through before it serves.
    ///
    /// # Errors
    /// When it ends instead, or takes longer than that.
    pub async fn launch_within(&mut self, name: &str, patience: Duration) -> Result<(), Failure> {
        let program = Command::new(&self.binary);
        self.launch_by(name, program, patience).await
    }

    /// The same, by a command that runs the program.
    ///
    /// # Errors
    /// When it ends instead.
    pub async fn launch_as(&mut self, name: &str, program: Command) -> Result<(), Failure> {
        self.launch_by(name, program, START).await
    }

    async fn launch_by(&mut self, name: &str, mut program: Command, patience: Duration) -> Result<(), Failure> {
        let service = name.split('-').next().unwrap_or(name);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.addresses.folder.join(format!("{name}.log")))?;
        let mut child = program
            .arg(service)
            .arg("--config")
            .arg(&self.configs[name])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(out).lines();
        let ready = tokio::time::timeout(patience, lines.next_line()).await;
        match ready {
            Ok(Ok(Some(line))) if line.starts_with("ready:") => {
                self.children.insert(name.to_owned(), child);
                Ok(())
            }
            _ => {
                let log =
                    std::fs::read_to_string(self.addresses.folder.join(format!("{name}.log"))).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(5).collect();
                Err(format!(
                    "{name} did not become ready; its log ends: {}",
                    last.into_iter().rev().collect::<Vec<_>>().join(" | ")
                )
                .into())
            }
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When there is no such process.
    pub async fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let mut child = self.children.remove(name).ok_or("no such process")?;
        child.start_kill()?;
        child.wait().await?;
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When there is no such process.
    pub async fn end(&mut self, name: &str) -> Result<(), Failure> {
        let mut child = self.children.remove(name).ok_or("no such process")?;
        terminate(&child);
        child.wait().await?;
        Ok(())
    }

    /// Waits for Ctrl-C or SIGTERM.
    pub async fn until_interrupted(&mut self) {
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }

    /// SIGTERM to all, and waits; whoever does not end within 20 s is killed.
    pub async fn stop(&mut self) {
        for child in self.children.values() {
            terminate(child);
        }
        for (_, mut child) in std::mem::take(&mut self.children) {
            if tokio::time::timeout(Duration::from_secs(20), child.wait())
                .await
                .is_err()
            {
                let _ = child.kill().await;
            }
        }
    }
}

fn terminate(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
}

/// The services in this process, with the test's clock.
pub struct InProcess {
    /// Where they are.
    pub addresses: Addresses,
    /// By their names, in the order they started.
    running: Vec<(String, Running)>,
    _temporary: Option<TempDir>,
}

impl InProcess {
    /// Starts them all.
    ///
    /// # Errors
    /// The first that did not start.
    pub async fn start(setting: &Setting, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let Plan {
            configs,
            addresses,
            temporary,
        } = Plan::make(setting)?;
        let mut running = Vec::new();
        for wave in ["sandbox", "identity", "audit", "consent"] {
            for (name, config) in configs.iter().filter(|(name, _)| name.split('-').next() == Some(wave)) {
                let clock = Arc::clone(&clock);
                let service = match wave {
                    "sandbox" => serve::<sammati_sandbox::Sandbox>(config, clock).await?,
                    "identity" => serve::<sammati_identity::Identity>(config, clock).await?,
                    "audit" => serve::<sammati_audit::Audit>(config, clock).await?,
                    _ => serve::<sammati_consent::Consent>(config, clock).await?,
                };
                running.push((name.clone(), service));
            }
        }
        Ok(Self {
            addresses,
            running,
            _temporary: temporary,
        })
    }

    /// Drains and stops the one called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn stop_one(&mut self, name: &str) -> Result<(), Failure> {
        let at = self.running.iter().position(|(running, _)| running == name);
        let (_, service) = self.running.remove(at.ok_or("no such service")?);
        service.shutdown().await;
        Ok(())
    }

    /// Drains and stops them all.
    pub async fn stop(self) {
        // Consent first: it calls the others.
        for (_, service) in self.running.into_iter().rev() {
            service.shutdown().await;
        }
    }
}

async fn serve<S: Service>(config: &Path, clock: Arc<dyn Clock>) -> Result<Running, Failure> {
    let config = Config::<S::Settings>::load(config)?;
    let listen = async |address| tokio::net::TcpListener::bind(address).await;
    let (rpc, admin) = (
        listen(config.server.listen).await?,
        listen(config.server.admin_listen).await?,
    );
    Ok(serve_on::<S>(config, rpc, admin, clock).await?)
}
