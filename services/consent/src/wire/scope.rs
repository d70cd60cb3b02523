//! Scopes, with the validation messages of ABDM.

use std::collections::BTreeSet;

use sammati_api::types::v1 as types;
use sammati_kernel::{AccessMode, HiType, Micros, PurposeCode, Violations};
use sammati_server::event::timestamp;

use super::{TEXT, is_plain, range, time};
use crate::artefact::Audience;
use crate::scope::{Frequency, Scope, Unit};

/// The largest of the small numbers of a scope.
const MOST: i32 = 1_000_000;

/// The most care contexts of a scope.
const CONTEXTS: usize = 100;

/// A scope, without its care contexts in hashed form; those come beside it.
pub fn parse(
    v: &mut Violations,
    field: &str,
    scope: Option<&types::Scope>,
) -> Option<(Scope, Vec<types::CareContextRef>)> {
    let Some(scope) = scope else {
        v.add(field.to_owned(), "required");
        return None;
    };
    let at = |name: &str| format!("{field}.{name}");
    let purpose = purpose(v, &at("purpose"), scope.purpose.as_ref());
    let hi_types = hi_types(v, &at("hi_types"), &scope.hi_types, 1);
    let access_mode = access_mode(v, &at("access_mode"), scope.access_mode);
    let record_range = range(v, &at("record_range"), scope.record_range.as_ref());
    let erase_time = time(v, &at("erase_time"), scope.erase_time.as_ref());
    let frequency = frequency(v, &at("frequency"), scope.frequency.as_ref());
    small(v, &at("max_uses"), scope.max_uses);
    contexts(v, &at("care_contexts"), &scope.care_contexts);
    let parsed = Scope {
        purpose: purpose?,
        hi_types: hi_types?,
        access_mode: access_mode?,
        record_range: record_range?,
        erase_time: erase_time?,
        frequency: frequency?,
        max_uses: scope.max_uses,
        bind_requester: scope.bind_requester,
        care_contexts: BTreeSet::new(),
    };
    Some((parsed, scope.care_contexts.clone()))
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
        reference(
            v,
            &format!("{field}[{n}].patient_reference"),
            &context.patient_reference,
            "",
        );
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

/// Where a scope that is asked for must lie by the clock.
pub fn check_times(v: &mut Violations, field: &str, scope: &Scope, now: Micros) {
    const FIVE_YEARS: i64 = 5 * 366 * 86_400_000_000;
    if scope.record_range.from > now || scope.record_range.to > now {
        v.add(
            format!("{field}.record_range"),
            "Invalid from/to date. Date must be a present/before date",
        );
    }
    if scope.erase_time <= now {
        v.add(
            format!("{field}.erase_time"),
            "Invalid data erase date. Date must be a future date",
        );
    } else if scope.erase_time.0 - now.0 > FIVE_YEARS {
        v.add(format!("{field}.erase_time"), "at most 5 years from now");
    }
}

/// A scope on the wire. The HIU does not learn the provider's patient reference.
pub fn render(scope: &Scope, contexts: &[types::CareContextRef], to: Option<Audience>) -> types::Scope {
    let shown = |context: &types::CareContextRef| match to {
        Some(Audience::Hiu) => types::CareContextRef {
            patient_reference: String::new(),
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
