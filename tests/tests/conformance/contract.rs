//! What the contracts say, read from their descriptors: methods, who may call them, and what a field's comment asks for.

use prost_reflect::{
    DescriptorPool, FieldDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor, OneofDescriptor,
};
use sammati_api::DESCRIPTORS;
use sammati_api::access::{self, MethodAccess};

/// One method.
#[derive(Clone)]
pub(crate) struct Rpc {
    /// Its descriptor.
    pub(crate) method: MethodDescriptor,
    /// Who may call it.
    pub(crate) access: MethodAccess,
    /// The comment above it, as one line.
    pub(crate) comment: String,
}

impl Rpc {
    /// `sammati.consent.v1.ConsentService.GetConsent`.
    pub(crate) fn name(&self) -> &str {
        self.method.full_name()
    }

    /// The service that serves it: the sandbox stands in for the providers too.
    pub(crate) fn server(&self) -> &'static str {
        match self.method.full_name().split('.').nth(1) {
            Some("identity") => "identity",
            Some("consent") => "consent",
            Some("audit") => "audit",
            _ => "sandbox",
        }
    }

    /// Whether the method's own comment names `reason`.
    pub(crate) fn documents(&self, reason: &str) -> bool {
        self.comment
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .any(|word| word == reason)
    }

    /// The field of the request called `name`.
    pub(crate) fn field(&self, name: &str) -> Option<FieldDescriptor> {
        self.method.input().get_field_by_name(name)
    }
}

/// The pool of all contracts.
pub(crate) fn pool() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTORS).expect("the embedded descriptors decode")
}

/// All methods, in the order of the contracts.
pub(crate) fn rpcs() -> Vec<Rpc> {
    let methods: Vec<_> = pool()
        .services()
        .flat_map(|s| s.methods().collect::<Vec<_>>())
        .collect();
    let rules = access::methods().expect("every method says who may call it");
    methods
        .into_iter()
        .zip(rules)
        .map(|(method, access)| {
            let comment = comment(&method.parent_file(), method.path());
            Rpc {
                method,
                access,
                comment,
            }
        })
        .collect()
}

/// The comment above what stands at `path`, as one line; empty without one.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let proto = file.file_descriptor_proto();
    let locations = proto.source_code_info.iter().flat_map(|info| &info.location);
    let found = locations
        .filter(|l| l.path == path)
        .map(|l| l.leading_comments().to_owned())
        .next();
    found
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The comment of a field.
pub(crate) fn about(field: &FieldDescriptor) -> String {
    comment(&field.parent_file(), field.path())
}

/// The oneof that a field is a member of, if the contract wrote one.
pub(crate) fn oneof(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
}

/// What a request must say about a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Always.
    Required,
    /// Not always.
    Optional,
    /// Nothing: it is the server's.
    Output,
}

/// Reads it from the comment; of a member of a oneof, from the oneof's.
pub(crate) fn need(field: &FieldDescriptor) -> Need {
    let text = match oneof(field) {
        Some(oneof) => comment(&field.parent_file(), oneof.path()),
        None => about(field),
    };
    if text.starts_with("Required.") {
        Need::Required
    } else if text.starts_with("Output only.") {
        Need::Output
    } else {
        Need::Optional
    }
}

/// Names that one missing required value may be reported by: the field's, or for a oneof its own and its members'.
pub(crate) fn required(message: &MessageDescriptor) -> Vec<Vec<String>> {
    let plain = message
        .fields()
        .filter(|f| oneof(f).is_none() && need(f) == Need::Required)
        .map(|f| vec![f.name().to_owned()]);
    let oneofs = message
        .oneofs()
        .filter(|o| !o.is_synthetic() && comment(&message.parent_file(), o.path()).starts_with("Required."));
    let named = oneofs.map(|o| {
        let members = o.fields().map(|f| f.name().to_owned());
        members.chain([o.name().to_owned()]).collect()
    });
    plain.chain(named).collect()
}

/// The collection of a field that holds a resource name, as `accounts` of "`accounts/{id}`"; the first if it has several.
pub(crate) fn collection(field: &FieldDescriptor) -> Option<String> {
    let text = about(field);
    let quoted = text.split('`').skip(1).step_by(2);
    let names = quoted.filter(|part| part.contains("/{id}"));
    names
        .filter_map(|part| part.split('/').next())
        .map(str::to_owned)
        .next()
}

/// The most elements that the comment of a repeated field allows: "at most 20", "1 to 100".
pub(crate) fn limit(field: &FieldDescriptor) -> Option<usize> {
    let text = about(field);
    let words: Vec<_> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty())
        .collect();
    let at = words.windows(3).find_map(|w| match w {
        ["at", "most", n] => n.parse().ok(),
        [from, "to", n] if from.parse::<usize>().is_ok() => n.parse().ok(),
        _ => None,
    });
    // "0 to 255 characters" is about each element.
    let each = words
        .windows(2)
        .any(|w| w[1] == "characters" && w[0].parse::<usize>().ok() == at);
    at.filter(|_| !each)
}
