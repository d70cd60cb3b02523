//! Numbers, addresses, codes and resource names, as they stand in requests, tokens and certificates.

use sammati_kernel::{
    AadhaarNumber, AbhaAddress, AbhaNumber, AccessMode, AccountId, AddressSuffix, ConsentId, HiType, Id, IdKind,
    LocalPart, MobileNumber, ParticipantId, PurposeCode, Reason, RepresentationId, Role, SessionId, TransactionId,
    TransferId,
};
use sammati_server::action::service_of;

use super::{Family, texts};

pub(super) const FAMILY: Family = Family {
    name: "names",
    read,
    seeds,
};

fn read(bytes: &[u8]) {
    if let Some(id) = AccountId::from_slice(bytes) {
        assert_eq!(id.as_bytes().as_slice(), bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    people(text);
    codes(text);
    ids(text);
}

/// Several spellings are read; what is written is read as the same.
fn people(text: &str) {
    if let Ok(number) = AbhaNumber::parse(text) {
        assert_eq!(AbhaNumber::parse(&number.to_string()), Ok(number));
        assert_eq!(AbhaNumber::parse(&number.digits()), Ok(number));
        assert!(!number.masked().contains(&number.digits()));
    }
    if let Ok(address) = AbhaAddress::parse(text) {
        assert_eq!(AbhaAddress::parse(&address.to_string()).as_ref(), Ok(&address));
        let folded = address.folded();
        assert_eq!(AbhaAddress::parse(&folded).map(|again| again.folded()), Ok(folded));
    }
    if let Ok(part) = LocalPart::parse(text) {
        assert_eq!(LocalPart::parse(part.as_str()).as_ref(), Ok(&part));
    }
    if let Ok(number) = AadhaarNumber::parse(text) {
        assert!(
            AadhaarNumber::found_in(number.expose()),
            "what must not be told is found"
        );
        assert!(!number.to_string().contains(number.expose()));
    }
    let _ = (AadhaarNumber::found_in(text), AadhaarNumber::virtual_id_found_in(text));
    if let Ok(number) = MobileNumber::parse(text) {
        assert!(MobileNumber::parse(number.expose()).is_ok());
    }
}

fn codes(text: &str) {
    if let Some(purpose) = PurposeCode::parse(text) {
        assert_eq!(purpose.code(), text);
    }
    if let Some(reason) = Reason::parse(text) {
        assert_eq!(reason.as_str(), text);
    }
    if let Some(role) = Role::parse(text) {
        assert_eq!(role.as_str(), text);
    }
    let _ = (HiType::parse(text), AccessMode::parse(text), AddressSuffix::parse(text));
    if let Some(service) = service_of(text) {
        assert!(text.contains(service));
    }
}

fn ids(text: &str) {
    if let Ok(id) = ParticipantId::parse(text) {
        assert_eq!(id.as_str(), text);
    }
    if let Ok(id) = ParticipantId::parse_name(text) {
        assert_eq!(id.name(), text);
    }
    named(text, AccountId::parse_name(text));
    named(text, ConsentId::parse_name(text));
    named(text, RepresentationId::parse_name(text));
    named(text, SessionId::parse_name(text));
    named(text, TransactionId::parse_name(text));
    named(text, TransferId::parse_name(text));
    if let Ok(id) = text.parse::<AccountId>() {
        assert_eq!(id.to_string(), text);
    }
}

fn named<K: IdKind>(text: &str, id: Option<Id<K>>) {
    if let Some(id) = id {
        assert_eq!(id.name(), text);
        let _ = (id.slot(), id.time());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        "91-1234-5678-9010",
        "91123456789010",
        "asha.verma@sbx",
        "Asha_1990@abdm",
        "2345 6789 0124",
        "234567890124",
        "9876543210",
        "CAREMGT",
        "HIP",
        "Prescription",
        "CONSENT_NOT_ACTIVE",
        "participants/HOSP-1_a",
        "sammati.consent.v1.ConsentService/RevokeConsents",
    ]);
    let id = super::id();
    seeds.push(id.as_bytes().to_vec());
    let number = AbhaNumber::issue(&sammati_kernel::Seed::from_bytes([1; 32]), 0);
    seeds.extend([number.to_string(), number.digits(), id.to_string(), id.name()].map(String::into_bytes));
    for collection in ["consents", "representations", "sessions", "transactions", "transfers"] {
        seeds.push(format!("{collection}/{id}").into_bytes());
    }
    seeds
}
