//! What does an action token say? That somebody proved, a moment ago and for one call alone, that she is there: the claims
//! of an `action+jwt`, signed by identity with EdDSA, and how the service that is called judges them.

use std::time::Duration;

use prost::Message;
use sammati_kernel::jws::{self, PublicKey, SigningKey};
use sammati_kernel::{Caller, Reason, Refusal, hex};
use serde::{Deserialize, Serialize};

/// The kind of token, in its header's `typ`.
pub const TYP: &str = "action+jwt";

/// How long one is good.
pub const LIFE: Duration = Duration::from_secs(120);

/// The claims. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionClaims {
    /// Who made it: the URL or name of identity.
    pub iss: String,
    /// The one service that accepts it: that of the method.
    pub aud: String,
    /// Who calls, as `Caller::id`.
    pub sub: String,
    /// In which session, its id without its collection.
    pub sid: String,
    /// When it was made.
    pub iat: i64,
    /// From when it is not good.
    pub exp: i64,
    /// Its own id: it is used once.
    pub jti: String,
    /// The method's full name, `package.Service/Method`.
    pub method: String,
    /// What the call is about.
    pub resource: String,
    /// The digest of its content, as [`digest`] makes it.
    pub body_sha256: String,
}

/// One call that may need a token.
#[derive(Debug)]
pub struct Call<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// The service that is called.
    pub audience: &'static str,
    /// The method's full name, `package.Service/Method`.
    pub method: &'static str,
    /// What it is about.
    pub resource: &'a str,
    /// The digest of its content.
    pub body_sha256: String,
}

/// Makes the token that says `claims`.
///
/// # Errors
/// When the claims cannot be written as JSON.
pub fn issue(key: &SigningKey, claims: &ActionClaims) -> Result<String, serde_json::Error> {
    key.sign(TYP, claims)
}

/// The SHA-256 of a request whose request id and token were taken out, as 64 lower-case hexadecimal digits.
pub fn digest(message: &impl Message) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, &message.encode_to_vec());
    hex(hash.as_ref())
}

/// The service that a method belongs to, as `consent` of `sammati.consent.v1.ConsentService/RevokeConsents`; `None` when it
/// is no method's full name.
pub fn service_of(method: &str) -> Option<&str> {
    let (service, name) = method.split_once('/')?;
    let mut parts = service.split('.');
    let (root, package, version, service) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic());
    let known = root == "sammati" && version == "v1" && parts.next().is_none();
    (known && [package, service, name].into_iter().all(word)).then_some(package)
}

impl Call<'_> {
    /// Reads the token that came with this call. Everything is judged here but whether it is over or was used: that is for
    /// the commit that uses it up.
    ///
    /// # Errors
    /// STEP_UP_REQUIRED, saying what the token is not.
    pub fn read(&self, token: &str, find: impl Fn(&str) -> Option<PublicKey>) -> Result<ActionClaims, Refusal> {
        let claims: ActionClaims =
            jws::verify(token, TYP, find).map_err(|_| wrong("the action token is not one that identity made"))?;
        let session = self.caller.session().map(|session| session.to_string());
        if claims.aud != self.audience || claims.method != self.method {
            return Err(wrong("the action token was made for another method"));
        }
        if claims.sub != self.caller.id() || Some(&claims.sid) != session.as_ref() {
            return Err(wrong("the action token was made for another caller or session"));
        }
        if claims.resource != self.resource {
            return Err(wrong("the action token was made for another resource"));
        }
        if claims.body_sha256 != self.body_sha256 {
            return Err(wrong("the action token was made for another content of this call"));
        }
        Ok(claims)
    }
}

/// A token that does not do.
pub fn wrong(why: &'static str) -> Refusal {
    Refusal::new(Reason::StepUpRequired).saying(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::Ed25519KeyPair;
    use sammati_kernel::{AccountId, Actor, Micros, Peer, SessionId, Slot};

    const METHOD: &str = "sammati.consent.v1.ConsentService/RevokeConsents";

    fn she(n: u8) -> Caller {
        let actor = Actor::Person {
            account: AccountId::new(Micros(1), Slot::new(1), [1; 8]),
            session: SessionId::new(Micros(1), Slot::new(1), [n; 8]),
            app: None,
            auth_time: 0,
        };
        Caller {
            peer: Peer::Anonymous,
            actor: Some(actor),
        }
    }

    fn call(caller: &Caller) -> Call<'_> {
        Call {
            caller,
            audience: "consent",
            method: METHOD,
            resource: "consents/1",
            body_sha256: digest(&1_i32),
        }
    }

    fn key() -> SigningKey {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap()
    }

    fn claims(caller: &Caller) -> ActionClaims {
        ActionClaims {
            iss: "identity".into(),
            aud: "consent".into(),
            sub: caller.id(),
            sid: caller.session().unwrap().to_string(),
            iat: 5,
            exp: 125,
            jti: "1".into(),
            method: METHOD.into(),
            resource: "consents/1".into(),
            body_sha256: digest(&1_i32),
        }
    }

    #[test]
    fn a_token_is_for_the_call_it_names_and_for_no_other() {
        let (key, her) = (key(), she(1));
        let read = |claims: &ActionClaims| {
            let token = issue(&key, claims).unwrap();
            call(&her).read(&token, |kid| (kid == key.kid()).then(|| key.public()))
        };
        assert_eq!(read(&claims(&her)).unwrap(), claims(&her));
        let change: [fn(&mut ActionClaims); 6] = [
            |c| c.aud = "audit".into(),
            |c| c.method = "sammati.consent.v1.ConsentService/PauseConsent".into(),
            |c| c.sub = "accounts/2".into(),
            |c| c.sid = claims(&she(2)).sid,
            |c| c.resource = "consents/2".into(),
            |c| c.body_sha256 = digest(&2_i32),
        ];
        for change in change {
            let mut other = claims(&her);
            change(&mut other);
            assert_eq!(read(&other).unwrap_err().reason, Reason::StepUpRequired, "{other:?}");
        }
    }

    #[test]
    fn an_access_token_and_a_strangers_signature_are_no_action_token() {
        let (ours, theirs, her) = (key(), key(), she(1));
        let find = |kid: &str| (kid == ours.kid()).then(|| ours.public());
        let access = ours.sign(crate::token::TYP, &claims(&her)).unwrap();
        for token in [access, issue(&theirs, &claims(&her)).unwrap(), "x".into()] {
            assert_eq!(
                call(&her).read(&token, find).unwrap_err().reason,
                Reason::StepUpRequired
            );
        }
    }

    #[test]
    fn a_method_names_its_service() {
        assert_eq!(service_of(METHOD), Some("consent"));
        for bad in [
            "",
            "sammati.consent.v1.ConsentService",
            "a.consent.v1.C/R",
            "sammati.consent.v2.C/R",
            "sammati.consent.v1.C.D/R",
            "sammati..v1.C/R",
            "sammati.consent.v1.C/",
        ] {
            assert_eq!(service_of(bad), None, "{bad}");
        }
    }
}
