//! `TransferService`: brokering without reading.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::transfer_service_server::TransferService;
use sammati_kernel::{Caller, ParticipantId, Reason, Refusal, TransferId, Violations};
use sammati_server::{authz, error};
use sammati_store::Outcome;
use tonic::{Request, Response, Status};

use super::{Core, Rpc, head};
use crate::decision::authorize::{Candidates, Deciding};
use crate::policy;
use crate::rows::{TransferRow, broken};
use crate::transfer::create::CreateTransfer;
use crate::wire;
use crate::wire::transfer::{Wanted, origin, parse, render};

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
}

impl Core {
    async fn transfer(&self, caller: &Caller, message: api::CreateTransferRequest) -> Result<api::Transfer, Refusal> {
        let key = self.request_key(caller, "transfer.create", &message.request_id, &message);
        let (key, wanted) = Refusal::both(key, parse(&message, caller, self.now()))?;
        let Wanted {
            consent,
            question,
            origin,
            key_expire,
        } = wanted;
        self.directory.fresh()?;
        self.check_origin(policy::participant(caller)?, &origin)?;
        let deciding = Deciding {
            slot: consent.slot(),
            subject: self.subjects.parties(consent).await?.map(|parties| parties.subject),
            candidates: Candidates::Named(consent),
            question,
            caller: caller.clone(),
            directory: std::sync::Arc::clone(&self.directory),
            revision: self.revision(consent.slot()),
        };
        let material = message.key_material.unwrap_or_default();
        let command = CreateTransfer {
            deciding,
            push_uri: message.push_uri,
            key_content: material.content,
            key_expire,
        };
        let id = match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(row) => return render(&row, caller, self.now(), self.revision(consent.slot())),
            Outcome::Known(id) => TransferId::from_slice(&id).ok_or_else(|| broken("a transfer's id"))?,
        };
        self.show_transfer(caller, id).await
    }

    /// The push address must lie on an origin that the receiver registered: records go nowhere else.
    fn check_origin(&self, hiu: &ParticipantId, wanted: &str) -> Result<(), Refusal> {
        let party = self.directory.participant(hiu);
        let registered = party
            .iter()
            .flat_map(|party| &party.transfer_origins)
            .filter_map(|uri| origin(uri));
        if registered.into_iter().any(|origin| origin == wanted) {
            return Ok(());
        }
        Err(Refusal::new(Reason::PushUriNotRegistered).saying(
            "push_uri is on no origin that is registered for you; use one that is, or ask the operator to add it",
        ))
    }

    async fn read_transfer(&self, caller: &Caller, name: &str) -> Result<api::Transfer, Refusal> {
        let mut v = Violations::new();
        let id: Option<TransferId> = wire::name(&mut v, "name", name);
        v.check()?;
        self.show_transfer(caller, id.ok_or(Reason::FieldInvalid)?).await
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
