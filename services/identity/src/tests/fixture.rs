//! One identity service on one database, its clock, its agency and its inbox.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_api::provider::v1 as provider;
use sammati_api::provider::v1::complete_kyc_response::Verdict;
use sammati_api::provider::v1::kyc_provider_service_server::KycProviderService;
use sammati_api::provider::v1::message_sender_service_server::MessageSenderService;
use sammati_api::types::v1::ConsentStamp;
use sammati_kernel::jws::SigningKey;
use sammati_kernel::{
    AadhaarNumber, Actor, AddressSuffix, Caller, Key, ManualClock, Micros, ParticipantId, Peer, Reason, Refusal, Role,
    Slot,
};
use sammati_server::event::timestamp;
use sammati_store::{Location, Options};
use sammati_testkit::{Database, databases};
use tonic::{Request, Response, Status};

use crate::service::Inner;
use crate::{Identity, KeyRing, Parts};

pub(super) const START: Micros = Micros(1_795_000_000_000_000);

/// The OTP that the agency takes.
pub(super) const OTP: &str = "271828";

/// An agency that knows everybody, and counts.
#[derive(Default)]
pub(super) struct Agency {
    pub(super) away: AtomicBool,
    pub(super) compared: AtomicUsize,
    pub(super) sent: AtomicUsize,
    /// The Aadhaar number behind each transaction.
    known: Mutex<HashMap<String, String>>,
    /// What was answered to each attempt.
    answers: Mutex<HashMap<(String, i32), Verdict>>,
}

#[tonic::async_trait]
impl KycProviderService for Agency {
    async fn start_kyc(
        &self,
        request: Request<provider::StartKycRequest>,
    ) -> Result<Response<provider::StartKycResponse>, Status> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        let request = request.into_inner();
        if let Some(provider::start_kyc_request::Identifier::Aadhaar(number)) = request.identifier {
            self.known.lock().unwrap().insert(request.transaction.clone(), number);
        }
        self.sent.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(provider::StartKycResponse {
            provider_transaction: format!("uidai-{}", request.transaction),
            masked_target: "******3210".into(),
            expire_time: Some(timestamp(START.plus(Duration::from_secs(365 * 24 * 3600)))),
        }))
    }

    async fn complete_kyc(
        &self,
        request: Request<provider::CompleteKycRequest>,
    ) -> Result<Response<provider::CompleteKycResponse>, Status> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        let request = request.into_inner();
        let right = request.proof == Some(provider::complete_kyc_request::Proof::Otp(OTP.into()));
        let verdict = {
            let mut answers = self.answers.lock().unwrap();
            let key = (request.provider_transaction.clone(), request.attempt);
            *answers.entry(key).or_insert_with(|| {
                self.compared.fetch_add(1, Ordering::SeqCst);
                if right { Verdict::Matched } else { Verdict::Rejected }
            })
        };
        if verdict == Verdict::Rejected {
            let code = "400".to_owned();
            let rejected = provider::CompleteKycResponse {
                verdict: verdict.into(),
                provider_code: code,
                ..Default::default()
            };
            return Ok(Response::new(rejected));
        }
        let number = self.known.lock().unwrap()[&request.transaction].clone();
        Ok(Response::new(provider::CompleteKycResponse {
            verdict: verdict.into(),
            reference: format!(
                "uid-token-of-{}",
                Key::from_bytes([9; 32]).mac("x", number.as_bytes())[0..8]
                    .iter()
                    .map(|b| format!("{b:02x}"))
                    .collect::<String>()
            ),
            names: Some(api::PersonName {
                first: "Asha".into(),
                middle: String::new(),
                last: "Rao".into(),
            }),
            birth: Some(birth(&number)),
            gender: 2,
            // People whose numbers differ only in the check digit and the one before share a mobile.
            mobile: format!("9{}", &number[..9]),
            postal: Some(api::PostalAddress {
                line: "12 Temple Road".into(),
                pincode: "560001".into(),
                ..Default::default()
            }),
            ..Default::default()
        }))
    }
}

/// What was sent, by recipient.
#[derive(Default)]
pub(super) struct Inbox(Mutex<Vec<(String, String)>>);

impl Inbox {
    /// The last OTP that went to a mobile; of a message without one the name of its template.
    pub(super) fn last(&self, mobile: &str) -> Option<String> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .rev()
            .find(|(to, _)| to == mobile)
            .map(|(_, otp)| otp.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[tonic::async_trait]
impl MessageSenderService for Inbox {
    async fn send_message(
        &self,
        request: Request<provider::SendMessageRequest>,
    ) -> Result<Response<provider::SendMessageResponse>, Status> {
        let message = request.into_inner();
        self.0.lock().unwrap().push((
            message.recipient,
            message.parameters.get("otp").cloned().unwrap_or(message.template),
        ));
        Ok(Response::new(provider::SendMessageResponse { accept_time: None }))
    }
}

/// The service under test.
#[derive(Clone)]
pub(super) struct Fixture {
    pub(super) inner: Arc<Inner>,
    pub(super) clock: ManualClock,
    pub(super) agency: Arc<Agency>,
    pub(super) inbox: Arc<Inbox>,
    key: Arc<Vec<u8>>,
    requests: Arc<AtomicU64>,
    database: Arc<Database>,
}

/// The service on an empty database of each kind.
pub(super) async fn fixtures() -> Vec<Fixture> {
    let mut all = Vec::new();
    for database in databases() {
        all.push(Fixture::on(database).await);
    }
    all
}

fn keys(pkcs8: &[u8]) -> KeyRing {
    KeyRing::new(SigningKey::from_pkcs8(pkcs8).unwrap(), Vec::new())
}

impl Fixture {
    /// The service on this database.
    pub(super) async fn on(database: Database) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .unwrap()
            .as_ref()
            .to_vec();
        let (clock, agency, inbox) = (
            ManualClock::at(START),
            Arc::new(Agency::default()),
            Arc::new(Inbox::default()),
        );
        let inner = build(&database, &clock, &agency, &inbox, &key).await;
        let (key, database) = (Arc::new(key), Arc::new(database));
        Self {
            inner,
            clock,
            agency,
            inbox,
            key,
            requests: Arc::default(),
            database,
        }
    }

    /// Another replica on the same database; `None` on SQLite, which has one process.
    pub(super) async fn replica(&self) -> Option<Self> {
        if self.database.url.starts_with("sqlite:") {
            return None;
        }
        let inner = build(&self.database, &self.clock, &self.agency, &self.inbox, &self.key).await;
        Some(Self { inner, ..self.clone() })
    }

    /// The URL of its database.
    pub(super) fn url(&self) -> &str {
        &self.database.url
    }

    /// A request id that was never used.
    pub(super) fn request_id(&self) -> String {
        use sammati_kernel::Clock;
        let n = self.requests.fetch_add(1, Ordering::SeqCst);
        sammati_kernel::TransactionId::new(self.clock.now(), Slot::new(0), n.to_be_bytes()).to_string()
    }

    pub(super) async fn begin(
        &self,
        caller: &Caller,
        purpose: Purpose,
        factor: Factor,
        subject: Option<api::create_transaction_request::Subject>,
    ) -> Result<api::Transaction, Refusal> {
        self.inner
            .create_transaction(caller, self.beginning(purpose, factor, subject))
            .await
    }

    /// An enrolment of the `n`th person, with an OTP of the agency's on its way.
    pub(super) async fn enrolling(&self, n: u64) -> api::Transaction {
        let her = Some(api::create_transaction_request::Subject::Aadhaar(aadhaar(n)));
        self.begin(&app(), Purpose::Enrol, Factor::AadhaarOtp, her)
            .await
            .unwrap()
    }

    /// A login to whoever has the `n`th mobile, with an OTP of ours on its way.
    pub(super) async fn logging_in(&self, n: u64) -> api::Transaction {
        let number = Some(api::create_transaction_request::Subject::Mobile(mobile(n)));
        self.begin(&app(), Purpose::Login, Factor::MobileOtp, number)
            .await
            .unwrap()
    }

    pub(super) fn beginning(
        &self,
        purpose: Purpose,
        factor: Factor,
        subject: Option<api::create_transaction_request::Subject>,
    ) -> api::CreateTransactionRequest {
        use sammati_kernel::Clock;
        let consent = ConsentStamp {
            code: "abha-enrollment".into(),
            version: "1.4".into(),
            language: "hi".into(),
            notice: String::new(),
            accepted_time: Some(timestamp(self.clock.now())),
        };
        api::CreateTransactionRequest {
            request_id: self.request_id(),
            purpose: purpose.into(),
            factor: factor.into(),
            consent: (factor == Factor::AadhaarOtp).then_some(consent),
            subject,
            bound_to: None,
        }
    }

    pub(super) async fn verify_otp(&self, caller: &Caller, name: &str, otp: &str) -> Result<api::Transaction, Refusal> {
        let proof = Some(api::verify_transaction_request::Proof::Otp(otp.into()));
        let request = api::VerifyTransactionRequest {
            request_id: self.request_id(),
            name: name.into(),
            etag: String::new(),
            proof,
        };
        self.inner.verify_transaction(caller, request).await
    }

    /// A VERIFIED enrolment of person `n`.
    pub(super) async fn proved(&self, n: u64) -> String {
        let subject = api::create_transaction_request::Subject::Aadhaar(aadhaar(n));
        let begun = self
            .begin(&app(), Purpose::Enrol, Factor::AadhaarOtp, Some(subject))
            .await
            .unwrap();
        assert_eq!(begun.masked_target, "******3210");
        self.verify_otp(&app(), &begun.name, OTP).await.unwrap().name
    }

    pub(super) async fn enrol(&self, n: u64) -> api::CreateAccountResponse {
        let transaction = self.proved(n).await;
        self.create_account(&transaction, None).await.unwrap()
    }

    pub(super) async fn create_account(
        &self,
        transaction: &str,
        chosen: Option<&str>,
    ) -> Result<api::CreateAccountResponse, Refusal> {
        let request = api::CreateAccountRequest {
            request_id: self.request_id(),
            transaction: transaction.into(),
            chosen_address: chosen.map(Into::into),
            audiences: vec!["identity".into(), "consent".into()],
        };
        self.inner.create_account(&app(), request).await
    }

    /// All events of the feed, by type.
    pub(super) async fn events(&self) -> Vec<String> {
        use prost::Message;
        let partitions = self.inner.store.partitions();
        let read = move |r: &mut sammati_store::Reader<'_>| {
            let mut all = Vec::new();
            for partition in partitions.all() {
                all.extend(r.feed(partition, 0, 100_000)?);
            }
            Ok(all)
        };
        let mut events = self.inner.store.read(read).await.unwrap();
        events.sort_by_key(|e| e.time);
        let decode = |e: &sammati_store::FeedEvent| {
            sammati_api::audit::v1::Event::decode(e.body.as_slice())
                .unwrap()
                .event_type
        };
        events.iter().map(decode).collect()
    }

    pub(super) async fn count_events(&self, event_type: &str) -> usize {
        self.events().await.iter().filter(|e| *e == event_type).count()
    }

    pub(super) fn now(&self) -> Micros {
        use sammati_kernel::Clock;
        self.clock.now()
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

async fn build(
    database: &Database,
    clock: &ManualClock,
    agency: &Arc<Agency>,
    inbox: &Arc<Inbox>,
    key: &[u8],
) -> Arc<Inner> {
    let kek = Key::from_bytes([1; 32]);
    let location = Location::parse(&database.url).unwrap();
    let store = Identity::open(&Options::new(location, kek.derive("store")), Arc::new(clock.clone())).unwrap();
    let parts = Parts {
        store,
        clock: Arc::new(clock.clone()),
        kek,
        lookup: Key::from_bytes([2; 32]),
        keys: keys(key),
        kyc: Arc::clone(agency) as _,
        messages: Arc::clone(inbox) as _,
        otp_floor: Duration::ZERO,
        suffix: AddressSuffix::Sbx,
        issuer: "https://identity.test".into(),
        audit: None,
    };
    Identity::new(parts).await.unwrap().0
}

/// The Aadhaar number of person `n`.
pub(super) fn aadhaar(n: u64) -> String {
    let mut body = [0; 11];
    for (at, digit) in format!("{:011}", 99_990_000_000 + n).bytes().enumerate() {
        body[at] = digit - b'0';
    }
    AadhaarNumber::from_body(&body).unwrap().expose().to_owned()
}

/// The one person who is a child.
pub(super) const CHILD: u64 = 900;

fn birth(number: &str) -> api::BirthDate {
    let year = if number == aadhaar(CHILD) { 2015 } else { 1984 };
    api::BirthDate { year, month: 3, day: 9 }
}

/// 9 March 2033 in India.
pub(super) fn majority_of_child() -> Micros {
    Micros::from_seconds(1_993_919_400)
}

/// The mobile of person `n`.
pub(super) fn mobile(n: u64) -> String {
    format!("9{}", &aadhaar(n)[..9])
}

pub(super) fn participant(id: &str, roles: &[Role]) -> Caller {
    let id = ParticipantId::parse(id).unwrap();
    Caller {
        peer: Peer::Participant(id.clone()),
        actor: Some(Actor::Participant {
            id,
            roles: roles.iter().copied().collect(),
        }),
    }
}

pub(super) fn app() -> Caller {
    participant("APP-1", &[Role::PhrApp])
}

pub(super) fn operator() -> Caller {
    Caller {
        peer: Peer::Operator("asha".into()),
        actor: None,
    }
}

/// The person in her session.
pub(super) fn person(session: &api::Session) -> Caller {
    let actor = Actor::Person {
        account: sammati_kernel::AccountId::parse_name(&session.account).unwrap(),
        session: sammati_kernel::SessionId::parse_name(&session.name).unwrap(),
        app: ParticipantId::parse_name(&session.app).ok(),
        auth_time: 0,
    };
    Caller {
        peer: Peer::Participant(ParticipantId::parse("APP-1").unwrap()),
        actor: Some(actor),
    }
}

/// The reason of a refusal.
pub(super) fn reason<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Reason {
    result.unwrap_err().reason
}
