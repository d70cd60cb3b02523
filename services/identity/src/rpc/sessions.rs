//! SessionService: logging in, staying logged in, and ending it.

use std::collections::BTreeSet;

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_kernel::Violations;
use sammati_kernel::jws;
use sammati_kernel::{
    AccountId, Caller, Micros, ParticipantId, Peer, Reason, Refusal, RepresentationId, SessionId, Slot,
};
use sammati_server::token;
use sammati_store::{Outcome, SKEW};

use crate::policy;
use crate::representation::{OpenRepresented, in_force, of_representative};
use crate::rows::{AccountRow, RepresentationRow, SessionRow, TransactionRow};
use crate::service::Inner;
use crate::session::{
    ConsumeLogin, EndReused, Login, OpenSession, Refresh, Revoke, Revoked, Rotated, Which, chosen, end_all, expired,
    may_enter, may_log_in, several_holders,
};
use crate::tokens::{ACTS_AT, may_repeat};
use crate::vault::broken;
use crate::wire;

impl Inner {
    pub(crate) async fn create_session(
        &self,
        caller: &Caller,
        request: api::CreateSessionRequest,
    ) -> Result<api::Session, Refusal> {
        let key = self.request::<ConsumeLogin>(caller, &request.request_id, &request);
        let mut v = Violations::new();
        wire::audiences(&mut v, &request.audiences);
        let transaction = self.transaction_named(&mut v, "transaction", &request.transaction);
        if request.candidate_index.is_some_and(|index| index < 1) {
            v.add("candidate_index", "the index of a candidate, 1 and up");
        }
        let named = Some(request.representation.as_str()).filter(|name| !name.is_empty());
        let representation: Option<RepresentationId> = named.and_then(|n| wire::named(&mut v, "representation", n));
        let (key, ()) = Refusal::both(key, v.check())?;
        let transaction = wire::present(transaction)?;
        let (row, _) = self.transaction(caller, transaction).await?;
        let candidate = match request.candidate_index {
            None if row.candidates.len() > 1 => self.only_candidate(&row).await?,
            named => named,
        };
        self.may_choose(&row, candidate, representation).await?;
        let consume = ConsumeLogin {
            caller: caller.clone(),
            transaction,
            candidate,
            representation,
        };
        let (login, fresh) = match self.store.run(consume, Some(key)).await? {
            Outcome::Fresh(login) => (login, true),
            Outcome::Known(bytes) => (
                Login::from_bytes(&bytes).ok_or_else(|| broken("an outcome without ids"))?,
                false,
            ),
        };
        self.open(caller, login, representation, row).await?;
        self.opened_session(login.session, &request.audiences, fresh).await
    }

    /// The second half of a login, where what it is about lives.
    async fn open(
        &self,
        caller: &Caller,
        login: Login,
        representation: Option<RepresentationId>,
        transaction: TransactionRow,
    ) -> Result<(), Refusal> {
        let caller = caller.clone();
        let Some(id) = representation else {
            let open = OpenSession {
                caller,
                login,
                transaction,
            };
            return self.store.apply(open).await;
        };
        let (_, principal) = self.represented(id, login.account).await?;
        let open = OpenRepresented {
            caller,
            representation: id,
            representative: self.account_row(login.account).await?,
            session: login.session,
            principal,
            transaction,
        };
        self.store.apply(open).await
    }

    /// A representation of this representative, and for whom.
    async fn represented(
        &self,
        id: RepresentationId,
        representative: AccountId,
    ) -> Result<(RepresentationRow, AccountId), Refusal> {
        let row = of_representative(self.representation(id).await?, representative)?;
        let principal = row.principal().ok_or_else(|| broken("a representation's principal"))?;
        Ok((row, principal))
    }

    /// Refuses before anything is consumed where it can be known already.
    pub(crate) async fn may_choose(
        &self,
        row: &TransactionRow,
        index: Option<i32>,
        representation: Option<RepresentationId>,
    ) -> Result<(), Refusal> {
        if row.state_at(self.now()) == State::Consumed {
            // The command says why not, or knows the request id.
            return Ok(());
        }
        // The session is made of what is read here: of one that is VERIFIED only later it would lack when and by what.
        row.require_verified(Purpose::Login, self.now())?;
        let account = chosen(row, index)?;
        if let Some(id) = representation {
            let (represented, principal) = self.represented(id, account).await?;
            in_force(&represented, self.now())?;
            row.require_proved_after(represented.sessions_from)?;
            may_log_in(self.account_row(principal).await?.state())?;
        }
        may_enter(&self.account_row(account).await?, row)
    }

    /// An account that is there.
    async fn account_row(&self, account: AccountId) -> Result<AccountRow, Refusal> {
        let found = self.account(account, false).await?;
        found
            .map(|(shown, _)| shown.row)
            .ok_or_else(|| Reason::NotAvailable.into())
    }

    /// A session of generation 1, with its tokens while this is its first answer or an early repeat.
    pub(super) async fn opened_session(
        &self,
        id: SessionId,
        audiences: &[String],
        fresh: bool,
    ) -> Result<api::Session, Refusal> {
        let row = self
            .session(id)
            .await?
            .ok_or_else(|| broken("a session that was opened is not there"))?;
        let rotated = Rotated {
            generation: 1,
            made: Micros(row.create_time),
        };
        self.with_tokens(&row, rotated, audiences, fresh)
    }

    fn with_tokens(
        &self,
        row: &SessionRow,
        at: Rotated,
        audiences: &[String],
        fresh: bool,
    ) -> Result<api::Session, Refusal> {
        if !fresh && !may_repeat(at.made, self.now()) {
            return Ok(wire::session(row, Vec::new(), String::new()));
        }
        let mint = self.mint();
        let access = mint.access(row, at.generation, at.made, audiences)?;
        let refresh = match row.id() {
            Some(id) if row.participant.is_empty() => mint.refresh(id, at.generation),
            _ => String::new(),
        };
        Ok(wire::session(row, access, refresh))
    }

    pub(crate) async fn refresh_session(
        &self,
        caller: &Caller,
        request: api::RefreshSessionRequest,
    ) -> Result<api::Session, Refusal> {
        let key = self.request::<Refresh>(caller, &request.request_id, &request);
        let mut v = Violations::new();
        wire::audiences(&mut v, &request.audiences);
        if request.refresh_token.is_empty() || request.refresh_token.len() > 256 {
            v.add("refresh_token", "required: the refresh token of the last answer");
        }
        let (key, ()) = Refusal::both(key, v.check())?;
        let (session, generation) = self.mint().read_refresh(&request.refresh_token).ok_or_else(expired)?;
        let before = self.session(session).await?.ok_or_else(expired)?;
        if let Some(acting) = before.representing() {
            // The principal's account is read under the lock; who acts for her lives elsewhere.
            may_log_in(self.account_row(acting.representative).await?.state())?;
        }
        let refresh = Refresh {
            caller: caller.clone(),
            session,
            generation,
            account: before.subject().map(AccountId::to_vec).unwrap_or_default(),
        };
        let outcome = self.store.run(refresh, Some(key)).await;
        let outcome = self.known_if_reused(session, outcome)?;
        let (rotated, fresh) = match outcome {
            Outcome::Fresh(rotated) => (rotated, true),
            Outcome::Known(bytes) => (
                Rotated::from_bytes(&bytes).ok_or_else(|| broken("an outcome without generation"))?,
                false,
            ),
        };
        if !fresh && !may_repeat(rotated.made, self.now()) {
            let end = EndReused {
                caller: caller.clone(),
                session,
            };
            let ended = self.store.apply(end).await;
            self.known_if_reused(session, ended)?;
        }
        let row = self.session(session).await?.ok_or_else(expired)?;
        self.with_tokens(&row, rotated, &request.audiences, fresh)
    }

    /// A session that ended by the reuse of a token is known to have ended at once: if it did, not if storage failed.
    pub(crate) fn known_if_reused<T>(&self, session: SessionId, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        if matches!(&outcome, Err(refusal) if refusal.reason == Reason::RefreshReused) {
            self.facts.end(&[session], self.now());
        }
        outcome
    }

    pub(crate) async fn revoke_sessions(
        &self,
        caller: &Caller,
        request: api::RevokeSessionsRequest,
    ) -> Result<api::RevokeSessionsResponse, Refusal> {
        let key = self.request::<Revoke>(caller, &request.request_id, &request);
        let (key, (slot, which)) = Refusal::both(key, self.which(caller, &request).await)?;
        let before = match &which {
            // Of a participant they may be many. A repeat ends nothing that began since.
            Which::AllOf(holder)
                if ParticipantId::parse_name(holder).is_ok() && self.store.known(&key).await?.is_none() =>
            {
                self.end_all(caller, slot, holder.clone()).await?
            }
            _ => 0,
        };
        let revoke = Revoke {
            caller: caller.clone(),
            slot,
            which,
            before,
        };
        let count = match self.store.run(revoke, Some(key)).await? {
            Outcome::Fresh(Revoked { ended, count }) => {
                self.facts.end(&ended, self.now());
                count
            }
            Outcome::Known(bytes) => bytes
                .try_into()
                .map(u32::from_be_bytes)
                .map_err(|_| broken("an outcome without count"))?,
        };
        Ok(api::RevokeSessionsResponse {
            revoked_count: i32::try_from(count).unwrap_or(i32::MAX),
        })
    }

    /// Ends all sessions of a holder in as many commits as it takes; tells how many there were.
    pub(super) async fn end_all(&self, caller: &Caller, slot: Slot, holder: String) -> Result<usize, Refusal> {
        let ended = end_all(&self.store, caller, slot, holder).await?;
        self.facts.end(&ended, self.now());
        Ok(ended.len())
    }

    async fn which(&self, caller: &Caller, request: &api::RevokeSessionsRequest) -> Result<(Slot, Which), Refusal> {
        let mut v = Violations::new();
        if request.names.is_empty() == request.all_of.is_empty() {
            v.add("names", "set either names or all_of");
        }
        if request.names.len() > 100 {
            v.add("names", "at most 100");
        }
        let ids: Vec<Option<SessionId>> = request.names.iter().map(|n| wire::named(&mut v, "names", n)).collect();
        let holder = holder_slot(&request.all_of);
        if !request.all_of.is_empty() && holder.is_none() {
            v.add(
                "all_of",
                "must be accounts/{id}, participants/{id} or representations/{id}",
            );
        }
        v.check()?;
        if let Some(slot) = holder {
            policy::may_end_all_of(caller, &request.all_of)?;
            return Ok((slot, Which::AllOf(request.all_of.clone())));
        }
        let ids: BTreeSet<SessionId> = ids.into_iter().flatten().collect();
        let slot = ids.first().map(SessionId::slot).ok_or(Reason::Internal)?;
        if ids.iter().any(|id| id.slot() != slot) {
            return Err(self.of_several(caller, ids).await?);
        }
        Ok((slot, Which::Named(ids.into_iter().collect())))
    }

    /// What sessions of different slots are refused with: they cannot be one holder's, and nobody may tell more from
    /// the refusal than from that of an absent one.
    async fn of_several(&self, caller: &Caller, ids: BTreeSet<SessionId>) -> Result<Refusal, Refusal> {
        for id in ids {
            match self.session(id).await? {
                Some(row) if policy::may_end(caller, &row).is_ok() => {}
                _ => return Ok(policy::unavailable(caller)),
            }
        }
        Ok(several_holders())
    }

    pub(crate) async fn exchange_token(
        &self,
        caller: &Caller,
        request: api::ExchangeTokenRequest,
    ) -> Result<api::AccessToken, Refusal> {
        let Peer::Service(service) = &caller.peer else {
            return Err(Reason::CallerKind.into());
        };
        let mut v = Violations::new();
        if !ACTS_AT.contains(&(service.as_str(), request.audience.as_str())) {
            v.add(
                "audience",
                "must be \"identity\", or \"audit\" if the caller is consent: a service acts nowhere else",
            );
        }
        if request.token.is_empty() || request.token.len() > jws::MAX_TOKEN {
            v.add("token", "required: the access token that the service received");
        }
        v.check()?;
        let missing = |why: &'static str| Refusal::new(Reason::TokenMissing).saying(why);
        let claims = token::read(&request.token, |kid| self.keys.find(kid))
            .map_err(|_| missing("the token is not one of ours"))?;
        if claims.aud != *service {
            return Err(missing("the token is for another service"));
        }
        if claims.act.is_some() {
            return Err(missing("the token is an actor's already; nobody acts for one who acts"));
        }
        let now = self.now();
        if !claims.is_live(now) {
            return Err(Reason::TokenExpired.into());
        }
        if !self.is_live(&claims, now).await? {
            return Err(Reason::TokenRevoked.into());
        }
        self.mint().actor(&claims, service, &request.audience, now)
    }

    /// Whether the session of a token has not ended, by the database: facts in memory may be a moment old.
    async fn is_live(&self, claims: &token::Claims, now: Micros) -> Result<bool, Refusal> {
        use sammati_server::authn::TokenFacts;
        let Some(session) = claims.session().filter(|_| !self.facts.ended(claims)) else {
            return Ok(false);
        };
        // Another replica may have made it, whose clock is as far ahead of the database's as this one's is behind.
        let latest = now.plus(2 * SKEW).0;
        Ok(self
            .session(session)
            .await?
            .is_some_and(|row| row.is_live(now) && row.create_time <= latest))
    }

    pub(crate) fn list_keys(
        &self,
        caller: &Caller,
        request: &api::ListKeysRequest,
    ) -> Result<api::ListKeysResponse, Refusal> {
        let query = api::ListKeysRequest::default();
        let page = self
            .pages
            .page(caller, "ListKeys", &query, request.page_size, &request.page_token)?;
        let all = self.keys.list();
        let after = page.after.as_deref();
        let begin = after.map_or(0, |kid| {
            all.iter()
                .position(|k| k.kid.as_bytes() == kid)
                .map_or(all.len(), |at| at + 1)
        });
        let keys: Vec<_> = all.iter().skip(begin).take(page.size).cloned().collect();
        let more = begin + keys.len() < all.len();
        let next_page_token = match keys.last() {
            Some(last) if more => page
                .next(last.kid.as_bytes())
                .map_err(|_| Refusal::new(Reason::Internal))?,
            _ => String::new(),
        };
        Ok(api::ListKeysResponse { keys, next_page_token })
    }
}

/// Where the sessions of `accounts/{id}`, `participants/{id}` or `representations/{id}` live.
fn holder_slot(name: &str) -> Option<Slot> {
    let account = AccountId::parse_name(name).map(|id| id.slot());
    let account = account.or_else(|| RepresentationId::parse_name(name).map(|id| id.slot()));
    account.or_else(|| {
        ParticipantId::parse_name(name)
            .ok()
            .map(|id| Slot::of_participant(id.as_str()))
    })
}
