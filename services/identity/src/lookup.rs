//! By what is somebody found? Keyed hashes of numbers, addresses and tokens: what is looked up is never kept in clear.

use sammati_api::identity::v1::Factor;
use sammati_kernel::{AadhaarNumber, AbhaAddress, AbhaNumber, Key, MobileNumber, ParticipantId, Slot, TransactionId};
use sammati_store::{ClaimKey, RequestKey};

/// How many accounts one mobile may have.
pub(crate) const ACCOUNTS_PER_MOBILE: u8 = 6;

/// Hashes under the look-up key.
#[derive(Debug, Clone)]
pub(crate) struct Lookup(Key);

impl Lookup {
    pub(crate) const fn new(key: Key) -> Self {
        Self(key)
    }

    /// The subject of a transaction that proves an Aadhaar number.
    pub(crate) fn aadhaar(&self, number: &AadhaarNumber) -> [u8; 32] {
        self.0.mac("aadhaar", number.expose().as_bytes())
    }

    /// The subject of a transaction that proves a mobile; also what its claims are made of.
    pub(crate) fn mobile(&self, mobile: &MobileNumber) -> [u8; 32] {
        self.0.mac("mobile", mobile.expose().as_bytes())
    }

    /// Where it is recorded that somebody asked for a number or address that nobody has.
    pub(crate) fn unknown(&self, identifier: &str) -> [u8; 32] {
        self.0.mac("unknown", identifier.as_bytes())
    }

    /// The subject of a transaction about it: another one for each factor, as with people.
    pub(crate) fn nobody(&self, identifier: &str, factor: Factor) -> [u8; 32] {
        let factor = i32::from(factor).to_be_bytes();
        self.0.mac("nobody", &[&factor, identifier.as_bytes()].concat())
    }

    /// The id of a transaction as others see it, and back. Its slot is where she lives who is proved: whoever could
    /// read it would learn which numbers and addresses belong together, and which to nobody.
    pub(crate) fn veiled(&self, id: TransactionId) -> TransactionId {
        let (time, tail) = (&id.as_bytes()[..6], &id.as_bytes()[8..]);
        let veil = Slot::of_hash(&self.0.mac("transaction name", &[time, tail].concat())).number();
        let mut random = [0; 8];
        random.copy_from_slice(tail);
        TransactionId::new(id.time(), Slot::new(id.slot().number() ^ veil), random)
    }

    /// The agency's token for a person: at once the claim on her.
    pub(crate) fn reference(&self, token: &str) -> ClaimKey {
        self.0.mac("kyc reference", token.as_bytes())
    }

    pub(crate) fn number(&self, number: AbhaNumber) -> ClaimKey {
        self.0.mac("claim number", number.digits().as_bytes())
    }

    /// The claim of an address. A default address is its number's claim.
    pub(crate) fn address(&self, address: &AbhaAddress) -> ClaimKey {
        match address.number() {
            Some(number) => self.number(number),
            None => self.0.mac("claim address", address.folded().as_bytes()),
        }
    }

    /// The claims of the accounts that a mobile may have.
    pub(crate) fn mobile_claims(&self, mobile: &[u8]) -> Vec<ClaimKey> {
        (1..=ACCOUNTS_PER_MOBILE)
            .map(|n| self.0.mac("claim mobile", &[mobile, &[n]].concat()))
            .collect()
    }

    /// The claim that an assertion's id is used.
    pub(crate) fn assertion(&self, participant: &ParticipantId, jti: &str) -> ClaimKey {
        self.0.mac("assertion", format!("{participant}\n{jti}").as_bytes())
    }

    /// The claim that fixes the slot a request id goes to, where a look-up chose it.
    pub(crate) fn route(&self, request: &RequestKey) -> ClaimKey {
        self.0.mac("route", request.scope())
    }

    /// Four digits that look like the end of a mobile, always the same for one subject.
    pub(crate) fn invented_digits(&self, subject: &[u8]) -> u16 {
        let hash = self.0.mac("invented", subject);
        u16::from_be_bytes([hash[0], hash[1]]) % 10_000
    }

    /// An OTP as it is kept: of this transaction and this sending alone.
    pub(crate) fn otp(&self, transaction: &[u8], send: i32, otp: &str) -> [u8; 32] {
        self.0
            .mac("otp", &[transaction, &send.to_be_bytes(), otp.as_bytes()].concat())
    }

    /// What proves that we made a refresh token.
    pub(crate) fn refresh(&self, session: &[u8], generation: i64) -> [u8; 32] {
        self.0.mac("refresh", &[session, &generation.to_be_bytes()].concat())
    }

    /// The id of the action token that a step-up leads to.
    pub(crate) fn action_id(&self, transaction: &[u8]) -> [u8; 32] {
        self.0.mac("action id", transaction)
    }

    /// The id of a token that is derived and not kept.
    pub(crate) fn token_id(&self, session: &[u8], generation: i64, audience: &str) -> [u8; 32] {
        self.0.mac(
            "token id",
            &[session, &generation.to_be_bytes(), audience.as_bytes()].concat(),
        )
    }
}

/// A slot as it is kept in a claim.
pub(crate) fn slot_bytes(slot: Slot) -> Vec<u8> {
    slot.number().to_be_bytes().to_vec()
}

/// Reads it back.
pub(crate) fn slot_of(bytes: &[u8]) -> Option<Slot> {
    bytes.try_into().ok().map(|b| Slot::new(u16::from_be_bytes(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sammati_kernel::Micros;

    #[test]
    fn a_veiled_id_hides_its_slot_and_comes_back() {
        let lookup = Lookup::new(Key::from_bytes([3; 32]));
        let slots = (0..64_u8).map(|n| {
            let id = TransactionId::new(Micros(1_795_000_000_123_456), Slot::new(7), [n; 8]);
            let veiled = lookup.veiled(id);
            assert_eq!((lookup.veiled(veiled), veiled.time()), (id, id.time()));
            veiled.slot()
        });
        let distinct: std::collections::BTreeSet<_> = slots.collect();
        assert!(distinct.len() > 48, "one slot looks like many");
    }
}
