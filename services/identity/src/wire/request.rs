//! What several requests have in common.

use sammati_api::types::v1::{ConsentStamp, Identifier, identifier as api};
use sammati_kernel::{
    AadhaarNumber, AbhaAddress, AbhaNumber, AccountId, AddressSuffix, Id, IdKind, ParticipantId, Refusal, Violations,
};
use sammati_server::event::micros;

use crate::tokens::AUDIENCES;

/// The languages of the Eighth Schedule, and English.
pub(super) const LANGUAGES: [&str; 23] = [
    "en", "as", "bn", "brx", "doi", "gu", "hi", "kn", "ks", "kok", "mai", "ml", "mni", "mr", "ne", "or", "pa", "sa",
    "sat", "sd", "ta", "te", "ur",
];

/// A resource name, `collection/{id}`.
pub(crate) fn named<K: IdKind>(v: &mut Violations, field: &'static str, name: &str) -> Option<Id<K>> {
    let id = Id::parse_name(name);
    if id.is_none() {
        v.add(field, format!("must be {}/{{id}}", K::COLLECTION));
    }
    id
}

/// `participants/{id}`.
pub(crate) fn participant_named(v: &mut Violations, field: &'static str, name: &str) -> Option<ParticipantId> {
    v.keep(field, ParticipantId::parse_name(name))
}

/// Text of `min` to `max` characters without control characters.
pub(crate) fn text(v: &mut Violations, field: &'static str, value: &str, min: usize, max: usize) {
    let length = value.chars().count();
    if length < min || length > max || value.chars().any(char::is_control) {
        v.add(
            field,
            format!("must be {min} to {max} characters, none of them a control character"),
        );
    }
}

/// The same for text that events tell: nothing in it may look like an Aadhaar number, for the log refuses that.
pub(crate) fn told(v: &mut Violations, field: &'static str, value: &str, min: usize, max: usize) {
    text(v, field, value, min, max);
    if AadhaarNumber::found_in(value) {
        v.add(field, "holds what looks like an Aadhaar number; leave it out");
    }
}

/// The audiences of tokens: at least one, each once.
pub(crate) fn audiences(v: &mut Violations, given: &[String]) {
    let known = given.iter().all(|a| AUDIENCES.contains(&a.as_str()));
    let distinct: std::collections::BTreeSet<_> = given.iter().collect();
    if given.is_empty() || !known || distinct.len() != given.len() {
        v.add(
            "audiences",
            "at least 1 of \"identity\", \"consent\", \"audit\", each once",
        );
    }
}

/// The consent text that was accepted; for an enrolment the one that ABDM wants. Whether it was accepted lately is for
/// the command to say, by the time of its commit.
pub(crate) fn consent(v: &mut Violations, stamp: &ConsentStamp, enrolment: bool) {
    told(v, "consent.version", &stamp.version, 1, 16);
    if enrolment && (stamp.code != "abha-enrollment" || stamp.version != "1.4") {
        v.add("consent.code", "must be \"abha-enrollment\" in version \"1.4\"");
    } else {
        told(v, "consent.code", &stamp.code, 1, 64);
    }
    if !LANGUAGES.contains(&stamp.language.as_str()) {
        v.add(
            "consent.language",
            "must be \"en\" or the code of a language of the Eighth Schedule, as \"hi\"",
        );
    }
    let plain = |id: &str| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let named = stamp.notice.strip_prefix("notices/").is_some_and(plain);
    if !stamp.notice.is_empty() && (!named || AadhaarNumber::found_in(&stamp.notice)) {
        v.add("consent.notice", "must be notices/{id}, or empty");
    }
    if stamp.accepted_time.as_ref().and_then(micros).is_none() {
        v.add("consent.accepted_time", ACCEPTED);
    }
}

/// What a time of acceptance must be.
pub(crate) const ACCEPTED: &str = "required: when she accepted, at most 15 minutes ago and not in the future";

/// One way to name a person.
#[derive(Debug, Clone)]
pub(crate) enum Named {
    Number(AbhaNumber),
    Address(AbhaAddress),
    Account(AccountId),
}

impl Named {
    /// In one spelling for all that find the same person by form alone: a default address of ours, which ends in
    /// `suffix`, is spelled as its number.
    pub(crate) fn folded(&self, suffix: AddressSuffix) -> String {
        match self {
            Self::Number(number) => number.digits(),
            Self::Address(address) => match address.number().filter(|_| address.suffix() == suffix) {
                Some(number) => number.digits(),
                None => address.folded(),
            },
            Self::Account(account) => account.name(),
        }
    }
}

/// Reads it.
pub(crate) fn identifier(v: &mut Violations, given: Option<&Identifier>) -> Option<Named> {
    identifier_in(v, "identifier", given)
}

/// The same in another field.
pub(crate) fn identifier_in(v: &mut Violations, field: &'static str, given: Option<&Identifier>) -> Option<Named> {
    let found = match given.and_then(|i| i.identifier.as_ref()) {
        Some(api::Identifier::AbhaNumber(text)) => AbhaNumber::parse(text)
            .map(Named::Number)
            .map_err(|why| ("abha_number", why.to_string())),
        Some(api::Identifier::AbhaAddress(text)) => AbhaAddress::parse(text)
            .map(Named::Address)
            .map_err(|why| ("abha_address", why.to_string())),
        Some(api::Identifier::Account(name)) => AccountId::parse_name(name)
            .map(Named::Account)
            .ok_or_else(|| ("account", "must be accounts/{id}".to_owned())),
        None => {
            v.add(field, "required: abha_number, abha_address or account");
            return None;
        }
    };
    found.map_err(|(one, why)| v.add(format!("{field}.{one}"), why)).ok()
}

/// What is left when all violations are gathered: a value that cannot be absent.
pub(crate) fn present<T>(value: Option<T>) -> Result<T, Refusal> {
    value.ok_or_else(|| crate::vault::broken("a field passed validation without a value"))
}
