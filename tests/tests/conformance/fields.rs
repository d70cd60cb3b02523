//! Everything that can be wrong with one field of a request, and the requests that have just that wrong.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

use crate::contract::{Need, Rpc, about, collection, limit, need, oneof};
use crate::sample::{Sampler, uuid};
use crate::verdict::CANARY;

/// A field of a request, by the way to it.
pub(crate) type Path = Vec<FieldDescriptor>;

/// One request with one field wrong.
pub(crate) struct Case {
    /// What is wrong.
    pub(crate) what: String,
    /// Where.
    pub(crate) path: Path,
    /// The request.
    pub(crate) message: DynamicMessage,
}

/// Resources whose id is not a UUID.
const NAMED: [&str; 3] = ["participants", "notices", "logs"];

/// What a service of ours tells the log of its own: it is sealed as it comes, and refusing it would stop the feed. The
/// audit service's own tests hold what may never be in it.
const SEALED: [&str; 2] = ["sammati.audit.v1.Event.payload", "sammati.audit.v1.Event.txn_id"];

/// All wrong requests of a method.
pub(crate) fn cases(rpc: &Rpc, sampler: &Sampler<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    // An update leaves alone what never changes.
    let updates = rpc.method.name().starts_with("Update");
    for path in paths(&rpc.method.input()) {
        let field = path.last().expect("a path is not empty").clone();
        if updates && about(&field).contains("Immutable.") {
            continue;
        }
        for (what, value) in wrong(&field, sampler) {
            // Each has ids of its own.
            let base = Sampler::making_room(sampler.message(&rpc.method.input()), &field);
            let message = with(&base, &path, value, sampler);
            cases.push(Case {
                what: what.to_owned(),
                path: path.clone(),
                message,
            });
        }
    }
    cases
}

/// The ways to all fields of a request that are the caller's to set.
pub(crate) fn paths(message: &MessageDescriptor) -> Vec<Path> {
    let mut found = Vec::new();
    let sealed = |f: &FieldDescriptor| SEALED.contains(&f.full_name());
    for field in message.fields().filter(|f| need(f) != Need::Output && !sealed(f)) {
        if let Kind::Message(inner) = field.kind()
            && !field.is_map()
            && !inner.full_name().starts_with("google.")
        {
            for mut rest in paths(&inner) {
                rest.insert(0, field.clone());
                found.push(rest);
            }
        }
        found.push(vec![field]);
    }
    found
}

/// Wrong values of a field.
fn wrong(field: &FieldDescriptor, sampler: &Sampler<'_>) -> Vec<(&'static str, Value)> {
    let wrap = |value: Value| match () {
        () if field.is_map() => Value::Map([(MapKey::String("otp".into()), value)].into()),
        () if field.is_list() => Value::List(vec![value]),
        () => value,
    };
    let mut values: Vec<(&str, Value)> = elements(field)
        .into_iter()
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
        let many = limit(field).unwrap_or(2000) + 1;
        values.push((
            "too many",
            Value::List((0..many).map(|n| sampler.element(field, n)).collect()),
        ));
    }
    values
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
            ("1 MiB", Value::String(CANARY.repeat((1 << 20) / CANARY.len()))),
        ],
        Kind::Bytes => vec![("1 MiB", Value::Bytes(vec![7; 1 << 20].into()))],
        Kind::Enum(_) => vec![("9999", Value::EnumNumber(9999))],
        Kind::Int32 => vec![("-1", Value::I32(-1))],
        Kind::Int64 => vec![("-1", Value::I64(-1))],
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

/// `base` with `value` at `path`; what is missing on the way is filled in.
pub(crate) fn with(
    base: &DynamicMessage,
    path: &[FieldDescriptor],
    value: Value,
    sampler: &Sampler<'_>,
) -> DynamicMessage {
    let mut message = base.clone();
    let Some((field, rest)) = path.split_first() else {
        return message;
    };
    if rest.is_empty() {
        message.set_field(field, value);
        return message;
    }
    let present = message.has_field(field).then(|| message.get_field(field).into_owned());
    let inner = match present.unwrap_or_else(|| sampler.value(field)) {
        Value::Message(inner) => inner,
        Value::List(list) => match list.into_iter().next() {
            Some(Value::Message(inner)) => inner,
            _ => panic!("{} has no element", field.full_name()),
        },
        other => panic!("{} is no message: {other:?}", field.full_name()),
    };
    debug_assert_eq!(Some(inner.descriptor()), field.kind().as_message().cloned());
    let inner = Value::Message(with(&inner, rest, value, sampler));
    message.set_field(
        field,
        if field.is_list() {
            Value::List(vec![inner])
        } else {
            inner
        },
    );
    message
}

/// `grants.scope.hi_types`.
pub(crate) fn dotted(path: &[FieldDescriptor]) -> String {
    path.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
}

/// Whether `named`, one of the fields that a refusal names, is the one at `path`, what it is part of, a part of it, or
/// the choice that it belongs to.
pub(crate) fn names_it(named: &str, path: &[FieldDescriptor]) -> bool {
    let mut prefix = String::new();
    for field in path {
        let choice = oneof(field).map(|o| {
            o.fields()
                .map(|f| f.name().to_owned())
                .chain([o.name().to_owned()])
                .collect()
        });
        let here: Vec<String> = choice.unwrap_or_else(|| vec![field.name().to_owned()]);
        if here.iter().any(|name| named == format!("{prefix}{name}")) {
            return true;
        }
        prefix.push_str(field.name());
        prefix.push('.');
    }
    named.starts_with(&prefix)
}

/// Whether the field carries what we once gave out: a wrong one is refused as never given, or as the object's absence.
pub(crate) fn is_ours(field: &FieldDescriptor) -> bool {
    ["token", "assertion", "etag"]
        .iter()
        .any(|word| field.name().ends_with(word))
        || about(field).contains("`resume_token`")
}
