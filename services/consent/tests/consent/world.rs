//! A hospital, a clinic, Asha, and the replicas that serve them.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use prost::Message;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use sammati_api::audit::v1::Event;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::link_service_server::LinkService;
use sammati_api::consent::v1::notification_service_server::NotificationService;
use sammati_api::provider::v1 as provider;
use sammati_api::provider::v1::message_sender_service_server::MessageSenderService;
use sammati_api::types::v1 as types;
use sammati_consent::artefact::ArtefactKeys;
use sammati_consent::directory::{Directory, Found, Party, Professional, Resolver, Resolving};
use sammati_consent::rows::{DataKeyRow, MIGRATIONS};
use sammati_consent::vault::Vault;
use sammati_consent::{Parts, Rpc, Settings};
use sammati_kernel::jws::{PublicKey, SigningKey};
use sammati_kernel::{
    AccountId, Actor, Caller, Clock, Key, ManualClock, Micros, ParticipantId, Peer, Reason, Refusal, Role, Seed,
    SessionId, Slot, StudyId,
};
use sammati_server::error::{self, refusal_of};
use sammati_server::event::timestamp;
use sammati_server::messages::Messages;
use sammati_store::{Budget, Location, Options, Store};
use sammati_testkit::{Database, databases};
use tonic::{Request, Status};

pub(crate) const START: Micros = Micros::from_seconds(1_800_000_000);
pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Who takes part, and who is suspended.
pub(crate) struct People {
    pub(crate) origins: Mutex<Vec<String>>,
    pub(crate) suspended: Mutex<BTreeSet<String>>,
    pub(crate) inactive: Mutex<BTreeSet<AccountId>>,
    pub(crate) deleted: Mutex<Vec<(AccountId, bool)>>,
    pub(crate) stale: Mutex<bool>,
    /// Identity's, which signs tokens.
    pub(crate) tokens: SigningKey,
    /// How often somebody was asked for.
    pub(crate) asked: AtomicU64,
    addresses: Mutex<HashMap<String, AccountId>>,
}

impl Default for People {
    fn default() -> Self {
        Self {
            origins: Mutex::new(vec!["https://clinic.example".to_owned()]),
            suspended: Mutex::default(),
            inactive: Mutex::default(),
            deleted: Mutex::default(),
            stale: Mutex::default(),
            tokens: signing_key(),
            addresses: Mutex::default(),
            asked: Default::default(),
        }
    }
}

impl Directory for People {
    fn participant(&self, id: &ParticipantId) -> Option<Party> {
        let roles = match id.as_str() {
            "hospital" | "lab" => BTreeSet::from([Role::Hip]),
            id if id.starts_with("hospital-") => BTreeSet::from([Role::Hip]),
            "clinic" | "insurer" => BTreeSet::from([Role::Hiu]),
            "both" => BTreeSet::from([Role::Hip, Role::Hiu]),
            "locker" => BTreeSet::from([Role::Locker]),
            "institute" | "university" => BTreeSet::from([Role::Researcher]),
            "sponsor" => BTreeSet::from([Role::Researcher, Role::Hiu]),
            _ => return None,
        };
        let active = !self.suspended.lock().unwrap().contains(id.as_str());
        let transfer_origins = self.origins.lock().unwrap().clone();
        Some(Party {
            display_name: format!("The {id}"),
            active,
            roles,
            transfer_origins,
        })
    }

    fn inactive(&self) -> Vec<ParticipantId> {
        let suspended = self.suspended.lock().unwrap();
        suspended.iter().map(|id| ParticipantId::parse(id).unwrap()).collect()
    }

    fn deleted(&self) -> Vec<(AccountId, bool)> {
        self.deleted.lock().unwrap().clone()
    }

    fn is_active(&self, account: AccountId) -> bool {
        !self.inactive.lock().unwrap().contains(&account)
    }

    fn token_key(&self, kid: &str) -> Option<PublicKey> {
        (kid == self.tokens.kid()).then(|| self.tokens.public())
    }

    fn professional(&self, registration: &types::RequesterIdentifier) -> Option<Professional> {
        let known = registration.value == "MH1001" && registration.system == "https://www.mciindia.org";
        known.then(|| Professional {
            id: ParticipantId::parse("dr-manju").unwrap(),
            display_name: "Dr Manju Nair".to_owned(),
        })
    }

    fn as_of(&self) -> Micros {
        START
    }

    fn fresh(&self) -> Result<(), Refusal> {
        if *self.stale.lock().unwrap() {
            Err(Reason::IdentityStale.into())
        } else {
            Ok(())
        }
    }
}

impl Resolver for People {
    fn resolve(&self, identifier: types::Identifier, demographics: Option<types::Demographics>) -> Resolving<'_> {
        use types::identifier::Identifier as I;
        self.asked.fetch_add(1, Ordering::Relaxed);
        let account = match identifier.identifier {
            Some(I::AbhaAddress(address)) => self.addresses.lock().unwrap().get(&address).copied(),
            Some(I::Account(name)) => self
                .addresses
                .lock()
                .unwrap()
                .values()
                .find(|a| a.name() == name)
                .copied(),
            _ => None,
        };
        let fits = demographics.is_none_or(|d| d.year_of_birth == 1990);
        let found = account.map(|account| Found {
            account,
            active: Directory::is_active(self, account),
            fits,
        });
        Box::pin(async move { Ok(found) })
    }
}

/// What was handed to the message sender, once for each id, and how it answers.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) sent: Mutex<Vec<provider::SendMessageRequest>>,
    pub(crate) refuses: Mutex<Option<Reason>>,
}

#[tonic::async_trait]
impl MessageSenderService for Outbox {
    async fn send_message(
        &self,
        request: Request<provider::SendMessageRequest>,
    ) -> Result<tonic::Response<provider::SendMessageResponse>, Status> {
        if let Some(reason) = *self.refuses.lock().unwrap() {
            return Err(error::status(reason.into()));
        }
        let (message, mut sent) = (request.into_inner(), self.sent.lock().unwrap());
        if sent.iter().all(|m| m.message_id != message.message_id) {
            sent.push(message);
        }
        Ok(tonic::Response::new(provider::SendMessageResponse::default()))
    }
}

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

    fn on(database: Database) -> Self {
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

    pub(crate) fn asks(&self, address: &str) -> api::CreateConsentRequestRequest {
        api::CreateConsentRequestRequest {
            patient: address.to_owned(),
            hips: vec!["participants/hospital".into()],
            requester: Some(professional()),
            scope: Some(self.scope()),
            request_id: self.request_id(),
            ..Default::default()
        }
    }

    pub(crate) fn scope(&self) -> types::Scope {
        types::Scope {
            purpose: Some(types::Purpose {
                code: types::PurposeCode::Caremgt.into(),
                ..Default::default()
            }),
            hi_types: vec![
                types::HiType::Prescription.into(),
                types::HiType::DiagnosticReport.into(),
            ],
            access_mode: types::AccessMode::View.into(),
            record_range: Some(types::TimeRange {
                from: self.at(-365 * DAY),
                to: self.at(0),
            }),
            erase_time: self.at(30 * DAY),
            frequency: Some(types::Frequency {
                unit: types::FrequencyUnit::Hour.into(),
                value: 0,
                repeats: 0,
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn create(
        &self,
        message: api::CreateConsentRequestRequest,
    ) -> Result<api::ConsentRequest, Status> {
        self.rpc()
            .create_consent_request(by(&participant("clinic"), message))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) fn approval(&self, request: &api::ConsentRequest) -> api::ApproveConsentRequestRequest {
        api::ApproveConsentRequestRequest {
            name: request.name.clone(),
            notice: request.notice.clone(),
            request_id: self.request_id(),
            ..Default::default()
        }
    }

    pub(crate) async fn approve(
        &self,
        she: &Caller,
        message: api::ApproveConsentRequestRequest,
    ) -> Result<api::ApproveConsentRequestResponse, Status> {
        self.rpc()
            .approve_consent_request(by(she, message))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn revoke(&self, she: &Caller, names: &[&str]) -> Result<api::RevokeConsentsResponse, Status> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let message = api::RevokeConsentsRequest {
            names,
            request_id: self.request_id(),
            ..Default::default()
        };
        self.rpc()
            .revoke_consents(by(she, message))
            .await
            .map(tonic::Response::into_inner)
    }

    /// A consent of hers, granted as asked and acknowledged by the hospital.
    pub(crate) async fn granted(
        &self,
        address: &str,
        change: impl FnOnce(&mut types::Scope),
    ) -> (Caller, api::Consent) {
        let granted = self.unacknowledged(address, change).await;
        self.acknowledge_all("hospital").await;
        granted
    }

    /// The same before the hospital acknowledged.
    pub(crate) async fn unacknowledged(
        &self,
        address: &str,
        change: impl FnOnce(&mut types::Scope),
    ) -> (Caller, api::Consent) {
        let she = self.she(self.person(address));
        let mut ask = self.asks(address);
        change(ask.scope.as_mut().unwrap());
        let request = self.create(ask).await.unwrap();
        let approved = self.approve(&she, self.approval(&request)).await.unwrap();
        (she, approved.consents.into_iter().next().unwrap())
    }

    /// Takes in everything up to now.
    pub(crate) async fn acknowledge_all(&self, who: &str) -> i32 {
        let seen = self.notifications(&participant(who)).await;
        let names = seen.iter().map(|n| n.name.as_str()).collect::<Vec<_>>();
        if names.is_empty() {
            return 0;
        }
        self.acknowledge(who, &names).await
    }

    /// Takes in what is named.
    pub(crate) async fn acknowledge(&self, who: &str, names: &[&str]) -> i32 {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let outcome = api::acknowledge_notifications_request::Outcome::Ok.into();
        let message = api::AcknowledgeNotificationsRequest {
            names,
            outcome,
            request_id: self.request_id(),
            ..Default::default()
        };
        self.rpc()
            .acknowledge_notifications(by(&participant(who), message))
            .await
            .unwrap()
            .into_inner()
            .acknowledged_count
    }

    /// Everything there is for a caller, up to the first sign of life.
    pub(crate) async fn notifications(&self, caller: &Caller) -> Vec<api::Notification> {
        use api::watch_notifications_response::Item;
        use tokio_stream::StreamExt;
        let mut stream = self
            .rpc()
            .watch_notifications(by(caller, Default::default()))
            .await
            .unwrap()
            .into_inner();
        let mut all = Vec::new();
        while let Some(Item::Notification(n)) = stream.next().await.unwrap().unwrap().item {
            all.push(n);
        }
        all
    }

    pub(crate) async fn link_token(&self, address: &str, year: i32) -> Result<api::IssueLinkTokenResponse, Status> {
        self.link_token_of("hospital", address, year).await
    }

    pub(crate) async fn link_token_of(
        &self,
        hip: &str,
        address: &str,
        year: i32,
    ) -> Result<api::IssueLinkTokenResponse, Status> {
        self.issue(hip, self.tries(address, year)).await
    }

    pub(crate) fn tries(&self, address: &str, year: i32) -> api::IssueLinkTokenRequest {
        let identifier = types::identifier::Identifier::AbhaAddress(address.to_owned());
        api::IssueLinkTokenRequest {
            identifier: Some(types::Identifier {
                identifier: Some(identifier),
            }),
            demographics: Some(types::Demographics {
                name: "Asha Rao".into(),
                gender: types::Gender::F.into(),
                year_of_birth: year,
                mobile: None,
            }),
            request_id: self.request_id(),
        }
    }

    pub(crate) async fn issue(
        &self,
        hip: &str,
        message: api::IssueLinkTokenRequest,
    ) -> Result<api::IssueLinkTokenResponse, Status> {
        self.rpc()
            .issue_link_token(by(&participant(hip), message))
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) fn links(&self, token: &str, references: &[&str]) -> api::LinkCareContextsRequest {
        let context = |reference: &&str| types::CareContextRef {
            patient_reference: "MRN-17".into(),
            care_context_reference: (*reference).to_owned(),
            hi_type: types::HiType::Prescription.into(),
            display: "OPD visit".into(),
        };
        api::LinkCareContextsRequest {
            link_token: token.to_owned(),
            patient_reference: "MRN-17".into(),
            care_contexts: references.iter().map(context).collect(),
            request_id: self.request_id(),
        }
    }

    pub(crate) async fn link(&self, token: &str, references: &[&str]) -> Result<api::Link, Status> {
        self.link_of("hospital", self.links(token, references)).await
    }

    pub(crate) async fn link_of(&self, hip: &str, message: api::LinkCareContextsRequest) -> Result<api::Link, Status> {
        self.rpc()
            .link_care_contexts(by(&participant(hip), message))
            .await
            .map(tonic::Response::into_inner)
    }

    /// Links care contexts of a person to the hospital.
    pub(crate) async fn linked(&self, address: &str, references: &[&str]) {
        let token = self.link_token(address, 1990).await.unwrap().link_token;
        self.link(&token, references).await.unwrap();
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for world in World::all() {
        runtime.block_on(test(Arc::new(world)));
    }
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
