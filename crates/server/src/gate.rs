//! What becomes of a call before anything is spent on it? It finds its method's rule and a place, or it is refused on the
//! spot: nothing is read of it, traced, timed or started, for under a flood what a refusal costs is what all the others
//! lose.

use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use sammati_kernel::Reason;
use tokio::time::Instant;
use tonic::body::Body;

use crate::authn::Authenticate;
use crate::authz::{Rule, Table};
use crate::config::Limits;
use crate::error;
use crate::places::Places;
use crate::shed::{Place, Shed};
use crate::tls::Connection;
use crate::trace::Meter;

/// One for all connections.
#[derive(Clone)]
pub(crate) struct Gate {
    table: Table,
    shed: Shed,
    meter: Meter,
    authenticate: Authenticate,
    /// The refusal, written once: the same for everybody.
    refusal: Arc<HeaderMap>,
}

impl Gate {
    pub(crate) fn new(table: Table, limits: &Limits, meter: Meter, authenticate: Authenticate) -> Self {
        let refusal = error::answer(Reason::Overloaded.into()).into_parts().0.headers;
        Self {
            table,
            shed: Shed::new(limits),
            meter,
            authenticate,
            refusal: Arc::new(refusal),
        }
    }

    /// What tells how many places there are, and how many are taken.
    pub(crate) fn places(&self) -> Places {
        Places(self.shed.clone())
    }

    /// A place for the call whose rule it also finds; both layers and handlers find the rule in the extensions.
    pub(crate) fn admit<B>(&self, connection: &Connection, request: &mut Request<B>) -> Result<Place, Response<Body>> {
        let rule = self.table.rule(request.uri().path());
        let Some(place) = self.place(connection, &rule, request.headers()) else {
            self.meter.refused(&rule);
            return Err(self.refuse());
        };
        request.extensions_mut().insert::<Arc<Rule>>(rule);
        Ok(place)
    }

    /// Of the class of those who showed who they are: by a certificate, or a token that is good. One that nobody has seen yet is
    /// verified in a place of those who have not, so that whoever makes tokens up takes theirs and no others.
    fn place(&self, connection: &Connection, rule: &Rule, headers: &HeaderMap) -> Option<Place> {
        let now = Instant::now();
        let place = |known| self.shed.place(&connection.load, rule, known, now);
        if connection.certificate.is_some() || self.authenticate.knows(headers, connection) {
            return place(true);
        }
        let anonymous = place(false)?;
        match self.authenticate.verifies(headers, connection) {
            true => place(true),
            false => Some(anonymous),
        }
    }

    fn refuse(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        response.headers_mut().clone_from(&self.refusal);
        response
    }
}
