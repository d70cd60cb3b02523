//! What every contract must hold to, checked on the descriptors.

use std::collections::BTreeSet;

use prost_reflect::{Cardinality, DescriptorPool, FileDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use crate::{
    DESCRIPTORS,
    access::{self, MethodAccess},
    identity::v1::{VerifyTransactionRequest, verify_transaction_request::Proof},
    types::v1::{CallerKind, Sensitivity},
};

/// Verbs of methods that change nothing.
const READS: [&str; 13] = [
    "Get",
    "List",
    "Check",
    "Watch",
    "Resolve",
    "Suggest",
    "Exchange",
    "BatchCheck",
    "StreamCheck",
    "Summarize",
    "Explain",
    "Export",
    "VerifyArtefact",
];

/// Mutations that another key than `request_id` makes idempotent: event id or feed position, witness and size, log and
/// successor, or a provider's own key.
const KEYED: [&str; 7] = [
    "AddCosignature",
    "AppendEvents",
    "StreamEvents",
    "SealLog",
    "StartKyc",
    "CompleteKyc",
    "SendMessage",
];

fn pool() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTORS).unwrap()
}

fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    pool.services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

/// The comment above what stands at `path`, as one line.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref().unwrap();
    let location = info.location.iter().find(|location| location.path == path).unwrap();
    location
        .leading_comments()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn is_read(method: &MethodDescriptor) -> bool {
    READS.iter().any(|verb| method.name().starts_with(verb))
}

/// The `Callers:` line that a rule spells.
fn callers_line(rule: &MethodAccess) -> String {
    let mut names = Vec::new();
    for grant in &rule.grants {
        let kind = grant
            .caller
            .as_str_name()
            .trim_start_matches("CALLER_KIND_")
            .to_ascii_lowercase();
        match grant.caller {
            CallerKind::Representative => {
                let power = rule
                    .power
                    .as_str_name()
                    .trim_start_matches("POWER_")
                    .to_ascii_lowercase();
                names.push(format!("{kind}:{power}"));
            }
            CallerKind::Service => names.extend(grant.services.iter().map(|service| format!("{kind}:{service}"))),
            _ => names.push(kind),
        }
    }
    let names = names.join(", ");
    match rule.object_rule.as_str() {
        "" => format!("Callers: {names}."),
        rule => format!("Callers: {names} (object rule: {rule})."),
    }
}

fn has(message: &MessageDescriptor, field: &str, kind: &Kind) -> bool {
    message
        .get_field_by_name(field)
        .is_some_and(|field| field.kind() == *kind)
}

#[test]
fn every_method_says_who_may_call_it() {
    let rules = access::methods().unwrap();
    assert_eq!(rules.len(), methods(&pool()).len());
    let paths: BTreeSet<_> = rules.iter().map(|rule| &rule.path).collect();
    assert_eq!(paths.len(), rules.len());
    assert!(
        rules
            .iter()
            .any(|rule| rule.path == "/sammati.identity.v1.AccountService/CreateAccount")
    );
}

#[test]
fn callers_line_equals_the_option() {
    for (method, rule) in methods(&pool()).iter().zip(access::methods().unwrap()) {
        let (comment, line) = (comment(&method.parent_file(), method.path()), callers_line(&rule));
        assert!(
            comment.ends_with(&line),
            "{}\n  option:  {line}\n  comment: {comment}",
            rule.path
        );
    }
}

#[test]
fn every_mutation_takes_a_request_id() {
    for method in methods(&pool()) {
        let mutates = !is_read(&method) && !KEYED.contains(&method.name());
        let (input, name) = (method.input(), method.full_name().to_owned());
        assert_eq!(has(&input, "request_id", &Kind::String), mutates, "{name}");
        if let Some(id) = input.get_field_by_name("request_id") {
            let comment = comment(&input.parent_file(), id.path());
            assert!(comment.starts_with("Required"), "{name}: {comment}");
        }
        if KEYED.contains(&method.name()) {
            let comment = comment(&method.parent_file(), method.path());
            assert!(comment.contains("Idempoten"), "{name} does not say by what: {comment}");
        }
    }
}

#[test]
fn every_list_pages() {
    for method in methods(&pool())
        .iter()
        .filter(|method| method.name().starts_with("List"))
    {
        let (input, output) = (method.input(), method.output());
        assert!(has(&input, "page_size", &Kind::Int32), "{}", method.full_name());
        assert!(has(&input, "page_token", &Kind::String), "{}", method.full_name());
        assert!(has(&output, "next_page_token", &Kind::String), "{}", method.full_name());
        let first = output.get_field(1).unwrap();
        assert_eq!(first.cardinality(), Cardinality::Repeated, "{}", method.full_name());
    }
}

#[test]
fn every_request_field_says_whether_it_is_needed() {
    for message in methods(&pool()).iter().map(MethodDescriptor::input) {
        for field in message.fields() {
            // Of a oneof the comment above the oneof says it.
            let path = match field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                Some(oneof) => oneof.path().to_vec(),
                None => field.path().to_vec(),
            };
            let comment = comment(&message.parent_file(), &path);
            let says = ["Required", "Optional"].iter().any(|word| comment.starts_with(word));
            assert!(says, "{}: {comment}", field.full_name());
        }
    }
}

#[test]
fn secrets_are_marked() {
    let secret = access::fields(Sensitivity::Secret).unwrap();
    for field in [
        "CreateTransactionRequest.aadhaar",
        "VerifyTransactionRequest.otp",
        "AccessToken.token",
    ] {
        assert!(secret.contains(&format!("sammati.identity.v1.{field}")), "{field}");
    }
    let personal = access::fields(Sensitivity::Pii).unwrap();
    assert!(personal.contains(&"sammati.type.v1.Demographics.name".to_owned()));
}

#[test]
fn debug_leaves_secrets_out() {
    let request = VerifyTransactionRequest {
        name: "transactions/1".to_owned(),
        proof: Some(Proof::Otp("123456".to_owned())),
        ..Default::default()
    };
    let debug = format!("{request:?}");
    assert!(
        debug.contains("transactions/1") && debug.contains("otp(..)") && !debug.contains("123456"),
        "{debug}"
    );
}
