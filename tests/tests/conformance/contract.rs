//! What the contracts say, read from their descriptors: methods, who may call them, and what a field's comment asks for.

use prost_reflect::{
    DescriptorPool, FieldDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor, OneofDescriptor,
};
use sammati_api::DESCRIPTORS;
use sammati_api::access::{self, MethodAccess};
use sammati_api::types::v1::CallerKind;

/// The reasons that any method may refuse with: the list that each service's own comment repeats. What goes with a
/// field, `request_id` or `etag`, is allowed where there is that field.
const STANDING: [&str; 11] = [
    "FIELD_INVALID",
    "TOKEN_MISSING",
    "TOKEN_EXPIRED",
    "TOKEN_REVOKED",
    "CALLER_KIND",
    "NOT_AVAILABLE",
    "RATE_LIMITED",
    "OVERLOADED",
    "STORAGE_UNAVAILABLE",
    "COMMIT_UNKNOWN",
    "DEADLINE",
];

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

    /// Whether the contract lets the method refuse for `reason`.
    pub(crate) fn may_refuse(&self, reason: &str) -> bool {
        let with = |field: &str| self.field(field).is_some();
        match reason {
            "REQUEST_ID_EXPIRED" | "REQUEST_ID_REUSED" if with("request_id") => true,
            "ETAG_MISMATCH" if with("etag") => true,
            // To an operator, and of what is public.
            "NOT_FOUND" => self.serves(CallerKind::Operator) || self.serves(CallerKind::Anyone),
            _ => STANDING.contains(&reason) || self.documents(reason),
        }
    }

    /// Whether the contract names callers of this kind.
    pub(crate) fn serves(&self, kind: CallerKind) -> bool {
        self.access.grants.iter().any(|grant| grant.caller == kind)
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

/// The collection of a field that holds a resource name, as `accounts` of "`accounts/{id}`" and `events` of
/// "`logs/{id}/events/{index}`"; the first if it has several.
pub(crate) fn collection(field: &FieldDescriptor) -> Option<String> {
    let text = about(field);
    let quoted = text.split('`').skip(1).step_by(2);
    let names = quoted.filter(|part| part.contains("/{id}"));
    let collection = |part: &str| match part.split('/').collect::<Vec<_>>()[..] {
        [_, _, inner, ..] => inner.to_owned(),
        [outer, ..] => outer.to_owned(),
        [] => String::new(),
    };
    names.map(collection).next()
}
