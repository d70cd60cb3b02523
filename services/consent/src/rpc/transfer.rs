//! `TransferService`: brokering without reading.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::transfer_service_server::TransferService;
use sammati_kernel::{Caller, Reason, Refusal, TransferId, Violations};
use sammati_server::{authz, error};
use sammati_store::Outcome;
use tonic::{Request, Response, Status};

use super::{Core, Rpc, head};
use crate::decision::authorize::{Candidates, Deciding};
use crate::policy;
use crate::rows::{TransferRow, broken};
use crate::transfer::acknowledge::AcknowledgeTransfer;
use crate::transfer::create::CreateTransfer;
use crate::wire;
use crate::wire::transfer::{Wanted, parse, render};

#[tonic::async_trait]
impl TransferService for Rpc {
    async fn create_transfer(
        &self,
        request: Request<api::CreateTransferRequest>,
    ) -> Result<Response<api::Transfer>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .transfer(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn get_transfer(&self, request: Request<api::GetTransferRequest>) -> Result<Response<api::Transfer>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .read_transfer(&caller, &request.into_inner().name)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn acknowledge_transfer(
        &self,
        request: Request<api::AcknowledgeTransferRequest>,
    ) -> Result<Response<api::Transfer>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .take_on(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Core {
    async fn transfer(&self, caller: &Caller, message: api::CreateTransferRequest) -> Result<api::Transfer, Refusal> {
        let request = self.request_key(caller, "transfer.create", &message.request_id, &message);
        let (request, wanted) = Refusal::both(request, parse(&message, caller))?;
        let Wanted {
            consent,
            question,
            origin,
            key,
        } = wanted;
        let deciding = Deciding {
            slot: consent.slot(),
            subject: self.subjects.parties(consent).await?.map(|parties| parties.subject),
            candidates: Candidates::Named(consent),
            question,
            caller: caller.clone(),
            directory: std::sync::Arc::clone(&self.directory),
            revision: self.revision(consent.slot()),
        };
        let command = CreateTransfer {
            deciding,
            push_uri: message.push_uri,
            origin,
            key,
        };
        let outcome = self.store.run(command, Some(request)).await?;
        self.tell_transfer(caller, outcome).await
    }

    async fn take_on(
        &self,
        caller: &Caller,
        message: api::AcknowledgeTransferRequest,
    ) -> Result<api::Transfer, Refusal> {
        let request = self.request_key(caller, "transfer.acknowledge", &message.request_id, &message);
        let (request, transfer) = Refusal::both(request, name(&message.name))?;
        let command = AcknowledgeTransfer {
            caller: caller.clone(),
            transfer,
            etag: message.etag,
            directory: std::sync::Arc::clone(&self.directory),
            revision: self.revision(transfer.slot()),
        };
        let outcome = self.store.run(command, Some(request)).await?;
        self.tell_transfer(caller, outcome).await
    }

    /// A transfer as a command left it, or, to a repeat, as it is now.
    async fn tell_transfer(&self, caller: &Caller, outcome: Outcome<TransferRow>) -> Result<api::Transfer, Refusal> {
        match outcome {
            Outcome::Fresh(row) => {
                let slot = row.id()?.slot();
                render(&row, caller, self.now(), self.revision(slot))
            }
            Outcome::Known(id) => {
                let id = TransferId::from_slice(&id).ok_or_else(|| broken("a transfer's id"))?;
                self.show_transfer(caller, id).await
            }
        }
    }

    async fn read_transfer(&self, caller: &Caller, text: &str) -> Result<api::Transfer, Refusal> {
        self.show_transfer(caller, name(text)?).await
    }

    async fn show_transfer(&self, caller: &Caller, id: TransferId) -> Result<api::Transfer, Refusal> {
        let store = self.store.clone();
        let read = self.store.read(move |r| {
            let row = r
                .get::<TransferRow>(id.slot(), id.as_bytes())?
                .map(|stored| stored.record);
            Ok((row, head(r, &store, id.slot())?))
        });
        let (row, (partition, head)) = read.await?;
        let row = policy::may_see_transfer(caller, row)?;
        render(&row, caller, self.now(), self.seal(partition, &head))
    }
}

fn name(text: &str) -> Result<TransferId, Refusal> {
    let mut v = Violations::new();
    let id = wire::name(&mut v, "name", text);
    v.check()?;
    id.ok_or_else(|| Reason::FieldInvalid.into())
}
