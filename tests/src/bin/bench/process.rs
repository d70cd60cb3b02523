//! Processes as the system sees them: memory, processors, and whether they are ready.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::measure::Failure;

/// What a process holds in memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now: f64,
    /// The most since it began, or since [`forget_peak`].
    pub(crate) peak: f64,
}

/// What process `pid` holds.
pub(crate) fn memory(pid: u32) -> Result<Memory, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<f64, Failure> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.trim_start_matches(':').trim().split(' ').next());
        Ok(kib.ok_or("no such field in /proc")?.parse::<f64>()? * 1024.0)
    };
    Ok(Memory {
        now: field("VmRSS")?,
        peak: field("VmHWM")?,
    })
}

/// From now on the peak is that of what comes.
pub(crate) fn forget_peak(pid: u32) -> Result<(), Failure> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// Keeps all threads of a process on some processors, as `0` or `0-1`; those that it starts later too.
pub(crate) async fn pin(pid: u32, processors: &str) -> Result<(), Failure> {
    let mut taskset = Command::new("taskset");
    taskset
        .args(["-a", "-p", "-c", processors, &pid.to_string()])
        .stdout(Stdio::null());
    if taskset.status().await?.success() {
        Ok(())
    } else {
        Err(format!("taskset did not keep {pid} on {processors}").into())
    }
}

/// Waits until `/readyz` at `address` answers 200, and tells how long that took.
pub(crate) async fn until_ready(address: &str, patience: Duration) -> Result<Duration, Failure> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if is_ready(address).await.unwrap_or(false) {
            return Ok(begun.elapsed());
        }
        sleep(Duration::from_millis(1)).await;
    }
    Err(format!("{address} was not ready after {} s", patience.as_secs()).into())
}

async fn is_ready(address: &str) -> Result<bool, std::io::Error> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
