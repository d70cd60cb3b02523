//! Clocks that are wrong: what a process is told the time is, by libfaketime, and moved while it runs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use sammati_kernel::{Clock, Micros, SystemClock};
use tokio::process::Command;

use crate::story::Failure;

/// The library, where it is installed.
pub fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    found.into_iter().find(|path| path.exists())
}

/// A clock of one or several processes; a test that has it for its own is told the same time.
pub struct WrongClock {
    library: PathBuf,
    file: PathBuf,
    /// Seconds ahead of the machine's.
    ahead: AtomicI64,
}

impl Clock for WrongClock {
    fn now(&self) -> Micros {
        let ahead = Micros::from_seconds(self.ahead.load(Ordering::SeqCst));
        Micros(SystemClock.now().0.saturating_add(ahead.0))
    }
}

impl WrongClock {
    /// One that is right until it is set.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn new(library: &Path, folder: &Path, name: &str) -> Result<Self, Failure> {
        let clock = Self {
            library: library.to_owned(),
            file: folder.join(format!("{name}.clock")),
            ahead: AtomicI64::new(0),
        };
        clock.set(0)?;
        Ok(clock)
    }

    /// So many seconds ahead of the machine's, or behind it. It holds for the next look at the clock.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn set(&self, seconds: i64) -> Result<(), Failure> {
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}\n"))?;
        std::fs::rename(next, &self.file)?;
        self.ahead.store(seconds, Ordering::SeqCst);
        Ok(())
    }

    /// The variables of a process that is told this time. What it waits for takes as long as ever.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        let set = |name| (name, "1".to_owned());
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            set("FAKETIME_NO_CACHE"),
            set("FAKETIME_DONT_FAKE_MONOTONIC"),
            set("NO_FAKE_STAT"),
        ]
    }

    /// A command that is told this time.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.variables());
        command
    }
}
