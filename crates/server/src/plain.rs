//! Plain HTTP beside the RPCs: the admin port, and what a service shows to everybody.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::run::StartError;

/// A connection is closed after this; who is still there opens another.
const CONNECTION_LIFE: Duration = Duration::from_secs(3600);

/// How long the head of a request may take, and a connection be idle.
const HEAD: Duration = Duration::from_secs(10);

/// Listens at an address that the configuration calls `key`.
///
/// # Errors
/// When the address cannot be had.
pub async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| StartError::Listen { key, address, error })
}

/// Answers requests on `listener`, HTTP/1 and HTTP/2, with at most so many connections at once, until `stop`.
pub async fn serve<A, F>(listener: TcpListener, connections: usize, stop: CancellationToken, answer: A)
where
    A: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept(), if open.len() < connections => accepted,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let answer = answer.clone();
        open.spawn(async move {
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let answered = answer(request.map(Body::new));
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
            server
                .http2()
                .timer(TokioTimer::new())
                .keep_alive_interval(Duration::from_secs(20));
            // Whatever went wrong on the connection, who made it tries again.
            let _ = timeout(CONNECTION_LIFE, server.serve_connection(TokioIo::new(socket), service)).await;
        });
    }
}

/// An answer of one piece.
pub fn response(code: StatusCode, kind: &'static str, body: impl Into<Vec<u8>>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(body.into())));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A sentence for a person.
pub fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    response(code, "text/plain; charset=utf-8", text.into())
}

/// The body of a request, if it is not longer than `limit`.
pub async fn body(request: Request<Body>, limit: usize) -> Option<Vec<u8>> {
    let body = Limited::new(request.into_body(), limit).collect().await.ok()?;
    Some(body.to_bytes().to_vec())
}
