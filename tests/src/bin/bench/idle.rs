//! What the services take while nobody calls: memory, the time from exec to ready on an empty and on a full database,
//! and memory after many consents were checked, which the cache's bound keeps.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use sammati_api::consent::v1::decision_service_client::DecisionServiceClient;
use sammati_consent::Settings;
use sammati_kernel::{ConsentId, SystemClock};
use sammati_store::{Location, on_conn};
use sammati_testkit::Database;
use sammati_testkit::development::{DatabaseKind, Development, Ports};
use sammati_tests::story::Story;
use sammati_tests::system::{Processes, Setting};
use tokio::time::sleep;

use crate::goal::Goal;
use crate::load::Desk;
use crate::measure::{CALLERS, Failure, f64_of, work_off};
use crate::process;
use crate::summary::Summary;
use crate::system;

/// How long a service that started is left alone before it counts as being at rest.
const REST: Duration = Duration::from_secs(3);

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Checks under one access token, which lives five minutes.
const PER_TOKEN: usize = 50_000;

const MIB: f64 = 1_048_576.0;

/// `idle.*`: with nothing in the databases, and with `consents` in consent's.
pub(crate) async fn run(consents: usize, summary: &mut Summary) -> Result<(), Failure> {
    on("sqlite", system::sqlite(), consents, summary).await?;
    match system::postgres() {
        Some(home) => on("postgres", home, consents, summary).await,
        None => {
            eprintln!("SKIPPED: idle on Postgres: no Postgres to be had");
            Ok(())
        }
    }
}

async fn on(
    database: &str,
    (kind, _databases): (DatabaseKind, Vec<Database>),
    consents: usize,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let setting = || Setting {
        folder: Some(folder.path().to_owned()),
        database: kind.clone(),
        ..Setting::new()
    };
    let mut processes = Processes::start(setting()).await?;
    let names: Vec<_> = processes.names().map(ToOwned::to_owned).collect();
    sleep(REST).await;
    for name in &names {
        let held = process::memory(pid(&mut processes, name)?)?;
        summary.value(&format!("idle.{database}.{name}.memory"), held.now / MIB, "MiB");
    }
    for name in &names {
        started(&mut processes, name, &format!("idle.{database}.{name}.start"), summary).await?;
    }
    processes.stop().await;
    drop(processes);

    let ids = filled(folder.path(), kind.clone(), consents).await?;
    let mut processes = Processes::start(setting()).await?;
    let name = format!("idle.{database}.consent.{consents}");
    started(&mut processes, "consent", &format!("{name}.start"), summary).await?;
    sleep(REST).await;
    let consent = pid(&mut processes, "consent")?;
    let before = process::memory(consent)?;
    summary.value(&format!("{name}.memory"), before.now / MIB, "MiB");
    check_all(&processes, ids).await?;
    let after = process::memory(consent)?;
    let bound = f64_of(usize::try_from(Settings::of("sbx").cache_bytes)?);
    let cached = format!("{name}.checked.memory");
    summary.quotient(
        &cached,
        (after.now - before.now) / MIB,
        "MiB",
        ("cache_bytes", bound / MIB),
    );
    summary.goal(&cached, Goal::AtMost(1.5));
    processes.stop().await;
    Ok(())
}

fn pid(processes: &mut Processes, name: &str) -> Result<u32, Failure> {
    Ok(u32::try_from(processes.pid(name)?)?)
}

/// Starts a service again, and tells the time from exec to ready.
async fn started(processes: &mut Processes, name: &str, entry: &str, summary: &mut Summary) -> Result<(), Failure> {
    let address = process::admin_address(processes.config(name))?;
    processes.end(name).await?;
    let (launched, ready) = tokio::join!(
        processes.launch_within(name, PATIENCE),
        process::until_ready(&address, PATIENCE)
    );
    launched?;
    summary.value(entry, ready?.as_secs_f64() * 1e3, "ms");
    Ok(())
}

/// Puts consents into the consent service's database. Their events are taken out again, as they are a week later: else
/// the relay would be busy with them.
async fn filled(folder: &Path, database: DatabaseKind, count: usize) -> Result<Vec<ConsentId>, Failure> {
    let development = Development {
        folder: folder.to_owned(),
        ports: Ports::default(),
        database,
    };
    let desk = Desk::new(&development.write()?.consent)?;
    let store = desk.open()?;
    let ids = desk.fill(&store, count).await?;
    drop(store);
    let location = Location::parse(desk.url()?)?;
    tokio::task::spawn_blocking(move || without_events(&location)).await??;
    Ok(ids)
}

fn without_events(location: &Location) -> Result<(), Failure> {
    let nothing = "0".repeat(64);
    let chain = if location.is_embedded() {
        format!("x'{nothing}'")
    } else {
        format!("'\\x{nothing}'::bytea")
    };
    let text = format!("DELETE FROM feed; UPDATE head SET next=0,chain={chain};");
    let mut conn = location.connect()?;
    Ok(on_conn!(&mut conn, |c| c.batch_execute(&text))?)
}

/// The clinic asks about each of them once.
async fn check_all(processes: &Processes, ids: Vec<ConsentId>) -> Result<(), Failure> {
    let mut story = Story::new(&processes.addresses, Arc::new(SystemClock))?;
    story.open().await?;
    for some in ids.chunks(PER_TOKEN) {
        story.renew().await?;
        let client = DecisionServiceClient::new(story.clinic.consent());
        let questions: Vec<_> = some.iter().map(|id| story.question(&id.name())).collect();
        work_off(CALLERS, questions, move |question| {
            let mut client = client.clone();
            async move {
                client.check_access(question).await?;
                Ok(())
            }
        })
        .await?;
    }
    Ok(())
}
