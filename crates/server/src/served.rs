//! What can be asked of it? The gRPC services it serves, and their description by reflection.

use std::convert::Infallible;

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;

use crate::run::StartError;

/// The gRPC services of a server, by their full names.
#[derive(Debug, Clone, Default)]
pub struct Served {
    routes: Routes,
    names: Vec<&'static str>,
}

impl Served {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And `service`, as `ConsentServiceServer::new(…)`.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "services are added to it, as tonic's routes call it"
    )]
    pub fn add<S>(mut self, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.names.push(S::NAME);
        self.routes = self.routes.add_service(service);
        self
    }

    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// The routes with reflection beside them: v1, and v1alpha for grpcurl 1.8, which speaks only that.
    pub(crate) fn routes(self) -> Result<Routes, StartError> {
        let describe = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(sammati_api::DESCRIPTORS)
                // So that clients can print the details of a refusal.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET);
            self.names
                .iter()
                .fold(builder, |builder, name| builder.with_service_name(*name))
        };
        let v1 = describe().build_v1().map_err(StartError::other)?;
        let v1alpha = describe().build_v1alpha().map_err(StartError::other)?;
        Ok(self.routes.add_service(v1).add_service(v1alpha))
    }
}
