//! What the stack does on this machine, as ratios within one run: `target/bench/summary.json`, and a table.
//!
//! Clients, services and databases share this machine and this process (but for Postgres and pgbench), so absolute
//! numbers mean little: compare entries of one run, never runs. Nothing is asserted.

mod approve;
mod hollow;
mod measure;
mod password;
mod pgbench;
mod rows;
mod rpc;
mod store;
mod summary;
mod system;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use measure::{Failure, Pace};
use summary::Summary;

/// However slow the machine is, it ends.
const BOUND: Duration = Duration::from_secs(15 * 60);

/// Measures, and writes a summary.
#[derive(Parser)]
struct Options {
    /// Rounds that count, of each comparison.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of one contender in one round.
    #[arg(long, default_value_t = 1200)]
    time: u64,
    /// Only these parts: store, rpc, approve, password. Without it: all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the summary goes.
    #[arg(long, default_value = "target/bench/summary.json")]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let mut summary = Summary::default();
    let ended = tokio::time::timeout(BOUND, run(&options, &mut summary)).await;
    // What was measured before a failure is worth keeping.
    let written = summary.write(&options.out);
    println!("{}", summary.table());
    match (ended, written) {
        (Ok(Ok(())), Ok(())) => return ExitCode::SUCCESS,
        (Ok(Err(error)), _) | (_, Err(error)) => eprintln!("bench: {error}"),
        (Err(_), _) => eprintln!("bench: not done after {} s", BOUND.as_secs()),
    }
    ExitCode::FAILURE
}

async fn run(options: &Options, summary: &mut Summary) -> Result<(), Failure> {
    let pace = Pace {
        rounds: options.rounds,
        time: Duration::from_millis(options.time),
    };
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    if wanted("store") {
        store::sqlite(pace, summary).await?;
        store::postgres(pace, summary).await?;
    }
    if wanted("rpc") {
        rpc::run(pace, summary).await?;
    }
    if wanted("approve") {
        approve::sqlite(pace, summary).await?;
        approve::postgres(pace, summary).await?;
    }
    if wanted("password") {
        password::run(pace, summary).await?;
    }
    Ok(())
}
