//! What does an access token say? The claims of an `at+jwt` (RFC 9068), signed with EdDSA.

use sammati_kernel::jws::{self, PublicKey, SigningKey};
use sammati_kernel::{AccountId, Actor, Micros, ParticipantId, Role, SessionId};
use serde::{Deserialize, Serialize};

/// The kind of token, in its header's `typ`.
pub const TYP: &str = "at+jwt";

/// The claims. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it: the URL or name of identity.
    pub iss: String,
    /// The one service that accepts it: `identity`, `consent` or `audit`.
    pub aud: String,
    /// Whom it stands for: `accounts/{id}` or `participants/{id}`.
    pub sub: String,
    /// The id of the session it belongs to, without its collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The roles a participant acts in, as in `HIP`; empty for a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The app a person logged in through, `participants/{id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// When the person last proved who she is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// When it was made.
    pub iat: i64,
    /// Before when it is not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// From when it is not good.
    pub exp: i64,
    /// Its own id.
    pub jti: String,
    /// The client certificate it is bound to (RFC 8705).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// The service that acts with it, and the only one that may (RFC 8693).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Acting>,
}

/// `cnf`: what the holder must show besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// base64url of the SHA-256 of the client certificate's DER.
    #[serde(rename = "x5t#S256")]
    pub x5t_s256: String,
}

/// `act`: who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acting {
    /// `services/{name}`.
    pub sub: String,
}

impl Claims {
    /// Whom the token stands for; `None` when the claims contradict each other.
    pub fn actor(&self) -> Option<Actor> {
        if let Ok(id) = ParticipantId::parse_name(&self.sub) {
            let roles = self.roles.iter().map(|r| Role::parse(r)).collect::<Option<_>>()?;
            return Some(Actor::Participant { id, roles });
        }
        let account = AccountId::parse_name(&self.sub)?;
        let app = match &self.app {
            Some(name) => Some(ParticipantId::parse_name(name).ok()?),
            None => None,
        };
        Some(Actor::Person {
            account,
            session: self.session()?,
            app,
            auth_time: self.auth_time?,
        })
    }

    /// The session it belongs to.
    pub fn session(&self) -> Option<SessionId> {
        self.sid.as_deref()?.parse().ok()
    }

    /// Whether it is good at `now`, as far as time goes.
    pub fn is_live(&self, now: Micros) -> bool {
        now < Micros::from_seconds(self.exp) && self.nbf.is_none_or(|nbf| now >= Micros::from_seconds(nbf))
    }
}

/// Makes the token that says `claims`.
///
/// # Errors
/// When the claims cannot be written as JSON.
pub fn issue(key: &SigningKey, claims: &Claims) -> Result<String, serde_json::Error> {
    key.sign(TYP, claims)
}

/// Reads a token that is signed with a key that `find` knows. Says nothing about time, audience or holder.
///
/// # Errors
/// What is wrong with its form or signature.
pub fn read(token: &str, find: impl Fn(&str) -> Option<PublicKey>) -> Result<Claims, jws::Bad> {
    jws::verify(token, TYP, find)
}
