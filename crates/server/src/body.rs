//! What happens while an answer is read? Bodies that watch, hold or end what they carry.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper::body::Bytes;
use sammati_kernel::Refusal;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::error;

type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

/// The gRPC code in an answer's headers or trailers, if it is there.
pub(crate) fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers
        .get("grpc-status")
        .map(|value| Code::from_bytes(value.as_bytes()))
}

/// Learns how a call ended. What it makes of that it does when dropped: a call that nobody waits for has no code.
pub(crate) trait Outcome: Send + Unpin + 'static {
    /// The call ended with `code`.
    fn code(&mut self, code: Code);
}

/// Carries `outcome` along with the answer until its end.
pub(crate) fn observed<O: Outcome>(response: http::Response<Body>, mut outcome: O) -> http::Response<Body> {
    if let Some(code) = code_in(response.headers()) {
        outcome.code(code);
    }
    response.map(|inner| Body::new(Observed { inner, outcome }))
}

struct Observed<O> {
    inner: Body,
    outcome: O,
}

impl<O: Outcome> http_body::Body for Observed<O> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(code) = frame
            .as_ref()
            .and_then(|f| f.as_ref().ok()?.trailers_ref())
            .and_then(code_in)
        {
            self.outcome.code(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Keeps `kept` until the stream has been read or given up.
pub(crate) fn keeping<K: Send + Unpin + 'static>(inner: Body, kept: K) -> Body {
    Body::new(Keeping { inner, _kept: kept })
}

struct Keeping<K> {
    inner: Body,
    _kept: K,
}

impl<K: Unpin> http_body::Body for Keeping<K> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    // A refusal is all in its headers: they must end the answer, or clients by grpc-go wait for trailers and make it INTERNAL.
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

/// Ends the stream when `end` comes: well with `None`, or with a refusal.
pub(crate) fn ending(inner: Body, end: BoxFuture<'static, Option<Refusal>>) -> Body {
    Body::new(Ending { inner, end: Some(end) })
}

struct Ending {
    inner: Body,
    /// `None` once it has come.
    end: Option<BoxFuture<'static, Option<Refusal>>>,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let Some(end) = &mut self.end else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(why) = end.as_mut().poll(cx) {
            self.end = None;
            return Poll::Ready(Some(Ok(Frame::trailers(error::trailers(why)))));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() || self.inner.is_end_stream()
    }
}

/// Lets no message pass once `check` refuses; the stream ends with its refusal.
pub(crate) fn checked(inner: Body, check: impl Fn() -> Result<(), Refusal> + Send + Unpin + 'static) -> Body {
    Body::new(Checked {
        inner,
        check,
        over: false,
    })
}

struct Checked<F> {
    inner: Body,
    check: F,
    over: bool,
}

impl<F: Fn() -> Result<(), Refusal> + Unpin> http_body::Body for Checked<F> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        if self.over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if matches!(&frame, Some(Ok(frame)) if frame.is_data())
            && let Err(why) = (self.check)()
        {
            self.over = true;
            return Poll::Ready(Some(Ok(Frame::trailers(error::trailers(Some(why))))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::{FutureExt, StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use sammati_kernel::Reason;

    use super::*;

    /// A stream of three messages that then says nothing more.
    fn messages() -> Body {
        let frames =
            stream::iter([b"1", b"2", b"3"]).map(|text| Ok::<_, Status>(Frame::data(Bytes::from_static(text))));
        Body::new(StreamBody::new(frames.chain(stream::pending())))
    }

    async fn next(body: &mut Body) -> Option<Result<Bytes, Option<Code>>> {
        let frame = body.frame().await?.unwrap();
        Some(
            frame
                .into_data()
                .map_err(|frame| frame.trailers_ref().and_then(code_in)),
        )
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_time_comes() {
        let (over, end) = futures::channel::oneshot::channel();
        let mut body = ending(messages(), end.map(Result::unwrap).boxed());
        assert_eq!(next(&mut body).await, Some(Ok(Bytes::from_static(b"1"))));
        over.send(Some(Reason::Deadline.into())).unwrap();
        assert_eq!(next(&mut body).await, Some(Err(Some(Code::DeadlineExceeded))));
        assert_eq!(next(&mut body).await, None);
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_credential() {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let check = move || {
            if seen.load(Ordering::SeqCst) {
                Err(Reason::TokenRevoked.into())
            } else {
                Ok(())
            }
        };
        let mut body = checked(messages(), check);
        assert_eq!(next(&mut body).await, Some(Ok(Bytes::from_static(b"1"))));
        ended.store(true, Ordering::SeqCst);
        assert_eq!(next(&mut body).await, Some(Err(Some(Code::Unauthenticated))));
        assert_eq!(next(&mut body).await, None);
    }

    #[test]
    fn the_headers_of_a_refused_stream_end_it() {
        let refused = error::status(Reason::CallerKind.into()).into_http::<Body>();
        let never: BoxFuture<'static, Option<Refusal>> = Box::pin(std::future::pending());
        let whole = checked(ending(keeping(refused.into_body(), ()), never), || Ok(()));
        assert!(
            http_body::Body::is_end_stream(&whole),
            "else clients by grpc-go wait for trailers"
        );
    }
}
