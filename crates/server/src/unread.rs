//! Who reads what he asked for? An answer that waits for its reader too long is taken back.
//!
//! While a piece of an answer waits for the caller's HTTP/2 window nobody asks the body for the next one, so nothing
//! within a body can end it then. The task that carries the call can: dropped, it resets the stream and lets go of all
//! that the answer holds.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use hyper::body::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

tokio::task_local! { static WAITING: Waiting; }

/// Since when a piece of the answer waits for the caller's window.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<Option<Instant>>>);

impl Waiting {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `call`, worked on only while its answer is read: a piece of it waits at most `patience`.
pub(crate) fn patient(call: impl Future<Output = ()> + Send + 'static, patience: Duration) -> Patient {
    let waiting = Waiting::default();
    Patient {
        call: Box::pin(WAITING.scope(waiting.clone(), call)),
        waiting,
        patience,
        timer: None,
    }
}

/// A call whose answer is waited for.
pub(crate) struct Patient {
    call: BoxFuture<'static, ()>,
    waiting: Waiting,
    patience: Duration,
    /// Set for the instant at which patience ends.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Future for Patient {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.call.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // The body is asked within the call alone, so what was seen here holds until the next poll.
        let Some(since) = self.waiting.since() else {
            self.timer = None;
            return Poll::Pending;
        };
        let end = since + self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        let over = timer.as_mut().poll(cx);
        if over.is_ready() {
            tracing::info!(patience = ?self.patience, "an answer was not read, so its stream is reset");
        }
        over
    }
}

/// Notes when a piece of `answer` is waiting to be read.
pub(crate) fn noted(answer: Body) -> Body {
    match WAITING.try_with(Waiting::clone) {
        Ok(waiting) => Body::new(Noted { inner: answer, waiting }),
        Err(_) => answer,
    }
}

struct Noted {
    inner: Body,
    waiting: Waiting,
}

impl http_body::Body for Noted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        let handed = matches!(&frame, Poll::Ready(Some(Ok(frame))) if frame.is_data());
        self.waiting.set(handed.then(Instant::now));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
