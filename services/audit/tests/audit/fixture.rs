//! An audit service in this process, with its two databases and a clock in the hand.

mod events;

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use ring::signature::Ed25519KeyPair;
use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::log_service_server::LogService;
use sammati_api::audit::v1::proof_service_server::ProofService;
use sammati_audit::log::Log;
use sammati_audit::rows::{KEY_MIGRATIONS, MIGRATIONS};
use sammati_audit::witnesses::Witnesses;
use sammati_audit::{Beside, Parts, Rpc, open, open_with};
use sammati_kernel::{
    AccountId, Actor, Caller, Clock, Key, ManualClock, Micros, ParticipantId, Peer, Refusal, Role, SessionId,
};
use sammati_log::checkpoint::Verifier;
use sammati_server::error::refusal_of;
use sammati_store::{EmbeddedMigrations, Location, Options, Store, verbs};
use sammati_testkit::Postgres;
use sammati_testkit::databases::{Database, databases};
use tonic::{Request, Response, Status};

pub(crate) use events::{Feed, account, consent, event_id, granted, of_class, of_type, some_event};

/// When the tests begin: 22 November 2026.
const START: Micros = Micros::from_seconds(1_795_305_600);

/// An audit service and where it keeps things.
pub(crate) struct Audit {
    pub log: Arc<Log>,
    pub rpc: Rpc,
    pub store: Store,
    pub clock: ManualClock,
    databases: Vec<Database>,
    log_key: Vec<u8>,
}

fn with(witnesses: Witnesses) -> Beside {
    Beside {
        witnesses,
        ..Beside::default()
    }
}

/// What a database held once.
pub(crate) enum Backup {
    File(tempfile::TempDir),
    Schema,
}

/// A statement for each table.
fn each_table(first: &str, statement: &str) -> String {
    format!(
        "DO $$ DECLARE one TEXT; BEGIN {first} FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' \
         LOOP EXECUTE format('{statement}', one); END LOOP; END $$"
    )
}

/// A new one on every kind of database.
pub(crate) async fn everywhere() -> Vec<Audit> {
    let mut all = Vec::new();
    for (log, keys) in databases().into_iter().zip(databases()) {
        all.push(Audit::on(log, keys).await);
    }
    all
}

fn open_store(url: &str, clock: &ManualClock, migrations: fn() -> EmbeddedMigrations) -> Store {
    let location = Location::parse(url).unwrap();
    let options = Options {
        lanes: 1,
        partitions: Some(1),
        time_only_orders: true,
        ..Options::new(location, Key::from_bytes([3; 32]))
    };
    // A lane that is ending still holds the file for a moment.
    loop {
        match Store::open(&options, Arc::new(clock.clone()), migrations()) {
            Ok(store) => return store,
            Err(error) if error.to_string().contains("held by another") => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

impl Audit {
    /// A new one on these two.
    pub(crate) async fn on(log: Database, keys: Database) -> Self {
        let log_key = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())
            .unwrap()
            .as_ref()
            .to_vec();
        Self::start(vec![log, keys], log_key, ManualClock::at(START), Beside::default()).await
    }

    /// A new one on a server of the test's own.
    pub(crate) async fn on_server(server: &Postgres) -> Self {
        Self::on(Database::on(server, "log"), Database::on(server, "keys")).await
    }

    async fn start(databases: Vec<Database>, log_key: Vec<u8>, clock: ManualClock, beside: Beside) -> Self {
        Self::try_start(databases, log_key, clock, beside).await.unwrap()
    }

    async fn try_start(
        databases: Vec<Database>,
        log_key: Vec<u8>,
        clock: ManualClock,
        beside: Beside,
    ) -> Result<Self, String> {
        let store = open_store(&databases[0].url, &clock, || MIGRATIONS);
        let keys = open_store(&databases[1].url, &clock, || KEY_MIGRATIONS);
        let lookup = Key::from_bytes([5; 32]);
        let parts = Parts {
            store: store.clone(),
            keys,
            origin: "sammati.test/audit".to_owned(),
            log_key: log_key.clone().into(),
            kek: Key::from_bytes([4; 32]),
            lookup: lookup.clone(),
        };
        let log = open_with(&parts, beside).await.map_err(|error| error.to_string())?;
        let rpc = Rpc::new(Arc::clone(&log), &lookup);
        Ok(Self {
            log,
            rpc,
            store,
            clock,
            databases,
            log_key,
        })
    }

    /// Where the log's database is.
    pub(crate) fn location(&self) -> Location {
        Location::parse(&self.databases[0].url).unwrap()
    }

    /// Where the keys' database is.
    pub(crate) fn key_location(&self) -> Location {
        Location::parse(&self.databases[1].url).unwrap()
    }

    /// Ends it and starts it again on the same databases.
    pub(crate) async fn restart(self) -> Self {
        self.restart_witnessed(Witnesses::default()).await
    }

    /// The same with witnesses.
    pub(crate) async fn restart_witnessed(self, witnesses: Witnesses) -> Self {
        let Self {
            log,
            rpc,
            store,
            clock,
            databases,
            log_key,
        } = self;
        drop((rpc, log, store));
        Self::start(databases, log_key, clock, with(witnesses)).await
    }

    /// Ends it and starts it again with an empty key database: all keys are destroyed.
    pub(crate) async fn restart_without_keys(mut self) -> Self {
        self.databases[1] = match self.databases[1].url.starts_with("postgres") {
            true => Database::postgres().unwrap(),
            false => Database::sqlite(),
        };
        self.restart().await
    }

    /// Whether the log is on Postgres.
    pub(crate) fn is_postgres(&self) -> bool {
        self.databases[0].url.starts_with("postgres")
    }

    /// Ends it and starts it again with another key, beside which the one before may still sign.
    ///
    /// # Errors
    /// As the service would say it.
    pub(crate) async fn restart_signed(self, key: &[u8], previous: Option<&[u8]>) -> Result<Self, String> {
        let Self {
            log,
            rpc,
            store,
            clock,
            databases,
            log_key: _,
        } = self;
        drop((rpc, log, store));
        let beside = Beside {
            previous_key: previous.map(|key| key.to_vec().into()),
            ..Beside::default()
        };
        Self::try_start(databases, key.to_vec(), clock, beside).await
    }

    /// The key that signs it.
    pub(crate) fn log_key(&self) -> Vec<u8> {
        self.log_key.clone()
    }

    /// What the log's database holds now.
    pub(crate) async fn backup(&self) -> Backup {
        if self.is_postgres() {
            self.databases[0].execute(&each_table(
                "CREATE SCHEMA saved;",
                "CREATE TABLE saved.%1$I AS SELECT * FROM public.%1$I",
            ));
            return Backup::Schema;
        }
        let folder = tempfile::tempdir().unwrap();
        verbs::backup(&self.location(), &folder.path().join("backup")).unwrap();
        Backup::File(folder)
    }

    /// Ends it, puts a backup of its log back, and starts it again.
    pub(crate) async fn restart_from(self, backup: Backup, witnesses: Witnesses) -> Self {
        let (location, now) = (self.location(), self.clock.now());
        let Self {
            log,
            rpc,
            store,
            clock,
            databases,
            log_key,
        } = self;
        drop((rpc, log, store));
        match backup {
            Backup::Schema => databases[0].execute(&each_table(
                "",
                "DELETE FROM public.%1$I; INSERT INTO public.%1$I SELECT * FROM saved.%1$I",
            )),
            // A lane that is ending still holds the file for a moment.
            Backup::File(folder) => {
                let from = folder.path().join("backup");
                while verbs::restore(&location, &from, &MIGRATIONS, true, false, now).is_err() {
                    tokio::task::yield_now().await;
                }
            }
        }
        Self::start(databases, log_key, clock, with(witnesses)).await
    }

    /// Ends it and starts it again, under the same key, on a database with nothing in it.
    pub(crate) async fn restart_empty(mut self, witnesses: Witnesses) -> Self {
        self.databases[0] = match self.is_postgres() {
            true => Database::postgres().unwrap(),
            false => Database::sqlite(),
        };
        self.restart_witnessed(witnesses).await
    }

    /// Another replica over the same databases.
    pub(crate) async fn replica(&self) -> Option<(Rpc, Arc<Log>)> {
        let is_shared = self.databases[0].url.starts_with("postgres");
        if !is_shared {
            return None;
        }
        let lookup = Key::from_bytes([5; 32]);
        let parts = Parts {
            store: open_store(&self.databases[0].url, &self.clock, || MIGRATIONS),
            keys: open_store(&self.databases[1].url, &self.clock, || KEY_MIGRATIONS),
            origin: "sammati.test/audit".to_owned(),
            log_key: self.log_key.clone().into(),
            kek: Key::from_bytes([4; 32]),
            lookup: lookup.clone(),
        };
        let log = open(&parts).await.unwrap();
        Some((Rpc::new(Arc::clone(&log), &lookup), log))
    }

    /// What a metric of the log reads, as it is scraped.
    pub(crate) fn metric(&self, name: &str) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.log.register_metrics(&mut registry);
        encode(&mut text, &registry).unwrap();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let (_, read) = lines.find(|(metric, _)| *metric == name).unwrap();
        read.to_owned()
    }

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::parse(&self.log.vkey()).unwrap()
    }

    pub(crate) async fn append(&self, events: Vec<audit::Event>) -> Result<audit::AppendEventsResponse, Refusal> {
        append(&self.rpc, events).await
    }

    /// The same without a checkpoint: nothing is signed for it.
    pub(crate) async fn append_unsigned(
        &self,
        events: Vec<audit::Event>,
    ) -> Result<audit::AppendEventsResponse, Refusal> {
        send(&self.rpc, events, false).await
    }

    pub(crate) async fn relay(&self, relayed: audit::RelayedEvents) -> Result<audit::AppendEventsResponse, Refusal> {
        let request = audit::AppendEventsRequest {
            batch: Some(Batch::Relayed(relayed)),
            with_checkpoint: false,
            ..audit::AppendEventsRequest::default()
        };
        said(self.rpc.append_events(of(service("consent"), request)).await)
    }

    /// Stretches of several partitions in one call.
    pub(crate) async fn relay_all(
        &self,
        stretches: Vec<audit::RelayedEvents>,
    ) -> Result<audit::AppendEventsResponse, Refusal> {
        let request = audit::AppendEventsRequest {
            batch: Some(Batch::Stretches(audit::RelayedStretches { stretches })),
            ..audit::AppendEventsRequest::default()
        };
        said(self.rpc.append_events(of(service("consent"), request)).await)
    }

    pub(crate) async fn checkpoint(&self, size: i64) -> Result<audit::Checkpoint, Refusal> {
        let request = audit::GetCheckpointRequest {
            log: self.log.name(),
            size,
            min_cosignatures: 0,
        };
        said(self.rpc.get_checkpoint(of(Caller::ANYONE, request)).await)
    }

    pub(crate) async fn prove(&self, index: i64, tree_size: i64) -> Result<audit::InclusionProof, Refusal> {
        let event = Some(audit::get_proof_request::Event::Index(index));
        let request = audit::GetProofRequest {
            log: self.log.name(),
            event,
            tree_size,
            ..audit::GetProofRequest::default()
        };
        said(self.rpc.get_proof(of(Caller::ANYONE, request)).await)
    }

    pub(crate) async fn consistency(&self, first: i64, second: i64) -> Result<audit::ConsistencyProof, Refusal> {
        let request = audit::GetConsistencyProofRequest {
            log: self.log.name(),
            first,
            second,
        };
        said(self.rpc.get_consistency_proof(of(Caller::ANYONE, request)).await)
    }

    pub(crate) async fn list(
        &self,
        caller: Caller,
        request: audit::ListEventsRequest,
    ) -> Result<audit::ListEventsResponse, Refusal> {
        said(self.rpc.list_events(of(caller, request)).await)
    }

    pub(crate) async fn get(&self, caller: Caller, event_id: &str) -> Result<audit::LogEvent, Refusal> {
        let event = Some(audit::get_event_request::Event::EventId(event_id.to_owned()));
        said(
            self.rpc
                .get_event(of(
                    caller,
                    audit::GetEventRequest {
                        event,
                        ..Default::default()
                    },
                ))
                .await,
        )
    }
}

pub(crate) async fn append(rpc: &Rpc, events: Vec<audit::Event>) -> Result<audit::AppendEventsResponse, Refusal> {
    send(rpc, events, true).await
}

/// With a checkpoint that covers them, or without.
pub(crate) async fn send(
    rpc: &Rpc,
    events: Vec<audit::Event>,
    with_checkpoint: bool,
) -> Result<audit::AppendEventsResponse, Refusal> {
    let batch = Some(Batch::Direct(audit::DirectEvents { events }));
    let request = audit::AppendEventsRequest {
        batch,
        with_checkpoint,
        ..audit::AppendEventsRequest::default()
    };
    said(rpc.append_events(of(service("identity"), request)).await)
}

/// A request as the authentication layer hands it on.
pub(crate) fn of<T>(caller: Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller);
    request
}

pub(crate) fn said<T>(answer: Result<Response<T>, Status>) -> Result<T, Refusal> {
    answer
        .map(Response::into_inner)
        .map_err(|status| refusal_of(&status).expect("a refusal of ours"))
}

pub(crate) fn service(name: &str) -> Caller {
    Caller {
        peer: Peer::Service(name.to_owned()),
        actor: None,
    }
}

pub(crate) fn operator() -> Caller {
    Caller {
        peer: Peer::Operator("asha".to_owned()),
        actor: None,
    }
}

pub(crate) fn person(account: AccountId) -> Caller {
    let session = SessionId::new(START, account.slot(), [9; 8]);
    let actor = Actor::Person {
        account,
        session,
        app: None,
        auth_time: START.seconds(),
    };
    Caller {
        peer: Peer::Anonymous,
        actor: Some(actor),
    }
}

pub(crate) fn participant(id: &str) -> Caller {
    let actor = Actor::Participant {
        id: ParticipantId::parse(id).unwrap(),
        roles: [Role::Hip].into(),
    };
    Caller {
        peer: Peer::Anonymous,
        actor: Some(actor),
    }
}
