//! What proves a session? Tokens derived from its row, so that none is kept and a repeat derives the same ones.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use sammati_api::identity::v1::AccessToken;
use sammati_kernel::{Key, Micros, Reason, Refusal, Seed, SessionId};
use sammati_server::event::timestamp;
use sammati_server::token::{self, Acting, Claims, Confirmation, Representative};

use crate::keyring::KeyRing;
use crate::lookup::Lookup;
use crate::rows::SessionRow;
use crate::vault::broken;

/// How long an access token is good.
pub(crate) const ACCESS: Duration = Duration::from_secs(300);

/// How long an actor token is good.
pub(crate) const ACTOR: Duration = Duration::from_secs(60);

/// How long a repeat of a call still gets the tokens.
pub(crate) const REPEAT: Duration = Duration::from_secs(30);

/// The services that accept tokens.
pub(crate) const AUDIENCES: [&str; 3] = ["identity", "consent", "audit"];

/// Which service may act for others, and where.
pub(crate) const ACTS_AT: [(&str, &str); 3] = [("consent", "identity"), ("consent", "audit"), ("audit", "identity")];

/// Makes tokens.
pub(crate) struct Mint<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) keys: &'a KeyRing,
    pub(crate) lookup: &'a Lookup,
}

impl Mint<'_> {
    /// The access tokens of a generation that was made at `made`.
    pub(crate) fn access(
        &self,
        row: &SessionRow,
        generation: i64,
        made: Micros,
        audiences: &[String],
    ) -> Result<Vec<AccessToken>, Refusal> {
        let token = |audience: &String| self.sign(&self.claims(row, generation, made, audience));
        audiences.iter().map(token).collect()
    }

    /// The refresh token of a generation.
    pub(crate) fn refresh(&self, session: SessionId, generation: i64) -> String {
        let proof = self.lookup.refresh(session.as_bytes(), generation);
        format!("r1.{session}.{generation}.{}", B64.encode(proof))
    }

    /// Reads a refresh token that we made.
    pub(crate) fn read_refresh(&self, text: &str) -> Option<(SessionId, i64)> {
        let mut parts = text.strip_prefix("r1.")?.split('.');
        let session: SessionId = parts.next()?.parse().ok()?;
        let generation: i64 = parts.next()?.parse().ok()?;
        let proof = B64.decode(parts.next()?).ok()?;
        // Hashed again, so that the time of the comparison tells nothing of the proof.
        let blind = Key::from_bytes([0; 32]);
        let right =
            blind.mac("refresh", &self.lookup.refresh(session.as_bytes(), generation)) == blind.mac("refresh", &proof);
        (right && parts.next().is_none()).then_some((session, generation))
    }

    /// The token with which `service` may act at `audience` for whom `claims` stand for.
    pub(crate) fn actor(
        &self,
        claims: &Claims,
        service: &str,
        audience: &str,
        now: Micros,
    ) -> Result<AccessToken, Refusal> {
        let id = Seed::draw()
            .map_err(|_| broken("the system has no randomness to give"))?
            .bytes("token id");
        self.sign(&Claims {
            iss: self.issuer.to_owned(),
            aud: audience.to_owned(),
            iat: now.seconds(),
            nbf: None,
            exp: now.plus(ACTOR).seconds(),
            jti: token_id(&id),
            // The certificate it was bound to is the holder's; this one is bound to the service instead.
            cnf: None,
            act: Some(Acting {
                sub: format!("services/{service}"),
            }),
            ..claims.clone()
        })
    }

    fn claims(&self, row: &SessionRow, generation: i64, made: Micros, audience: &str) -> Claims {
        let person = row.participant.is_empty();
        let acting = row.representing();
        Claims {
            iss: self.issuer.to_owned(),
            aud: audience.to_owned(),
            sub: row.holder(),
            sid: row.id().map(|id| id.to_string()),
            roles: row.roles.clone(),
            app: (!row.app.is_empty()).then(|| row.app.clone()),
            auth_time: person.then(|| Micros(row.auth_time).seconds()),
            iat: made.seconds(),
            nbf: None,
            exp: made.plus(ACCESS).seconds(),
            jti: token_id(&self.lookup.token_id(&row.id, generation, audience)),
            cnf: (!row.certificate.is_empty()).then(|| Confirmation {
                x5t_s256: row.certificate.clone(),
            }),
            act: None,
            rep: acting.as_ref().map(Representative::of),
        }
    }

    fn sign(&self, claims: &Claims) -> Result<AccessToken, Refusal> {
        let token = token::issue(self.keys.active(), claims).map_err(|_| Refusal::new(Reason::Internal))?;
        let expire_time = Some(timestamp(Micros::from_seconds(claims.exp)));
        Ok(AccessToken {
            audience: claims.aud.clone(),
            token,
            expire_time,
        })
    }
}

/// Whether a repeat at `now` of a call that made tokens at `made` still gets them.
pub(crate) fn may_repeat(made: Micros, now: Micros) -> bool {
    now < made.plus(REPEAT)
}

fn token_id(hash: &[u8; 32]) -> String {
    B64.encode(&hash[..16])
}
