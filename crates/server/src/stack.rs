//! What does a call pass on its way to a handler? The layers, and why each stands where it does.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use http::{Request, Response};
use sammati_kernel::Reason;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceBuilder;

use crate::authn::Authenticate;
use crate::authz::Authorize;
use crate::deadline::Deadlines;
use crate::error;
use crate::layer::{Around, Inner, With};
use crate::rate::Limiter;
use crate::trace::{Meter, Trace};

/// What the stack of a service is made from.
pub(crate) struct Parts {
    pub(crate) meter: Meter,
    pub(crate) authenticate: Authenticate,
    pub(crate) limiter: Limiter,
}

/// The stack around `routes`, outermost first. A call comes here from the gate (`gate`), which found its rule and a
/// place for it.
pub(crate) fn stack(parts: Parts, routes: Routes) -> impl Inner + Sync {
    ServiceBuilder::new()
        // Outermost, so that whatever happens within has a span and a line.
        .layer(With(Trace))
        // Outside of all that refuses, so that refusals are counted too.
        .layer(With(parts.meter))
        // Outside of all code of ours that may fail, so that one bad call costs nobody else the connection; inside of
        // the two that must see that it was INTERNAL.
        .layer(With(CatchPanic))
        // Outside of everything that takes time; answers DEADLINE_EXCEEDED where tonic would say CANCELLED.
        .layer(With(Deadlines))
        // Makes the `Caller`. Everything within may trust it.
        .layer(With(parts.authenticate))
        // Innermost, as it needs the caller: nothing reaches a handler that its contract does not name.
        .layer(With(Authorize { limiter: parts.limiter }))
        .service(routes.prepare())
}

/// A panic in a handler becomes INTERNAL; what it said goes to the log by the panic hook.
#[derive(Clone)]
struct CatchPanic;

impl Around for CatchPanic {
    async fn around<S: Inner>(self, mut inner: S, request: Request<Body>) -> Response<Body> {
        let call = AssertUnwindSafe(async move { inner.ask(request).await });
        match call.catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                tracing::error!("a handler panicked");
                error::answer(Reason::Internal.into())
            }
        }
    }
}
