//! A Postgres server of one's own, to be set up, stopped, killed and followed as a test likes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::databases::{is_given, programs, psql};
use crate::{disk, port};

/// How a server is set up, where it is not as usual.
#[derive(Debug, Clone, Default)]
pub struct Setup<'a> {
    /// Settings, as `name=value`. A value names the folder of its data as `{data}`.
    pub settings: &'a [&'a str],
    /// `pg_hba.conf`; empty: everybody on this machine is believed.
    pub access: &'a str,
    /// Files to have in the folder of its data, by name, for its eyes only.
    pub files: &'a [(&'a str, &'a str)],
    /// Variables of its environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// Whether it listens on a port of 127.0.0.1 beside its socket.
    pub tcp: bool,
}

/// A Postgres server of its own, with fsync on, on a Unix socket.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    url: String,
    port: Option<u16>,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    /// A program and its first arguments, by which the server is run.
    runner: Vec<String>,
    pid: Option<Pid>,
    paused: Vec<Pid>,
}

impl Postgres {
    /// Makes a cluster and starts it; `None` where Postgres is not installed, or the tests were given a server.
    pub fn start() -> Option<Self> {
        Self::start_with(&Setup::default())
    }

    /// The same, set up in another way.
    pub fn start_with(setup: &Setup<'_>) -> Option<Self> {
        if is_given() {
            eprintln!("SKIPPED: this test needs a server of its own, and SAMMATI_TEST_POSTGRES names one that is not");
            return None;
        }
        programs().map(|bin| Self::start_in(&bin, setup))
    }

    /// Whether the programs here were built with TLS; says so where they were not.
    pub fn speaks_tls() -> bool {
        let built = programs().and_then(|bin| Command::new(bin.join("pg_config")).arg("--configure").output().ok());
        let speaks = built.is_some_and(|out| {
            let options = String::from_utf8_lossy(&out.stdout);
            options.contains("--with-openssl") || options.contains("--with-ssl")
        });
        if !speaks {
            eprintln!("SKIPPED: TLS to Postgres: this server was built without it");
        }
        speaks
    }

    pub(crate) fn start_in(programs: &Path, setup: &Setup<'_>) -> Self {
        let mut server = Self::in_new_folder(programs);
        if setup.tcp {
            let port = port::free().expect("a port");
            server.url += &format!(":{port}");
            server.port = Some(port);
        }
        let data = server.data();
        server.settings = setup.settings.iter().map(|s| s.replace("{data}", &data)).collect();
        let variables = setup.environment.iter();
        server.environment = variables.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut initdb = server.as_postgres("initdb");
        initdb.args(["-D", &data, "-U", "postgres", "-A", "trust", "--no-sync"]);
        run(initdb.args(["-E", "UTF8", "--locale=C"]));
        for (name, text) in setup.files {
            server.write(name, text);
        }
        if !setup.access.is_empty() {
            server.write("pg_hba.conf", setup.access);
        }
        server.restart();
        server
    }

    fn in_new_folder(programs: &Path) -> Self {
        let folder = new_folder();
        let encoded = folder.display().to_string().replace('/', "%2F");
        Self {
            programs: programs.to_owned(),
            url: format!("postgres://postgres@{encoded}"),
            folder,
            port: None,
            settings: Vec::new(),
            environment: Vec::new(),
            runner: Vec::new(),
            pid: None,
            paused: Vec::new(),
        }
    }

    /// A standby that follows this server, by streaming, under a name.
    pub fn standby(&self, name: &str) -> Self {
        let standby = Self::in_new_folder(&self.programs);
        let from = format!("host={} user=postgres application_name={name}", self.folder.display());
        let mut copy = self.as_postgres("pg_basebackup");
        copy.args([
            "-D",
            &standby.data(),
            "-d",
            &from,
            "-R",
            "-X",
            "stream",
            "--checkpoint=fast",
            "--no-sync",
        ]);
        run(&mut copy);
        let mut standby = standby;
        standby.restart();
        standby
    }

    /// Where databases can be reached: append `/{database}`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port on 127.0.0.1.
    ///
    /// # Panics
    /// When it was not set up to have one.
    pub fn port(&self) -> u16 {
        self.port.expect("a server with a port")
    }

    /// Its process, of which all others of it are children.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.pid
            .map(|pid| pid.as_raw().unsigned_abs())
            .expect("a server that runs")
    }

    /// Every byte of its files below this folder of its data, as `base` or `pg_wal`, once all it has in memory is there.
    ///
    /// # Panics
    /// When a file that is still there cannot be read.
    pub fn bytes(&self, folder: &str) -> Vec<u8> {
        psql(&self.url, "postgres", "CHECKPOINT");
        let files = disk::files(&Path::new(&self.data()).join(folder));
        files.into_iter().flat_map(|(_, bytes)| bytes).collect()
    }

    /// The folder of its socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Changes a setting while it runs, for sessions that are there too.
    ///
    /// # Panics
    /// When the server does not take it over within ten seconds.
    pub fn set(&self, name: &str, value: &str) {
        let ask = |sql: &str| psql(&self.url, "postgres", sql);
        let loaded = "SELECT pg_conf_load_time()";
        let before = ask(loaded);
        ask(&format!("ALTER SYSTEM SET {name} = {value}"));
        ask("SELECT pg_reload_conf()");
        // A server tells nobody when it has read its settings; each session does so by itself. So it is asked, for ten seconds.
        for _ in 0..500 {
            if ask(loaded) != before {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("postgres does not take {name} over");
    }

    /// Kills the server as a power cut would: no shutdown, no checkpoint, and no session that works on until it notices.
    pub fn kill(&mut self) {
        self.pause();
        self.pid = None;
        for pid in &self.paused {
            let _ = nix::sys::signal::kill(*pid, Signal::SIGKILL);
        }
        for pid in self.paused.drain(..) {
            while !is_gone(pid) {
                std::thread::yield_now();
            }
        }
    }

    /// Stops every process of it where it is, as a machine does that hangs: connections stay, and nobody answers.
    pub fn pause(&mut self) {
        let Some(server) = self.pid else { return };
        // The first so that it makes no more children.
        let _ = nix::sys::signal::kill(server, Signal::SIGSTOP);
        self.paused = std::iter::once(server).chain(children(server)).collect();
        for pid in &self.paused {
            let _ = nix::sys::signal::kill(*pid, Signal::SIGSTOP);
        }
    }

    /// Stops the processes that write what no session waits for: the WAL writer, the background writer and the
    /// checkpointer. From here on only what a commit itself writes comes to the disk, until the server is killed.
    ///
    /// # Panics
    /// When it has no such processes.
    pub fn pause_writers(&self) {
        const WRITERS: [&str; 3] = ["walwriter", "background writer", "checkpointer"];
        let Some(server) = self.pid else { return };
        let mut left = WRITERS.to_vec();
        for pid in children(server) {
            let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let before = left.len();
            left.retain(|writer| !title.contains(writer));
            if left.len() < before {
                let _ = nix::sys::signal::kill(pid, Signal::SIGSTOP);
            }
        }
        assert!(left.is_empty(), "postgres has no {left:?}");
    }

    /// Lets it go on after a pause.
    pub fn resume(&mut self) {
        for pid in self.paused.drain(..) {
            let _ = nix::sys::signal::kill(pid, Signal::SIGCONT);
        }
    }

    /// Starts the server again on the same data.
    pub fn restart(&mut self) {
        assert!(self.pid.is_none(), "the server runs");
        // While children of a killed server still end, a new one refuses the data and ends too: it is tried again. Its log would
        // tell when it is ready, but is a file, so that it can be read while the server hangs; and a program it is run by may
        // write there too. So it is asked, for thirty seconds.
        for _ in 0..600 {
            if self.pid.is_none_or(|pid| !is_alive(pid)) {
                self.pid = Some(self.spawn());
            }
            if self.is_ready() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("postgres did not become ready: {}", self.log());
    }

    fn spawn(&self) -> Pid {
        let mut server = self.as_postgres("postgres");
        server.args(["-D", &self.data(), "-k", &self.folder.display().to_string()]);
        let listen = match self.port {
            Some(port) => {
                server.args(["-p", &port.to_string()]);
                "listen_addresses=127.0.0.1"
            }
            None => "listen_addresses=",
        };
        let usual = [
            listen,
            "max_connections=300",
            "shared_buffers=256MB",
            "unix_socket_permissions=0777",
        ];
        for setting in usual.into_iter().chain(self.settings.iter().map(String::as_str)) {
            server.args(["-c", setting]);
        }
        let log = fs::File::create(self.folder.join("log")).expect("a log");
        let mut server = run_by(&self.runner, server);
        server.stdout(Stdio::null()).stderr(log);
        start(server)
    }

    /// Starts the server again by another program, which must become the server itself.
    pub fn restart_by(&mut self, runner: Vec<String>) {
        self.runner = runner;
        self.restart();
        self.runner = Vec::new();
    }

    fn is_ready(&self) -> bool {
        let mut ask = Command::new(self.programs.join("pg_isready"));
        ask.args(["-q", "-t", "5", "-h", &self.folder.display().to_string()]);
        ask.args(["-p", &self.port.unwrap_or(5432).to_string()]);
        ask.status().is_ok_and(|status| status.success())
    }

    /// What it wrote into its log since it was last started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The folder of its data.
    pub fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.join("data").join(name);
        fs::write(&path, text).expect("a file");
        run(Command::new("chmod").arg("600").arg(&path));
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&path));
        }
    }

    fn as_postgres(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if self.environment.is_empty() {
            as_postgres(&program)
        } else {
            // Of its user alone: what is loaded into a process may not change hands with it.
            let mut env = as_postgres(Path::new("env"));
            env.args(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
            env.arg(program);
            env
        };
        // Its messages and its locale are its own settings', not this machine's.
        command.env("LC_ALL", "C");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A folder that its user owns. It goes when this process ends, however it ends: a server that tests share is never dropped,
/// and a cluster is 40 MB and more.
pub(crate) fn new_folder() -> PathBuf {
    let folder = tempfile::tempdir().expect("a temporary folder").keep();
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(&folder));
    }
    remove_after_us(&folder);
    folder
}

/// Those that wait to remove a folder.
static SHELLS: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Leaves a shell behind that removes `folder` when the pipe to it closes, which is when this process has ended.
fn remove_after_us(folder: &Path) {
    // What is left of a killed server may write for a moment yet.
    const REMOVE: &str = r#"trap "" INT TERM; cat; for try in 1 2 3 4 5; do rm -rf -- "$1" && exit 0; sleep 1; done"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", REMOVE, "sh"]).arg(folder);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = shell.spawn().expect("a shell");
    // With the pipe, which is held as long as this process is there.
    SHELLS.lock().unwrap_or_else(PoisonError::into_inner).push(child);
}

/// Postgres refuses to run as root; and it ends when we do.
pub(crate) fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
}

/// The command, run by a program.
fn run_by(runner: &[String], command: Command) -> Command {
    let Some((program, first)) = runner.split_first() else {
        return command;
    };
    let mut by = Command::new(program);
    by.args(first).arg(command.get_program()).args(command.get_args());
    by.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    by
}

/// Starts a program that runs on; it ends when we do.
pub(crate) fn start(mut command: Command) -> Pid {
    let (sender, receiver) = std::sync::mpsc::channel();
    // A death signal goes off when the thread that started the child ends: this one waits for the child.
    std::thread::spawn(move || {
        let mut child = command.spawn().expect("the program starts");
        let _ = sender.send(child.id());
        let _ = child.wait();
    });
    process(receiver.recv().expect("the program started"))
}

/// The processes that a process started.
fn children(parent: Pid) -> Vec<Pid> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let listed = fs::read_to_string(path).unwrap_or_default();
    let pids = listed.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.map(process).collect()
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid"))
}

fn is_alive(pid: Pid) -> bool {
    nix::sys::signal::kill(pid, None).is_ok()
}

/// Whether it has ended, though its new parent may not have asked how.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_none_or(|state| matches!(state, 'Z' | 'X'))
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

fn run(command: &mut Command) {
    let out = command.output().expect("the program runs");
    assert!(
        out.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says to the process of [`the_folder_goes_with_the_process`] where to tell its folder.
    const TELL: &str = "SAMMATI_TELL_FOLDER";

    #[test]
    fn a_process_of_the_test_below() {
        if let Some(file) = std::env::var_os(TELL) {
            fs::write(file, new_folder().display().to_string()).unwrap();
            // As if it were killed: nothing is dropped.
            std::process::abort();
        }
    }

    #[test]
    fn the_folder_goes_with_the_process() {
        let told = tempfile::NamedTempFile::new().unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "postgres::tests::a_process_of_the_test_below"]);
        let out = process.env(TELL, told.path()).output().unwrap();
        assert!(!out.status.success(), "it aborts");
        let folder = PathBuf::from(fs::read_to_string(told.path()).unwrap());
        assert!(folder.is_absolute(), "{folder:?}");
        // The shell that removes it is no child of this process, to be waited for. So it is looked for, for thirty seconds.
        for _ in 0..600 {
            if !folder.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} is still there", folder.display());
    }
}
