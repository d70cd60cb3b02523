//! A partition is a slot modulo the database's count, fixed when the database is made.

use sammati_kernel::Slot;

/// How many partitions this database has: a power of two, 1 to 4,096.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions(u16);

impl Partitions {
    /// `count` partitions.
    ///
    /// # Errors
    /// What is allowed.
    pub fn new(count: u16) -> Result<Self, &'static str> {
        if count.is_power_of_two() && count <= sammati_kernel::SLOTS {
            Ok(Self(count))
        } else {
            Err("partitions is a power of two from 1 to 4096, fixed when the database is made")
        }
    }

    /// How many.
    pub const fn count(self) -> u16 {
        self.0
    }

    /// The partition of a slot.
    pub fn of(self, slot: Slot) -> i64 {
        i64::from(slot.number() % self.0)
    }

    /// The partition of a keyed hash.
    pub fn of_hash(self, hash: &[u8; 32]) -> i64 {
        self.of(Slot::of_hash(hash))
    }

    /// All of them, ascending.
    pub fn all(self) -> impl Iterator<Item = i64> + Clone {
        0..i64::from(self.0)
    }
}
