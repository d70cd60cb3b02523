//! A pooler before a throwaway Postgres.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::databases::is_ci;
use crate::postgres::{Postgres, as_postgres, new_folder, start};

/// PgBouncer on a Unix socket.
#[derive(Debug)]
pub struct PgBouncer {
    folder: PathBuf,
    pid: Pid,
}

impl PgBouncer {
    /// Starts one before `server`, in a mode: `session` or `transaction`; `None` where it is not installed.
    ///
    /// # Panics
    /// With `CI` set, where it is not installed.
    pub fn before(server: &Postgres, mode: &str) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from);
        let Some(program) = program.into_iter().find(|path| path.exists()) else {
            assert!(!is_ci(), "no pgbouncer found");
            eprintln!("SKIPPED: a pooler: no pgbouncer found");
            return None;
        };
        let folder = new_folder();
        let settings = format!(
            "[databases]\n* = host={server} port=5432 user=postgres\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n\
             unix_socket_dir = {folder}\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 30\n\
             logfile = {folder}/log\n",
            server = server.folder().display(),
            folder = folder.display(),
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&file, settings).expect("a file");
        let mut command = as_postgres(&program);
        command.arg("-q").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let pid = start(command);
        let socket = folder.join(".s.PGSQL.6432");
        for _ in 0..600 {
            if UnixStream::connect(&socket).is_ok() {
                return Some(Self { folder, pid });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        panic!("pgbouncer did not become ready: {log}")
    }

    /// The URL of `database` through it.
    pub fn url(&self, database: &str) -> String {
        let encoded = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{encoded}:6432/{database}")
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        drop(fs::remove_dir_all(&self.folder));
    }
}
