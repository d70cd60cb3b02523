//! The negative control: with durability switched off the same harness must find that something was lost.

use std::time::Duration;

use sammati_kernel::Seed;
use sammati_tests::story::Failure;

use crate::cycle::Run;
use crate::findings::Kind as Broken;
use crate::plan::{Fault, Kind as FaultKind, Planned, Rest};
use crate::world::{Kind, World};

/// How often it may come out whole by luck: what was acknowledged may be on the disk for another's sake.
const TRIES: usize = 5;

/// Tells whether the losses were found.
pub(crate) async fn run(seed: &Seed, absent: &[FaultKind]) -> Result<bool, Failure> {
    let mut well = true;
    for (kind, fault) in [
        (Kind::Sqlite, Fault::CutPower("consent".into(), Rest::Gone)),
        (Kind::Postgres, Fault::KillPostgres),
    ] {
        if kind == Kind::Sqlite && absent.contains(&FaultKind::CutPower) {
            continue;
        }
        let planned = Planned {
            delay: Duration::from_millis(1000),
            first: fault,
            second: None,
        };
        match lost(kind, &planned, seed).await? {
            None => {}
            Some(0) => {
                println!("control  {}: durability is off, {planned}: NOT NOTICED", kind.name());
                well = false;
            }
            Some(lost) => println!(
                "control  {}: durability is off, {planned}: noticed, {lost} lost",
                kind.name()
            ),
        }
    }
    Ok(well)
}

/// How much was found lost; `None` where there is no such set-up. Each try has a world of its own.
async fn lost(kind: Kind, planned: &Planned, seed: &Seed) -> Result<Option<usize>, Failure> {
    for n in 0..TRIES {
        let Some(world) = World::start(kind, 1, false).await? else {
            return Ok(None);
        };
        let mut run = Run::on(world, seed.child(&format!("control {n}"))).await?;
        let found = run.cycle(n, planned, false).await;
        run.world.end(false).await;
        match found.map(|found| found.count(Broken::Lost)) {
            Ok(0) => {}
            Ok(lost) => return Ok(Some(lost)),
            // Services that contradict each other may answer nothing: that is no proof of a loss.
            Err(error) => println!("control  {}: the cycle did not end: {error}", kind.name()),
        }
    }
    Ok(Some(0))
}
