//! Compact JWS (RFC 7515) with Ed25519 (RFC 8037), and nothing else: one algorithm, one form, strict base64url.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;

/// The protected header we write and the only one we read: `{"alg":"EdDSA","kid":…,"typ":…}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Always `EdDSA`.
    pub alg: String,
    /// RFC 7638 thumbprint of the key.
    pub kid: String,
    /// What kind of statement this is, as in `at+jwt`: a verifier of one kind refuses the others.
    pub typ: String,
}

/// Why a token is not good. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Not three strict base64url parts of JSON, too long, or with members we do not know in the header.
    #[error("not a compact JWS of our form")]
    Form,
    /// Another `alg` or `typ` than asked for.
    #[error("another algorithm or kind of token")]
    Kind,
    /// No key with that `kid`.
    #[error("the signing key is not known")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the signature does not verify")]
    Signature,
}

/// A signing key: an Ed25519 pair and its name.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    kid: String,
}

impl SigningKey {
    /// Reads PKCS#8 (v1 or v2) DER.
    ///
    /// # Errors
    /// When the bytes are not an Ed25519 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, ring::error::KeyRejected> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)?;
        let kid = thumbprint(pair.public_key().as_ref());
        Ok(Self { pair, kid })
    }

    /// The RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey {
            kid: self.kid.clone(),
            x: self.pair.public_key().as_ref().to_vec(),
        }
    }

    /// The bytes that a signature covers, for claims that are already JSON. Keep these, and sign them later.
    pub fn signing_input(&self, typ: &str, claims: &[u8]) -> String {
        signing_input(&self.kid, typ, claims)
    }

    /// Signs a signing input; Ed25519 is deterministic, so the same bytes give the same token on every replica.
    pub fn sign_input(&self, input: &str) -> String {
        format!("{input}.{}", B64.encode(self.pair.sign(input.as_bytes())))
    }

    /// Signs `claims` as a token of kind `typ`.
    ///
    /// # Errors
    /// When `claims` cannot be written as JSON.
    pub fn sign<C: Serialize>(&self, typ: &str, claims: &C) -> Result<String, serde_json::Error> {
        Ok(self.sign_input(&self.signing_input(typ, &serde_json::to_vec(claims)?)))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}

/// `base64url(header).base64url(claims)` under the key named `kid`.
pub fn signing_input(kid: &str, typ: &str, claims: &[u8]) -> String {
    // Members in alphabetical order and no blanks: RFC 8785 form. The three values need no escapes.
    let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{typ}"}}"#);
    format!("{}.{}", B64.encode(header), B64.encode(claims))
}

/// A public Ed25519 key and its thumbprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// The 32 bytes of the key.
    pub x: Vec<u8>,
}

impl PublicKey {
    /// The key with these 32 bytes; its `kid` is computed.
    pub fn from_bytes(x: &[u8]) -> Option<Self> {
        (x.len() == 32).then(|| Self {
            kid: thumbprint(x),
            x: x.to_vec(),
        })
    }

    /// As RFC 8037 JWK members `crv`, `kid`, `kty`, `x`.
    pub fn to_jwk(&self) -> String {
        format!(
            r#"{{"crv":"Ed25519","kid":"{}","kty":"OKP","x":"{}"}}"#,
            self.kid,
            B64.encode(&self.x)
        )
    }

    /// Reads an OKP Ed25519 JWK; other members are ignored, `kid` is computed anew.
    pub fn from_jwk(json: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Jwk {
            kty: String,
            crv: String,
            x: String,
        }
        let jwk: Jwk = serde_json::from_str(json).ok()?;
        let x = B64.decode(jwk.x).ok()?;
        (jwk.kty == "OKP" && jwk.crv == "Ed25519").then(|| Self::from_bytes(&x))?
    }
}

/// Verifies `token` as one of kind `typ` under the key that `find` knows by its `kid`, and reads its claims.
///
/// # Errors
/// [`Bad`], which says what was wrong and nothing of the content.
pub fn verify<C: DeserializeOwned>(token: &str, typ: &str, find: impl Fn(&str) -> Option<PublicKey>) -> Result<C, Bad> {
    let header = header_of(token)?;
    if header.alg != "EdDSA" || header.typ != typ {
        return Err(Bad::Kind);
    }
    let key = find(&header.kid).ok_or(Bad::UnknownKey)?;
    let (input, signature) = token.rsplit_once('.').ok_or(Bad::Form)?;
    let signature = B64.decode(signature).map_err(|_| Bad::Form)?;
    UnparsedPublicKey::new(&ED25519, &key.x)
        .verify(input.as_bytes(), &signature)
        .map_err(|_| Bad::Signature)?;
    let (_, claims) = input.split_once('.').ok_or(Bad::Form)?;
    let claims = B64.decode(claims).map_err(|_| Bad::Form)?;
    serde_json::from_slice(&claims).map_err(|_| Bad::Form)
}

/// The protected header, not yet verified: good for choosing a key and for nothing else.
///
/// # Errors
/// [`Bad::Form`].
pub fn header_of(token: &str) -> Result<Header, Bad> {
    if token.len() > MAX_TOKEN || token.bytes().filter(|b| *b == b'.').count() != 2 {
        return Err(Bad::Form);
    }
    let (header, _) = token.split_once('.').ok_or(Bad::Form)?;
    let header = B64.decode(header).map_err(|_| Bad::Form)?;
    serde_json::from_slice(&header).map_err(|_| Bad::Form)
}

/// RFC 7638 thumbprint of an Ed25519 key.
fn thumbprint(x: &[u8]) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, B64.encode(x));
    B64.encode(ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Claims {
        sub: String,
    }

    fn key() -> SigningKey {
        let der = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(der.as_ref()).unwrap()
    }

    #[test]
    fn a_token_verifies_and_every_bent_one_does_not() {
        let key = key();
        let public = key.public();
        let find = |kid: &str| (kid == public.kid).then(|| public.clone());
        let token = key.sign("at+jwt", &Claims { sub: "x".into() }).unwrap();
        assert_eq!(
            verify::<Claims>(&token, "at+jwt", find).unwrap(),
            Claims { sub: "x".into() }
        );
        assert_eq!(verify::<Claims>(&token, "link-token+jwt", find), Err(Bad::Kind));
        for i in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let bent = String::from_utf8(bytes).unwrap();
            assert!(verify::<Claims>(&bent, "at+jwt", find).is_err(), "byte {i}");
        }
    }

    #[test]
    fn thumbprint_is_that_of_rfc_8037_appendix_a3() {
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        assert_eq!(
            PublicKey::from_jwk(jwk).unwrap().kid,
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }
}
