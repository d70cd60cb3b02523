//! How is it spelled? Messages to values and back. Parsing gathers everything that is wrong before it says anything.

pub mod ask;
pub mod consent;
pub mod decision;
pub mod discovery;
pub mod explain;
pub mod link;
pub mod notice;
pub mod notification;
pub mod request;
pub mod rights;
pub mod scope;
pub mod share;
pub mod standing;
pub mod study;
pub mod subscription;
pub mod transfer;

use sammati_api::types::v1 as types;
use sammati_kernel::{AbhaAddress, AbhaNumber, AccountId, Caller, Id, IdKind, Micros, ParticipantId, Violations};
use sammati_server::event::{micros, timestamp};

use crate::scope::Range;

/// The longest free text of the contract, in characters.
pub const TEXT: usize = 255;

/// Whether `text` has between `least` and `most` characters and nothing that no keyboard types: NUL, line breaks,
/// other controls.
pub fn is_plain(text: &str, least: usize, most: usize) -> bool {
    // A character has at most four bytes: what is far too long is not counted.
    text.len() <= most * 4 && (least..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// Notes `field` unless `text` is plain and of that length.
pub fn check_text(v: &mut Violations, field: &str, text: &str, least: usize, most: usize) {
    if !is_plain(text, least, most) {
        v.add(
            field.to_owned(),
            format!("{least} to {most} characters, without control characters"),
        );
    }
}

/// A language, which may be one that nothing is written in.
pub fn check_language(v: &mut Violations, language: &str) {
    let tag = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if language.len() > 35 || !language.bytes().all(tag) {
        v.add("language", "BCP 47, as hi; empty for en");
    }
}

/// A required time.
pub fn time(v: &mut Violations, field: &str, at: Option<&prost_types::Timestamp>) -> Option<Micros> {
    let Some(at) = at else {
        v.add(field.to_owned(), "required");
        return None;
    };
    let read = micros(at);
    if read.is_none() {
        v.add(
            field.to_owned(),
            "a time of the years 1 to 9999, nanos from 0 to 999999999",
        );
    }
    read
}

/// A required interval that is not empty.
pub fn range(v: &mut Violations, field: &str, range: Option<&types::TimeRange>) -> Option<Range> {
    let Some(range) = range else {
        v.add(field.to_owned(), "DateRange should not be null or empty");
        return None;
    };
    let read = |at: &Option<prost_types::Timestamp>| at.as_ref().and_then(micros);
    let (Some(from), Some(to)) = (read(&range.from), read(&range.to)) else {
        // Named only now: every check has a range, and hardly any a wrong one.
        time(v, &format!("{field}.from"), range.from.as_ref());
        time(v, &format!("{field}.to"), range.to.as_ref());
        return None;
    };
    if from >= to {
        v.add(field.to_owned(), "from must be before to");
        return None;
    }
    Some(Range { from, to })
}

/// A participant's resource name; empty is `None` and well.
pub fn optional_participant(v: &mut Violations, field: &str, name: &str) -> Option<ParticipantId> {
    if name.is_empty() {
        None
    } else {
        participant(v, field, name)
    }
}

/// A participant's resource name.
pub fn participant(v: &mut Violations, field: &str, name: &str) -> Option<ParticipantId> {
    ParticipantId::parse_name(name)
        .map_err(|why| v.add(field.to_owned(), why))
        .ok()
}

/// Another resource name.
pub fn name<K: IdKind>(v: &mut Violations, field: &str, name: &str) -> Option<Id<K>> {
    let id = Id::parse_name(name);
    if id.is_none() {
        v.add(
            field.to_owned(),
            format!("must be {}/{{id}}, the id a UUIDv7 in lower case", K::COLLECTION),
        );
    }
    id
}

/// Another resource name; empty is `None` and well.
pub fn optional_name<K: IdKind>(v: &mut Violations, field: &str, text: &str) -> Option<Id<K>> {
    if text.is_empty() { None } else { name(v, field, text) }
}

/// A professional.
pub fn requester(v: &mut Violations, field: &str, requester: Option<types::Requester>) -> Option<types::Requester> {
    let Some(requester) = requester else {
        v.add(field.to_owned(), "required");
        return None;
    };
    check_text(v, &format!("{field}.name"), &requester.name, 1, TEXT);
    let Some(identifier) = &requester.identifier else {
        v.add(format!("{field}.identifier"), "required");
        return None;
    };
    check_text(v, &format!("{field}.identifier.type"), &identifier.r#type, 1, 64);
    check_text(v, &format!("{field}.identifier.value"), &identifier.value, 1, 64);
    check_text(v, &format!("{field}.identifier.system"), &identifier.system, 1, TEXT);
    // Nothing is verified yet, whatever the caller says.
    Some(types::Requester {
        verified: false,
        ..requester
    })
}

/// The registration of a professional, as it is compared.
pub fn registration(requester: &types::Requester) -> [String; 3] {
    let who = requester.identifier.clone().unwrap_or_default();
    [who.r#type, who.value, who.system]
}

/// A person, well formed: her account, or what identity must be asked about.
#[derive(Debug, Clone, PartialEq)]
pub enum Person {
    /// Her account.
    Account(AccountId),
    /// What to ask, in its canonical form.
    Ask(types::Identifier),
}

impl Person {
    /// The same text for the same person's same identifier, however it was written.
    pub fn text(&self) -> String {
        use types::identifier::Identifier as I;
        match self {
            Self::Account(account) => account.name(),
            Self::Ask(types::Identifier {
                identifier: Some(I::AbhaNumber(text) | I::AbhaAddress(text) | I::Account(text)),
            }) => text.clone(),
            Self::Ask(types::Identifier { identifier: None }) => String::new(),
        }
    }

    /// The same, and the address that a number has from the start is that number: of somebody they are one, so they must be
    /// of nobody.
    pub fn text_or_number(&self) -> String {
        let text = self.text();
        let number = AbhaAddress::parse(&text).ok().and_then(|address| address.number());
        number.map_or(text, AbhaNumber::digits)
    }
}

/// One way to name a person.
pub fn person(v: &mut Violations, field: &str, identifier: Option<&types::Identifier>) -> Option<Person> {
    use types::identifier::Identifier as I;
    let ask = |identifier: I| {
        Person::Ask(types::Identifier {
            identifier: Some(identifier),
        })
    };
    match identifier.and_then(|i| i.identifier.as_ref()) {
        None => {
            v.add(field.to_owned(), "required: abha_number, abha_address or account");
            None
        }
        Some(I::AbhaNumber(text)) => {
            let number = AbhaNumber::parse(text).map_err(|why| v.add(format!("{field}.abha_number"), why));
            number.ok().map(|number| ask(I::AbhaNumber(number.digits())))
        }
        Some(I::AbhaAddress(text)) => {
            let address = AbhaAddress::parse(text).map_err(|why| v.add(format!("{field}.abha_address"), why));
            address.ok().map(|address| ask(I::AbhaAddress(address.folded())))
        }
        Some(I::Account(text)) => name(v, &format!("{field}.account"), text).map(Person::Account),
    }
}

/// What an operator must name and nobody else may: the law or order that it rests on.
pub fn legal_basis(v: &mut Violations, caller: &Caller, text: &str) {
    if caller.is_operator() {
        check_text(v, "legal_basis", text, 1, TEXT);
    } else if !text.is_empty() {
        v.add("legal_basis", "for operators only");
    }
}

/// An interval on the wire.
pub fn interval(from: i64, to: i64) -> types::TimeRange {
    types::TimeRange {
        from: Some(timestamp(Micros(from))),
        to: Some(timestamp(Micros(to))),
    }
}

/// A time on the wire; `None` for one that is absent.
pub fn stamp(micros: i64) -> Option<prost_types::Timestamp> {
    crate::rows::time(micros).map(timestamp)
}

/// The enum's values without repeats, none of them unspecified or unknown.
pub fn states<E: TryFrom<i32> + PartialEq + Default>(v: &mut Violations, field: &str, numbers: &[i32]) -> Vec<i32> {
    let known = |n: &i32| E::try_from(*n).is_ok_and(|state| state != E::default());
    if !numbers.iter().all(known) {
        v.add(field.to_owned(), "known states only");
    }
    let mut unique = numbers.to_vec();
    unique.sort_unstable();
    unique.dedup();
    if unique.len() != numbers.len() {
        v.add(field.to_owned(), "each state once");
    }
    unique
}
