//! How is no said on the wire? The only place that makes a [`Status`], and the only one that reads one back.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};
use sammati_kernel::{Code, Fact, Reason, Refusal, Resource, Violations};
use tonic::body::Body;
use tonic::{Code as Grpc, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::body::code_in;

/// The domain of every `ErrorInfo` of ours.
pub const DOMAIN: &str = "sammati";

/// When to come back, where a refusal has no better advice.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// More violations than this are not listed: the answer travels in headers, which are bounded.
const MAX_VIOLATIONS: usize = 40;

/// A longer name of a resource is not repeated.
const MAX_NAME: usize = 256;

/// The answer that `refusal` becomes: its reason's code, `google.rpc.ErrorInfo`, and the details that fit the code.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a refusal that was sent is spent; reads well in map_err"
)]
pub fn status(refusal: Refusal) -> Status {
    let code = grpc(refusal.reason.code());
    let message = sentence(&refusal);
    let metadata: HashMap<String, String> = refusal
        .metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.clone()))
        .collect();
    let mut details = ErrorDetails::with_error_info(refusal.reason.as_str(), DOMAIN, metadata);
    for violation in refusal.violations.iter().take(MAX_VIOLATIONS) {
        details.add_bad_request_violation(violation.field.as_ref(), violation.description.as_ref());
    }
    if code == Grpc::FailedPrecondition {
        details.add_precondition_failure_violation(refusal.reason.as_str(), subject(&refusal), message.as_ref());
    }
    if code == Grpc::NotFound {
        let (kind, name) = resource(&refusal);
        details.set_resource_info(kind, name, "", message.as_ref());
    }
    if let Some(after) = retry_after(&refusal, code) {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(code, message, details)
}

/// The refusal that a server of ours sent; `None` for what others say, as a lost connection.
pub fn refusal_of(status: &Status) -> Option<Refusal> {
    let details = status.check_error_details().ok()?;
    let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
    let reason = Reason::parse(&info.reason)?;
    let mut violations = Violations::new();
    for violation in details.bad_request().iter().flat_map(|b| &b.field_violations) {
        violations.add(violation.field.clone(), violation.description.clone());
    }
    let metadata = Fact::ALL
        .iter()
        .map(|fact| fact.as_str())
        .filter_map(|name| Some((name, info.metadata.get(name)?.clone())))
        .collect();
    let resource = details.resource_info().filter(|about| !about.resource_name.is_empty());
    let resource = resource.map(|about| {
        Box::new(Resource {
            kind: about.resource_type.clone().into(),
            name: about.resource_name.clone(),
        })
    });
    let message = Cow::Owned(status.message().to_owned());
    let retry_after = details.retry_info().and_then(|r| r.retry_delay);
    Some(Refusal {
        reason,
        message,
        metadata,
        resource,
        violations,
        retry_after,
        recorded: false,
    })
}

/// The same, or `instead` where the other side gave no reason of ours: it is away, or it does not know us.
pub fn refusal_or(status: &Status, instead: Reason) -> Refusal {
    refusal_of(status).unwrap_or_else(|| {
        tracing::warn!(code = ?status.code(), message = status.message(), reason = instead.as_str(), "a call went wrong");
        instead.into()
    })
}

/// What a bug becomes: the caller learns that there was one, the log learns what.
pub fn internal(what: impl std::fmt::Display) -> Status {
    tracing::error!(%what, "internal error");
    status(Reason::Internal.into())
}

/// What a stream that broke off without a status came to.
pub(crate) fn ended(why: &'static str) -> Status {
    Status::new(Grpc::Unavailable, why)
}

/// The trailers of a stream that the server ends: well, or with a refusal.
pub(crate) fn trailers(why: Option<Refusal>) -> HeaderMap {
    let status = why.map_or_else(|| Status::new(Grpc::Ok, ""), status);
    let mut map = HeaderMap::new();
    if status.add_header(&mut map).is_err() {
        map.insert(Status::GRPC_STATUS, HeaderValue::from_static("13"));
    }
    map
}

/// The answer to a call that no handler is asked about.
pub(crate) fn answer(refusal: Refusal) -> Response<Body> {
    status(refusal).into_http()
}

/// tonic refuses by itself what it cannot read: a message that is none, one above the size limit, an unknown encoding.
/// Such an answer has no `ErrorInfo`, so it is said again in our way.
pub(crate) fn ours(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    let Some(code) = code_in(headers).filter(|code| *code != Grpc::Ok) else {
        return response;
    };
    if headers.contains_key("grpc-status-details-bin") {
        return response;
    }
    answer(match code {
        Grpc::Internal | Grpc::InvalidArgument | Grpc::OutOfRange | Grpc::ResourceExhausted | Grpc::Unimplemented => {
            Refusal::field(
                "",
                "the request must be one message of the method's type, uncompressed, at most 4 MiB",
            )
        }
        Grpc::Cancelled | Grpc::DeadlineExceeded => Reason::Deadline.into(),
        other => {
            tracing::error!(code = ?other, "an answer without reason");
            Reason::Internal.into()
        }
    })
}

fn grpc(code: Code) -> Grpc {
    match code {
        Code::Aborted => Grpc::Aborted,
        Code::AlreadyExists => Grpc::AlreadyExists,
        Code::DataLoss => Grpc::DataLoss,
        Code::DeadlineExceeded => Grpc::DeadlineExceeded,
        Code::FailedPrecondition => Grpc::FailedPrecondition,
        Code::Internal => Grpc::Internal,
        Code::InvalidArgument => Grpc::InvalidArgument,
        Code::NotFound => Grpc::NotFound,
        Code::OutOfRange => Grpc::OutOfRange,
        Code::PermissionDenied => Grpc::PermissionDenied,
        Code::ResourceExhausted => Grpc::ResourceExhausted,
        Code::Unauthenticated => Grpc::Unauthenticated,
        Code::Unavailable => Grpc::Unavailable,
    }
}

/// RESOURCE_EXHAUSTED and UNAVAILABLE always say when to come back.
fn retry_after(refusal: &Refusal, code: Grpc) -> Option<Duration> {
    let always = matches!(code, Grpc::ResourceExhausted | Grpc::Unavailable);
    refusal.retry_after.or_else(|| always.then_some(RETRY_AFTER))
}

/// What stands in the way, for `PreconditionFailure.subject`: the state if there is one.
fn subject(refusal: &Refusal) -> &str {
    refusal
        .metadata
        .iter()
        .find(|(name, _)| *name == Fact::State.as_str())
        .map_or("", |(_, state)| state)
}

/// What is not there, for `ResourceInfo`: its kind and name as far as they are known.
fn resource(refusal: &Refusal) -> (&str, &str) {
    let kind = match refusal.reason {
        Reason::CheckpointUnknown => "sammati.audit.v1.Checkpoint",
        Reason::TileUnknown => "sammati.audit.v1.Tile",
        Reason::NotificationUnknown => "sammati.consent.v1.Notification",
        _ => "",
    };
    let about = refusal.resource.as_deref();
    about
        .filter(|about| about.name.len() <= MAX_NAME)
        .map_or((kind, ""), |about| (&about.kind, &about.name))
}

fn sentence(refusal: &Refusal) -> Cow<'static, str> {
    if !refusal.message.is_empty() {
        return refusal.message.clone();
    }
    match standing(refusal.reason) {
        Some(sentence) => Cow::Borrowed(sentence),
        // A reason's name is a phrase already: LINK_TOKEN_EXPIRED, "link token expired".
        None => Cow::Owned(refusal.reason.as_str().to_lowercase().replace('_', " ")),
    }
}

/// The sentences of the refusals that any method may give, and of those whose name does not say enough.
const fn standing(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::CallerKind => "this method does not serve this kind of caller",
        Reason::CommitUnknown => "it is not known whether the change was made; repeat with the same request_id",
        Reason::Deadline => "the deadline passed before the call was decided",
        Reason::EtagMismatch => "it has changed since the etag was read; read it again",
        Reason::FieldInvalid => {
            "the request has fields that are missing, malformed or out of range; BadRequest names them"
        }
        Reason::GrantWider => "the grant is wider than what was asked for",
        Reason::IdentityStale => "facts from identity are older than allowed to decide on",
        Reason::Internal => "the server has a fault; it has been logged",
        Reason::NotAvailable => "it does not exist, or it is not yours",
        Reason::NotFound => "it does not exist",
        Reason::Overloaded => "too many calls are in work; come back later",
        Reason::RequestIdExpired => "request_id is not a UUIDv7 made within the last 24 hours",
        Reason::RequestIdReused => "request_id was used before with another request",
        Reason::StateConflict => "its state does not allow this",
        Reason::StepUpRequired => "this needs a fresh proof of who is asking",
        Reason::StorageUnavailable => "storage does not answer at the moment",
        Reason::TokenExpired => "the token has expired",
        Reason::TokenMissing => "no credential was sent, or it is not one of ours",
        Reason::TokenRevoked => "the session of the token has ended",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_travels_there_and_back() {
        for reason in Reason::ALL {
            let sent = Refusal::new(*reason).with(Fact::State, "REVOKED");
            let status = status(sent);
            let read = refusal_of(&status).unwrap();
            assert_eq!(read.reason, *reason);
            assert_eq!(read.metadata, [("state", "REVOKED".to_owned())]);
            assert!(!status.message().is_empty());
            let must_retry = matches!(status.code(), Grpc::ResourceExhausted | Grpc::Unavailable);
            assert_eq!(read.retry_after.is_some(), must_retry, "{}", reason.as_str());
            let precondition = status.get_error_details().precondition_failure().is_some();
            assert_eq!(precondition, status.code() == Grpc::FailedPrecondition);
        }
    }

    #[test]
    fn every_fact_travels_there_and_back() {
        let facts = Fact::ALL.iter();
        let sent = facts.fold(Refusal::new(Reason::StateConflict), |r, fact| {
            r.with(*fact, fact.as_str())
        });
        let read = refusal_of(&status(sent.clone())).unwrap();
        assert_eq!(read.metadata, sent.metadata);
        assert!(Fact::ALL.iter().all(|fact| Fact::parse(fact.as_str()) == Some(*fact)));
    }

    #[test]
    fn what_is_not_found_is_named() {
        let sent = Refusal::new(Reason::NotFound).about("sammati.audit.v1.Log", "logs/1");
        let status = status(sent.clone());
        let details = status.get_error_details();
        let about = details.resource_info().unwrap();
        assert_eq!(
            (about.resource_type.as_str(), about.resource_name.as_str()),
            ("sammati.audit.v1.Log", "logs/1")
        );
        assert_eq!(refusal_of(&status).unwrap().resource, sent.resource);
        // What does not exist and what is another's must look the same: only NOT_FOUND says what it looked for.
        let hidden = super::status(Refusal::new(Reason::NotAvailable).about("sammati.audit.v1.Log", "logs/1"));
        assert!(hidden.get_error_details().resource_info().is_none());
    }

    #[test]
    fn violations_are_all_named() {
        let mut violations = Violations::new();
        violations.add("a.b", "must be set");
        violations.add("c", "1 to 5");
        let read = refusal_of(&status(violations.clone().check().unwrap_err())).unwrap();
        assert_eq!(read.violations, violations);
    }

    #[test]
    fn what_others_say_is_no_refusal() {
        assert_eq!(refusal_of(&Status::new(Grpc::Unavailable, "connection refused")), None);
    }
}
