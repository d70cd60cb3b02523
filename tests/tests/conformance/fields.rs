//! Requests that have one field wrong, and all of them at once.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};

use crate::contract::{Need, Rpc, about, need, oneof};
use crate::limits::{Limit, limit, starts_above_zero};
use crate::sample::Sampler;
use crate::wrong::wrong;

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
        // An etag is compared with an object's that is there: `mutations.rs` has one.
        if field.name() == "etag" || (updates && about(&field).contains("Immutable.")) {
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
        // What a request lacks at its top an empty one is told.
        if path.len() > 1 && !updates && must_be(&field) {
            let base = Sampler::making_room(sampler.message(&rpc.method.input()), &path[0]);
            cases.push(Case {
                what: "absent".to_owned(),
                message: without(&base, &path, sampler),
                path: path.clone(),
            });
        }
    }
    cases
}

/// A request with every field at its top wrong, and those fields; what was once given out is left out, for a wrong one
/// is like an unknown one.
pub(crate) fn all_wrong(rpc: &Rpc, sampler: &Sampler<'_>) -> (DynamicMessage, Vec<Path>) {
    let mut message = DynamicMessage::new(rpc.method.input());
    let mut fields = Vec::new();
    for field in rpc
        .method
        .input()
        .fields()
        .filter(|f| need(f) != Need::Output && !is_ours(f))
    {
        // Of a choice the first, and nothing that is sent instead of something else.
        let chosen = oneof(&field).and_then(|o| o.fields().next());
        if chosen.is_some_and(|first| first != field) || Sampler::is_instead(&field) {
            continue;
        }
        let Some(value) = worst(&field, sampler) else { continue };
        message.set_field(&field, value);
        fields.push(vec![field]);
    }
    (message, fields)
}

/// A value of a field that is wrong whatever the others say.
fn worst(field: &FieldDescriptor, sampler: &Sampler<'_>) -> Option<Value> {
    let inner = field.kind().as_message().cloned();
    match inner.filter(|m| !field.is_map() && !m.full_name().starts_with("google.")) {
        // With something in it that it requires.
        Some(message) => {
            let lacks = message.fields().any(|f| need(&f) == Need::Required);
            let empty = Value::Message(DynamicMessage::new(message));
            lacks.then(|| {
                if field.is_list() {
                    Value::List(vec![empty])
                } else {
                    empty
                }
            })
        }
        None => wrong(field, sampler).into_iter().map(|(_, value)| value).next(),
    }
}

/// Requests with one text as long as its comment allows, where any text will do.
pub(crate) fn longest(rpc: &Rpc, sampler: &Sampler<'_>) -> Vec<(Path, DynamicMessage)> {
    let mut requests = Vec::new();
    for path in paths(&rpc.method.input()) {
        let field = path.last().expect("a path is not empty");
        let (Some(Limit::Characters(most)), true) = (limit(field), sampler.is_free(field)) else {
            continue;
        };
        // A study names nobody's care contexts.
        if rpc.name().ends_with(".CreateStudy") && path.iter().any(|field| field.name() == "care_contexts") {
            continue;
        }
        let text = if about(field).contains("any script") {
            "आ"
        } else {
            "a"
        }
        .repeat(most);
        let text = Value::String(text);
        let value = if field.is_list() { Value::List(vec![text]) } else { text };
        let base = sampler.fit(Sampler::making_room(sampler.message(&rpc.method.input()), field), field);
        requests.push((path.clone(), with(&base, &path, value, sampler)));
    }
    requests
}

/// Whether a message without the field lacks it: a number that may be 0 is never absent.
fn must_be(field: &FieldDescriptor) -> bool {
    let number = matches!(field.kind(), Kind::Int32 | Kind::Int64);
    need(field) == Need::Required && (!number || starts_above_zero(field))
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

/// `base` without what is at `path`: of a choice without any of it.
fn without(base: &DynamicMessage, path: &[FieldDescriptor], sampler: &Sampler<'_>) -> DynamicMessage {
    let Some((field, above)) = path.split_last() else {
        return base.clone();
    };
    let holder = above.last().expect("a nested field is in a field");
    let mut inner = match at(base, above) {
        Some(inner) => inner,
        None => sampler.message(holder.kind().as_message().expect("a message")),
    };
    let absent: Vec<_> = oneof(field).map_or_else(|| vec![field.clone()], |o| o.fields().collect());
    absent.iter().for_each(|field| inner.clear_field(field));
    let inner = Value::Message(inner);
    let value = if holder.is_list() {
        Value::List(vec![inner])
    } else {
        inner
    };
    with(base, above, value, sampler)
}

/// The message at `path`, of lists the first, if it is there.
fn at(message: &DynamicMessage, path: &[FieldDescriptor]) -> Option<DynamicMessage> {
    let Some((field, rest)) = path.split_first() else {
        return Some(message.clone());
    };
    let value = message.has_field(field).then(|| message.get_field(field))?;
    let inner = match value.as_ref() {
        Value::List(list) => list.first()?.as_message()?,
        value => value.as_message()?,
    };
    at(inner, rest)
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
