//! Everything random in a command comes from its seed, so that deciding twice decides the same.

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::{Id, IdKind, Micros, Slot};

/// 32 random bytes, drawn once when a command is admitted.
#[derive(Clone)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A new seed from the system's random source.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn draw() -> Result<Self, ring::error::Unspecified> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// A seed with known bytes, for tests and for derived seeds.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 32 bytes that belong to `label` and nothing else.
    pub fn bytes(&self, label: &str) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), label.as_bytes());
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        out
    }

    /// A seed of its own for the `n`th part of a larger command.
    pub fn child(&self, label: &str) -> Self {
        Self(self.bytes(label))
    }

    /// A new id of kind `K` in `slot`, made at `time`.
    pub fn id<K: IdKind>(&self, label: &str, time: Micros, slot: Slot) -> Id<K> {
        let b = self.bytes(label);
        let mut tail = [0; 8];
        tail.copy_from_slice(&b[..8]);
        Id::new(time, slot, tail)
    }

    /// A new id of kind `K`, made at `time`, of what nobody looks for by its slot: those bits are random too, so that whoever
    /// is told it learns nothing of whom it is about.
    pub fn placeless_id<K: IdKind>(&self, label: &str, time: Micros) -> Id<K> {
        self.id(label, time, Slot::of_hash(&self.bytes(&format!("slot of {label}"))))
    }

    /// A number in `0..bound`, without measurable bias for bounds far below 2^64.
    pub fn below(&self, label: &str, bound: u64) -> u64 {
        let b = self.bytes(label);
        let mut wide = [0; 16];
        wide.copy_from_slice(&b[..16]);
        u64::try_from(u128::from_be_bytes(wide) % u128::from(bound.max(1))).unwrap_or(0)
    }
}
