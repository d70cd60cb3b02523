//! A symmetric key, and the only two things done with one: keyed hashes and sealing.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// 32 secret bytes. Each use derives its own key by label, so that one file can serve several purposes.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new random key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, ring::error::Unspecified> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut())?;
        Ok(Self(bytes))
    }

    /// The key that belongs to `label`.
    pub fn derive(&self, label: &str) -> Self {
        Self::from_bytes(self.mac("derive", label.as_bytes()))
    }

    /// HMAC-SHA256 of `data` under this key; `context` keeps uses apart.
    pub fn mac(&self, context: &str, data: &[u8]) -> [u8; 32] {
        Mac::new(self).mac(context, data)
    }

    /// AES-256-GCM with a random nonce in front; `aad` is bound, not stored.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce)?;
        self.seal_with(nonce, aad, plain)
    }

    /// Random nonces for [`Self::seal_with`]: the system is asked once for all of them.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn nonces(count: usize) -> Result<Vec<[u8; NONCE_LEN]>, ring::error::Unspecified> {
        let mut nonces = vec![[0; NONCE_LEN]; count];
        SystemRandom::new().fill(nonces.as_flattened_mut())?;
        Ok(nonces)
    }

    /// The same with a given nonce, which must never be used twice with this key.
    ///
    /// # Errors
    /// When `plain` is longer than AES-GCM can take.
    pub fn seal_with(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, ring::error::Unspecified> {
        let mut out = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .aead()?
            .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[NONCE_LEN..])?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    /// Opens what [`Self::seal`] made; `None` for anything else.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.aead().ok()?.open_in_place(nonce, Aad::from(aad), &mut body).ok()?;
        let length = plain.len();
        body.truncate(length);
        Some(body)
    }

    /// The bytes, for wrapping this key under another.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn aead(&self) -> Result<LessSafeKey, ring::error::Unspecified> {
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.0.as_ref())?))
    }
}

/// A key that is prepared for keyed hashes: for who makes many.
#[derive(Clone)]
pub struct Mac(hmac::Key);

impl Mac {
    /// Prepares `key`.
    pub fn new(key: &Key) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.0.as_ref()))
    }

    /// What [`Key::mac`] makes.
    pub fn mac(&self, context: &str, data: &[u8]) -> [u8; 32] {
        let mut ctx = hmac::Context::with_key(&self.0);
        ctx.update(context.as_bytes());
        ctx.update(&[0]);
        ctx.update(data);
        let mut out = [0; 32];
        out.copy_from_slice(ctx.sign().as_ref());
        out
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_its_key_and_context() {
        let key = Key::generate().unwrap();
        let sealed = key.seal(b"context", b"plain").unwrap();
        assert_eq!(key.open(b"context", &sealed).as_deref(), Some(&b"plain"[..]));
        assert_eq!(key.open(b"other", &sealed), None);
        assert_eq!(key.derive("x").open(b"context", &sealed), None);
        for i in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[i] ^= 1;
            assert_eq!(key.open(b"context", &bent), None);
        }
    }

    #[test]
    fn nonces_are_drawn_each_by_itself() {
        let nonces = Key::nonces(100).unwrap();
        let distinct: std::collections::HashSet<_> = nonces.iter().collect();
        assert_eq!(distinct.len(), 100);
        let key = Key::generate().unwrap();
        let sealed = key.seal_with(nonces[7], b"context", b"plain").unwrap();
        assert_eq!(sealed[..NONCE_LEN], nonces[7]);
        assert_eq!(key.open(b"context", &sealed).as_deref(), Some(&b"plain"[..]));
    }
}
