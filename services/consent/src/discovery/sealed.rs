//! Her answer to a HIP's challenge, sealed to a key of the HIP's: whoever carries it cannot read it, and cannot keep what it
//! cannot read.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SystemRandom;

/// The length of an X25519 public key.
pub const KEY: usize = 32;

/// What the key is made for.
const INFO: &[u8] = b"sammati discovery token";

/// Seals `token` to the X25519 public key `to`, under the name of its discovery; the contract says how it is opened.
///
/// # Errors
/// When `to` is no usable key, or the system has no randomness to give.
pub fn seal(to: &[u8], name: &str, token: &str) -> Result<Vec<u8>, Unspecified> {
    let own = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())?;
    let public = own.compute_public_key()?;
    let key = agree(own, to, &[public.as_ref(), to].concat())?;
    let mut sealed = token.as_bytes().to_vec();
    let aad = Aad::from(name.as_bytes());
    key.seal_in_place_append_tag(nonce(), aad, &mut sealed)?;
    Ok([public.as_ref(), &sealed].concat())
}

/// Whether something can be sealed to this key.
pub fn is_usable(key: &[u8]) -> bool {
    key.len() == KEY && seal(key, "", "").is_ok()
}

/// Opens what [`seal`] made, with the HIP's half of the key: as a HIP does.
///
/// # Errors
/// When it is not sealed to this key, or under another name.
pub fn open(own: EphemeralPrivateKey, name: &str, sealed: &[u8]) -> Result<String, Unspecified> {
    let (public, sealed) = sealed.split_at_checked(KEY).ok_or(Unspecified)?;
    let salt = [public, own.compute_public_key()?.as_ref()].concat();
    let key = agree(own, public, &salt)?;
    let mut plain = sealed.to_vec();
    let plain = key.open_in_place(nonce(), Aad::from(name.as_bytes()), &mut plain)?;
    String::from_utf8(plain.to_vec()).map_err(|_| Unspecified)
}

fn agree(own: EphemeralPrivateKey, peer: &[u8], salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let peer = UnparsedPublicKey::new(&X25519, peer);
    let key = agree_ephemeral(own, &peer, |shared| {
        let secret = Salt::new(HKDF_SHA256, salt).extract(shared);
        secret.expand(&[INFO], &AES_256_GCM).map(UnboundKey::from)
    })??;
    Ok(LessSafeKey::new(key))
}

/// One key seals one thing, so its nonce may be the same.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_by_its_hip_and_for_its_discovery_only() {
        let hip = || EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
        let (own, other) = (hip(), hip());
        let public = own.compute_public_key().unwrap();
        let sealed = seal(public.as_ref(), "discoveries/1", "483920").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"483920"));
        assert_eq!(open(own, "discoveries/1", &sealed).unwrap(), "483920");
        assert!(open(other, "discoveries/1", &sealed).is_err());
        let own = hip();
        let sealed = seal(own.compute_public_key().unwrap().as_ref(), "discoveries/1", "483920").unwrap();
        assert!(open(own, "discoveries/2", &sealed).is_err());
    }

    #[test]
    fn a_key_that_agrees_with_everybody_is_none() {
        assert!(!is_usable(&[0; 32]) && !is_usable(&[9; 31]) && !is_usable(b""));
        let own = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
        assert!(is_usable(own.compute_public_key().unwrap().as_ref()));
    }
}
