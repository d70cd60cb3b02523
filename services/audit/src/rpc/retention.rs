//! `RetentionService`: what is kept for how long, and what holds it back.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use prost::Message;
use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::retention_service_server::RetentionService;
use sammati_kernel::{Caller, Reason, Refusal};
use sammati_server::event::timestamp;
use sammati_server::{authz, error};
use tonic::{Request, Response, Status};

use super::Rpc;
use crate::hold::{HoldId, Lift, Set};
use crate::rows::HoldRow;
use crate::wire;

#[tonic::async_trait]
impl RetentionService for Rpc {
    async fn expire_class(
        &self,
        request: Request<audit::ExpireClassRequest>,
    ) -> Result<Response<audit::ExpireClassResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.expire(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    type ExportArchiveStream = Pin<Box<dyn Stream<Item = Result<audit::ExportArchiveResponse, Status>> + Send>>;

    async fn export_archive(
        &self,
        request: Request<audit::ExportArchiveRequest>,
    ) -> Result<Response<Self::ExportArchiveStream>, Status> {
        let caller = authz::caller(&request)?.clone();
        let pieces = self
            .archive(&caller, request.into_inner())
            .await
            .map_err(error::status)?;
        let pieces = pieces.map(|piece| piece.map(wire::piece).map_err(error::status));
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn create_legal_hold(
        &self,
        request: Request<audit::CreateLegalHoldRequest>,
    ) -> Result<Response<audit::LegalHold>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.set_hold(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn lift_legal_hold(
        &self,
        request: Request<audit::LiftLegalHoldRequest>,
    ) -> Result<Response<audit::LegalHold>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.lift_hold(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_legal_holds(
        &self,
        request: Request<audit::ListLegalHoldsRequest>,
    ) -> Result<Response<audit::ListLegalHoldsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.holds(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Rpc {
    /// The key of a request id; `message` is the request.
    pub(super) fn request_key(
        &self,
        caller: &Caller,
        method: &str,
        id: &str,
        message: &impl Message,
    ) -> Result<sammati_store::RequestKey, Refusal> {
        self.log.store.request(&caller.id(), method, id, message)
    }

    async fn expire(
        &self,
        caller: &Caller,
        request: audit::ExpireClassRequest,
    ) -> Result<audit::ExpireClassResponse, Refusal> {
        let key = self.request_key(caller, "audit.expire_class", &request.request_id, &request);
        let (key, class) = Refusal::both(key, wire::expired_class(&request))?;
        let done = self
            .log
            .expire(caller, class, &request.month, &request.legal_basis, Some(key))
            .await?;
        self.log.clear_remains().await;
        Ok(audit::ExpireClassResponse {
            erase_time: Some(timestamp(sammati_kernel::Micros(done.at))),
            event: wire::event_name(&self.log.name(), done.index),
        })
    }

    async fn set_hold(
        &self,
        caller: &Caller,
        request: audit::CreateLegalHoldRequest,
    ) -> Result<audit::LegalHold, Refusal> {
        let key = self.request_key(caller, "audit.set_legal_hold", &request.request_id, &request);
        let (key, (subject, classes)) = Refusal::both(key, wire::hold(&request))?;
        let tag = subject.map_or_else(Vec::new, |subject| self.log.tags().subject(&subject.name()));
        let classes = classes.into_iter().map(i32::from).collect();
        let set = Set::new(&self.log, caller, tag, classes, &request.legal_basis).await?;
        self.log.run_hold(set, key).await.map(|row| legal_hold(&row))
    }

    async fn lift_hold(
        &self,
        caller: &Caller,
        request: audit::LiftLegalHoldRequest,
    ) -> Result<audit::LegalHold, Refusal> {
        let key = self.request_key(caller, "audit.lift_legal_hold", &request.request_id, &request);
        let (key, id) = Refusal::both(key, wire::lifted_hold(&request))?;
        let row = self.log.hold(id).await?.ok_or(Reason::NotFound)?;
        let lift = Lift::new(&self.log, caller, &row, &request.legal_basis).await?;
        self.log.run_hold(lift, key).await.map(|row| legal_hold(&row))
    }

    async fn holds(
        &self,
        caller: &Caller,
        request: audit::ListLegalHoldsRequest,
    ) -> Result<audit::ListLegalHoldsResponse, Refusal> {
        let query = audit::ListLegalHoldsRequest::default();
        let page = self
            .pages
            .page(caller, "ListLegalHolds", &query, request.page_size, &request.page_token)?;
        let rows = self.log.holds(page.after.clone(), page.size).await?;
        let next_page_token = match rows.last() {
            Some(last) if rows.len() == page.size => page.next(&last.id).map_err(|_| Reason::Internal)?,
            _ => String::new(),
        };
        Ok(audit::ListLegalHoldsResponse {
            legal_holds: rows.iter().map(legal_hold).collect(),
            next_page_token,
        })
    }
}

fn legal_hold(row: &HoldRow) -> audit::LegalHold {
    let time = |at: i64| (at != 0).then(|| timestamp(sammati_kernel::Micros(at)));
    audit::LegalHold {
        name: HoldId::from_slice(&row.id).map(|id| id.name()).unwrap_or_default(),
        subject_tag: row.subject.clone(),
        classes: row.classes.clone(),
        legal_basis: row.basis.clone(),
        create_time: time(row.set),
        lift_time: time(row.lifted),
    }
}
