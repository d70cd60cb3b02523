//! How does a service call another? Over a channel on which no call fails only because its connection was ending.
//!
//! Connections end all the time: their time is over, or whoever serves them drains. It says so first, but a call that is on its
//! way to the connection in that moment comes too late and is given back, which tonic tells as CANCELLED or INTERNAL though
//! nobody has seen the call. gRPC has such a call sent again, over the next connection ("transparent retries" of its proposal
//! A6); tonic leaves that to its users.

use std::error::Error;
use std::iter::successors;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Frame;
use hyper::body::Bytes;
use tokio::time::sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::transport;
use tower::{Service, ServiceExt};

/// Before a call is sent again: its connection is yet to notice that it has ended, and the next may be ending as well.
const PAUSES_MS: [u64; 4] = [1, 2, 4, 8];

/// How much of a call is kept until it is answered, in bytes: of more than that nothing is sent again.
const KEPT: usize = 64 * 1024;

/// A channel to a service. Clones share its connection.
#[derive(Debug, Clone)]
pub struct Channel(transport::Channel);

impl From<transport::Channel> for Channel {
    fn from(channel: transport::Channel) -> Self {
        Self(channel)
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, transport::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), transport::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut channel = self.0.clone();
        let (head, body) = request.into_parts();
        let message = Message::new(body);
        let first = self.0.call(Request::from_parts(head.clone(), message.anew()));
        async move {
            let mut answer = first.await;
            for pause in PAUSES_MS {
                let unsent = answer.as_ref().err().is_some_and(|error| is_unsent(error));
                if !unsent || !message.is_kept() {
                    break;
                }
                sleep(Duration::from_millis(pause)).await;
                let request = Request::from_parts(head.clone(), message.anew());
                answer = channel.ready().await?.call(request).await;
            }
            message.forget();
            answer
        }
        .boxed()
    }
}

/// Whether a call failed only because its connection was ending: nobody has begun to serve it, and it may be sent again.
pub fn is_unsent(error: &(dyn Error + 'static)) -> bool {
    successors(Some(error), |&error| error.source()).any(|error| {
        let given_back = error.downcast_ref::<hyper::Error>().map(hyper::Error::is_canceled);
        let too_late = error
            .downcast_ref::<h2::Error>()
            .map(|error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR));
        given_back.or(too_late) == Some(true)
    })
}

/// What a call has to say, kept as far as it was sent, so that it can be said anew.
#[derive(Clone)]
struct Message(Arc<Mutex<Said>>);

struct Said {
    body: Body,
    /// What was read of it.
    kept: Vec<Bytes>,
    /// Whether all that was read is kept: not if it is too much, or needed no more.
    whole: bool,
    /// How often it was begun.
    begun: usize,
}

impl Message {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Said {
            body,
            kept: Vec::new(),
            whole: true,
            begun: 0,
        })))
    }

    /// All of it, for a connection to read; none that read it before reads on.
    fn anew(&self) -> Body {
        let begun = {
            let mut said = self.said();
            said.begun += 1;
            said.begun
        };
        let message = self.clone();
        Body::new(Reader {
            message,
            begun,
            next: 0,
        })
    }

    fn is_kept(&self) -> bool {
        self.said().whole
    }

    /// Nothing more is kept; what was is still read by whoever has not.
    fn forget(&self) {
        self.said().whole = false;
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// The next piece of the body, which somebody reads who has read all that was kept.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(http_body::Body::poll_frame(Pin::new(&mut self.body), cx));
        if let Some(Ok(frame)) = &frame {
            self.kept.extend(frame.data_ref().cloned());
            self.whole &= frame.is_data() && self.kept.iter().map(Bytes::len).sum::<usize>() <= KEPT;
        }
        if !self.whole {
            self.kept.clear();
        }
        Poll::Ready(frame)
    }
}

/// Somebody who reads a message from its beginning.
struct Reader {
    message: Message,
    begun: usize,
    /// The piece that comes next, of those that were kept.
    next: usize,
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let message = self.message.clone();
        let mut said = message.said();
        if said.begun != self.begun {
            return Poll::Ready(None);
        }
        if let Some(piece) = said.kept.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        let frame = ready!(said.poll_next(cx));
        self.next = said.kept.len();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let said = self.message.said();
        self.next >= said.kept.len() && said.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use http_body::Body as _;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tonic::transport::Endpoint;

    use super::*;

    /// The types of the frames that matter here.
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const DATA: u8 = 0;

    /// A frame on the connection itself, without flags.
    fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        [&[0, 0, length, kind, 0, 0, 0, 0, 0], content].concat()
    }

    /// Takes a connection in, waits for a frame of the type `until` and says then that no stream was served and none will be.
    async fn goes_away(listener: &TcpListener, until: u8) -> TcpStream {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_exact(&mut [0; 24]).await.unwrap();
        socket.write_all(&frame(SETTINGS, &[])).await.unwrap();
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            socket.read_exact(&mut vec![0; length as usize]).await.unwrap();
            if head[3] == until {
                break;
            }
        }
        let (goaway, nothing_was_served_and_no_error) = (7, [0; 8]);
        socket
            .write_all(&frame(goaway, &nothing_was_served_and_no_error))
            .await
            .unwrap();
        socket
    }

    /// Answers one call with all that it says.
    async fn echoes(listener: &TcpListener) {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let going_on = tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        let mut said = request.into_body();
        while let Some(piece) = said.data().await {
            answer.send_data(piece.unwrap(), false).unwrap();
        }
        answer.send_data(Bytes::new(), true).unwrap();
        going_on.await.unwrap();
    }

    async fn listener() -> (TcpListener, Channel) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (listener, Endpoint::from_shared(url).unwrap().connect_lazy().into())
    }

    /// A call, and what it is yet to say.
    fn call(channel: &Channel) -> (BoxFuture<'static, Result<Response<Body>, transport::Error>>, Words) {
        let (words, said) = mpsc::unbounded();
        let request = Request::post("/").body(Body::new(StreamBody::new(said))).unwrap();
        (channel.clone().oneshot(request).boxed(), words)
    }

    type Words = mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>;

    /// What is answered over the second connection where the first ended after a frame of the type `until` was sent; the first
    /// of `words` was said before, the others after.
    async fn sent_again(until: u8, before: &[&'static str], after: &[&'static str]) -> String {
        let (listener, channel) = listener().await;
        let (answer, words) = call(&channel);
        let say = |all: &[&'static str]| {
            all.iter().for_each(|word| {
                let frame = Frame::data(Bytes::from_static(word.as_bytes()));
                words.unbounded_send(Ok(frame)).unwrap();
            });
        };
        say(before);
        let serving = async {
            // Held open: what is unread of a connection takes its last words along when it is closed.
            let _gone = goes_away(&listener, until).await;
            say(after);
            words.close_channel();
            echoes(&listener).await;
        };
        let answered = async {
            let body = answer.await.unwrap().into_body();
            let said = body.collect().await.unwrap().to_bytes();
            drop(channel);
            String::from_utf8(said.to_vec()).unwrap()
        };
        tokio::join!(serving, answered).1
    }

    #[tokio::test]
    async fn a_call_that_came_too_late_is_sent_over_the_next_connection() {
        assert_eq!(sent_again(HEADERS, &[], &["all"]).await, "all");
        assert_eq!(
            sent_again(DATA, &["what was said,"], &[" and the rest"]).await,
            "what was said, and the rest"
        );
    }

    #[tokio::test]
    async fn what_was_kept_is_said_to_its_end_though_the_answer_has_begun() {
        let words = ["all", " that", " was", " said"].map(|word| Ok::<_, Status>(Frame::data(Bytes::from(word))));
        let message = Message::new(Body::new(StreamBody::new(futures::stream::iter(words))));
        let mut before = message.anew();
        for _ in 0..3 {
            before.frame().await.unwrap().unwrap();
        }
        let mut anew = message.anew();
        assert!(before.frame().await.is_none(), "somebody else reads it now");
        let first = anew.frame().await.unwrap().unwrap().into_data().unwrap();
        message.forget();
        assert!(!message.is_kept() && !anew.is_end_stream());
        let rest = anew.collect().await.unwrap().to_bytes();
        assert_eq!([first, rest].concat(), b"all that was said");
    }

    #[tokio::test]
    async fn a_call_of_which_more_was_sent_than_is_kept_is_not() {
        let (listener, channel) = listener().await;
        let (answer, words) = call(&channel);
        words.unbounded_send(Ok(Frame::data(vec![0; KEPT + 1].into()))).unwrap();
        let (socket, answer) = tokio::join!(goes_away(&listener, DATA), answer);
        let error = answer.unwrap_err();
        assert!(is_unsent(&error), "{error:?}");
        drop((socket, channel));
        assert!(listener.accept().now_or_never().is_none(), "nobody came again");
    }

    #[tokio::test]
    async fn a_call_is_given_up_when_no_connection_takes_it() {
        let (listener, channel) = listener().await;
        let (answer, _words) = call(&channel);
        let serving = async {
            let mut gone = Vec::new();
            loop {
                gone.push(goes_away(&listener, HEADERS).await);
            }
        };
        tokio::select! {
            () = serving => {}
            answer = answer => assert!(is_unsent(&answer.unwrap_err())),
        }
        let refused = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let (answer, _words) = call(&refused.into());
        assert!(!is_unsent(&answer.await.unwrap_err()), "nobody is there");
    }
}
