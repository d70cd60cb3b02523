//! Is a token still good? What identity judges its own tokens by, in memory on every replica.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sammati_kernel::jws::PublicKey;
use sammati_kernel::{AccountId, Actor, Clock, Micros, ParticipantId, Reason, Refusal, SessionId};
use sammati_server::authn::{TokenFacts, is_out};
use sammati_server::rate::Rates;
use sammati_server::token::Claims;
use sammati_store::Store;
use tokio::time::{Instant, timeout};

use crate::changes::{self, Cursor, ENDED_WITHIN, Now};
use crate::keyring::KeyRing;
use crate::rows::{AccountRow, ParticipantRow};

/// How long to wait after a failure of the database.
const AGAIN: Duration = Duration::from_millis(500);

/// How old the facts may be for a token to be judged by them: as in the services that are told of them.
const BOUND: Duration = Duration::from_secs(30);

/// How often the facts are confirmed, though nothing is committed.
const CONFIRM: Duration = Duration::from_secs(1);

/// Keys, and what has ended.
pub(crate) struct Facts {
    keys: Arc<KeyRing>,
    issuer: String,
    state: RwLock<State>,
}

struct State {
    cursor: Cursor,
    /// Everything that any replica committed before this is known here.
    as_of: Instant,
    /// Sessions that ended, until when that matters.
    ended: HashMap<SessionId, Micros>,
    stopped: HashSet<ParticipantId>,
    /// Of the participants whose rows say any.
    rates: HashMap<ParticipantId, Rates>,
    inactive: HashSet<AccountId>,
}

impl Facts {
    /// As the database has them.
    pub(crate) async fn load(store: &Store, keys: Arc<KeyRing>, issuer: String, now: Micros) -> Result<Self, Refusal> {
        let state = State::load(store, now).await?;
        Ok(Self {
            keys,
            issuer,
            state: RwLock::new(state),
        })
    }

    /// Sessions ended by this replica: known at once.
    pub(crate) fn end(&self, sessions: &[SessionId], now: Micros) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().for_each(|id| state.end(*id, now));
    }

    /// Takes over what any replica commits, for as long as it is polled.
    pub(crate) async fn follow(&self, store: &Store, clock: &dyn Clock) {
        let mut committed = store.changes();
        loop {
            match self.catch_up(store, clock).await {
                Ok(true) => {
                    if matches!(timeout(CONFIRM, committed.changed()).await, Ok(Err(_))) {
                        return;
                    }
                }
                Ok(false) => {}
                Err(refusal) => {
                    tracing::warn!(reason = refusal.reason.as_str(), "cannot follow the feed");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Takes over what was committed; tells whether that was all.
    pub(crate) async fn catch_up(&self, store: &Store, clock: &dyn Clock) -> Result<bool, Refusal> {
        let mut cursor = self.state.read().unwrap_or_else(PoisonError::into_inner).cursor.clone();
        let as_of = Instant::now();
        store.confirm().await?;
        let now = clock.now();
        let news = match cursor.advance(store).await {
            Err(refusal) if refusal.reason == Reason::PositionUnknown => return self.reload(store, now).await,
            news => news?,
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.ended.retain(|_, until| now < *until);
        for (_, what, _) in &news.items {
            match what {
                Now::Participant(row) => state.participant(row),
                Now::Account(row) => state.account(row),
                Now::Session(row) => row.id().into_iter().for_each(|id| state.end(id, now)),
            }
        }
        state.cursor = cursor;
        if news.drained {
            state.as_of = as_of;
        }
        Ok(news.drained)
    }

    /// The database was restored: nothing that was known counts. Sessions whose end it forgot stay ended here.
    async fn reload(&self, store: &Store, now: Micros) -> Result<bool, Refusal> {
        let mut fresh = State::load(store, now).await?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        fresh.ended.extend(std::mem::take(&mut state.ended));
        *state = fresh;
        Ok(true)
    }

    /// Refuses when at `at` the facts are too old to judge by.
    pub(crate) fn fresh_at(&self, at: Instant) -> Result<(), Refusal> {
        let as_of = self.state.read().unwrap_or_else(PoisonError::into_inner).as_of;
        if at.saturating_duration_since(as_of) <= BOUND {
            Ok(())
        } else {
            Err(Reason::IdentityStale.into())
        }
    }
}

impl State {
    async fn load(store: &Store, now: Micros) -> Result<Self, Refusal> {
        let as_of = Instant::now();
        let snapshot = changes::snapshot(store, now).await?;
        let mut state = Self {
            cursor: snapshot.cursor,
            as_of,
            ended: HashMap::new(),
            stopped: HashSet::new(),
            rates: HashMap::new(),
            inactive: HashSet::new(),
        };
        snapshot.participants.iter().for_each(|row| state.participant(row));
        snapshot.accounts.iter().for_each(|row| state.account(row));
        let ended = snapshot.sessions.iter().filter_map(|row| row.id());
        ended.for_each(|id| state.end(id, now));
        Ok(state)
    }

    fn end(&mut self, session: SessionId, now: Micros) {
        self.ended.insert(session, now.plus(ENDED_WITHIN));
    }

    fn participant(&mut self, row: &ParticipantRow) {
        let Some(id) = row.id() else { return };
        match row.resource.as_ref().map(Rates::in_row).unwrap_or_default() {
            none if none == Rates::default() => self.rates.remove(&id),
            rates => self.rates.insert(id.clone(), rates),
        };
        if is_out(row.state()) {
            self.stopped.insert(id);
        } else {
            self.stopped.remove(&id);
        }
    }

    fn account(&mut self, row: &AccountRow) {
        let Some(id) = row.id() else { return };
        if row.is_active() {
            self.inactive.remove(&id);
        } else {
            self.inactive.insert(id);
        }
    }
}

impl TokenFacts for Facts {
    fn key(&self, kid: &str) -> Option<PublicKey> {
        self.keys.find(kid)
    }

    fn issuer(&self) -> Option<&str> {
        Some(&self.issuer)
    }

    fn fresh(&self) -> Result<(), Refusal> {
        self.fresh_at(Instant::now())
    }

    fn rates(&self, id: &ParticipantId) -> Rates {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.rates.get(id).copied().unwrap_or_default()
    }

    fn ended(&self, claims: &Claims) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let gone = match claims.actor() {
            Some(Actor::Participant { id, .. }) => state.stopped.contains(&id),
            Some(Actor::Person { app, .. }) => app.is_some_and(|app| state.stopped.contains(&app)),
            Some(Actor::Representative(acting)) => acting.app.is_some_and(|app| state.stopped.contains(&app)),
            None => true,
        };
        let gone = gone || claims.accounts().any(|account| state.inactive.contains(&account));
        gone || claims
            .session()
            .is_none_or(|session| state.ended.contains_key(&session))
    }
}
