//! A hospital, a clinic, Asha, and the replicas that serve them.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use sammati_api::audit::v1::Event;
use sammati_api::types::v1 as types;
use sammati_consent::artefact::ArtefactKeys;
use sammati_consent::directory::{Directory, Resolver};
use sammati_consent::recorded::Logs;
use sammati_consent::rows::{DataKeyRow, MIGRATIONS};
use sammati_consent::vault::Vault;
use sammati_consent::{Parts, Rpc, Settings};
use sammati_kernel::jws::SigningKey;
use sammati_kernel::{
    AccountId, Actor, Caller, Clock, Key, ManualClock, Micros, ParticipantId, Peer, Reason, Refusal, Role, Seed,
    SessionId, Slot, StudyId,
};
use sammati_server::error::refusal_of;
use sammati_server::event::timestamp;
use sammati_server::messages::Messages;
use sammati_store::{Budget, Location, Options, Store};
use sammati_testkit::{Database, databases};
use tonic::{Request, Status};

mod acts;
mod people;

pub(crate) use people::{Outbox, People};

pub(crate) const START: Micros = Micros::from_seconds(1_800_000_000);
pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// One database and the replicas over it.
pub(crate) struct World {
    pub(crate) replicas: Vec<(Rpc, Store)>,
    pub(crate) clock: ManualClock,
    pub(crate) people: Arc<People>,
    pub(crate) outbox: Arc<Outbox>,
    next: AtomicU64,
    database: Database,
}

impl World {
    /// Every world a test runs in.
    pub(crate) fn all() -> Vec<Self> {
        databases().into_iter().map(Self::on).collect()
    }

    pub(crate) fn on(database: Database) -> Self {
        let (clock, people) = (ManualClock::at(START), Arc::new(People::default()));
        let outbox = Arc::new(Outbox::default());
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let count = if database.url.starts_with("sqlite:") { 1 } else { 2 };
        let replicas = (0..count)
            .map(|_| replica(&database.url, &clock, &people, &outbox, pkcs8.as_ref()))
            .collect();
        Self {
            replicas,
            clock,
            people,
            outbox,
            next: AtomicU64::new(1),
            database,
        }
    }

    /// A replica, going round.
    pub(crate) fn rpc(&self) -> &Rpc {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        &self.replicas[usize::try_from(n).unwrap() % self.replicas.len()].0
    }

    pub(crate) fn store(&self) -> &Store {
        &self.replicas[0].1
    }

    /// The URL of its database.
    pub(crate) fn url(&self) -> &str {
        &self.database.url
    }

    pub(crate) fn clock_now(&self) -> Micros {
        self.clock.now()
    }

    /// What a study makes its pseudonyms with.
    pub(crate) async fn pseudonym_key(&self, study: StudyId) -> Key {
        let read = self
            .store()
            .read(move |r| r.get::<DataKeyRow>(study.slot(), study.as_bytes()));
        let row = read.await.unwrap().unwrap().record;
        Vault::new(&Key::from_bytes([7; 32])).unwrap(&row).unwrap()
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.clock
            .advance(std::time::Duration::from_secs(seconds.try_into().unwrap()));
    }

    pub(crate) fn at(&self, seconds: i64) -> Option<prost_types::Timestamp> {
        Some(timestamp(Micros(self.clock.now().0 + seconds * 1_000_000)))
    }

    /// A request id of now.
    pub(crate) fn request_id(&self) -> String {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        let id: SessionId = Seed::from_bytes(seed).id("request", self.clock.now(), Slot::new(0));
        id.to_string()
    }

    /// A person with an address.
    pub(crate) fn person(&self, address: &str) -> AccountId {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = Slot::new(u16::try_from(n * 7 % 4096).unwrap());
        let account = AccountId::new(self.clock.now(), slot, n.to_be_bytes());
        self.people
            .addresses
            .lock()
            .unwrap()
            .insert(address.to_owned(), account);
        account
    }

    /// Whose an address is.
    pub(crate) fn account(&self, address: &str) -> AccountId {
        self.people.addresses.lock().unwrap()[address]
    }

    /// Another address of hers.
    pub(crate) fn also(&self, account: AccountId, address: &str) {
        self.people
            .addresses
            .lock()
            .unwrap()
            .insert(address.to_owned(), account);
    }

    /// Her, logged in just now.
    pub(crate) fn she(&self, account: AccountId) -> Caller {
        let session = SessionId::new(START, account.slot(), [1; 8]);
        let actor = Actor::Person {
            account,
            session,
            app: None,
            auth_time: self.clock.now().seconds(),
        };
        Caller {
            peer: Peer::Anonymous,
            actor: Some(actor),
        }
    }

    /// All events of the feed, in commit order per partition.
    pub(crate) async fn events(&self) -> Vec<Event> {
        let partitions: Vec<i64> = self.store().partitions().all().collect();
        let read = self.store().read(move |r| {
            let mut all = Vec::new();
            for partition in &partitions {
                all.extend(r.feed(*partition, 0, i64::MAX)?);
            }
            Ok(all)
        });
        read.await
            .unwrap()
            .iter()
            .map(|event| Event::decode(event.body.as_slice()).unwrap())
            .collect()
    }

    /// How many events there are of this type.
    pub(crate) async fn count(&self, kind: &str) -> usize {
        self.events()
            .await
            .iter()
            .filter(|event| event.event_type == kind)
            .count()
    }
}

fn replica(url: &str, clock: &ManualClock, people: &Arc<People>, outbox: &Arc<Outbox>, pkcs8: &[u8]) -> (Rpc, Store) {
    // It is used up as soon as somebody looks.
    let budget = Budget {
        bytes: Some(1),
        free: None,
    };
    let options = Options {
        budget,
        ..Options::new(Location::parse(url).unwrap(), Key::from_bytes([9; 32]))
    };
    let store = Store::open(&options, Arc::new(clock.clone()), MIGRATIONS).unwrap();
    let parts = Parts {
        store: store.clone(),
        directory: Arc::clone(people) as Arc<dyn Directory>,
        resolver: Arc::clone(people) as Arc<dyn Resolver>,
        messages: Arc::clone(outbox) as Messages,
        logs: Logs::default(),
        artefact_keys: ArtefactKeys::of(SigningKey::from_pkcs8(pkcs8).unwrap()),
        kek: Key::from_bytes([7; 32]),
        lookup: Key::from_bytes([8; 32]),
        settings: Settings::of("sbx"),
    };
    (Rpc::new(parts), store)
}

/// A new signing key.
pub(crate) fn signing_key() -> SigningKey {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap()
}

/// Runs a test in every world.
pub(crate) fn everywhere<F: Future<Output = ()>>(test: impl Fn(Arc<World>) -> F) {
    for world in World::all() {
        within(test(Arc::new(world)));
    }
}

/// Runs it on two threads.
pub(crate) fn within(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// A request of `caller`'s.
pub(crate) fn by<M>(caller: &Caller, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller.clone());
    request
}

/// A participant in all its roles.
pub(crate) fn participant(id: &str) -> Caller {
    let roles = match id {
        id if id == "lab" || id.starts_with("hospital") => BTreeSet::from([Role::Hip]),
        "both" => BTreeSet::from([Role::Hip, Role::Hiu]),
        "locker" => BTreeSet::from([Role::Locker]),
        "institute" | "university" => BTreeSet::from([Role::Researcher]),
        "sponsor" => BTreeSet::from([Role::Researcher, Role::Hiu]),
        _ => BTreeSet::from([Role::Hiu]),
    };
    let actor = Actor::Participant {
        id: ParticipantId::parse(id).unwrap(),
        roles,
    };
    Caller {
        peer: Peer::Anonymous,
        actor: Some(actor),
    }
}

pub(crate) fn operator() -> Caller {
    Caller {
        peer: Peer::Operator("asha".into()),
        actor: None,
    }
}

pub(crate) fn professional() -> types::Requester {
    let identifier = types::RequesterIdentifier {
        r#type: "REGNO".into(),
        value: "MH1001".into(),
        system: "https://www.mciindia.org".into(),
    };
    types::Requester {
        name: "Dr Manju".into(),
        identifier: Some(identifier),
        verified: false,
    }
}

/// Why a call was refused.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> Refusal {
    let status = result.unwrap_err();
    refusal_of(&status).unwrap_or_else(|| panic!("{status:?} has no reason"))
}

pub(crate) fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> Reason {
    refused(result).reason
}
