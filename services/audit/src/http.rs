//! The log over plain HTTP, for any client of `c2sp.org/tlog-tiles`: its newest checkpoint, hash tiles and entry bundles.
//!
//! Everything is public and proves itself, so there is no TLS and nobody is asked who he is. Nothing is written for a
//! request, not even a signature.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use sammati_kernel::{Code, Refusal};
use sammati_log::path::Resource;
use sammati_server::plain::{self, response, text};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::log::Log;

/// The most connections at once; mirrors stand behind caches.
const CONNECTIONS: usize = 256;

/// For what never changes.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// For the checkpoint: longer than this no cache keeps it.
const BRIEFLY: &str = "public, max-age=1";

/// For what may be there in a moment.
const NEVER: &str = "no-store";

/// Serves `log` until `stop`.
pub async fn serve(log: Arc<Log>, listener: TcpListener, stop: CancellationToken) {
    plain::serve(listener, CONNECTIONS, stop, move |request| {
        answer(Arc::clone(&log), request)
    })
    .await;
}

async fn answer(log: Arc<Log>, request: Request<Body>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = kept(NEVER, text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n"));
        refused
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let path = below(log.origin(), request.uri().path());
    let Some(Ok(resource)) = path.map(Resource::parse) else {
        return kept(NEVER, text(StatusCode::NOT_FOUND, nothing(log.origin())));
    };
    let found = match resource {
        Resource::Checkpoint => log.published().await.map(String::into_bytes),
        Resource::Tile(id) => log.tile(id).await,
        Resource::Entries(id) => log.entries(id).await,
    };
    match (found, resource) {
        (Ok(bytes), Resource::Checkpoint) => {
            kept(BRIEFLY, response(StatusCode::OK, "text/plain; charset=utf-8", bytes))
        }
        (Ok(bytes), _) => kept(FOREVER, response(StatusCode::OK, "application/octet-stream", bytes)),
        (Err(refusal), _) => kept(NEVER, refused(&refusal)),
    }
}

/// What follows the log's prefix: its whole origin, the origin without the host that it begins with, or nothing, for
/// there is one log here.
pub(crate) fn below<'a>(origin: &str, path: &'a str) -> Option<&'a str> {
    let path = path.strip_prefix('/')?;
    let within = origin.split_once('/').map_or(origin, |(_, within)| within);
    let after = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix('/');
    Some(after(origin).or_else(|| after(within)).unwrap_or(path))
}

fn nothing(origin: &str) -> String {
    format!(
        "this is the log {origin}: /checkpoint, /tile/<level>/<index>[.p/<width>], \
         /tile/entries/<index>[.p/<width>] (c2sp.org/tlog-tiles)\n"
    )
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let code = match refusal.reason.code() {
        Code::NotFound => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    text(code, format!("{}: {}\n", refusal.reason.as_str(), refusal.message))
}

fn kept(how: &'static str, mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static(how));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_below_every_prefix_of_the_log() {
        let origin = "sammati.local/audit/2026h2";
        for path in [
            "/checkpoint",
            "/audit/2026h2/checkpoint",
            "/sammati.local/audit/2026h2/checkpoint",
        ] {
            assert_eq!(below(origin, path), Some("checkpoint"), "{path}");
        }
        for path in [
            "/audit/2026h1/checkpoint",
            "/audit/2026h2checkpoint",
            "//checkpoint",
            "/",
        ] {
            let resource = below(origin, path).map(Resource::parse);
            assert!(!matches!(resource, Some(Ok(_))), "{path}");
        }
    }
}
