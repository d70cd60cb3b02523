//! What every refusal must be like, whoever sends it: a reason of the contract, its code, its details, nothing else.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DynamicMessage, EnumDescriptor};
use sammati_kernel::TransactionId;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::contract::{Rpc, comment, pool};

/// A word that tests send where nothing must come back; no refusal may hold it.
pub(crate) const CANARY: &str = "kanarie";

/// The code of each reason, as the contracts' comments say it.
static CODES: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let pool = pool();
    let reasons = pool
        .get_enum_by_name("sammati.type.v1.ErrorReason")
        .expect("ErrorReason");
    let mut codes = HashMap::new();
    // CreateTransfer sends the reasons of decisions, with FAILED_PRECONDITION.
    for name in DECISIONS.iter() {
        codes.insert(name.clone(), "FAILED_PRECONDITION".to_owned());
    }
    for (name, about) in values(&reasons, "ERROR_REASON_") {
        let code = about.split([',', '.']).next().unwrap_or_default().to_owned();
        codes.insert(name, code);
    }
    codes
});

/// The reasons of decisions.
static DECISIONS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let decisions = pool()
        .get_enum_by_name("sammati.consent.v1.Decision.Reason")
        .expect("Decision.Reason");
    values(&decisions, "REASON_")
        .into_iter()
        .map(|(name, _)| name)
        .collect()
});

fn values(names: &EnumDescriptor, prefix: &str) -> Vec<(String, String)> {
    let file = names.parent_file();
    let named = names
        .values()
        .map(|v| (v.name().trim_start_matches(prefix).to_owned(), comment(&file, v.path())));
    named.collect()
}

/// A refusal, opened.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Code,
    pub(crate) reason: String,
    /// The fields that `BadRequest` names, without indices.
    pub(crate) fields: Vec<String>,
    /// The facts that `ErrorInfo` carries.
    metadata: HashMap<String, String>,
}

impl Said {
    /// `INVALID_ARGUMENT/FIELD_INVALID [name, etag]`.
    pub(crate) fn line(&self) -> String {
        format!("{:?}/{} {:?}", self.code, self.reason, self.fields)
    }

    pub(crate) fn is(&self, code: Code, reason: &str) -> bool {
        self.code == code && self.reason == reason
    }
}

/// Reads what `rpc` refused a request with, and says what is not as its contract has it.
pub(crate) fn of(rpc: &Rpc, sent: &DynamicMessage, status: &Status) -> Result<Said, String> {
    let said = read(status)?;
    let decision = rpc.documents("Decision") && DECISIONS.contains(&said.reason);
    if !rpc.may_refuse(&said.reason) && !decision {
        return Err(format!(
            "{} is no reason of this method: {}",
            said.reason,
            status.message()
        ));
    }
    if said.code == Code::InvalidArgument && said.fields.iter().any(String::is_empty) {
        return Err(format!("a violation of no field: {}", said.line()));
    }
    // A name of something else is told to nobody: who knows it has sent it.
    let sent = sent.encode_to_vec();
    let is_sent = |name: &str| sent.windows(name.len()).any(|part| part == name.as_bytes());
    let mut told = said.metadata.values().filter(|value| value.contains('/'));
    match told.find(|value| value.as_str() != rpc.access.path && !is_sent(value)) {
        Some(name) => Err(format!("metadata tells {name:?}")),
        None => Ok(said),
    }
}

/// Reads a refusal, and says what is not as it must be.
pub(crate) fn read(status: &Status) -> Result<Said, String> {
    let details = status
        .check_error_details()
        .map_err(|error| format!("details do not decode: {error}"))?;
    let bad = |what: &str| format!("{what}: {:?} {:?}", status.code(), status.message());
    let info = details.error_info().ok_or_else(|| bad("no ErrorInfo"))?;
    if info.domain != "sammati" {
        return Err(bad("another domain"));
    }
    let code = CODES
        .get(&info.reason)
        .ok_or_else(|| bad(&format!("{} is no reason of the contract", info.reason)))?;
    if *code != spelled(status.code()) {
        return Err(bad(&format!("{} comes with {code}", info.reason)));
    }
    companions(status, &details).map_err(&bad)?;
    for (name, value) in &info.metadata {
        if !harmless(value) {
            return Err(bad(&format!("metadata {name} = {value:?}")));
        }
    }
    if status.message().len() > 1024 || format!("{details:?}{}", status.message()).contains(CANARY) {
        return Err(bad("it echoes what was sent"));
    }
    let violations = details
        .bad_request()
        .map(|b| &b.field_violations[..])
        .unwrap_or_default();
    let fields = violations.iter().map(|v| without_indices(&v.field)).collect();
    Ok(Said {
        code: status.code(),
        reason: info.reason.clone(),
        fields,
        metadata: info.metadata.clone(),
    })
}

/// The details that go with a code.
fn companions(status: &Status, details: &ErrorDetails) -> Result<(), &'static str> {
    match status.code() {
        Code::ResourceExhausted | Code::Unavailable if details.retry_info().is_none() => Err("no RetryInfo"),
        Code::FailedPrecondition if details.precondition_failure().is_none() => Err("no PreconditionFailure"),
        Code::NotFound if details.resource_info().is_none() => Err("no ResourceInfo"),
        Code::InvalidArgument if status.message().is_empty() => Err("no sentence"),
        Code::InvalidArgument if !details.bad_request().is_some_and(|b| is_told(&b.field_violations)) => {
            Err("no BadRequest that says what is wrong")
        }
        _ => Ok(()),
    }
}

fn is_told(violations: &[FieldViolation]) -> bool {
    !violations.is_empty() && violations.iter().all(|v| !v.description.is_empty())
}

/// A state, a number, a time, an id or a name with one, or a field; nothing that could name a person.
fn harmless(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:{}[]-+".contains(c);
    let is_name = value
        .rsplit('/')
        .next()
        .is_some_and(|id| id.parse::<TransactionId>().is_ok());
    let digits = value
        .split(|c: char| !c.is_ascii_digit())
        .map(str::len)
        .max()
        .unwrap_or(0);
    value.len() <= 128 && value.chars().all(plain) && (is_name || digits < 10)
}

fn without_indices(field: &str) -> String {
    let mut parts = field.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| {
        name + part.split_once(']').map_or("", |(_, rest)| rest)
    })
}

fn spelled(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::Aborted => "ABORTED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::NotFound => "NOT_FOUND",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::DataLoss => "DATA_LOSS",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        // A fault has no reason that a test could expect.
        _ => "none",
    }
}
