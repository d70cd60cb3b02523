//! How is a layer of the stack written? As one async function around the rest.

use std::convert::Infallible;
use std::future::Future;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

/// What every layer stands around: it always answers, with a gRPC status at worst, and is always ready, for waiting
/// and shedding are layers too.
pub(crate) trait Inner:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
    /// Asks it.
    fn ask(&mut self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send {
        self.call(request).map(|answer| match answer {
            Ok(response) => response,
            Err(never) => match never {},
        })
    }
}

impl<S> Inner for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// One layer.
pub(crate) trait Around: Clone + Send + Sync + 'static {
    /// Answers `request`, mostly by asking `inner`.
    fn around<S: Inner>(self, inner: S, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send;
}

/// Makes an [`Around`] a layer of tower's.
#[derive(Clone)]
pub(crate) struct With<A>(pub(crate) A);

impl<A: Around, S> Layer<S> for With<A> {
    type Service = Wrapped<A, S>;

    fn layer(&self, inner: S) -> Wrapped<A, S> {
        Wrapped {
            around: self.0.clone(),
            inner,
        }
    }
}

/// A layer with what it stands around.
#[derive(Clone)]
pub(crate) struct Wrapped<A, S> {
    around: A,
    inner: S,
}

impl<A: Around, S: Inner> Service<Request<Body>> for Wrapped<A, S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.around.clone().around(self.inner.clone(), request).map(Ok).boxed()
    }
}
