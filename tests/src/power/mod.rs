//! A power cut, for a process that keeps SQLite files: what was written but not synced is gone.
//!
//! The process runs under strace, which records every write and every sync of its files. Afterwards the files are set
//! to what the record says was on the disk: what was there before, and what a sync that returned had covered. Of the
//! rest nothing survives, or, as on real disks, anything: a part of the writes, torn between sectors.

mod image;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

pub use image::Rest;

use crate::story::Failure;
use image::Image;

/// The calls by which files change and are made durable.
const CALLS: &str = "open,openat,creat,write,pwrite64,pwritev,pwritev2,lseek,ftruncate,fallocate,fsync,fdatasync,\
                     sync_file_range,unlink,unlinkat,rename,renameat,renameat2";

/// What happens to the syncs of a recorded process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// They do what they are for.
    Whole,
    /// From the `n`th of each thread on they fail with EIO, and nothing is synced.
    FailFrom(u64),
    /// They say that they did it, and did nothing: durability is switched off.
    Pretended,
}

impl Syncs {
    fn injection(self) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::FailFrom(n) => Some(format!("inject=fsync,fdatasync:error=EIO:when={n}+")),
            Self::Pretended => Some("inject=fsync,fdatasync:retval=0".to_owned()),
        }
    }
}

/// The files of one process, as they were before it started, and what is recorded of it since.
#[derive(Debug)]
pub struct Power {
    folder: PathBuf,
    record: PathBuf,
    before: BTreeMap<PathBuf, Vec<u8>>,
}

impl Power {
    /// Before the process starts that will keep its files in `folder`.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn on(folder: &Path, record: &Path) -> Result<Self, Failure> {
        let folder = folder.canonicalize()?;
        let mut before = BTreeMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_file() && image::lasts(&path) {
                before.insert(path.clone(), std::fs::read(&path)?);
            }
        }
        let record = record.to_owned();
        Ok(Self { folder, record, before })
    }

    /// `program`, recorded; the caller adds its arguments. The child is the program itself, not strace.
    pub fn record(&self, program: &Path, syncs: Syncs) -> Command {
        let mut command = Command::new("strace");
        // As few stops as can be; file names by the handle; all text in hex; no line for a signal.
        command.args([
            "-D",
            "-f",
            "-q",
            "--seccomp-bpf",
            "-y",
            "-xx",
            "-s",
            "1048576",
            "-e",
            "signal=none",
        ]);
        command.args(["-e", &format!("trace={CALLS}")]);
        if let Some(injection) = syncs.injection() {
            command.args(["-e", &injection]);
        }
        command.arg("-o").arg(&self.record).arg("--").arg(program);
        command
    }

    /// Once the process is dead and `tracer` has written all of it down: sets the files to what was on the disk. Tells
    /// how many syncs had returned.
    ///
    /// # Errors
    /// When the record holds what it should not, or a file cannot be written.
    pub fn cut(self, rest: Rest) -> Result<u64, Failure> {
        let mut image = Image::new(&self.folder, self.before);
        let text = std::fs::read(&self.record)?;
        record::replay(&String::from_utf8_lossy(&text), &mut image)?;
        let syncs = image.syncs();
        image.cut(rest)?;
        std::fs::remove_file(&self.record)?;
        Ok(syncs)
    }
}

/// The process that traces `pid`, if one does.
pub fn tracer(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    line.trim().parse().ok().filter(|tracer| *tracer != 0)
}

/// Waits until a process that is nobody's child here has ended.
///
/// # Errors
/// When it has not after ten seconds.
pub async fn gone(pid: i32) -> Result<(), Failure> {
    for _ in 0..2000 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Nobody may be there to reap it.
        if stat.is_empty() || stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("process {pid} does not end").into())
}

/// Why no process can be recorded on this machine, if none can.
pub fn unavailable() -> Option<String> {
    let out = std::process::Command::new("strace")
        .args([
            "-D",
            "-f",
            "-q",
            "--seccomp-bpf",
            "-o",
            "/dev/null",
            "-e",
            "trace=fsync",
            "true",
        ])
        .output();
    match out {
        Ok(out) if out.status.success() => None,
        Ok(out) => Some(format!("strace: {}", String::from_utf8_lossy(&out.stderr).trim())),
        Err(error) => Some(format!("strace: {error}; on Debian: apt-get install strace")),
    }
}
