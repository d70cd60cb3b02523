//! An audit service in this process, with its two databases and a clock in the hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;
use ring::signature::Ed25519KeyPair;
use sammati_api::audit::v1::append_events_request::Batch;
use sammati_api::audit::v1::log_service_server::LogService;
use sammati_api::audit::v1::proof_service_server::ProofService;
use sammati_api::audit::v1::{self as audit, event};
use sammati_api::types::v1 as types;
use sammati_audit::log::Log;
use sammati_audit::rows::{KEY_MIGRATIONS, MIGRATIONS};
use sammati_audit::{Parts, Rpc, open};
use sammati_kernel::{
    AccountId, Actor, Caller, Key, ManualClock, Micros, ParticipantId, Peer, Refusal, Role, SessionId, Slot,
};
use sammati_log::checkpoint::Verifier;
use sammati_server::error::refusal_of;
use sammati_server::event::timestamp;
use sammati_store::{EmbeddedMigrations, Location, Options, Store, chain};
use sammati_testkit::databases::{Database, databases};
use tonic::{Request, Response, Status};

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

/// A new one on every kind of database.
pub(crate) async fn everywhere() -> Vec<Audit> {
    let mut all = Vec::new();
    for (log, keys) in databases().into_iter().zip(databases()) {
        let log_key = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())
            .unwrap()
            .as_ref()
            .to_vec();
        all.push(Audit::start(vec![log, keys], log_key, ManualClock::at(START)).await);
    }
    all
}

fn open_store(url: &str, clock: &ManualClock, migrations: fn() -> EmbeddedMigrations) -> Store {
    let location = Location::parse(url).unwrap();
    let options = Options {
        lanes: 1,
        partitions: Some(1),
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
    async fn start(databases: Vec<Database>, log_key: Vec<u8>, clock: ManualClock) -> Self {
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
        let log = open(&parts).await.unwrap();
        let rpc = Rpc::new(Arc::clone(&log), &lookup);
        Self {
            log,
            rpc,
            store,
            clock,
            databases,
            log_key,
        }
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
        let Self {
            log,
            rpc,
            store,
            clock,
            databases,
            log_key,
        } = self;
        drop((rpc, log, store));
        Self::start(databases, log_key, clock).await
    }

    /// Ends it and starts it again with an empty key database: all keys are destroyed.
    pub(crate) async fn restart_without_keys(mut self) -> Self {
        self.databases[1] = match self.databases[1].url.starts_with("postgres") {
            true => Database::postgres().unwrap(),
            false => Database::sqlite(),
        };
        self.restart().await
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

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::parse(&self.log.vkey()).unwrap()
    }

    pub(crate) async fn append(&self, events: Vec<audit::Event>) -> Result<audit::AppendEventsResponse, Refusal> {
        append(&self.rpc, events).await
    }

    pub(crate) async fn relay(&self, relayed: audit::RelayedEvents) -> Result<audit::AppendEventsResponse, Refusal> {
        let request = audit::AppendEventsRequest {
            batch: Some(Batch::Relayed(relayed)),
            with_checkpoint: false,
        };
        said(self.rpc.append_events(of(service("consent"), request)).await)
    }

    pub(crate) async fn checkpoint(&self, size: i64) -> Result<audit::Checkpoint, Refusal> {
        let request = audit::GetCheckpointRequest {
            log: self.log.name(),
            size,
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
                .get_event(of(caller, audit::GetEventRequest { event, wait: None }))
                .await,
        )
    }
}

pub(crate) async fn append(rpc: &Rpc, events: Vec<audit::Event>) -> Result<audit::AppendEventsResponse, Refusal> {
    let batch = Some(Batch::Direct(audit::DirectEvents { events }));
    let request = audit::AppendEventsRequest {
        batch,
        with_checkpoint: true,
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

pub(crate) fn account(n: u8) -> AccountId {
    AccountId::new(START, Slot::new(n.into()), [n; 8])
}

/// A new id each time.
pub(crate) fn event_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let tail = NEXT.fetch_add(1, Ordering::SeqCst).to_be_bytes();
    let name = AccountId::new(START, Slot::new(7), tail).name();
    name.trim_start_matches("accounts/").to_owned()
}

/// A grant of a consent about `subject` to the hospital `city-hospital`.
pub(crate) fn granted(subject: AccountId, consent: &str) -> audit::Event {
    let actor = audit::Actor {
        kind: types::CallerKind::Person.into(),
        id: subject.name(),
        session: SessionId::new(START, subject.slot(), [1; 8]).name(),
        ..audit::Actor::default()
    };
    let payload = audit::Payload {
        actor: Some(actor),
        subject: subject.name(),
        resource: consent.to_owned(),
        resource_version: 1,
        object_refs: vec!["participants/city-hospital".to_owned()],
        ..audit::Payload::default()
    };
    audit::Event {
        schema_version: 1,
        event_id: event_id(),
        event_type: "consent.granted".to_owned(),
        action: event::Action::Create.into(),
        outcome: event::Outcome::Success.into(),
        class: types::RetentionClass::Consent.into(),
        occurred_time: Some(timestamp(START)),
        resource_type: "consents".to_owned(),
        payload: Some(payload),
        ..audit::Event::default()
    }
}

/// Some event about somebody.
pub(crate) fn some_event(n: u8) -> audit::Event {
    granted(account(n), &consent(n))
}

/// The name of a consent.
pub(crate) fn consent(n: u8) -> String {
    sammati_kernel::ConsentId::new(START, Slot::new(n.into()), [n; 8]).name()
}

/// The feed of one partition of `consent`, as the relay would send it.
pub(crate) struct Feed {
    pub bodies: Vec<Vec<u8>>,
    chains: Vec<Vec<u8>>,
}

impl Feed {
    pub(crate) fn of(events: usize) -> Self {
        let bodies: Vec<_> = (0..events).map(|n| some_event((n % 5) as u8).encode_to_vec()).collect();
        Self::with(bodies)
    }

    pub(crate) fn with(bodies: Vec<Vec<u8>>) -> Self {
        let mut chains = vec![vec![0; 32]];
        for body in &bodies {
            chains.push(chain(chains.last().unwrap(), body));
        }
        Self { bodies, chains }
    }

    /// The stretch from `from` to before `to`.
    pub(crate) fn stretch(&self, from: usize, to: usize) -> audit::RelayedEvents {
        self.stretch_in(1, from, to)
    }

    /// The same in another epoch.
    pub(crate) fn stretch_in(&self, epoch: i64, from: usize, to: usize) -> audit::RelayedEvents {
        let source = audit::SourceRange {
            service: "consent".to_owned(),
            epoch,
            partition: 2,
            first_position: from as i64,
            previous_chain: self.chains[from].clone(),
        };
        let events = (from..to).map(|at| audit::RelayedEvent {
            position: at as i64,
            body: self.bodies[at].clone(),
            chain: self.chains[at + 1].clone(),
        });
        audit::RelayedEvents {
            source: Some(source),
            events: events.collect(),
        }
    }
}
