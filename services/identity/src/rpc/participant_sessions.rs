//! CreateParticipantSession: a participant proves itself by its certificate, or by an assertion signed with its key.

use std::collections::BTreeSet;

use sammati_api::identity::v1 as api;
use sammati_kernel::{Caller, ParticipantId, Peer, Reason, Refusal, Role, SessionId, Violations, jws};
use sammati_server::event::micros;
use sammati_store::{ClaimKey, Command, Outcome};
use serde::Deserialize;

use crate::rows::ParticipantRow;
use crate::service::Inner;
use crate::session::OpenParticipantSession;
use crate::vault::broken;
use crate::wire;

/// How old an assertion may be, and how far its clock may be ahead.
const ASSERTION: i64 = 60;

/// What the connection proves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificate {
    /// Its SPIFFE URI.
    pub(crate) spiffe_id: Option<String>,
    /// base64url of its SHA-256.
    pub(crate) x5t_s256: Option<String>,
}

/// The claims of a participant's assertion (RFC 7523).
#[derive(Deserialize)]
struct Assertion {
    iss: String,
    sub: String,
    aud: String,
    jti: String,
    iat: i64,
}

impl Inner {
    pub(crate) async fn create_participant_session(
        &self,
        peer: &Peer,
        certificate: Certificate,
        request: api::CreateParticipantSessionRequest,
    ) -> Result<api::Session, Refusal> {
        let mut v = Violations::new();
        let participant = wire::participant_named(&mut v, "participant", &request.participant);
        let roles: BTreeSet<Role> = wire::roles(&mut v, "roles", &request.roles).into_iter().collect();
        wire::audiences(&mut v, &request.audiences);
        if request.client_assertion.len() > 4096 {
            v.add("client_assertion", "at most 4096 characters");
        }
        // Scoped to the participant, whoever asks for it.
        let scope = participant.as_ref().map(ParticipantId::name).unwrap_or_default();
        let key = self
            .store
            .request(&scope, OpenParticipantSession::NAME, &request.request_id, &request);
        let (key, ()) = Refusal::both(key, v.check())?;
        let participant = wire::present(participant)?;
        let row = self.participant(&participant).await?.ok_or_else(not_proved)?;
        let assertion = self.proved(&row, &participant, &certificate, &request.client_assertion)?;
        let bound = certificate
            .x5t_s256
            .ok_or_else(|| not_proved().saying("connect with a client certificate: the tokens are bound to it"))?;
        let caller = Caller {
            peer: peer_of(peer, &participant),
            actor: None,
        };
        let open = OpenParticipantSession {
            caller,
            participant,
            roles,
            certificate: bound,
            assertion,
        };
        let (id, fresh) = match self.store.run(open, Some(key)).await? {
            Outcome::Fresh(id) => (id, true),
            Outcome::Known(bytes) => (
                SessionId::from_slice(&bytes).ok_or_else(|| broken("an outcome without id"))?,
                false,
            ),
        };
        self.opened_session(id, &request.audiences, fresh).await
    }

    /// Whether it is the participant that asks; the claim of an assertion's id, if that was the proof.
    fn proved(
        &self,
        row: &ParticipantRow,
        id: &ParticipantId,
        certificate: &Certificate,
        assertion: &str,
    ) -> Result<Option<ClaimKey>, Refusal> {
        let resource = row.resource.as_ref().ok_or_else(not_proved)?;
        let by_certificate =
            !resource.spiffe_id.is_empty() && certificate.spiffe_id.as_ref() == Some(&resource.spiffe_id);
        if by_certificate {
            return Ok(None);
        }
        let now = self.now();
        let find = |kid: &str| {
            let key = resource.keys.iter().find(|key| key.kid == kid)?;
            let from = key.from_time.as_ref().and_then(micros).is_none_or(|from| from <= now);
            let to = key.to_time.as_ref().and_then(micros).is_none_or(|to| now < to);
            (from && to).then(|| jws::PublicKey::from_jwk(&key.jwk)).flatten()
        };
        let claims: Assertion = jws::verify(assertion, "JWT", find).map_err(|_| not_proved())?;
        let age = now.seconds().saturating_sub(claims.iat);
        let good = claims.iss == id.name() && claims.sub == id.name() && claims.aud == "identity";
        if !good || !(1..=128).contains(&claims.jti.len()) || !(-5..=ASSERTION).contains(&age) {
            return Err(not_proved());
        }
        Ok(Some(self.lookup.assertion(id, &claims.jti)))
    }
}

/// The participant is who acts, whatever else its certificate says.
fn peer_of(peer: &Peer, participant: &ParticipantId) -> Peer {
    match peer {
        Peer::Participant(_) | Peer::Anonymous => Peer::Participant(participant.clone()),
        other => other.clone(),
    }
}

/// Unknown, not proved, and proved badly are one.
fn not_proved() -> Refusal {
    Refusal::new(Reason::AssertionInvalid)
        .saying("connect with the participant's client certificate, or send a fresh client_assertion signed with one of its keys")
}
