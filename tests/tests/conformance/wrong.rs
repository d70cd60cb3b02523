//! Everything that can be wrong with one field.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, Value};

use crate::contract::{about, collection};
use crate::limits::{Limit, limit, most_elements};
use crate::sample::{Sampler, uuid};
use crate::verdict::CANARY;

/// What the longest values are called.
pub(crate) const HUGE: &str = "1 MiB";

/// Resources whose id is not a UUID.
const NAMED: [&str; 4] = ["participants", "notices", "logs", "events"];

/// Wrong values of a field.
pub(crate) fn wrong(field: &FieldDescriptor, sampler: &Sampler<'_>) -> Vec<(&'static str, Value)> {
    let wrap = |value: Value| match () {
        () if field.is_map() => Value::Map([(MapKey::String("otp".into()), value)].into()),
        () if field.is_list() => Value::List(vec![value]),
        () => value,
    };
    let mut values: Vec<(&str, Value)> = elements(field)
        .into_iter()
        .chain(above(field))
        .map(|(what, value)| (what, wrap(value)))
        .collect();
    if let Some(collection) = collection(field) {
        values.extend(
            names(&collection, field, sampler)
                .into_iter()
                .map(|(what, name)| (what, wrap(Value::String(name)))),
        );
    }
    if field.is_list() {
        let many = most_elements(field).unwrap_or(2000) + 1;
        values.push((
            "too many",
            Value::List((0..many).map(|n| sampler.element(field, n)).collect()),
        ));
    }
    values
}

/// One more than the comment allows.
fn above(field: &FieldDescriptor) -> Option<(&'static str, Value)> {
    let value = match limit(field)? {
        Limit::Characters(most) => Value::String("a".repeat(most + 1)),
        Limit::Bytes(most) => Value::Bytes(vec![7; most + 1].into()),
        Limit::Number(most) if field.kind() == Kind::Int32 => Value::I32(i32::try_from(most + 1).ok()?),
        Limit::Number(most) => Value::I64(most + 1),
        Limit::Seconds(most) => {
            let mut span = DynamicMessage::new(field.kind().as_message()?.clone());
            span.set_field_by_name("seconds", Value::I64(most + 1));
            Value::Message(span)
        }
    };
    Some(("one above its limit", value))
}

fn elements(field: &FieldDescriptor) -> Vec<(&'static str, Value)> {
    // Of a map the values: the last field of its entry.
    let kind = match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    match kind {
        Kind::String => vec![
            ("NUL", Value::String(format!("{CANARY}\0{CANARY}"))),
            (HUGE, Value::String(CANARY.repeat((1 << 20) / CANARY.len()))),
        ],
        Kind::Bytes => vec![(HUGE, Value::Bytes(vec![7; 1 << 20].into()))],
        Kind::Enum(_) => vec![("9999", Value::EnumNumber(9999))],
        Kind::Int32 => vec![("-1", Value::I32(-1))],
        Kind::Int64 => vec![("-1", Value::I64(-1))],
        Kind::Message(span) if span.full_name() == "google.protobuf.Duration" => {
            let span = |seconds: i64, nanos: i32| {
                let mut message = DynamicMessage::new(span.clone());
                message.set_field_by_name("seconds", Value::I64(seconds));
                message.set_field_by_name("nanos", Value::I32(nanos));
                Value::Message(message)
            };
            vec![
                ("-1 s", span(-1, 0)),
                ("-1 ns", span(0, -1)),
                ("a length that is none", span(1, i32::MAX)),
                ("for ever", span(i64::MAX, 0)),
            ]
        }
        Kind::Message(mask) if mask.full_name() == "google.protobuf.FieldMask" => {
            let mask = |path: String| {
                let mut message = DynamicMessage::new(mask.clone());
                message.set_field_by_name("paths", Value::List(vec![Value::String(path)]));
                Value::Message(message)
            };
            vec![
                ("an unknown path", mask("elephants".to_owned())),
                ("an empty path", mask(String::new())),
                ("a path with NUL", mask(format!("{CANARY}\0{CANARY}"))),
                ("a path of 1 KiB", mask(CANARY.repeat(150))),
            ]
        }
        Kind::Message(time) if time.full_name() == "google.protobuf.Timestamp" => {
            let mut never = DynamicMessage::new(time);
            never.set_field_by_name("seconds", Value::I64(i64::MAX));
            never.set_field_by_name("nanos", Value::I32(-1));
            vec![("a time that is none", Value::Message(never))]
        }
        _ => Vec::new(),
    }
}

fn names(collection: &str, field: &FieldDescriptor, sampler: &Sampler<'_>) -> Vec<(&'static str, String)> {
    let id = uuid(sampler.clock.now());
    let mut names = vec![("a path", format!("{collection}/../.."))];
    // "e.g. `transfers/{id}`": any resource may be named.
    if !about(field).contains("e.g. `") {
        names.push(("another collection", format!("elephants/{id}")));
    }
    if !NAMED.contains(&collection) && !about(field).contains("e.g. `") {
        names.push(("upper case", format!("{collection}/{}", id.to_uppercase())));
        names.push(("no id", format!("{collection}/1")));
    }
    names
}
