//! What can be done to one process of a system.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Processes;
use crate::story::Failure;

/// How long a process may take to end by itself: calls in work have 20 seconds.
const ENDING: Duration = Duration::from_secs(30);

impl Processes {
    /// The configuration of the process called `name`.
    pub fn config(&self, name: &str) -> &Path {
        &self.configs[name]
    }

    /// The program that all of them run.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The process id of `name`, while it runs.
    ///
    /// # Errors
    /// When it does not.
    pub fn pid(&mut self, name: &str) -> Result<i32, Failure> {
        let child = self.children.get_mut(name).ok_or("no such process")?;
        if let Some(status) = child.try_wait()? {
            return Err(format!("{name} has ended: {status}").into());
        }
        let pid = child.id().ok_or("it has ended")?;
        Ok(i32::try_from(pid)?)
    }

    /// Sends `signal` to the process called `name`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal(&mut self, name: &str, signal: Signal) -> Result<(), Failure> {
        Ok(kill(Pid::from_raw(self.pid(name)?), signal)?)
    }

    /// SIGTERM to the process called `name`, and waits.
    ///
    /// # Errors
    /// When it does not end within thirty seconds; it is killed then.
    pub async fn stop_one(&mut self, name: &str) -> Result<(), Failure> {
        self.signal(name, Signal::SIGTERM)?;
        if self.ends(name, ENDING).await? {
            return Ok(());
        }
        self.kill(name).await?;
        Err(format!("{name} did not end within {} s of SIGTERM", ENDING.as_secs()).into())
    }

    /// Waits until the process called `name` has ended by itself; tells whether it did in time.
    ///
    /// # Errors
    /// When there is no such process.
    pub async fn ends(&mut self, name: &str, patience: Duration) -> Result<bool, Failure> {
        let child = self.children.get_mut(name).ok_or("no such process")?;
        let ended = tokio::time::timeout(patience, child.wait()).await;
        if ended.is_ok() {
            self.children.remove(name);
        }
        Ok(ended.is_ok())
    }
}
