//! Keyed hashes: what is looked up by something personal is looked up by its hash.

use sammati_kernel::{AccountId, Key, MobileNumber, ParticipantId, Slot};

/// The keyed hash of a person, a provider and a care context reference.
pub type ContextKey = [u8; 32];

/// Makes keyed hashes. The same key on all replicas, for ever: the hashes are stored.
#[derive(Debug, Clone)]
pub struct Lookup(Key);

impl Lookup {
    /// Hashes under a key derived from `key`.
    pub fn new(key: &Key) -> Self {
        Self(key.derive("consent look-up"))
    }

    /// One care context of a person at a provider. The provider's own reference is what tells it apart there.
    pub fn context(&self, owner: &[u8], hip: &ParticipantId, reference: &str) -> ContextKey {
        self.of("care context", &[owner, hip.as_str().as_bytes(), reference.as_bytes()])
    }

    /// The link of a person's reference at a provider.
    pub fn link(&self, subject: AccountId, hip: &ParticipantId, patient_reference: &str) -> [u8; 32] {
        self.of(
            "link",
            &[
                subject.as_bytes(),
                hip.as_str().as_bytes(),
                patient_reference.as_bytes(),
            ],
        )
    }

    /// A person, a giver and a receiver.
    pub fn parties(&self, subject: &[u8], hip: &ParticipantId, hiu: &ParticipantId) -> [u8; 32] {
        self.of("parties", &[subject, hip.as_str().as_bytes(), hiu.as_str().as_bytes()])
    }

    /// A patient's address, in lower case, and an asker.
    pub fn asker(&self, address: &str, hiu: &ParticipantId) -> [u8; 32] {
        self.of("asker", &[address.as_bytes(), hiu.as_str().as_bytes()])
    }

    /// A patient's address, in lower case, and who would subscribe to it.
    pub fn subscriber(&self, address: &str, holder: &ParticipantId) -> [u8; 32] {
        self.of("subscriber", &[address.as_bytes(), holder.as_str().as_bytes()])
    }

    /// A provider's care context, whosever it is: it is linked once.
    pub fn linked_once(&self, hip: &ParticipantId, reference: &str) -> [u8; 32] {
        self.of("linked once", &[hip.as_str().as_bytes(), reference.as_bytes()])
    }

    /// A provider that tries a person, by her account's name or by an identifier that is nobody's.
    pub fn link_try(&self, hip: &ParticipantId, person: &str) -> [u8; 32] {
        self.of("link try", &[hip.as_str().as_bytes(), person.as_bytes()])
    }

    /// A person who looks for her records at a provider.
    pub fn discovery_try(&self, hip: &ParticipantId, account: AccountId) -> [u8; 32] {
        self.of("discovery try", &[hip.as_str().as_bytes(), account.as_bytes()])
    }

    /// An asker whose requests to an address, in lower case, her policies decide.
    pub fn decided(&self, address: &str, hiu: &ParticipantId) -> [u8; 32] {
        self.of("decided beforehand", &[address.as_bytes(), hiu.as_str().as_bytes()])
    }

    /// A mobile that providers send messages to, whosever it is.
    pub fn deep_link(&self, mobile: &MobileNumber) -> [u8; 32] {
        self.of("deep link", &[mobile.expose().as_bytes()])
    }

    /// Where a status list has its entries.
    pub fn status_list(&self, id: &[u8]) -> [u8; 32] {
        self.of("status list", &[id])
    }

    /// Where rows about an address live that is nobody's: a slot, and an owner that is no account.
    pub fn nobody(&self, address: &str) -> (Slot, Vec<u8>) {
        let hash = self.of("nobody", &[address.as_bytes()]);
        (Slot::of_hash(&hash), hash[16..].to_vec())
    }

    /// A professional.
    pub fn professional(&self, id: &ParticipantId) -> [u8; 32] {
        self.of("professional", &[id.as_str().as_bytes()])
    }

    /// Parts are length-prefixed, so that no two lists of parts run together.
    fn of(&self, use_: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut data = Vec::new();
        for part in parts {
            data.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            data.extend_from_slice(part);
        }
        self.0.mac(use_, &data)
    }
}
