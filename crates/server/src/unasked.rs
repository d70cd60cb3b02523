//! What becomes of a request that nobody read? A call that is refused before its message was read leaves it on its way:
//! given up, the stream would have to be reset, and what still comes for it would be an error of the peer's. Enough of
//! those end the connection, and with it everybody's calls. So what is left is read and thrown away, within bounds.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// No more than this is thrown away of one request; after that its stream is reset.
const MOST: usize = 64 * 1024;

/// Nor is waited longer for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request's body; what nobody read of it is read when it is dropped.
pub(crate) struct ReadOut(Option<Incoming>);

/// `body`, read to its end whatever happens.
pub(crate) const fn read_out(body: Incoming) -> ReadOut {
    ReadOut(Some(body))
}

impl Body for ReadOut {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ReadOut {
    fn drop(&mut self) {
        let left = self.0.take().and_then(unread);
        // Without a runtime the process ends, and the connection with it.
        if let (Some(body), Ok(runtime)) = (left, Handle::try_current()) {
            runtime.spawn(timeout(PATIENCE, throw_away(body)));
        }
    }
}

/// Throws away what has come already, most often all of it; tells what else is to come.
fn unread(mut body: Incoming) -> Option<Incoming> {
    let mut now = Context::from_waker(Waker::noop());
    while !body.is_end_stream() {
        match Pin::new(&mut body).poll_frame(&mut now) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => return None,
            Poll::Pending => return Some(body),
        }
    }
    None
}

async fn throw_away(mut body: Incoming) {
    let mut thrown = 0;
    while let Some(Ok(frame)) = body.frame().await {
        thrown += frame.data_ref().map_or(0, Bytes::len);
        if thrown > MOST {
            return;
        }
    }
}
