//! Chaos: what was acknowledged is still there, whatever goes wrong.
//!
//! `make chaos CYCLES=n SEED=n`. In each cycle clients enrol people, race over consents and append events to
//! the audit log, on real processes, while processes are killed or stand still, Postgres is killed, the network is cut, the disk fails, fills, or loses its
//! power. Then the invariants are checked against what the clients had written down. In the end the same harness runs
//! with durability switched off and must find that something was lost.

mod answers;
mod appended;
mod case;
mod client;
mod control;
mod cycle;
mod disk;
mod findings;
mod order;
mod people;
mod plan;
mod strike;
mod verify;
mod world;

use std::process::ExitCode;

use clap::Parser;
use sammati_kernel::Seed;
use sammati_tests::power;
use sammati_tests::story::Failure;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::cycle::Run;
use crate::findings::Findings;
use crate::plan::Kind as Fault;
use crate::world::{Kind, World};

/// Breaks a running system, again and again, and looks for what was acknowledged.
#[derive(Parser)]
struct Options {
    /// How many cycles, on each set-up.
    #[arg(long, default_value_t = 14)]
    cycles: usize,
    /// What decides which faults come when. Without it: drawn, and told.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these: sqlite, postgres, control. Without it: all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // Whoever ends us ends what we started: it goes as the run is dropped.
    let ended = tokio::select! {
        ended = run(&options) => ended,
        name = interrupted() => Err(format!("ended by {name}").into()),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> &'static str {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// Tells whether all is well.
async fn run(options: &Options) -> Result<bool, Failure> {
    let number = match options.seed {
        Some(seed) => seed,
        None => Seed::draw()
            .map_err(|_| "the system has no randomness")?
            .below("chaos", 1_000_000),
    };
    println!("chaos: seed {number}, {} cycles on each set-up", options.cycles);
    let seed = seed_of(number);
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    let absent = absent()?;
    let (mut cycles, mut acknowledged, mut found) = (0, 0, Findings::default());
    for (kind, faults) in [(Kind::Sqlite, plan::SQLITE), (Kind::Postgres, plan::POSTGRES)] {
        if !wanted(kind.name()) {
            continue;
        }
        let faults: Vec<Fault> = faults.iter().copied().filter(|fault| !absent.contains(fault)).collect();
        let Some(world) = start(kind, options.cycles).await? else {
            continue;
        };
        let seed = seed.child(kind.name());
        let mut run = Run::on(world, seed.clone()).await?;
        let done = cycles_of(&mut run, number, &seed, &faults, options.cycles).await;
        cycles += options.cycles;
        acknowledged += run.acknowledged;
        let keep = !matches!(&done, Ok(found) if found.is_empty());
        if let Some(folder) = run.world.end(keep).await {
            println!("chaos: journal, logs and databases are kept in {}", folder.display());
        }
        found.extend(done?);
    }
    let mut well = found.is_empty();
    if wanted("control") {
        well &= control::run(&seed, &absent).await?;
    }
    if !found.is_empty() {
        println!("chaos: found, as told above:");
        tell(&found);
    }
    println!("chaos: {cycles} cycles, {acknowledged} acknowledged, {found}");
    Ok(well)
}

async fn cycles_of(
    run: &mut Run,
    number: u64,
    seed: &Seed,
    faults: &[Fault],
    cycles: usize,
) -> Result<Findings, Failure> {
    let (kind, names) = (run.world.kind.name(), run.world.names());
    let mut all = Findings::default();
    for n in 0..cycles {
        let began = Instant::now();
        let planned = plan::draw(seed, n, faults, &names);
        let found = run.cycle(n, &planned, true).await;
        let told = match &found {
            Ok(found) if found.is_empty() => "all there".to_owned(),
            Ok(found) => found.to_string(),
            Err(error) => format!("ABORTED: {error}"),
        };
        println!(
            "cycle {:>3} {kind:<8} seed {number}  {:>6} acknowledged {:>4} unknown {:>5.1} s  {planned}: {told}",
            n + 1,
            run.acknowledged,
            run.unknown,
            began.elapsed().as_secs_f64(),
        );
        let found = found?;
        tell(&found);
        all.extend(found);
    }
    let began = Instant::now();
    let found = run.finish().await?;
    println!(
        "after    {kind:<8} everything again, the whole log, fsck: {found}, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    tell(&found);
    all.extend(found);
    Ok(all)
}

/// The first findings; what follows is mostly their consequence.
fn tell(found: &Findings) {
    for finding in found.iter().take(20) {
        println!("    {:?}: {}", finding.kind, finding.what);
    }
}

/// A set-up; where there is no Postgres its part is skipped, which CI does not.
async fn start(kind: Kind, cycles: usize) -> Result<Option<World>, Failure> {
    let world = World::start(kind, cycles, true).await?;
    if world.is_none() {
        skip(
            &format!("everything on {}", kind.name()),
            "no initdb found; install PostgreSQL 15 or later",
        )?;
    }
    Ok(world)
}

/// The faults that this machine cannot have.
fn absent() -> Result<Vec<Fault>, Failure> {
    let mut absent = Vec::new();
    if let Some(why) = power::unavailable() {
        skip("power cuts and failing fsyncs", &why)?;
        absent.extend([Fault::CutPower, Fault::FailSyncs, Fault::FailPostgresSyncs]);
    }
    if let Some(why) = disk::unavailable() {
        skip("full disks", &why)?;
        absent.extend([Fault::FillDisk, Fault::FillPostgresDisk]);
    }
    Ok(absent)
}

#[expect(clippy::disallowed_methods, reason = "the one setting of CI")]
fn skip(what: &str, why: &str) -> Result<(), Failure> {
    if std::env::var("CI").is_ok_and(|ci| !ci.is_empty()) {
        return Err(format!("{what}: {why}").into());
    }
    println!("chaos: SKIPPED {what}: {why}");
    Ok(())
}

fn seed_of(number: u64) -> Seed {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Seed::from_bytes(bytes)
}
