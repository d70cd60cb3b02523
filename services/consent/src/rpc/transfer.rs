//! `TransferService`: brokering without reading.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::transfer_service_server::TransferService;
use sammati_kernel::{Caller, Micros, Reason, Refusal, TransferId, Violations};
use sammati_server::{authz, error};
use sammati_store::Outcome;
use tonic::{Request, Response, Status};

use super::list::{self, Whose};
use super::{Core, Rpc, head};
use crate::decision::authorize::{Candidates, Deciding};
use crate::policy;
use crate::rows::{TransferRow, broken};
use crate::transfer::acknowledge::AcknowledgeTransfer;
use crate::transfer::create::CreateTransfer;
use crate::transfer::report::ReportTransfer;
use crate::wire;
use crate::wire::transfer::{Filter, Wanted, parse, parse_report, render};

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

    async fn report_transfer(
        &self,
        request: Request<api::ReportTransferRequest>,
    ) -> Result<Response<api::Transfer>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .report(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_transfers(
        &self,
        request: Request<api::ListTransfersRequest>,
    ) -> Result<Response<api::ListTransfersResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .list_transfers_of(&caller, request.into_inner())
            .await
            .map(Response::new)
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
                let ring = self.ring(vec![(slot, row.subject.clone())]).await?;
                render(&row, &ring, caller, self.now(), self.revision(slot))
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
        let ring = self.ring(vec![(id.slot(), row.subject.clone())]).await?;
        render(&row, &ring, caller, self.now(), self.seal(partition, &head))
    }

    async fn report(&self, caller: &Caller, message: api::ReportTransferRequest) -> Result<api::Transfer, Refusal> {
        let key = self.request_key(caller, "transfer.report", &message.request_id, &message);
        let (key, (transfer, report)) = Refusal::both(key, parse_report(&message))?;
        let command = ReportTransfer {
            caller: caller.clone(),
            transfer,
            report,
            etag: message.etag,
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
        };
        let outcome = self.store.run(command, Some(key)).await?;
        self.tell_transfer(caller, outcome).await
    }

    async fn list_transfers_of(
        &self,
        caller: &Caller,
        mut message: api::ListTransfersRequest,
    ) -> Result<api::ListTransfersResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListTransfers", &message, size, &token);
        let asked = list::asked(page, |v| Ok(Filter::parse(v, &message)));
        let (page, filter) = asked.map_err(error::status)?;
        let sources = match caller.account() {
            Some(account) => Ok(vec![Whose::subject(account)]),
            None => ["hip", "hiu"]
                .map(|end| Whose::participant(end, caller))
                .into_iter()
                .collect(),
        };
        let now = self.now();
        let holds = move |row: &TransferRow| filter.holds(row, now);
        let sources = sources.map_err(error::status)?;
        let rows = list::page::<TransferRow>(&self.store, sources, &page, holds).await;
        let (rows, next) = rows.map_err(error::status)?;
        let next_page_token = next.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        Ok(api::ListTransfersResponse {
            transfers: self.show_transfers(caller, &rows, now).await.map_err(error::status)?,
            next_page_token,
        })
    }

    pub(super) async fn show_transfers(
        &self,
        caller: &Caller,
        rows: &[TransferRow],
        now: Micros,
    ) -> Result<Vec<api::Transfer>, Refusal> {
        let of = |row: &TransferRow| Ok((row.id()?.slot(), row.subject.clone()));
        self.shown(rows, of, |row, ring, revision| render(row, ring, caller, now, revision))
            .await
    }
}

fn name(text: &str) -> Result<TransferId, Refusal> {
    let mut v = Violations::new();
    let id = wire::name(&mut v, "name", text);
    v.check()?;
    id.ok_or_else(|| Reason::FieldInvalid.into())
}
