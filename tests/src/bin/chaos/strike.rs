//! How a fault is done to a world, and undone.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use sammati_kernel::Seed;
use sammati_testkit::{Line, Postgres};
use sammati_tests::power::{self, Power, Syncs};
use sammati_tests::story::Failure;
use tokio::time::sleep;

use crate::disk::{ROOM, SmallDisk};
use crate::plan::{Fault, Rest};
use crate::world::{Databases, World};

/// How long somebody may take to notice that his disk takes nothing any more.
const NOTICING: Duration = Duration::from_secs(10);

/// What is left free for the load of Postgres: two more segments of its log, or nearly.
const POSTGRES_ROOM: u64 = 30 << 20;

/// What a fault needs before the load begins.
#[derive(Default)]
pub(crate) struct Armed {
    power: Option<(Power, i32)>,
    disk: Option<SmallDisk>,
}

impl World {
    /// Makes ready for `fault`: its process may have to be started anew, on another disk or under strace.
    pub(crate) async fn arm(&mut self, fault: &Fault, is_durable: bool) -> Result<Armed, Failure> {
        let mut armed = Armed::default();
        match fault {
            Fault::CutPower(name, _) if is_durable => armed.power = Some(self.record(name, Syncs::Whole).await?),
            Fault::CutPower(name, _) => armed.power = Some(self.record(name, Syncs::Pretended).await?),
            Fault::FailSyncs(name, n) => armed.power = Some(self.record_failing(name, *n).await?),
            // Postgres writes each full page of its WAL by itself at once, whether or not anybody waits for it: a commit
            // that is answered too early is lost for certain only if it does not.
            Fault::KillPostgres if !is_durable => {
                if let Databases::Postgres { server, .. } = &self.databases {
                    server.pause_writers();
                }
            }
            Fault::FailPostgresSyncs(n, _) => {
                let record = self.folder().join("postgres.strace");
                self.server(|server| {
                    server.kill();
                    server.restart_by(failing_syncs(*n, &record));
                    Ok(())
                })?;
            }
            Fault::FillPostgresDisk(_) => {
                armed.disk = self.server(|server| {
                    server.kill();
                    let disk = SmallDisk::under(Path::new(&server.data()), POSTGRES_ROOM);
                    server.restart();
                    disk.map(Some)
                })?;
            }
            Fault::FillDisk(name, _) => {
                self.processes.stop_one(name).await?;
                armed.disk = Some(SmallDisk::under(&self.data(name), ROOM)?);
                self.processes.launch(name).await?;
            }
            _ => {}
        }
        Ok(armed)
    }

    /// Starts `name` anew, recorded, on a disk that fails from the `n`th sync on; or somewhat later, if it does not even
    /// come to serve: it may have so much to take in that it ends itself before.
    async fn record_failing(&mut self, name: &str, n: u64) -> Result<(Power, i32), Failure> {
        if let Ok(started) = self.record(name, Syncs::FailFrom(n)).await {
            return Ok(started);
        }
        self.record(name, Syncs::FailFrom(n + 60)).await
    }

    /// Starts `name` anew, recorded.
    async fn record(&mut self, name: &str, syncs: Syncs) -> Result<(Power, i32), Failure> {
        if self.processes.pid(name).is_ok() {
            self.processes.stop_one(name).await?;
        }
        let record = self.folder().join(format!("{name} {syncs:?}.strace"));
        let power = Power::on(&self.data(name), &record)?;
        let command = power.record(self.processes.binary(), syncs);
        self.processes.launch_as(name, command).await?;
        let tracer = power::tracer(self.processes.pid(name)?).ok_or("nobody traces the process")?;
        Ok((power, tracer))
    }

    /// The fault begins. Tells whether there was occasion for it.
    pub(crate) async fn strike(&mut self, fault: &Fault, armed: &Armed) -> Result<(), Failure> {
        match fault {
            Fault::Kill(name) => self.processes.kill(name).await?,
            Fault::KillPostgres => {
                self.server(|server| {
                    server.kill();
                    Ok(())
                })?;
            }
            Fault::Pause(name, _) => self.processes.signal(name, Signal::SIGSTOP)?,
            Fault::Disconnect(name, _) => self.line(name)?.cut_all(),
            Fault::CutCommits(name, cut, times) => {
                for _ in 0..*times {
                    let line = self.line(name)?;
                    line.cut_next_commit(*cut);
                    for _ in 0..300 {
                        if !line.is_whole() {
                            break;
                        }
                        sleep(Duration::from_millis(5)).await;
                    }
                }
                self.line(name)?.cut_no_commit();
            }
            // It may go on after a checkpoint's failed sync; the power cut ends it.
            Fault::FailSyncs(name, _) => {
                if !self.processes.ends(name, NOTICING).await? {
                    self.processes.kill(name).await?;
                }
            }
            // It ends all its sessions then, and begins anew by itself.
            Fault::FailPostgresSyncs(..) => self.until_postgres_says("PANIC").await?,
            Fault::FillDisk(..) => armed.disk.as_ref().ok_or("no small disk")?.fill()?,
            Fault::FillPostgresDisk(_) => {
                armed.disk.as_ref().ok_or("no small disk")?.fill()?;
                self.until_postgres_says("No space left on device").await?;
            }
            Fault::CutPower(name, _) => self.processes.kill(name).await?,
        }
        Ok(())
    }

    /// The fault is over: everything is up again.
    pub(crate) async fn mend(&mut self, fault: &Fault, armed: Armed, seed: &Seed) -> Result<(), Failure> {
        match fault {
            Fault::Kill(name) => self.processes.launch(name).await?,
            Fault::KillPostgres => {
                self.server(|server| {
                    server.restart();
                    Ok(())
                })?;
            }
            Fault::Pause(name, span) => {
                sleep(*span).await;
                self.processes.signal(name, Signal::SIGCONT)?;
            }
            Fault::Disconnect(name, span) => {
                sleep(*span).await;
                self.line(name)?.mend();
            }
            Fault::CutCommits(..) => {}
            Fault::FailPostgresSyncs(_, span) => {
                sleep(*span).await;
                self.server(|server| {
                    server.kill();
                    server.restart();
                    Ok(())
                })?;
            }
            Fault::FillPostgresDisk(span) => {
                let disk = armed.disk.ok_or("no small disk")?;
                sleep(*span).await;
                disk.free()?;
                // It may take writes again, or have given up.
                sleep(Duration::from_millis(300)).await;
                self.server(|server| {
                    server.kill();
                    disk.end()?;
                    server.restart();
                    Ok(())
                })?;
            }
            Fault::FailSyncs(name, _) | Fault::CutPower(name, _) => {
                let (power, tracer) = armed.power.ok_or("no record")?;
                power::gone(tracer).await?;
                let rest = match fault {
                    Fault::CutPower(_, Rest::Torn) => power::Rest::Torn(seed.child("rest")),
                    _ => power::Rest::Gone,
                };
                tokio::task::block_in_place(|| power.cut(rest))?;
                self.processes.launch(name).await?;
            }
            Fault::FillDisk(name, span) => {
                let disk = armed.disk.ok_or("no small disk")?;
                sleep(*span).await;
                disk.free()?;
                // It is the same process that takes writes again, under load still.
                sleep(Duration::from_millis(300)).await;
                let alive = self.processes.pid(name).map(drop);
                if alive.is_ok() {
                    self.processes.stop_one(name).await?;
                }
                disk.end()?;
                self.processes.launch(name).await?;
                alive.map_err(|error| format!("a full disk ended the process: {error}"))?;
            }
        }
        Ok(())
    }

    /// Waits until Postgres has noticed what is wrong.
    async fn until_postgres_says(&mut self, text: &str) -> Result<(), Failure> {
        for _ in 0..NOTICING.as_millis() / 50 {
            if self.server(|server| Ok(server.log().contains(text)))? {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(format!("Postgres says nothing of {text:?} under load").into())
    }

    /// Does something to Postgres.
    fn server<T>(&mut self, work: impl FnOnce(&mut Postgres) -> Result<T, Failure>) -> Result<T, Failure> {
        match &mut self.databases {
            Databases::Postgres { server, .. } => tokio::task::block_in_place(|| work(server)),
            Databases::Sqlite => Err("there is no Postgres".into()),
        }
    }

    fn line(&self, name: &str) -> Result<&Line, Failure> {
        match &self.databases {
            Databases::Postgres { lines, .. } => lines.get(name).ok_or_else(|| "no such line".into()),
            Databases::Sqlite => Err("SQLite has no network".into()),
        }
    }
}

/// Runs a server under strace: in each of its processes the syncs of its log fail, from the `n`th on.
fn failing_syncs(n: u64, record: &Path) -> Vec<String> {
    let inject = format!("inject=fdatasync:error=EIO:when={n}+");
    let mut strace = [
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-e",
        "trace=fdatasync",
        "-e",
        &inject,
        "-o",
    ]
    .map(str::to_owned)
    .to_vec();
    strace.push(record.display().to_string());
    strace
}
