//! What happened, and how often? One span and one line per call, and its metrics.

use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use ring::rand::{SecureRandom, SystemRandom};
use sammati_kernel::Reason;
use tokio::time::Instant;
use tonic::Code;
use tonic::body::Body;
use tracing::{Instrument, Span, field, info, info_span};

use crate::authz::Rule;
use crate::body::{Outcome, observed};
use crate::error;
use crate::layer::{Around, Inner};
use crate::metrics::Metrics;

/// The trace that a call belongs to, 32 hex digits: the caller's by `traceparent`, or a new one.
#[derive(Debug, Clone)]
pub struct TraceId(Arc<str>);

impl TraceId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a W3C `traceparent`, `00-{trace}-{span}-{flags}`; anything else begins a new trace.
    fn of(headers: &HeaderMap) -> Self {
        let given = headers
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .and_then(trace_in);
        Self(given.map_or_else(new_trace, Arc::from))
    }
}

/// The trace of a request; empty for one that did not come through the stack.
pub fn trace_id<T>(request: &tonic::Request<T>) -> &str {
    request.extensions().get::<TraceId>().map_or("", TraceId::as_str)
}

fn trace_in(value: &str) -> Option<&str> {
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, n| text.len() == n && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let known = version != "ff" && hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    (known && trace.bytes().any(|b| b != b'0')).then_some(trace)
}

fn new_trace() -> Arc<str> {
    let mut bytes = [0; 16];
    // Without randomness the trace has no name; the call goes on.
    let _ = SystemRandom::new().fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes)).into()
}

/// The layer that names, times and logs a call.
#[derive(Clone)]
pub(crate) struct Trace;

impl Around for Trace {
    async fn around<S: Inner>(self, mut inner: S, mut request: Request<Body>) -> Response<Body> {
        let Some(rule) = request.extensions().get::<Arc<Rule>>() else {
            return error::answer(Reason::Internal.into());
        };
        let trace = TraceId::of(request.headers());
        let span = info_span!(
            "rpc",
            rpc.service = rule.service,
            rpc.method = rule.method,
            trace_id = trace.as_str(),
            caller.id = field::Empty
        );
        request.extensions_mut().insert(trace);
        let line = Line {
            span: span.clone(),
            begun: Instant::now(),
            code: Code::Cancelled,
        };
        observed(inner.ask(request).instrument(span).await, line)
    }
}

/// Written when the call is over, however it ends.
struct Line {
    span: Span,
    begun: Instant,
    code: Code,
}

impl Outcome for Line {
    fn code(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let duration_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        info!(parent: &self.span, code = name(self.code), duration_us, "call ended");
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    method: Arc<str>,
    code: &'static str,
}

/// The layer that counts and times calls.
#[derive(Clone)]
pub(crate) struct Meter {
    calls: Family<Ended, Counter>,
    seconds: Family<Method, Histogram, fn() -> Histogram>,
    in_flight: Family<Method, Gauge>,
}

impl Meter {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        // 100 µs to 26 s, each bound twice the one before.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 2.0, 19));
        let meter = Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            in_flight: Family::default(),
        };
        metrics.register("rpc_calls", "Calls that ended, by method and code", meter.calls.clone());
        metrics.register("rpc_seconds", "How long calls took, by method", meter.seconds.clone());
        metrics.register("rpc_in_flight", "Calls in work, by method", meter.in_flight.clone());
        meter
    }

    /// A call of `rule` was refused at the gate. It is counted and nothing else: a flood is not to fill the disk with
    /// lines as well, and how long it takes to say no would hide how long it takes to say something.
    pub(crate) fn refused(&self, rule: &Rule) {
        let ended = Ended {
            method: rule.label.clone(),
            code: name(Code::ResourceExhausted),
        };
        self.calls.get_or_create(&ended).inc();
    }
}

impl Around for Meter {
    async fn around<S: Inner>(self, mut inner: S, request: Request<Body>) -> Response<Body> {
        let rule = request.extensions().get::<Arc<Rule>>();
        let method = Method {
            method: rule.map_or_else(|| "unknown".into(), |rule| rule.label.clone()),
        };
        self.in_flight.get_or_create(&method).inc();
        let count = Count {
            meter: self,
            method,
            begun: Instant::now(),
            code: Code::Cancelled,
        };
        observed(inner.ask(request).await, count)
    }
}

/// Counts as cancelled until it learns better, so that a call nobody waits for is counted too.
struct Count {
    meter: Meter,
    method: Method,
    begun: Instant,
    code: Code,
}

impl Outcome for Count {
    fn code(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.meter.in_flight.get_or_create(&self.method).dec();
        self.meter
            .seconds
            .get_or_create(&self.method)
            .observe(self.begun.elapsed().as_secs_f64());
        let ended = Ended {
            method: self.method.method.clone(),
            code: name(self.code),
        };
        self.meter.calls.get_or_create(&ended).inc();
    }
}

/// The code as gRPC spells it.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_nonsense_is_not() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_in(&format!("00-{trace}-00f067aa0ba902b7-01")), Some(trace));
        for bad in [
            "",
            "00-xyz-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            trace,
        ] {
            assert_eq!(trace_in(bad), None, "{bad}");
        }
        assert_eq!(new_trace().len(), 32);
    }
}
