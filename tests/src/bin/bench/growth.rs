//! What an approve and a check cost, by how much is in the consent database: the service's own handlers over its own
//! store, without sockets, which would hide it. Whom it is about is drawn from all that were loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::decision_service_server::DecisionService;
use sammati_consent::Rpc;
use sammati_kernel::{Caller, ConsentId, Role, SystemClock};
use sammati_store::Store;
use sammati_testkit::Database;
use sammati_testkit::databases::psql;
use sammati_testkit::development::{DatabaseKind, Development, Ports};
use sammati_tests::caller::Addresses;
use sammati_tests::story::Story;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};
use tonic::Request;

use crate::goal::Goal;
use crate::load::{self, Desk};
use crate::measure::{CALLERS, Contender, Failure, Measured, Pace, Sample, f64_of, interleave, rate, work_off};
use crate::summary::Summary;
use crate::system;

/// Requests that are approved in one round.
const REQUESTS: usize = 1024;

/// Tenths of a second within which a database comes to rest.
const SETTLES: usize = 600;

/// Memory for decisions: the service's own, and none, so that each check reads the database.
const CACHES: (u64, u64) = (256 << 20, 1);

/// `growth.*`, with each of `rows` in a database of its own; the first is what the others are compared with.
pub(crate) async fn run(pace: Pace, rows: &[usize], summary: &mut Summary) -> Result<(), Failure> {
    let homes: Vec<_> = rows.iter().map(|_| system::sqlite()).collect();
    on("sqlite", homes, pace, rows, summary).await?;
    match rows.iter().map(|_| system::postgres()).collect() {
        Some(homes) => on("postgres", homes, pace, rows, summary).await,
        None => {
            eprintln!("SKIPPED: growth on Postgres: no Postgres to be had");
            Ok(())
        }
    }
}

async fn on(
    database: &str,
    homes: Vec<(DatabaseKind, Vec<Database>)>,
    pace: Pace,
    rows: &[usize],
    summary: &mut Summary,
) -> Result<(), Failure> {
    let mut grown = Vec::new();
    for (home, rows) in homes.into_iter().zip(rows) {
        let name = format!("growth.{database}.{rows}");
        grown.push(Grown::new(&name, home, consents_of(*rows), summary).await?);
    }
    for what in ["approve", "check", "check_unremembered"] {
        let mut contenders: Vec<_> = grown.iter().map(|grown| grown.contender(what, pace.time)).collect();
        let measured = interleave(pace.rounds, &mut contenders).await?;
        told(&measured, summary);
    }
    Ok(())
}

fn told(measured: &[Measured], summary: &mut Summary) {
    let [first, more @ ..] = measured else { return };
    summary.cost(first, first);
    for more in more {
        summary.cost(more, first);
        summary.goal(&more.name, Goal::AtMost(1.3));
    }
}

/// A service over a database that was filled.
#[derive(Clone)]
pub(crate) struct Grown {
    name: String,
    /// With the memory that it has by default, and without any.
    pub(crate) rpc: (Rpc, Rpc),
    /// What is said; nobody is called.
    pub(crate) story: Arc<Story>,
    people: usize,
    pub(crate) consents: Arc<[ConsentId]>,
    next: Arc<AtomicU64>,
    _kept: Arc<(TempDir, Vec<Database>)>,
}

impl Grown {
    pub(crate) async fn new(
        name: &str,
        (kind, databases): (DatabaseKind, Vec<Database>),
        count: usize,
        summary: &mut Summary,
    ) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let development = Development {
            folder: folder.path().to_owned(),
            ports: Ports::default(),
            database: kind,
        };
        let desk = Desk::new(&development.write()?.consent)?;
        settle(&desk, desk.open()?).await?;
        let empty = bytes(&desk)?;
        let (begun, store) = (Instant::now(), desk.open()?);
        let consents = desk.fill(&store, count).await?;
        summary.value(
            &format!("{name}.loaded"),
            f64_of(count) / begun.elapsed().as_secs_f64(),
            "consents/s",
        );
        settle(&desk, store).await?;
        summary.value(
            &format!("{name}.disk"),
            (bytes(&desk)? - empty) / f64_of(count),
            "B/consent",
        );
        let store = desk.open()?;
        let rpc = |cache| Ok::<_, Failure>(Rpc::new(desk.parts(store.clone(), cache)?));
        Ok(Self {
            name: name.to_owned(),
            rpc: (rpc(CACHES.0)?, rpc(CACHES.1)?),
            story: Arc::new(Story::new(&nowhere(folder.path()), Arc::new(SystemClock))?),
            people: load::people(count),
            consents: consents.into(),
            next: Arc::default(),
            _kept: Arc::new((folder, databases)),
        })
    }

    fn contender(&self, what: &'static str, time: Duration) -> Contender {
        let this = self.clone();
        Contender::new(format!("{}.{what}", self.name), move || {
            this.clone().measure(what, time)
        })
    }

    pub(crate) async fn measure(self, what: &'static str, time: Duration) -> Result<Sample, Failure> {
        match what {
            "approve" => self.approve().await,
            "check" => self.check(self.rpc.0.clone(), CALLERS, time).await,
            _ => self.check(self.rpc.1.clone(), usize::MAX, time).await,
        }
    }

    /// A number that is as good as drawn.
    fn draw(&self, below: usize) -> usize {
        let mixed = load::mix(self.next.fetch_add(1, Ordering::Relaxed));
        usize::try_from(mixed % below.max(1) as u64).unwrap_or(0)
    }

    fn ask(&self, person: usize) -> api::CreateConsentRequestRequest {
        self.story.asking(&load::address(person), self.story.scope())
    }

    /// Checks of the first `among` of the consents.
    async fn check(&self, rpc: Rpc, among: usize, time: Duration) -> Result<Sample, Failure> {
        let (this, clinic) = (self.clone(), clinic()?);
        let among = among.min(this.consents.len());
        rate(CALLERS, time, move |_| {
            let request = by(&clinic, this.story.question(&this.consents[this.draw(among)].name()));
            let rpc = rpc.clone();
            async move {
                let decision = rpc.check_access(request).await?.into_inner();
                match decision.outcome() {
                    api::decision::Outcome::Permit => Ok(()),
                    _ => Err(format!("refused: {decision:?}").into()),
                }
            }
        })
        .await
    }

    /// The clinic asks, uncounted; then they approve.
    async fn approve(&self) -> Result<Sample, Failure> {
        let this = self.clone();
        let requests = self.requests().await?;
        work_off(CALLERS, requests, move |(person, request)| {
            let (rpc, request) = (this.rpc.0.clone(), this.approval(person, &request));
            async move {
                rpc.approve_consent_request(request).await.map(drop)?;
                Ok(())
            }
        })
        .await
    }

    /// The clinic asks and they approve, uncounted; then they take it back, one by one.
    pub(crate) async fn revoke(&self) -> Result<Sample, Failure> {
        let this = self.clone();
        let (sender, given) = tokio::sync::mpsc::unbounded_channel();
        work_off(CALLERS, self.requests().await?, move |(person, request)| {
            let (rpc, request, sender) = (this.rpc.0.clone(), this.approval(person, &request), sender.clone());
            async move {
                let approved = rpc.approve_consent_request(request).await?.into_inner();
                Ok(sender.send((person, approved.consents))?)
            }
        })
        .await?;
        let this = self.clone();
        work_off(CALLERS, all(given).await, move |(person, consents)| {
            let names: Vec<_> = consents.iter().map(|consent| consent.name.as_str()).collect();
            let request = by(&load::she(load::account(person)), this.story.revocation(&names));
            let rpc = this.rpc.0.clone();
            async move {
                rpc.revoke_consents(request).await.map(drop)?;
                Ok(())
            }
        })
        .await
    }

    /// The clinic asks some of them; tells whom, and the requests.
    async fn requests(&self) -> Result<Vec<(usize, api::ConsentRequest)>, Failure> {
        let (sender, asked) = tokio::sync::mpsc::unbounded_channel();
        let (this, clinic) = (self.clone(), clinic()?);
        // Neighbours by number are strangers in the database. A person may have 20 open requests.
        let (first, count) = (self.draw(self.people), REQUESTS.min(self.people * 8));
        work_off(CALLERS, (first..first + count).collect(), move |n| {
            let person = n % this.people;
            let (request, rpc, sender) = (by(&clinic, this.ask(person)), this.rpc.0.clone(), sender.clone());
            async move {
                let asked = rpc.create_consent_request(request).await?.into_inner();
                Ok(sender.send((person, asked))?)
            }
        })
        .await?;
        Ok(all(asked).await)
    }

    fn approval(&self, person: usize, request: &api::ConsentRequest) -> Request<api::ApproveConsentRequestRequest> {
        by(&load::she(load::account(person)), self.story.approval(request, None))
    }
}

/// Who asks in every consent.
pub(crate) fn clinic() -> Result<Caller, Failure> {
    load::participant("clinic", Role::Hiu)
}

async fn all<T>(mut sent: UnboundedReceiver<T>) -> Vec<T> {
    let mut all = Vec::with_capacity(REQUESTS);
    while let Some(one) = sent.recv().await {
        all.push(one);
    }
    all
}

/// Certificates, and no addresses.
fn nowhere(folder: &Path) -> Addresses {
    let url = || "https://127.0.0.1:1".to_owned();
    Addresses {
        folder: folder.to_owned(),
        identity: url(),
        consent: url(),
        consents: vec![url()],
        identities: vec![url()],
        audit: url(),
        sandbox: url(),
    }
}

pub(crate) fn by<M>(caller: &Caller, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller.clone());
    request
}

/// How many consents come to about so many rows.
fn consents_of(rows: usize) -> usize {
    (rows * 2 / load::ROWS_OF_TWO).max(1)
}

/// Waits until the database is at rest after `store` was filled.
async fn settle(desk: &Desk, store: Store) -> Result<(), Failure> {
    drop(store);
    let Some(file) = desk.file()? else {
        return vacuum(desk.url()?);
    };
    let log = PathBuf::from(format!("{}-wal", file.display()));
    // The last of the store's threads that closes its connection moves the log into the file, and removes it.
    for _ in 0..SETTLES {
        if !log.exists() {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err("the write-ahead log does not go into the file".into())
}

/// What autovacuum does in time.
fn vacuum(url: &str) -> Result<(), Failure> {
    let (server, name) = url.rsplit_once('/').ok_or("a URL without a database")?;
    psql(server, name, "VACUUM ANALYZE");
    Ok(())
}

/// How much of the disk the database takes.
fn bytes(desk: &Desk) -> Result<f64, Failure> {
    if let Some(file) = desk.file()? {
        return Ok(f64_of(usize::try_from(std::fs::metadata(file)?.len())?));
    }
    let (server, name) = desk.url()?.rsplit_once('/').ok_or("a URL without a database")?;
    Ok(psql(server, name, "SELECT pg_database_size(current_database())").parse()?)
}
