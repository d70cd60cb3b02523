//! The four services in this process, each in the variant that is to be measured.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1::GetCheckpointRequest;
use sammati_api::audit::v1::proof_service_client::ProofServiceClient;
use sammati_audit::Audit;
use sammati_identity::Identity;
use sammati_kernel::SystemClock;
use sammati_sandbox::Sandbox;
use sammati_server::{Config, Running, Service, serve_on};
use sammati_testkit::Database;
use sammati_testkit::development::{DatabaseKind, Development, Ports};
use sammati_tests::caller::Addresses;
use sammati_tests::story::{Person, Story};
use sammati_tests::system::Processes;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::hollow::Hollow;
use crate::measure::{Failure, work_off};
use crate::process;

/// Which of [`Addresses::consents`] answers without doing anything.
pub(crate) const HOLLOW: usize = 1;

/// Fifths of a second within which the relay comes to rest.
const RELAYED: usize = 600;

/// Which of them is the second replica.
pub(crate) const SECOND: usize = 2;

/// How many enrol at once.
const ENROLLING: usize = 8;

/// Services that run, and callers that are registered.
pub(crate) struct System {
    /// The callers.
    pub(crate) story: Arc<Story>,
    running: Vec<Running>,
    _databases: Vec<Database>,
    folder: TempDir,
}

/// Where a system keeps its data, and what must live as long.
pub(crate) fn sqlite() -> (DatabaseKind, Vec<Database>) {
    (DatabaseKind::Sqlite, Vec::new())
}

/// The same on the throwaway Postgres; `None` where there is none.
pub(crate) fn postgres() -> Option<(DatabaseKind, Vec<Database>)> {
    let databases = (0..4).map(|_| Database::postgres()).collect::<Option<Vec<_>>>()?;
    let url = |n: usize| databases[n].url.clone();
    let kind = DatabaseKind::Postgres {
        identity: url(0),
        consent: url(1),
        audit: url(2),
        audit_keys: url(3),
    };
    Some((kind, databases))
}

impl System {
    /// Starts it, with `C` as the consent service, so many replicas of it, and beside them one that answers without
    /// doing anything: in [`Addresses::consents`] the first, that one, and the others.
    pub(crate) async fn start<C: Service>(
        (database, databases): (DatabaseKind, Vec<Database>),
        replicas: usize,
    ) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let ports = Ports::free()?;
        let configs = Development {
            folder: folder.path().to_owned(),
            ports,
            database,
        }
        .write()?;
        let mut running = Vec::new();
        running.push(serve::<Sandbox>(&configs.sandbox, Some(ports.sandbox.rpc)).await?);
        running.push(serve::<Identity>(&configs.identity, Some(ports.identity.rpc)).await?);
        running.push(serve::<Audit>(&configs.audit, Some(ports.audit.rpc)).await?);
        running.push(serve::<C>(&configs.consent, Some(ports.consent.rpc)).await?);
        running.push(serve::<Hollow>(&configs.consent, None).await?);
        for _ in 1..replicas {
            running.push(serve::<C>(&configs.consent, None).await?);
        }
        let at = |n: usize| format!("https://{}", running[n].address);
        let addresses = Addresses {
            folder: folder.path().to_owned(),
            sandbox: at(0),
            identity: at(1),
            identities: vec![at(1)],
            audit: at(2),
            consent: at(3),
            consents: (3..running.len()).map(at).collect(),
        };
        let mut story = Story::new(&addresses, Arc::new(SystemClock))?;
        story.open().await?;
        Ok(Self {
            story: Arc::new(story),
            running,
            _databases: databases,
            folder,
        })
    }

    /// Waits until the log has all that was committed, so that one measurement's events are not another's load.
    pub(crate) async fn quiet(&self) -> Result<(), Failure> {
        self.relays().quiet(&self.story).await
    }

    /// Those of it that relay to the log: identity, and each replica of consent.
    pub(crate) fn relays(&self) -> Relays {
        let admin = |n: usize| self.running[n].admin_address.to_string();
        let replicas = (3..self.running.len()).filter(|n| *n != 3 + HOLLOW);
        Relays([1].into_iter().chain(replicas).map(admin).collect())
    }

    /// The files of the log and of its keys, on SQLite.
    pub(crate) fn log_files(&self) -> (PathBuf, PathBuf) {
        let file = |name: &str| self.folder.path().join("data").join(name);
        (file("audit.db"), file("audit-keys.db"))
    }

    /// Drains and stops all of it.
    pub(crate) async fn stop(self) {
        drop(self.stop_keeping().await);
    }

    /// The same; what was written stays until the answer is dropped.
    pub(crate) async fn stop_keeping(self) -> TempDir {
        for service in self.running.into_iter().rev() {
            service.shutdown().await;
        }
        self.folder
    }
}

/// Enrols the first `count` of the register.
pub(crate) async fn enrol(story: &Arc<Story>, count: usize) -> Result<Vec<Person>, Failure> {
    let mut mobiles = HashSet::new();
    let mut entries = story.people().await?;
    // Adults with a mobile of their own: nobody takes another's OTP.
    entries.retain(|p| p.parents.is_empty() && !p.mobile.is_empty() && mobiles.insert(p.mobile.clone()));
    entries.truncate(count);
    if entries.len() < count {
        return Err(format!("the register has only {} people to enrol", entries.len()).into());
    }
    let (sender, mut enrolled) = tokio::sync::mpsc::unbounded_channel();
    let story = Arc::clone(story);
    work_off(ENROLLING, entries, move |entry| {
        let (story, sender) = (Arc::clone(&story), sender.clone());
        async move { Ok(sender.send(story.enrol(&entry).await?)?) }
    })
    .await?;
    let mut people = Vec::with_capacity(count);
    while let Some(person) = enrolled.recv().await {
        people.push(person);
    }
    Ok(people)
}

/// A consent of each of `count` people, that the hospital has acknowledged: one that has not gives nothing under it.
pub(crate) async fn consents(story: &Arc<Story>, relays: &Relays, count: usize) -> Result<Vec<String>, Failure> {
    let mut names = Vec::with_capacity(count);
    for person in enrol(story, count).await? {
        let consent = story.consent(&person, story.scope()).await?;
        let told = story.notification(&story.hospital, &consent.name).await?;
        story.acknowledge(&story.hospital, &told.name).await?;
        names.push(consent.name);
    }
    relays.quiet(story).await?;
    Ok(names)
}

/// The admin ports of those who relay to the log.
#[derive(Clone)]
pub(crate) struct Relays(Vec<String>);

impl Relays {
    /// Those among processes.
    pub(crate) fn of(processes: &Processes) -> Result<Self, Failure> {
        let admin = |name| process::admin_address(processes.config(name));
        let admins = ["identity", "consent"].into_iter().map(admin);
        Ok(Self(admins.collect::<Result<_, _>>()?))
    }

    /// Waits until the log has all that was committed: nobody is behind, and nothing has come since the last look. A log
    /// that only stands still may be stalled.
    pub(crate) async fn quiet(&self, story: &Story) -> Result<(), Failure> {
        let log = story.log().await?.name;
        let mut client = ProofServiceClient::new(story.operator.audit());
        let mut known = -1;
        for _ in 0..RELAYED {
            let request = GetCheckpointRequest {
                log: log.clone(),
                size: 0,
                min_cosignatures: 0,
            };
            let size = client.get_checkpoint(request).await?.into_inner().size;
            if size == known && self.behind().await? == 0.0 {
                return Ok(());
            }
            known = size;
            sleep(Duration::from_millis(200)).await;
        }
        Err(format!(
            "the relay does not come to rest: {} events are not in the log",
            self.behind().await?
        )
        .into())
    }

    /// How many committed events the log is not known to have.
    async fn behind(&self) -> Result<f64, Failure> {
        let mut behind = 0.0;
        for admin in &self.0 {
            behind += process::gauge(admin, "relay_behind").await?;
        }
        Ok(behind)
    }
}

/// Serves on `port`, or on a free one.
async fn serve<S: Service>(config: &Path, port: Option<u16>) -> Result<Running, Failure> {
    let config = Config::<S::Settings>::load(config)?;
    let rpc = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)))).await?;
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(serve_on::<S>(config, rpc, admin, Arc::new(SystemClock)).await?)
}
