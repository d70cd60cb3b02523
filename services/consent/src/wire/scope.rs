//! Scopes, with the validation messages of ABDM.

use std::collections::BTreeSet;

use sammati_api::types::v1 as types;
use sammati_kernel::{AccessMode, HiType, Micros, PurposeCode, Violations};
use sammati_server::event::timestamp;

use super::{TEXT, is_plain, range, time};
use crate::artefact::Audience;
use crate::scope::{Frequency, Range, Scope, Unit};

/// The largest of the small numbers of a scope.
const MOST: i32 = 1_000_000;

/// The most care contexts of a scope.
const CONTEXTS: usize = 100;

/// The fields of a scope, each read on its own: one that is wrong does not hide what is wrong with another.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Why.
    pub purpose: Option<PurposeCode>,
    /// Which kinds of record.
    pub hi_types: Option<BTreeSet<HiType>>,
    access_mode: Option<AccessMode>,
    /// The dates of the records.
    pub record_range: Option<Range>,
    /// When the receiver must have erased them.
    pub erase_time: Option<Micros>,
    frequency: Option<Frequency>,
    max_uses: i32,
    bind_requester: bool,
}

impl Parts {
    /// The scope, if nothing of it was wrong; without care contexts, which are hashed for their patient.
    pub fn whole(self) -> Option<Scope> {
        Some(Scope {
            purpose: self.purpose?,
            hi_types: self.hi_types?,
            access_mode: self.access_mode?,
            record_range: self.record_range?,
            erase_time: self.erase_time?,
            frequency: self.frequency?,
            max_uses: self.max_uses,
            bind_requester: self.bind_requester,
            care_contexts: BTreeSet::new(),
        })
    }
}

/// A scope's fields; its care contexts are checked, and stay with the message.
pub fn parse(v: &mut Violations, field: &str, scope: Option<&types::Scope>) -> Parts {
    let Some(scope) = scope else {
        v.add(field.to_owned(), "required");
        return Parts::default();
    };
    let at = |name: &str| format!("{field}.{name}");
    small(v, &at("max_uses"), scope.max_uses);
    contexts(v, &at("care_contexts"), &scope.care_contexts);
    Parts {
        purpose: purpose(v, &at("purpose"), scope.purpose.as_ref()),
        hi_types: hi_types(v, &at("hi_types"), &scope.hi_types, 1),
        access_mode: access_mode(v, &at("access_mode"), scope.access_mode),
        record_range: range(v, &at("record_range"), scope.record_range.as_ref()),
        erase_time: time(v, &at("erase_time"), scope.erase_time.as_ref()),
        frequency: frequency(v, &at("frequency"), scope.frequency.as_ref()),
        max_uses: scope.max_uses,
        bind_requester: scope.bind_requester,
    }
}

/// A purpose: its code, and text and URI if they are sent must be those of the code.
fn purpose(v: &mut Violations, field: &str, purpose: Option<&types::Purpose>) -> Option<PurposeCode> {
    let code = PurposeCode::from_number(purpose.map_or(0, |p| p.code));
    let Some((code, sent)) = code.zip(purpose) else {
        let why = match purpose {
            Some(p) if p.code != 0 => {
                "Invalid purpose code, it must be in CAREMGT, BTG, PUBHLTH, HPAYMT, DSRCH, PATRQT"
            }
            _ => "Consent purpose code cannot be null",
        };
        v.add(format!("{field}.code"), why);
        return None;
    };
    if !sent.text.is_empty() && sent.text != code.text() {
        v.add(
            format!("{field}.text"),
            format!("Invalid purpose text, it must be {}", code.text()),
        );
    }
    if !sent.ref_uri.is_empty() && sent.ref_uri != code.ref_uri() {
        v.add(
            format!("{field}.ref_uri"),
            format!("Invalid consent purpose refURI, it must be {}", code.ref_uri()),
        );
    }
    Some(code)
}

/// Kinds of record, each once.
pub fn hi_types(v: &mut Violations, field: &str, numbers: &[i32], least: usize) -> Option<BTreeSet<HiType>> {
    let known: BTreeSet<_> = numbers.iter().filter_map(|n| HiType::from_number(*n)).collect();
    if numbers.len() < least {
        v.add(field.to_owned(), "at least one kind of record");
    } else if known.len() != numbers.len() {
        v.add(field.to_owned(), "known kinds of record only, each once");
    } else {
        return Some(known);
    }
    None
}

/// An access mode.
pub fn access_mode(v: &mut Violations, field: &str, number: i32) -> Option<AccessMode> {
    let mode = AccessMode::from_number(number);
    if mode.is_none() {
        v.add(
            field.to_owned(),
            "Invalid accessMode, it must be in VIEW, STORE, QUERY, STREAM",
        );
    }
    mode
}

fn frequency(v: &mut Violations, field: &str, frequency: Option<&types::Frequency>) -> Option<Frequency> {
    let Some(frequency) = frequency else {
        v.add(field.to_owned(), "Frequency should not be null or empty");
        return None;
    };
    small(v, &format!("{field}.value"), frequency.value);
    small(v, &format!("{field}.repeats"), frequency.repeats);
    let Some(unit) = Unit::from_number(frequency.unit) else {
        v.add(format!("{field}.unit"), "Frequency unit should not be null or empty");
        return None;
    };
    Some(Frequency {
        unit,
        value: frequency.value,
        repeats: frequency.repeats,
    })
}

fn small(v: &mut Violations, field: &str, number: i32) {
    if !(0..=MOST).contains(&number) {
        v.add(field.to_owned(), "0 to 1000000");
    }
}

/// Care contexts of a scope, each once.
pub fn contexts(v: &mut Violations, field: &str, contexts: &[types::CareContextRef]) {
    if contexts.len() > CONTEXTS {
        v.add(field.to_owned(), "at most 100");
        return;
    }
    let mut seen = BTreeSet::new();
    for (n, context) in contexts.iter().enumerate() {
        // Whoever asks need not know it: the provider said it when it linked the care context.
        if !context.patient_reference.is_empty() {
            let field = format!("{field}[{n}].patient_reference");
            reference(v, &field, &context.patient_reference, "");
        }
        reference(
            v,
            &format!("{field}[{n}].care_context_reference"),
            &context.care_context_reference,
            "|",
        );
        check_kind(v, &format!("{field}[{n}]"), context, false);
        if !seen.insert(&context.care_context_reference) {
            v.add(format!("{field}[{n}]"), "each care context once");
        }
    }
}

/// The kind of record and the display of a care context.
pub fn check_kind(v: &mut Violations, field: &str, context: &types::CareContextRef, required: bool) {
    let known = HiType::from_number(context.hi_type).is_some();
    if !known && (required || context.hi_type != 0) {
        v.add(format!("{field}.hi_type"), "a known kind of record");
    }
    if !is_plain(&context.display, 0, TEXT) {
        v.add(
            format!("{field}.display"),
            "0 to 255 characters, without control characters",
        );
    }
}

/// A reference in the letters that ABDM takes, and those in `more`.
pub fn reference(v: &mut Violations, field: &str, text: &str, more: &str) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-@,().\"/: ".contains(c) || more.contains(c);
    if !(1..=TEXT).contains(&text.len()) || !text.chars().all(allowed) {
        v.add(
            field.to_owned(),
            format!("1 to 255 letters, digits, blanks and _ - @ , ( ) . \" / : {more}"),
        );
    }
}

/// A scope on the wire. The HIU learns of a care context no more than its reference and kind.
pub fn render(scope: &Scope, contexts: &[types::CareContextRef], to: Option<Audience>) -> types::Scope {
    let shown = |context: &types::CareContextRef| match to {
        Some(Audience::Hiu) => types::CareContextRef {
            patient_reference: String::new(),
            display: String::new(),
            ..context.clone()
        },
        _ => context.clone(),
    };
    let (range, frequency) = (scope.record_range, scope.frequency);
    types::Scope {
        purpose: Some(types::Purpose {
            code: scope.purpose.number(),
            text: scope.purpose.text().to_owned(),
            ref_uri: scope.purpose.ref_uri().to_owned(),
        }),
        hi_types: scope.hi_types.iter().map(|t| t.number()).collect(),
        access_mode: scope.access_mode.number(),
        record_range: Some(types::TimeRange {
            from: Some(timestamp(range.from)),
            to: Some(timestamp(range.to)),
        }),
        erase_time: Some(timestamp(scope.erase_time)),
        frequency: Some(types::Frequency {
            unit: frequency.unit.number(),
            value: frequency.value,
            repeats: frequency.repeats,
        }),
        max_uses: scope.max_uses,
        bind_requester: scope.bind_requester,
        care_contexts: contexts.iter().map(shown).collect(),
    }
}
