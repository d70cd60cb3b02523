//! How long may it take? The caller's `grpc-timeout` or our cap, whichever is shorter.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::{HeaderMap, Request, Response};
use sammati_kernel::{Reason, Refusal};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::authz::Rule;
use crate::body;
use crate::error;
use crate::layer::{Around, Inner};
use crate::tls::Connection;

/// The most a unary call may take, and a stream until it begins.
const UNARY_CAP: Duration = Duration::from_secs(30);

/// The most a stream may last; the caller goes on from its resume token.
const STREAM_CAP: Duration = Duration::from_secs(3600);

/// When the call must be decided. In the extensions of every request.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Instant);

/// When `request` must be decided; the cap for one that did not come through the stack.
pub fn deadline<T>(request: &tonic::Request<T>) -> Instant {
    request
        .extensions()
        .get::<Deadline>()
        .map_or_else(|| Instant::now() + UNARY_CAP, |deadline| deadline.0)
}

/// The layer.
#[derive(Clone)]
pub(crate) struct Deadlines;

impl Around for Deadlines {
    async fn around<S: Inner>(self, mut inner: S, mut request: Request<Body>) -> Response<Body> {
        let asked = match asked(request.headers_mut()) {
            Ok(asked) => asked,
            Err(refusal) => return error::answer(refusal),
        };
        let rule = request.extensions().get::<Arc<Rule>>();
        let streaming = rule.is_some_and(|rule| rule.streaming);
        // Open streams end when the connection is to go, as in draining; what came over none ends in its time.
        let connection = request.extensions().get::<Arc<Connection>>();
        let over = connection.map_or_else(CancellationToken::new, |connection| connection.over.clone());
        let lasting = rule.is_some_and(|rule| rule.lasting());
        let cap = if lasting { STREAM_CAP } else { UNARY_CAP };
        let begun = Instant::now();
        let at = begun + asked.unwrap_or(cap).min(cap);
        request.extensions_mut().insert(Deadline(at));
        // A stream too must begin: one whose request never comes holds no place for an hour.
        let Ok(response) = timeout_at(at.min(begun + UNARY_CAP), inner.ask(request)).await else {
            return error::answer(Reason::Deadline.into());
        };
        if !streaming {
            // Timers are good for a millisecond; a caller's shorter patience is kept all the same.
            return if Instant::now() < at {
                response
            } else {
                error::answer(Reason::Deadline.into())
            };
        }
        // A caller who named a time is told that it is over; one who did not simply calls again.
        let late = asked
            .is_some_and(|asked| asked < cap)
            .then(|| Refusal::new(Reason::Deadline));
        let end = async move {
            tokio::select! {
                () = sleep_until(at) => late,
                () = over.cancelled() => None,
            }
        };
        response.map(|stream| body::ending(stream, end.boxed()))
    }
}

/// Takes `grpc-timeout` off the headers: 1 to 8 digits and a unit.
fn asked(headers: &mut HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.remove("grpc-timeout") else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(parse);
    parsed
        .map(Some)
        .ok_or_else(|| Refusal::field("grpc-timeout", "1 to 8 digits and one of H, M, S, m, u, n"))
}

pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse("20m"), Some(Duration::from_millis(20)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "1", "123456789S", "-1S", "1x", "1 S", "१S", "1é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
