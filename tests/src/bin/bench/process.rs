//! Processes as the system sees them: memory, processors, and whether they are ready.

use std::path::Path;
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
    Ok(get(address, "/readyz").await?.starts_with("HTTP/1.1 200"))
}

/// What an admin port answers.
async fn get(address: &str, path: &str) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// What the admin port at `address` says of a metric without labels.
pub(crate) async fn gauge(address: &str, name: &str) -> Result<f64, Failure> {
    let answer = get(address, "/metrics").await?;
    let value = answer
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.ok_or_else(|| format!("{address} does not tell {name}"))?;
    Ok(value.trim().parse()?)
}

/// Where the admin port of a service is, as its configuration says.
pub(crate) fn admin_address(config: &Path) -> Result<String, Failure> {
    let table: toml::Table = std::fs::read_to_string(config)?.parse()?;
    let address = table.get("server").and_then(|server| server.get("admin_listen"));
    Ok(address
        .and_then(toml::Value::as_str)
        .ok_or("no server.admin_listen")?
        .to_owned())
}
