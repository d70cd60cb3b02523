//! The link token: says to us, and to nobody else, which person a provider may link records to.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use sammati_kernel::jws::{self, Bad};
use sammati_kernel::{AccountId, Key, Micros, ParticipantId, Reason, Refusal};
use serde::{Deserialize, Serialize};

use crate::artefact::ArtefactKeys;

/// The `typ` of a link token.
pub const TYP: &str = "link-token+jwt";

/// How long one works: 182.5 days.
pub const LIFE: Duration = Duration::from_secs(15_768_000);

/// The claims, in RFC 8785 order. The person stands in it sealed: a provider must not learn her account.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: String,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    sub: String,
}

/// What a token is made of; the same token again from the same parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// The person.
    pub account: AccountId,
    /// When it was issued.
    pub issued: Micros,
    /// Its id.
    pub id: [u8; 16],
}

impl Parts {
    /// When it stops working.
    pub fn expire(&self) -> Micros {
        self.issued.plus(LIFE)
    }

    /// As a request row keeps them.
    pub fn encode(&self) -> Vec<u8> {
        [
            self.account.as_bytes().as_slice(),
            &self.issued.0.to_be_bytes(),
            &self.id,
        ]
        .concat()
    }

    /// Reads them back.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (account, rest) = bytes.split_first_chunk::<16>()?;
        let (issued, id) = rest.split_first_chunk::<8>()?;
        Some(Self {
            account: AccountId::from_slice(account)?,
            issued: Micros(i64::from_be_bytes(*issued)),
            id: id.try_into().ok()?,
        })
    }
}

/// What a token says that is ours and was presented by its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented {
    /// The person.
    pub account: AccountId,
    /// When it stops working.
    pub expire: Micros,
}

impl Presented {
    /// Whether it still works. Asked when the command decides: a repeat is answered whatever the clock says by then.
    ///
    /// # Errors
    /// LINK_TOKEN_EXPIRED.
    pub fn check(&self, now: Micros) -> Result<(), Refusal> {
        if now < self.expire {
            return Ok(());
        }
        Err(Refusal::new(Reason::LinkTokenExpired)
            .saying("the link token is older than half a year; ask for a new one"))
    }
}

/// Makes and reads link tokens.
#[derive(Debug, Clone)]
pub struct LinkTokens {
    key: Key,
    issuer: String,
}

impl LinkTokens {
    /// Tokens of the consent manager `issuer`, persons sealed under a key derived from `key`.
    pub fn new(key: &Key, issuer: &str) -> Self {
        Self {
            key: key.derive("link tokens"),
            issuer: issuer.to_owned(),
        }
    }

    /// The token for `hip`.
    ///
    /// # Errors
    /// INTERNAL; it cannot fail for what fits into a claim.
    pub fn make(&self, keys: &ArtefactKeys, hip: &ParticipantId, parts: &Parts) -> Result<String, Refusal> {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.key.mac("nonce", &parts.id)[..12]);
        let internal = || Refusal::new(Reason::Internal);
        let sealed = self
            .key
            .seal_with(nonce, hip.as_str().as_bytes(), parts.account.as_bytes())
            .map_err(|_| internal())?;
        let claims = Claims {
            aud: hip.name(),
            exp: parts.expire().seconds(),
            iat: parts.issued.seconds(),
            iss: self.issuer.clone(),
            jti: B64.encode(parts.id),
            sub: B64.encode(sealed),
        };
        keys.active().sign(TYP, &claims).map_err(|_| internal())
    }

    /// What a token says that `hip` presents, however old it is.
    ///
    /// # Errors
    /// LINK_TOKEN_INVALID.
    pub fn read(&self, keys: &ArtefactKeys, hip: &ParticipantId, token: &str) -> Result<Presented, Refusal> {
        let invalid = || {
            Refusal::new(Reason::LinkTokenInvalid)
                .saying("this is no link token that was issued to you; ask for one with IssueLinkToken")
        };
        let claims: Claims = jws::verify(token, TYP, |kid| keys.find(kid)).map_err(|_: Bad| invalid())?;
        if claims.aud != hip.name() || claims.iss != self.issuer {
            return Err(invalid());
        }
        let sealed = B64.decode(claims.sub).map_err(|_| invalid())?;
        let account = self.key.open(hip.as_str().as_bytes(), &sealed).ok_or_else(invalid)?;
        Ok(Presented {
            account: AccountId::from_slice(&account).ok_or_else(invalid)?,
            expire: Micros::from_seconds(claims.exp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::Ed25519KeyPair;
    use sammati_kernel::Slot;
    use sammati_kernel::jws::SigningKey;

    #[test]
    fn a_token_works_for_its_provider_until_it_expires_and_hides_the_person() {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let keys = ArtefactKeys::of(SigningKey::from_pkcs8(der.as_ref()).unwrap());
        let tokens = LinkTokens::new(&Key::from_bytes([3; 32]), "sbx");
        let hip = ParticipantId::parse("hospital").unwrap();
        let account = AccountId::new(Micros(5_000_000), Slot::new(9), [4; 8]);
        let parts = Parts {
            account,
            issued: Micros::from_seconds(1000),
            id: [7; 16],
        };
        assert_eq!(Parts::decode(&parts.encode()), Some(parts));
        let token = tokens.make(&keys, &hip, &parts).unwrap();
        assert_eq!(token, tokens.make(&keys, &hip, &parts).unwrap());
        assert_eq!(tokens.read(&keys, &hip, &token).unwrap().account, account);
        let presented = tokens.read(&keys, &hip, &token).unwrap();
        assert!(presented.check(parts.issued).is_ok());
        let other = ParticipantId::parse("clinic").unwrap();
        assert_eq!(
            tokens.read(&keys, &other, &token).unwrap_err().reason,
            Reason::LinkTokenInvalid
        );
        assert_eq!(
            presented.check(parts.expire()).unwrap_err().reason,
            Reason::LinkTokenExpired
        );
        let claims = B64.decode(token.split('.').nth(1).unwrap()).unwrap();
        assert!(!String::from_utf8(claims).unwrap().contains(&account.to_string()));
    }
}
