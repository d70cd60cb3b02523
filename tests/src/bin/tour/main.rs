//! The tour: one person through the whole life of a consent, on live services, each step with its grpcurl equivalent.
//!
//! `make tour` walks it on free ports in a temporary folder; `make run` keeps the services afterwards.

mod console;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sammati_tests::system::{Processes, Setting};

/// Starts the four services on SQLite, walks one person through the life of a consent, and shows each step.
#[derive(Parser)]
struct Options {
    /// Keep serving after the tour, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Where certificates, keys, configurations and databases are; kept. Without it: a temporary folder.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The first of four ports (identity, consent, audit, sandbox); the admin ports are 100 above. Without it: free ones.
    #[arg(long)]
    ports: Option<u16>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let mut setting = Setting::new();
    setting.folder = options.folder;
    setting.first_port = options.ports;
    let mut system = match Processes::start(setting).await {
        Ok(system) => system,
        Err(error) => {
            console::failure("the services did not start", &error);
            return ExitCode::FAILURE;
        }
    };
    let code = match steps::walk(&system).await {
        Ok(()) => ExitCode::SUCCESS,
        Err((step, error)) => {
            console::failure(&format!("step {step} failed"), &error);
            ExitCode::FAILURE
        }
    };
    if options.keep && code == ExitCode::SUCCESS {
        console::serving(&system);
        system.until_interrupted().await;
    }
    system.stop().await;
    code
}
