//! Finds messages with sensitive fields and writes the `Debug` that prost then does not derive.

use std::{collections::BTreeMap, error::Error, fmt::Write};

use prost_reflect::{
    DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, MessageDescriptor, OneofDescriptor, Value,
};

/// The messages whose `Debug` is ours.
pub(crate) struct Redacted {
    messages: Vec<MessageDescriptor>,
    sensitivity: ExtensionDescriptor,
}

/// Finds every message that has a field with `(sammati.type.v1.sensitivity)`.
pub(crate) fn find(pool: &DescriptorPool) -> Result<Redacted, Box<dyn Error>> {
    let sensitivity = pool
        .get_extension_by_name("sammati.type.v1.sensitivity")
        .ok_or("sammati.type.v1.sensitivity is missing")?;
    let messages = pool
        .all_messages()
        .filter(|message| !message.is_map_entry())
        .filter(|message| message.fields().any(|field| is_sensitive(&field, &sensitivity)))
        .filter(|message| !is_inside(message, &sensitivity))
        .collect();
    Ok(Redacted { messages, sensitivity })
}

impl Redacted {
    /// The names prost-build knows them by. prost-build takes each for a prefix: what is nested in one is meant too.
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        self.messages.iter().map(|message| format!(".{}", message.full_name()))
    }

    /// The implementations, by package.
    pub(crate) fn code(&self) -> BTreeMap<String, String> {
        let mut code = BTreeMap::new();
        for message in &self.messages {
            self.message(message, code.entry(message.package_name().to_owned()).or_default());
        }
        code
    }

    fn message(&self, message: &MessageDescriptor, code: &mut String) {
        let name = message.name();
        let mut body = format!("f.debug_struct(\"{name}\")");
        for field in message.fields() {
            let hidden = is_sensitive(&field, &self.sensitivity);
            if !hidden && real_oneof(&field).is_none() {
                let field = field.name();
                let _ = write!(body, ".field(\"{field}\", &self.r#{field})");
            }
        }
        let oneofs: Vec<_> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        for oneof in &oneofs {
            let field = oneof.name();
            let _ = write!(body, ".field(\"{field}\", &self.r#{field})");
        }
        debug(code, &rust_path(message), &format!("{body}.finish_non_exhaustive()"));
        for oneof in &oneofs {
            self.oneof(message, oneof, code);
        }
        for nested in message.child_messages().filter(|nested| !nested.is_map_entry()) {
            self.message(&nested, code);
        }
        message
            .child_enums()
            .for_each(|nested| enumeration(message, &nested, code));
    }

    fn oneof(&self, message: &MessageDescriptor, oneof: &OneofDescriptor, code: &mut String) {
        let mut arms = String::new();
        for field in oneof.fields() {
            let (variant, name) = (camel(field.name()), field.name());
            let _ = if is_sensitive(&field, &self.sensitivity) {
                write!(arms, "Self::{variant}(_) => f.write_str(\"{name}(..)\"),")
            } else {
                write!(
                    arms,
                    "Self::{variant}(value) => f.debug_tuple(\"{name}\").field(value).finish(),"
                )
            };
        }
        let path = format!("{}::{}", inner(message), camel(oneof.name()));
        debug(code, &path, &format!("match self {{ {arms} }}"));
    }
}

/// True if prost-build skips the message because it is nested in one that is skipped.
fn is_inside(message: &MessageDescriptor, sensitivity: &ExtensionDescriptor) -> bool {
    let mut outer = message.parent_message();
    while let Some(parent) = outer {
        if parent.fields().any(|field| is_sensitive(&field, sensitivity)) {
            return true;
        }
        outer = parent.parent_message();
    }
    false
}

fn is_sensitive(field: &FieldDescriptor, sensitivity: &ExtensionDescriptor) -> bool {
    matches!(field.options().get_extension(sensitivity).as_ref(), Value::EnumNumber(number) if *number != 0)
}

/// The oneof a field is in, unless it is the invisible one of an `optional` field.
fn real_oneof(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
}

fn enumeration(message: &MessageDescriptor, nested: &EnumDescriptor, code: &mut String) {
    let path = format!("{}::{}", inner(message), nested.name());
    debug(code, &path, "f.write_str(self.as_str_name())");
}

fn debug(code: &mut String, path: &str, body: &str) {
    let _ = write!(
        code,
        "impl ::core::fmt::Debug for {path} {{\n    \
         fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        {body}\n    }}\n}}\n"
    );
}

/// The path of a message within the module of its package.
fn rust_path(message: &MessageDescriptor) -> String {
    match message.parent_message() {
        Some(parent) => format!("{}::{}", inner(&parent), message.name()),
        None => message.name().to_owned(),
    }
}

/// The path of the module that holds what is nested in a message.
fn inner(message: &MessageDescriptor) -> String {
    match message.parent_message() {
        Some(parent) => format!("{}::{}", inner(&parent), snake(message.name())),
        None => snake(message.name()),
    }
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn camel(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            [first.to_ascii_uppercase(), rest.to_owned()]
        })
        .collect()
}
