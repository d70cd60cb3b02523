//! `add-checkpoint` over plain HTTP: the checkpoint's signature says who asks.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use sammati_log::witness::{AddCheckpoint, MAX_REQUEST, Rejected};
use sammati_server::plain::{self, response, text};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::book::{Answer, Book};

/// The most connections at once: logs, which keep theirs.
const CONNECTIONS: usize = 256;

/// Serves until `stop`.
pub async fn serve(book: Arc<Book>, listener: TcpListener, stop: CancellationToken) {
    plain::serve(listener, CONNECTIONS, stop, move |request| {
        answer(Arc::clone(&book), request)
    })
    .await;
}

async fn answer(book: Arc<Book>, request: Request<Body>) -> Response<Body> {
    if request.uri().path() != "/add-checkpoint" {
        return text(
            StatusCode::NOT_FOUND,
            "this is a witness: POST /add-checkpoint (c2sp.org/tlog-witness)\n",
        );
    }
    if request.method() != Method::POST {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "POST\n");
        refused
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    let body = plain::body(request, MAX_REQUEST)
        .await
        .and_then(|body| String::from_utf8(body).ok());
    let request = match body.as_deref().map(str::parse::<AddCheckpoint>) {
        Some(Ok(request)) => request,
        Some(Err(error)) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        None => return text(StatusCode::BAD_REQUEST, "the body is too long, or no UTF-8\n"),
    };
    match book.add(&request).await {
        Ok(Answer::Cosigned(line)) => text(StatusCode::OK, line),
        Ok(Answer::Unknown) => text(
            StatusCode::NOT_FOUND,
            "the origin is none of a log that is witnessed here\n",
        ),
        Ok(Answer::Forked(rejected)) => {
            contradicts(&request, &rejected);
            refused(&rejected)
        }
        Ok(Answer::Rejected(rejected)) => {
            match &rejected {
                Rejected::Inconsistent(_) => contradicts(&request, &rejected),
                Rejected::Conflict(size) => tracing::info!(
                    origin = request.origin(),
                    size,
                    "a checkpoint does not begin where this witness is"
                ),
                _ => {}
            }
            refused(&rejected)
        }
        Err(refusal) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", refusal.reason.as_str()),
        ),
    }
}

/// Signed by the log, and not the history that it showed before.
fn contradicts(request: &AddCheckpoint, why: &Rejected) {
    tracing::error!(origin = request.origin(), %why, note = request.note, "a log contradicts itself");
}

fn refused(why: &Rejected) -> Response<Body> {
    match why {
        Rejected::Conflict(size) => response(StatusCode::CONFLICT, "text/x.tlog.size", format!("{size}\n")),
        why => {
            let status = StatusCode::from_u16(why.status()).unwrap_or(StatusCode::BAD_REQUEST);
            text(status, format!("{why}\n"))
        }
    }
}
