//! When does a connection speak? After those whose turn it is, with all that they have to say.
//!
//! Each time HTTP/2 is asked whether it can go on it also writes out what it has, and a write costs more than a small
//! answer does. Asked once for every call it would spend most of a flood on writing refusals, one by one.

use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::task::yield_now;

use crate::unread::{Patient, patient};

/// The calls of a connection: each is a task of its own, but for those that were answered before they began.
#[derive(Clone)]
pub(crate) struct Calls {
    /// How long an answer may wait for its reader.
    patience: Duration,
    answered: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Patient>>>,
}

impl Calls {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            answered: Arc::default(),
            answers: Arc::default(),
        }
    }

    /// Set for the call that the service is asked for now, if it is answered already: its answer waits for the others.
    pub(crate) fn answered(&self) -> Arc<AtomicBool> {
        self.answered.clone()
    }

    /// Hands the answers that wait to HTTP/2, which has yet to write them, and tells whether there were any.
    fn hand_over(&self) -> bool {
        let answers = mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        let any = !answers.is_empty();
        for mut answer in answers {
            // One that has to wait all the same is a task, whose first poll makes good what was woken in vain until then.
            let mut now = Context::from_waker(Waker::noop());
            if Pin::new(&mut answer).poll(&mut now).is_pending() {
                tokio::spawn(answer);
            }
        }
        any
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        let call = patient(call, self.patience);
        // hyper asks the service and then hands over its call, one after the other.
        if self.answered.swap(false, Ordering::Relaxed) {
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        } else {
            tokio::spawn(call);
        }
    }
}

/// Drives the connection `talk`, whose calls are `calls`. Woken by one call, it lets all go first that are ready to run,
/// and what they answer leaves with one write; so does all that was refused of what came with one read.
pub(crate) async fn in_turn<T>(mut talk: Pin<&mut impl Future<Output = T>>, calls: &Calls) -> T {
    loop {
        if let Poll::Ready(ended) = futures::poll!(talk.as_mut()) {
            return ended;
        }
        if !calls.hand_over() {
            futures::pending!();
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, ready};
    use std::io::IoSlice;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use futures::FutureExt;
    use futures::future::join_all;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::body::{Bytes, Incoming};
    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{self, AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
    use tokio::sync::Notify;

    use super::*;
    use crate::gather::Gathering;

    const CALLS: usize = 64;

    /// As long as a decision is.
    const DECISION: Bytes = Bytes::from_static(&[0; 300]);

    /// Counts what is written, in writes.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counted {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }

        // As TLS says: h2 has its own way with such.
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    /// How many writes it takes to answer [`CALLS`] that come together: at once, or each by a task that all of them are let
    /// go of together.
    async fn writes(at_once: bool) -> usize {
        let (near, far) = io::duplex(1 << 20);
        let (writes, come, go) = (
            Arc::<AtomicUsize>::default(),
            Arc::<AtomicUsize>::default(),
            Arc::new(Notify::new()),
        );
        let calls = Calls::new(Duration::from_secs(60));
        let (answered, waits, counted) = (calls.answered(), go.clone(), come.clone());
        let service = service_fn(move |_: Request<Incoming>| {
            answered.store(at_once, Ordering::Relaxed);
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = Ok::<_, Infallible>(Response::new(Full::new(if at_once { Bytes::new() } else { DECISION })));
            if at_once {
                return ready(answer).left_future();
            }
            let waits = waits.clone().notified_owned();
            waits.map(|()| answer).right_future()
        });
        let io = TokioIo::new(Gathering::new(Counted(far, writes.clone())));
        let served = tokio::spawn(async move {
            let talk = pin!(http2::Builder::new(calls.clone()).serve_connection(io, service));
            in_turn(talk, &calls).await.unwrap();
        });
        let (client, connection) = h2::client::handshake(near).await.unwrap();
        tokio::spawn(connection);
        let ask = |_| {
            let request = Request::get("http://localhost/").body(()).unwrap();
            client.clone().send_request(request, true).unwrap().0
        };
        // One goes before, so that nothing is left to say of the connection itself.
        let before = ask(0);
        go.notify_one();
        before.await.unwrap();
        let (written, asked) = (writes.load(Ordering::SeqCst), (0..CALLS).map(ask).collect::<Vec<_>>());
        while come.load(Ordering::SeqCst) <= CALLS {
            yield_now().await;
        }
        go.notify_waiters();
        join_all(asked).await.into_iter().for_each(|answer| {
            answer.unwrap();
        });
        let written = writes.load(Ordering::SeqCst) - written;
        drop(client);
        served.await.unwrap();
        written
    }

    #[tokio::test]
    async fn what_is_refused_of_one_read_leaves_with_one_write() {
        assert_eq!(writes(true).await, 1);
    }

    /// On a runtime as services have it, where a task that was woken last runs first.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_many_calls_answer_at_once_leaves_with_few_writes() {
        let written = tokio::spawn(writes(false)).await.unwrap();
        // The runtime interrupts what is ready after 61 tasks, to look at sockets; those that yielded go on then. And they
        // say more than HTTP/2 holds back at once.
        assert!(written <= 5, "{written} writes");
    }

    #[tokio::test]
    async fn an_answer_that_has_to_wait_is_a_task() {
        let calls = Calls::new(Duration::from_secs(60));
        let (done, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, waits) = (done.clone(), go.clone());
        calls.answered().store(true, Ordering::Relaxed);
        calls.execute(async move {
            waits.notified().await;
            told.notify_one();
        });
        assert!(calls.hand_over(), "it was one of those that were answered");
        assert!(!calls.hand_over(), "and is no more");
        go.notify_one();
        done.notified().await;
    }

    #[tokio::test]
    async fn a_connection_is_over_when_it_is() {
        let calls = Calls::new(Duration::from_secs(60));
        assert_eq!(in_turn(pin!(ready(7)), &calls).await, 7);
        assert_eq!(in_turn(pin!(pending::<u8>()), &calls).now_or_never(), None);
    }
}
