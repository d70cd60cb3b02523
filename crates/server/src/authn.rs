//! Who is asking? The peer by its certificate, the actor by the bearer token, together a [`Caller`].

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Request, Response, header};
use quick_cache::sync::Cache;
use sammati_api::identity::v1::participant;
use sammati_kernel::jws::{Bad, PublicKey};
use sammati_kernel::{Actor, Caller, Clock, ParticipantId, Peer, Reason, Refusal, Secret};
use tonic::body::Body;

use crate::authz::{Rule, same_participant};
use crate::body;
use crate::error;
use crate::layer::{Around, Inner};
use crate::rate::{Allowance, Rates};
use crate::tls::Connection;
use crate::token::{self, Claims};

/// How many verified tokens are remembered, so that each is verified once and not at every call.
const REMEMBERED: usize = 16 * 1024;

/// Whether the tokens of a participant in this state are good no more. PENDING comes only before the first of them: whoever
/// still has it so and is shown one is behind.
pub const fn is_out(state: participant::State) -> bool {
    use participant::State;
    !matches!(state, State::Active | State::Pending)
}

/// What a token is judged by beside itself.
pub trait TokenFacts: Send + Sync + 'static {
    /// The key with this id, if tokens verify with it now.
    fn key(&self, kid: &str) -> Option<PublicKey>;

    /// Who makes the tokens, as in `iss`; `None` where that is not known: then their signature alone says it.
    fn issuer(&self) -> Option<&str> {
        None
    }

    /// Whether what the token stands on has ended: its session, its participant, its account.
    fn ended(&self, claims: &Claims) -> bool;

    /// Refuses when the facts are too old to judge by.
    ///
    /// # Errors
    /// [`Reason::IdentityStale`].
    fn fresh(&self) -> Result<(), Refusal> {
        Ok(())
    }

    /// How often this participant may call, as far as its row says.
    fn rates(&self, _: &ParticipantId) -> Rates {
        Rates::default()
    }
}

/// Facts of a service that takes no tokens at all.
#[derive(Debug, Clone, Copy)]
pub struct NoTokens;

impl TokenFacts for NoTokens {
    fn key(&self, _: &str) -> Option<PublicKey> {
        None
    }

    fn ended(&self, _: &Claims) -> bool {
        true
    }
}

/// A token that was found good, in the extensions of the request that carries it.
#[derive(Debug)]
pub struct AccessToken {
    /// As it came.
    pub raw: Secret<String>,
    /// What it says.
    pub claims: Claims,
    actor: Actor,
    /// The key that it was verified with.
    kid: String,
    /// What its participant may still ask, once it has called.
    pub(crate) allowance: OnceLock<Arc<Allowance>>,
}

impl AccessToken {
    /// Whose own it is, if it is a participant's.
    pub(crate) const fn participant(&self) -> Option<&ParticipantId> {
        match &self.actor {
            Actor::Participant { id, .. } => Some(id),
            Actor::Person { .. } | Actor::Representative(_) => None,
        }
    }
}

/// The layer.
#[derive(Clone)]
pub(crate) struct Authenticate(Arc<Judge>);

struct Judge {
    audience: &'static str,
    clock: Arc<dyn Clock>,
    facts: Arc<dyn TokenFacts>,
    /// By the SHA-256 of the token, so that no token lies in a map.
    verified: Cache<[u8; 32], Arc<AccessToken>>,
}

impl Authenticate {
    /// Tokens are good whose audience is `audience`.
    pub(crate) fn new(audience: &'static str, clock: Arc<dyn Clock>, facts: Arc<dyn TokenFacts>) -> Self {
        Self(Arc::new(Judge {
            audience,
            clock,
            facts,
            verified: Cache::new(REMEMBERED),
        }))
    }

    /// Whether a call carries a token that was verified before and is good. Costs next to nothing.
    pub(crate) fn knows(&self, headers: &HeaderMap, connection: &Connection) -> bool {
        let raw = bearer(headers).ok().flatten();
        raw.is_some_and(|raw| self.0.verified.peek(&hash(raw)).is_some() && self.0.judge(raw, connection).is_ok())
    }

    /// Whether a call carries a token that is good, which is verified if it was not before.
    pub(crate) fn verifies(&self, headers: &HeaderMap, connection: &Connection) -> bool {
        let raw = bearer(headers).ok().flatten();
        raw.is_some_and(|raw| self.0.judge(raw, connection).is_ok())
    }
}

impl Around for Authenticate {
    async fn around<S: Inner>(self, mut inner: S, mut request: Request<Body>) -> Response<Body> {
        let token = match self.0.authenticate(&mut request) {
            Ok(token) => token,
            Err(refusal) => return error::answer(refusal),
        };
        let streaming = request
            .extensions()
            .get::<Arc<Rule>>()
            .is_some_and(|rule| rule.streaming);
        let response = inner.ask(request).await;
        match token {
            // A stream ends with its credential: every message asks again.
            Some(token) if streaming => {
                response.map(|stream| body::checked(stream, move || self.0.still_good(&token.claims)))
            }
            _ => response,
        }
    }
}

impl Judge {
    /// Puts the caller, and the token if there is one, into the request's extensions.
    fn authenticate(&self, request: &mut Request<Body>) -> Result<Option<Arc<AccessToken>>, Refusal> {
        let connection = request
            .extensions()
            .get::<Arc<Connection>>()
            .cloned()
            .ok_or(Reason::Internal)?;
        let token = match bearer(request.headers())? {
            Some(raw) => Some(self.judge(raw, &connection)?),
            None => None,
        };
        let caller = Caller {
            peer: connection.peer.clone(),
            actor: token.as_ref().map(|t| t.actor.clone()),
        };
        tracing::Span::current().record("caller.id", caller.id());
        request.extensions_mut().insert(caller);
        if let Some(token) = &token {
            request.extensions_mut().insert(token.clone());
        }
        Ok(token)
    }

    fn judge(&self, raw: &str, connection: &Connection) -> Result<Arc<AccessToken>, Refusal> {
        let token = self.verified(raw)?;
        self.still_good(&token.claims)?;
        self.held_by(&token, connection)?;
        Ok(token)
    }

    /// The token's form, signature, audience and issuer: what cannot change while it lives.
    fn verified(&self, raw: &str) -> Result<Arc<AccessToken>, Refusal> {
        let hash = hash(raw);
        if let Some(known) = self.verified.get(&hash) {
            // A key that was withdrawn takes its tokens along, remembered ones too.
            let withdrawn = self.facts.key(&known.kid).is_none();
            return if withdrawn { Err(self.unknown_key()) } else { Ok(known) };
        }
        let claims = token::read(raw, |kid| self.facts.key(kid)).map_err(|bad| match bad {
            Bad::UnknownKey => self.unknown_key(),
            Bad::Form | Bad::Kind | Bad::Signature => Reason::TokenMissing.into(),
        })?;
        if claims.aud != self.audience {
            return Err(Refusal::new(Reason::TokenMissing).saying("the token is for another service"));
        }
        if self.facts.issuer().is_some_and(|issuer| claims.iss != issuer) {
            return Err(Refusal::new(Reason::TokenMissing).saying("the token was made by somebody else"));
        }
        let actor = claims.actor().ok_or(Reason::TokenMissing)?;
        let kid = sammati_kernel::jws::header_of(raw)
            .map_err(|_| Reason::TokenMissing)?
            .kid;
        let token = Arc::new(AccessToken {
            raw: raw.to_owned().into(),
            claims,
            actor,
            kid,
            allowance: OnceLock::new(),
        });
        if token.claims.is_live(self.clock.now()) {
            self.verified.insert(hash, token.clone());
        }
        Ok(token)
    }

    /// A key may be unknown only because identity was not heard of for too long.
    fn unknown_key(&self) -> Refusal {
        self.facts.fresh().err().unwrap_or_else(|| Reason::TokenMissing.into())
    }

    /// What can change while the token lives.
    fn still_good(&self, claims: &Claims) -> Result<(), Refusal> {
        if !claims.is_live(self.clock.now()) {
            return Err(Reason::TokenExpired.into());
        }
        self.facts.fresh()?;
        if self.facts.ended(claims) {
            return Err(Reason::TokenRevoked.into());
        }
        Ok(())
    }

    /// Whether whoever holds the connection may hold this token.
    fn held_by(&self, token: &AccessToken, connection: &Connection) -> Result<(), Refusal> {
        let claims = &token.claims;
        let bound = claims
            .cnf
            .as_ref()
            .is_none_or(|cnf| connection.x5t_s256().as_ref() == Some(&cnf.x5t_s256));
        let acting = match (&claims.act, &connection.peer) {
            // An actor token is good from its service alone.
            (Some(act), Peer::Service(name)) => act.sub.strip_prefix("services/") == Some(name),
            (Some(_), _) => false,
            // A service never forwards a token that it received: it has one made for it.
            (None, Peer::Service(_)) => false,
            (None, _) => true,
        };
        if bound && acting && same_participant(&connection.peer, &token.actor) {
            Ok(())
        } else {
            Err(Refusal::new(Reason::TokenMissing)
                .saying("the token belongs to another certificate than the connection's"))
        }
    }
}

fn hash(raw: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, raw.as_bytes()).as_ref());
    hash
}

/// The token of `authorization: Bearer`; `None` without the header, a refusal for any other use of it.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(Reason::TokenMissing)?;
    if values.next().is_some() || !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Reason::TokenMissing.into());
    }
    Ok(Some(token.trim_start_matches(' ')))
}
