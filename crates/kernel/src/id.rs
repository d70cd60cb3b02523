//! Ids are UUIDv7 (RFC 9562) whose 12 bits `rand_a` carry the slot, so that a bare id finds its partition.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use uuid::Uuid;

use crate::Micros;

/// How many slots there are. Alike in all services, for ever: it is in every id.
pub const SLOTS: u16 = 4096;

/// Where a subject lives, 0 to 4095: partition = slot mod the database's partition count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, modulo [`SLOTS`].
    pub const fn new(n: u16) -> Self {
        Self(n % SLOTS)
    }

    /// The slot of whatever has this hash (the first two bytes count).
    pub fn of_hash(hash: &[u8; 32]) -> Self {
        Self::new(u16::from_be_bytes([hash[0], hash[1]]))
    }

    /// The slot that a participant's own rows live in: the plain hash of its id.
    pub fn of_participant(id: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, id.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Self::of_hash(&hash)
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// What an id names: the collection in a resource name.
pub trait IdKind: Copy + Eq + Ord + std::hash::Hash + Send + Sync + 'static {
    /// The plural of AIP-122, as in `consents/{id}`.
    const COLLECTION: &'static str;
}

/// The id of a `K`. Two kinds do not mix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<K>(Uuid, PhantomData<K>);

impl<K: IdKind> Id<K> {
    /// A new id, made at `time` in `slot`; `tail` is its randomness.
    pub fn new(time: Micros, slot: Slot, tail: [u8; 8]) -> Self {
        let ms = u64::try_from(time.millis()).unwrap_or(0).to_be_bytes();
        let mut b = [0; 16];
        b[..6].copy_from_slice(&ms[2..]);
        b[6..8].copy_from_slice(&(0x7000 | slot.0).to_be_bytes());
        b[8..].copy_from_slice(&tail);
        b[8] = 0x80 | (b[8] & 0x3f);
        Self(Uuid::from_bytes(b), PhantomData)
    }

    /// The id kept in these 16 bytes, if they are a UUIDv7.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().filter(is_v7).map(|u| Self(u, PhantomData))
    }

    /// Its 16 bytes, as stored.
    pub fn to_vec(self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The slot it carries.
    pub fn slot(&self) -> Slot {
        let b = self.0.as_bytes();
        Slot::new(u16::from_be_bytes([b[6], b[7]]) & 0x0fff)
    }

    /// The millisecond it was made in.
    pub fn time(&self) -> Micros {
        let b = self.0.as_bytes();
        let ms = i64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]);
        Micros(ms.saturating_mul(1000))
    }

    /// The resource name, `collection/uuid`.
    pub fn name(&self) -> String {
        let mut text = Uuid::encode_buffer();
        let id = self.0.as_hyphenated().encode_lower(&mut text);
        // Written in every answer: without a formatter, which would ask for memory three times.
        [K::COLLECTION, "/", id].concat()
    }

    /// Reads a resource name back; lower case only, as AIP-122 has it.
    pub fn parse_name(name: &str) -> Option<Self> {
        let id = name.strip_prefix(K::COLLECTION)?.strip_prefix('/')?;
        id.parse().ok()
    }
}

fn is_v7(u: &Uuid) -> bool {
    u.get_version_num() == 7 && u.get_variant() == uuid::Variant::RFC4122
}

/// `Err` when the text is not a lower-case, hyphenated UUIDv7.
impl<K: IdKind> FromStr for Id<K> {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        let plain = s.len() == 36 && !s.bytes().any(|b| b.is_ascii_uppercase());
        let u = Uuid::try_parse(s).ok().filter(is_v7).filter(|_| plain).ok_or(())?;
        Ok(Self(u, PhantomData))
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K: IdKind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

macro_rules! ids { ($($kind:ident $alias:ident $collection:literal $doc:literal;)*) => { $(
    #[doc = concat!("Marks the id of ", $doc, ".")]
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct $kind;
    impl IdKind for $kind { const COLLECTION: &'static str = $collection; }
    #[doc = concat!("The id of ", $doc, ".")]
    pub type $alias = Id<$kind>;
)* } }

ids! {
    Account AccountId "accounts" "a person's account: the subject";
    Consent ConsentId "consents" "a consent, ABDM consentId";
    ConsentRequest ConsentRequestId "consentRequests" "a consent request";
    Discovery DiscoveryId "discoveries" "a person's search for her records";
    Link LinkId "links" "a link of care contexts";
    Notice NoticeId "notices" "a notice";
    Notification NotificationId "notifications" "a notification";
    Policy PolicyId "policies" "a standing decision of a person";
    ProfileShare ProfileShareId "profileShares" "a profile shared at a counter";
    Representation RepresentationId "representations" "a representation: who may act for whom";
    RightsRequest RightsRequestId "rightsRequests" "a request about a person's rights";
    Session SessionId "sessions" "a session";
    StatusList StatusListId "statusLists" "a status list of consents";
    Study StudyId "studies" "a research study";
    Subscription SubscriptionId "subscriptions" "a subscription to news of a person's records";
    Transaction TransactionId "transactions" "a transaction, ABDM txnId";
    Transfer TransferId "transfers" "a transfer, ABDM transactionId";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_carries_its_slot_and_time(ms in 0i64..(1 << 47), slot in 0u16..SLOTS, tail: [u8; 8]) {
            let id = ConsentId::new(Micros(ms * 1000 + 999), Slot::new(slot), tail);
            prop_assert_eq!(id.slot(), Slot::new(slot));
            prop_assert_eq!(id.time(), Micros(ms * 1000));
            prop_assert_eq!(ConsentId::parse_name(&id.name()), Some(id));
            prop_assert_eq!(ConsentId::from_slice(&id.to_vec()), Some(id));
        }
    }

    #[test]
    fn another_collection_or_version_is_not_read() {
        let id = ConsentId::new(Micros(1), Slot::new(7), [1; 8]);
        assert_eq!(AccountId::parse_name(&id.name()), None);
        assert_eq!(ConsentId::parse_name(&id.name().to_uppercase()), None);
        assert!("c232ab00-9414-41e8-b2a5-5c7ef3f0a1de".parse::<ConsentId>().is_err());
    }
}
