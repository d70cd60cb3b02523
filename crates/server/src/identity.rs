//! What does identity say? The facts that other services decide on, fed by its `WatchChanges` and held in memory.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::change::Kind;
use sammati_api::identity::v1::feed_service_client::FeedServiceClient;
use sammati_api::identity::v1::watch_changes_response::Item;
use sammati_kernel::jws::PublicKey;
use sammati_kernel::{AccountId, Clock, Micros, ParticipantId, Reason, Refusal, Role, SessionId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::authn::{self, TokenFacts};
use crate::channel::Channel;
use crate::rate::Rates;
use crate::run::{Readiness, Start, StartError};
use crate::token::Claims;

/// How old the facts may be for a token to be judged by them.
const BOUND: Duration = Duration::from_secs(30);

/// A heartbeat comes each second; a stream that is silent for longer is opened anew.
const SILENCE: Duration = Duration::from_secs(5);

/// The first and the longest wait before the stream is opened again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A participant as identity last told.
#[derive(Debug, Clone, PartialEq)]
pub struct ParticipantFacts {
    /// Its id.
    pub id: ParticipantId,
    /// Where it stands.
    pub state: api::participant::State,
    /// Its roles.
    pub roles: BTreeSet<Role>,
    /// Everything else, keys and transfer origins included.
    pub message: api::Participant,
}

impl ParticipantFacts {
    /// Whether it is an ACTIVE professional with this registration at this registry, verified.
    fn is_professional(&self, registry: &str, id: &str) -> bool {
        let is = |r: &api::Registration| r.verified && r.registry == registry && r.id == id;
        let message = &self.message;
        self.is_active()
            && message.kind() == api::participant::Kind::Professional
            && message.registrations.iter().any(is)
    }

    /// Whether it takes part now.
    pub fn is_active(&self) -> bool {
        self.state == api::participant::State::Active
    }

    /// Whether it takes part now, as `role`.
    pub fn acts_as(&self, role: Role) -> bool {
        self.is_active() && self.roles.contains(&role)
    }
}

/// The facts. Clones are the same ones.
#[derive(Clone)]
pub struct IdentityFacts(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    facts: RwLock<Facts>,
    began: Instant,
    ready: watch::Sender<Readiness>,
}

#[derive(Debug, Default)]
struct Facts {
    participants: HashMap<ParticipantId, Arc<ParticipantFacts>>,
    /// Those of them that are not ACTIVE.
    inactive: BTreeSet<ParticipantId>,
    /// Accounts that are not, or were once not, ACTIVE, with the version they were told at.
    accounts: HashMap<AccountId, (api::account::State, i64)>,
    /// Those of them that are DELETED, and whether their data is destroyed.
    deleted: HashMap<AccountId, bool>,
    /// Sessions that ended, until none of their tokens can be live.
    ended: HashMap<SessionId, Micros>,
    keys: HashMap<String, PublicKey>,
    heard: Option<Heard>,
}

/// The last heartbeat.
#[derive(Debug, Clone, Copy)]
struct Heard {
    as_of: Micros,
    /// How old it was when it came.
    age: Duration,
    /// When it came.
    at: Instant,
}

impl Heard {
    /// How old the facts are by now.
    fn now(&self) -> Duration {
        self.age.saturating_add(self.at.elapsed())
    }
}

impl IdentityFacts {
    /// Begins to follow the service `identity` of `[peers]`, until the shutdown of `start`.
    ///
    /// # Errors
    /// When `[peers]` does not name it.
    pub fn follow<T>(start: &Start<T>) -> Result<Self, StartError> {
        let channel = start.peers.channel("identity")?;
        let facts = Self::new(start.clock.clone());
        let age = Age(facts.clone());
        start
            .metrics
            .with(|registry| registry.register_collector(Box::new(age)));
        start
            .tasks
            .spawn(facts.clone().keep_up(channel, start.shutdown.clone()));
        Ok(facts)
    }

    fn new(clock: Arc<dyn Clock>) -> Self {
        let (ready, _) = watch::channel(Readiness::NotReady("no word from identity yet".to_owned()));
        Self(Arc::new(Shared {
            clock,
            facts: RwLock::default(),
            began: Instant::now(),
            ready,
        }))
    }

    /// Ready once everything was heard for the first time.
    pub fn ready(&self) -> watch::Receiver<Readiness> {
        self.0.ready.subscribe()
    }

    /// The participant; `None` when identity has told of none with this id.
    pub fn participant(&self, id: &ParticipantId) -> Option<Arc<ParticipantFacts>> {
        self.read().participants.get(id).cloned()
    }

    /// Whether a participant takes part now, as `role`. For decisions, which ask often: nothing is shared for it, which two
    /// processors at once would wait for.
    pub fn acts_as(&self, id: &ParticipantId, role: Role) -> bool {
        let facts = self.read();
        facts.participants.get(id).is_some_and(|facts| facts.acts_as(role))
    }

    /// The ACTIVE participant of kind PROFESSIONAL that has this registration at this registry, verified. Of several the
    /// first by its id, so that everybody finds the same.
    pub fn professional(&self, registry: &str, id: &str) -> Option<Arc<ParticipantFacts>> {
        let facts = self.read();
        let found = facts
            .participants
            .values()
            .filter(|facts| facts.is_professional(registry, id));
        found.min_by(|a, b| a.id.cmp(&b.id)).cloned()
    }

    /// The participants that do not take part now.
    pub fn inactive_participants(&self) -> Vec<ParticipantId> {
        self.read().inactive.iter().cloned().collect()
    }

    /// Where an account stands. Identity tells only of those that are not ACTIVE: one it does not tell of is ACTIVE.
    pub fn account_state(&self, id: AccountId) -> api::account::State {
        self.read()
            .accounts
            .get(&id)
            .map_or(api::account::State::Active, |(state, _)| *state)
    }

    /// The accounts that are DELETED, and whether identity has destroyed their data.
    pub fn deleted_accounts(&self) -> Vec<(AccountId, bool)> {
        self.read().deleted.iter().map(|(id, purged)| (*id, *purged)).collect()
    }

    /// Everything that identity committed before this is known here; `None` before the first word.
    pub fn as_of(&self) -> Option<Micros> {
        self.read().heard.map(|heard| heard.as_of)
    }

    /// How old the facts are; before the first word, how long it has been waited for.
    pub fn age(&self) -> Duration {
        let heard = self.read().heard;
        heard.map_or_else(|| self.0.began.elapsed(), |heard| heard.now())
    }

    /// Refuses when the facts are older than `bound`.
    ///
    /// # Errors
    /// [`Reason::IdentityStale`].
    pub fn fresh(&self, bound: Duration) -> Result<(), Refusal> {
        let heard = self.read().heard;
        if heard.is_some_and(|heard| heard.now() <= bound) {
            Ok(())
        } else {
            Err(Reason::IdentityStale.into())
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Facts> {
        self.0.facts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Facts> {
        self.0.facts.write().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep_up(self, channel: Channel, stop: CancellationToken) {
        let mut token = String::new();
        let mut wait = BACK_OFF.0;
        loop {
            let before = self.as_of();
            let why = tokio::select! {
                () = stop.cancelled() => return,
                why = self.listen(channel.clone(), &mut token) => why,
            };
            tracing::warn!(code = ?why.code(), message = why.message(), "the feed of identity broke off");
            if why.code() == Code::OutOfRange {
                token.clear();
            }
            wait = if self.as_of() == before {
                (wait * 2).min(BACK_OFF.1)
            } else {
                BACK_OFF.0
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// Follows one stream to its end. Without a token it gathers a snapshot and puts it in place when it is complete.
    async fn listen(&self, channel: Channel, token: &mut String) -> Status {
        let mut client = FeedServiceClient::new(channel);
        let request = api::WatchChangesRequest {
            resume_token: token.clone(),
        };
        let mut snapshot = token.is_empty().then(Facts::default);
        let mut stream = match timeout(2 * SILENCE, client.watch_changes(request)).await {
            Ok(Ok(stream)) => stream.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return crate::error::ended("no answer"),
        };
        loop {
            let response = match timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(response))) => response,
                Ok(Ok(None)) => return crate::error::ended("the stream ended"),
                Ok(Err(status)) => return status,
                Err(_) => return crate::error::ended("no heartbeat"),
            };
            match (response.item, &mut snapshot) {
                (Some(Item::Change(change)), Some(snapshot)) => snapshot.take(change),
                (Some(Item::Change(change)), None) => self.write().take(change),
                (Some(Item::Heartbeat(heartbeat)), gathered) => self.beat(&heartbeat, gathered.take()),
                (None, _) => {}
            }
            // A snapshot that broke off is begun again: its tokens lead into its middle.
            if snapshot.is_none() {
                *token = response.resume_token;
            }
        }
    }

    fn beat(&self, heartbeat: &api::Heartbeat, snapshot: Option<Facts>) {
        let Some(as_of) = heartbeat.as_of_time.as_ref().map(micros) else {
            return;
        };
        let mut facts = self.write();
        if let Some(snapshot) = snapshot {
            *facts = snapshot;
        }
        facts.heard = Some(Heard {
            as_of,
            age: self.0.clock.now().since(as_of),
            at: Instant::now(),
        });
        facts.ended.retain(|_, forget| *forget > as_of);
        drop(facts);
        self.0
            .ready
            .send_if_modified(|ready| std::mem::replace(ready, Readiness::Ready) != Readiness::Ready);
    }
}

/// Tells how old the facts are, when it is asked: they age when nothing comes, too.
struct Age(IdentityFacts);

impl fmt::Debug for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Age")
    }
}

impl Collector for Age {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How old what is known of identity is: alert above 5; from service.identity_stale_seconds on, 30 by \
                    default, decisions are refused. Look whether identity is ready and reachable";
        let age = ConstGauge::new(self.0.age().as_secs_f64());
        let metric = encoder.encode_descriptor("identity_facts_age_seconds", help, None, age.metric_type())?;
        age.encode(metric)
    }
}

impl TokenFacts for IdentityFacts {
    fn key(&self, kid: &str) -> Option<PublicKey> {
        self.read().keys.get(kid).cloned()
    }

    fn ended(&self, claims: &Claims) -> bool {
        let facts = self.read();
        if claims
            .session()
            .is_some_and(|session| facts.ended.contains_key(&session))
        {
            return true;
        }
        if let Ok(id) = ParticipantId::parse_name(&claims.sub) {
            return facts.is_out(&id);
        }
        // What a person does through an app, the app does too.
        let app = claims.app.as_deref().map(ParticipantId::parse_name);
        if app.is_some_and(|app| app.is_ok_and(|id| facts.is_out(&id))) {
            return true;
        }
        let mut known = claims.accounts().filter_map(|id| facts.accounts.get(&id));
        known.any(|(state, _)| *state != api::account::State::Active)
    }

    fn fresh(&self) -> Result<(), Refusal> {
        Self::fresh(self, BOUND)
    }

    fn rates(&self, id: &ParticipantId) -> Rates {
        let facts = self.read();
        let row = facts.participants.get(id).map(|known| &known.message);
        row.map(Rates::in_row).unwrap_or_default()
    }
}

impl Facts {
    /// Whether a participant is known to take part no more. Identity signed for it a moment ago: one not told of yet is not
    /// one that has ended.
    fn is_out(&self, id: &ParticipantId) -> bool {
        self.participants
            .get(id)
            .is_some_and(|known| authn::is_out(known.state))
    }

    fn take(&mut self, change: api::Change) {
        match change.kind {
            Some(Kind::Participant(api::ParticipantState {
                participant: Some(message),
            })) => self.participant(message),
            Some(Kind::Account(account)) => self.account(&account),
            Some(Kind::SessionEnd(end)) => self.session_end(&end),
            Some(Kind::KeySet(set)) => self.keys = set.keys.iter().filter_map(key).collect(),
            Some(Kind::Participant(api::ParticipantState { participant: None })) | None => {}
        }
    }

    fn participant(&mut self, message: api::Participant) {
        let Ok(id) = ParticipantId::parse_name(&message.name) else {
            return;
        };
        let known = self.participants.get(&id).map(|known| version(&known.message.etag));
        if known > Some(version(&message.etag)) {
            return;
        }
        let role = |number: &i32| Role::ALL.get(usize::try_from(number - 1).ok()?).copied();
        let roles = message.roles.iter().filter_map(role).collect();
        let facts = ParticipantFacts {
            id: id.clone(),
            state: message.state(),
            roles,
            message,
        };
        if facts.is_active() {
            self.inactive.remove(&id);
        } else {
            self.inactive.insert(id.clone());
        }
        self.participants.insert(id, Arc::new(facts));
    }

    fn account(&mut self, account: &api::AccountState) {
        let Some(id) = AccountId::parse_name(&account.account) else {
            return;
        };
        let told = (account.state(), version(&account.etag));
        let known = self.accounts.entry(id).or_insert(told);
        if told.1 >= known.1 {
            *known = told;
            // For ever: nothing leads back.
            if told.0 == api::account::State::Deleted {
                *self.deleted.entry(id).or_default() |= account.purged;
            }
        }
    }

    fn session_end(&mut self, end: &api::SessionEnd) {
        let Some(id) = SessionId::parse_name(&end.session) else {
            return;
        };
        let forget = end.forget_time.as_ref().map_or(Micros(i64::MAX), micros);
        self.ended.insert(id, forget);
    }
}

/// The number in a quoted version.
fn version(etag: &str) -> i64 {
    etag.trim_matches('"').parse().unwrap_or(0)
}

fn key(key: &api::SigningKey) -> Option<(String, PublicKey)> {
    if key.state() == api::signing_key::State::Compromised {
        return None;
    }
    let public = PublicKey::from_jwk(&key.jwk)?;
    (public.kid == key.kid).then(|| (public.kid.clone(), public))
}

fn micros(time: &prost_types::Timestamp) -> Micros {
    Micros(
        time.seconds
            .saturating_mul(1_000_000)
            .saturating_add(i64::from(time.nanos / 1000)),
    )
}
