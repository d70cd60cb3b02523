//! What the stack does on this machine, as ratios within one run: `target/bench/summary.json`, and a table.
//!
//! Clients, services and databases share this machine and this process (but for Postgres and pgbench), so absolute
//! numbers mean little: compare entries of one run, never runs. Nothing is asserted.

mod approve;
mod audit;
mod decide;
mod disk;
mod goal;
mod growth;
mod hollow;
mod idle;
mod line;
mod load;
mod measure;
mod open_loop;
mod overload;
mod password;
mod pgbench;
mod process;
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
const BOUND: Duration = Duration::from_secs(120 * 60);

/// Measures, and writes a summary.
#[derive(Parser)]
struct Options {
    /// Rounds that count, of each comparison.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of one contender in one round.
    #[arg(long, default_value_t = 1200)]
    time: u64,
    /// Only these parts: store, rpc, audit, approve, decide, password; or, which are not of the usual ones, lanes, overload,
    /// growth, idle.
    #[arg(long, value_delimiter = ',', value_parser = PARTS)]
    only: Vec<String>,
    /// Seconds of each flood of the part overload.
    #[arg(long, default_value_t = 60)]
    flood: u64,
    /// Rows in the databases that the part growth compares.
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000")]
    rows: Vec<usize>,
    /// Leaves in the logs whose proofs the part audit asks for.
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    leaves: Vec<usize>,
    /// Consents in the full database of the part idle.
    #[arg(long, default_value_t = 1_000_000)]
    consents: usize,
    /// Consents in the database of the part decide.
    #[arg(long, default_value_t = 20_000)]
    loaded: usize,
    /// Where the summary goes.
    #[arg(long, default_value = "target/bench/summary.json")]
    out: PathBuf,
}

/// What can be measured.
const PARTS: [&str; 10] = [
    "store", "rpc", "audit", "approve", "decide", "password", "lanes", "overload", "growth", "idle",
];

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
    let named = |part: &str| options.only.iter().any(|only| only == part);
    let wanted = |part: &str| options.only.is_empty() || named(part);
    if wanted("store") {
        store::sqlite(pace, summary).await?;
        store::postgres(pace, summary).await?;
    }
    if wanted("rpc") {
        rpc::run(pace, summary).await?;
    }
    if wanted("audit") {
        audit::run(pace, &options.leaves, summary).await?;
    }
    if wanted("approve") {
        approve::sqlite(pace, summary).await?;
        approve::postgres(pace, summary).await?;
    }
    if wanted("decide") {
        decide::run(pace, options.loaded, summary).await?;
    }
    if wanted("password") {
        password::run(pace, summary).await?;
    }
    if named("lanes") {
        store::lanes(pace, summary).await?;
    }
    if named("growth") {
        growth::run(pace, &options.rows, summary).await?;
    }
    if named("idle") {
        idle::run(options.consents, summary).await?;
    }
    if named("overload") {
        overload::run(pace, Duration::from_secs(options.flood), summary).await?;
    }
    Ok(())
}
