//! `LogService`: append and read.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::log_service_server::LogService;
use sammati_kernel::{Caller, Reason, Refusal};
use sammati_server::event::timestamp;
use sammati_server::{authz, error};
use tonic::{Request, Response, Status, Streaming};

use super::Rpc;
use super::export::Parts;
use super::stream::Answers;
use crate::append::Placed;
use crate::keyring::Opened;
use crate::log::{queried, watched};
use crate::policy;
use crate::rows::LeafRow;
use crate::sources::Ends;
use crate::watch::{self, Watcher};
use crate::wire::{self, Which};

#[tonic::async_trait]
impl LogService for Rpc {
    async fn append_events(
        &self,
        request: Request<audit::AppendEventsRequest>,
    ) -> Result<Response<audit::AppendEventsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.append(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    type StreamEventsStream = Answers;

    async fn stream_events(
        &self,
        request: Request<Streaming<audit::StreamEventsRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let caller = authz::caller(&request)?.clone();
        Ok(Response::new(self.clone().append_all(caller, request.into_inner())))
    }

    async fn get_event(&self, request: Request<audit::GetEventRequest>) -> Result<Response<audit::LogEvent>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.get(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_events(
        &self,
        request: Request<audit::ListEventsRequest>,
    ) -> Result<Response<audit::ListEventsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.list(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    type ExportEventsStream = Parts<audit::ExportEventsResponse>;

    async fn export_events(
        &self,
        request: Request<audit::ExportEventsRequest>,
    ) -> Result<Response<Self::ExportEventsStream>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.export_selected(caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_source_events(
        &self,
        request: Request<audit::ListSourceEventsRequest>,
    ) -> Result<Response<audit::ListSourceEventsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.own(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<audit::WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<audit::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let caller = authz::caller(&request)?.clone();
        let watcher = self.watch(caller, request.into_inner()).await.map_err(error::status)?;
        let stream = futures::stream::try_unfold(watcher, |mut watcher| async move {
            let item = watcher.next().await.map_err(error::status)?;
            Ok(Some((item, watcher)))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_logs(
        &self,
        request: Request<audit::ListLogsRequest>,
    ) -> Result<Response<audit::ListLogsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.logs(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn seal_log(&self, request: Request<audit::SealLogRequest>) -> Result<Response<audit::Log>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.seal(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Rpc {
    async fn append(
        &self,
        caller: &Caller,
        request: audit::AppendEventsRequest,
    ) -> Result<audit::AppendEventsResponse, Refusal> {
        let batch = wire::batch(request.batch)?;
        let source = batch.stretches.first().map(|stretch| stretch.service.as_str());
        let service = policy::appender(caller, source)?;
        let appended = self.log.append(service, &batch.events, batch.stretches).await?;
        self.log.stats.mended(service, &batch.mended);
        let checkpoint = match request.with_checkpoint || request.with_proofs {
            true => Some(self.log.covering(appended.size()).await?),
            false => None,
        };
        let mut events = Vec::new();
        if !request.without_events {
            let ids = batch.events.into_iter().map(|received| received.event.event_id);
            events.extend(ids.zip(&appended.placed).map(|(id, placed)| placed_event(id, placed)));
        }
        if let Some(checkpoint) = checkpoint
            .as_ref()
            .filter(|_| request.with_proofs && !events.is_empty())
        {
            let indexes: Vec<_> = appended.placed.iter().map(|placed| placed.index).collect();
            let proofs = self.log.prove_inclusion(&indexes, checkpoint).await?;
            for (event, proof) in events.iter_mut().zip(proofs) {
                event.proof = proof.bundle.to_string();
            }
        }
        Ok(audit::AppendEventsResponse {
            events,
            log: self.log.name(),
            checkpoint: checkpoint
                .filter(|_| request.with_checkpoint)
                .map_or_else(String::new, |checkpoint| checkpoint.note),
            next_position: appended.next_positions.first().copied().unwrap_or(0),
            next_positions: appended.next_positions,
        })
    }

    async fn get(&self, caller: &Caller, request: audit::GetEventRequest) -> Result<audit::LogEvent, Refusal> {
        let basis = wire::archive_basis(caller, &request.legal_basis);
        let (basis, (log, which)) = Refusal::both(basis, wire::which_event(request))?;
        if log.is_some_and(|log| log != self.log.name()) {
            return Err(policy::unavailable(caller));
        }
        let allowed = |row: &LeafRow| policy::may_see(caller, self.log.tags(), row);
        let found = match which {
            Which::Index(index) => self.log.leaf(index).await?.filter(allowed),
            Which::Event(id, wait) => self.log.leaf_of(&id, wait, allowed).await?,
        };
        let row = found.ok_or_else(|| policy::unavailable(caller))?;
        let (header, opened) = self
            .log
            .payloads(std::slice::from_ref(&row))
            .await?
            .pop()
            .ok_or(Reason::Internal)?;
        let mut read = queried(caller, &wire::event_name(&self.log.name(), row.index));
        if let Opened::Readable(payload) | Opened::Archived(payload) = &opened {
            read.payload().subject.clone_from(&payload.subject);
        }
        read.payload().legal_basis.clone_from(&basis);
        self.log.record(read).await?;
        let erasure = match opened {
            Opened::Erased => self.erasure(&header).await?,
            Opened::Readable(_) | Opened::Archived(_) | Opened::Damaged => None,
        };
        let shown = policy::shown(caller, &basis, opened);
        let event = wire::log_event(&self.log.name(), &row, header, shown);
        Ok(audit::LogEvent { erasure, ..event })
    }

    /// When and why a payload was erased, with the proof that the log says so.
    async fn erasure(&self, header: &audit::Leaf) -> Result<Option<audit::Erasure>, Refusal> {
        let Some(done) = self.log.erasure_of(header).await? else {
            return Ok(None);
        };
        let checkpoint = self.log.covering(done.index + 1).await?;
        let proved = self.log.prove_inclusion(&[done.index], &checkpoint).await?.pop();
        let proved = proved.ok_or(Reason::Internal)?;
        Ok(Some(audit::Erasure {
            erase_time: Some(timestamp(sammati_kernel::Micros(done.at))),
            legal_basis: done.basis,
            event: wire::event_name(&self.log.name(), done.index),
            leaf: proved.leaf,
            proof: proved.bundle.to_string(),
        }))
    }

    async fn list(
        &self,
        caller: &Caller,
        request: audit::ListEventsRequest,
    ) -> Result<audit::ListEventsResponse, Refusal> {
        let query = audit::ListEventsRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let page = self
            .pages
            .page(caller, "ListEvents", &query, request.page_size, &request.page_token);
        let filter = wire::filter(&request).and_then(|filter| policy::narrow(caller, filter));
        let (filter, page) = Refusal::both(filter, page)?;
        let listed = self.log.list(&filter, page.size, page.after.as_deref()).await?;
        let payloads = self.log.payloads(&listed.rows).await?;
        let mut read = queried(caller, &self.log.name());
        read.payload().subject = filter.subject;
        let records = wire::number(listed.rows.len() as u64);
        read.payload().counts = Some(audit::Counts {
            records,
            ..audit::Counts::default()
        });
        self.log.record(read).await?;
        let next_page_token = match &listed.next {
            Some(last) => page.next(last).map_err(|_| Reason::Internal)?,
            None => String::new(),
        };
        let name = self.log.name();
        let rows = listed.rows.iter().zip(payloads);
        let events = rows.map(|(row, (header, opened))| wire::log_event(&name, row, header, shown(caller, opened)));
        Ok(audit::ListEventsResponse {
            events: events.collect(),
            next_page_token,
        })
    }

    async fn own(
        &self,
        caller: &Caller,
        request: audit::ListSourceEventsRequest,
    ) -> Result<audit::ListSourceEventsResponse, Refusal> {
        let service = policy::appender(caller, None)?;
        let query = audit::ListSourceEventsRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let page = self.pages.page(
            caller,
            "ListSourceEvents",
            &query,
            request.page_size,
            &request.page_token,
        );
        let (feeds, page) = Refusal::both(wire::feeds(request.feeds), page)?;
        let ends = Ends { feeds, size: page.size };
        let from = page.after.as_deref().and_then(wire::index_of);
        let positions = match from {
            None => self.log.positions(service, &ends).await?,
            Some(_) => Vec::new(),
        };
        let own = self.log.own(service, &ends, from).await?;
        let payloads = self.log.payloads(&own.rows).await?;
        let mut read = queried(caller, &self.log.name());
        read.payload().counts = Some(audit::Counts {
            records: wire::number(own.rows.len() as u64),
            ..audit::Counts::default()
        });
        self.log.record(read).await?;
        let next_page_token = match own.next {
            Some(next) => page.next(&next.to_be_bytes()).map_err(|_| Reason::Internal)?,
            None => String::new(),
        };
        let name = self.log.name();
        let rows = own.rows.iter().zip(payloads);
        // It gets what it wrote, all of it.
        let all = |opened| match opened {
            Opened::Archived(payload) => Opened::Readable(payload),
            opened => opened,
        };
        let events = rows.map(|(row, (header, opened))| wire::log_event(&name, row, header, all(opened)));
        Ok(audit::ListSourceEventsResponse {
            events: events.collect(),
            next_page_token,
            positions: positions.iter().map(wire::position).collect(),
        })
    }

    async fn watch(&self, caller: Caller, request: audit::WatchEventsRequest) -> Result<Watcher, Refusal> {
        let from = wire::watch_from(&request)?;
        self.is_ours(&request.log)?;
        let unknown = || Refusal::new(Reason::PositionUnknown).saying("the token is not one of this log");
        let next = match request.resume_token.as_str() {
            "" => from,
            token => watch::resumed(&self.log, token).ok_or_else(unknown)?,
        };
        let watcher = Watcher::begin(Arc::clone(&self.log), caller.clone(), next).await?;
        self.log.record(watched(&caller, &self.log.name())).await?;
        Ok(watcher)
    }

    async fn logs(&self, caller: &Caller, request: audit::ListLogsRequest) -> Result<audit::ListLogsResponse, Refusal> {
        let query = audit::ListLogsRequest::default();
        let page = self
            .pages
            .page(caller, "ListLogs", &query, request.page_size, &request.page_token)?;
        // There is one log; a page after it is empty.
        if page.after.is_some() {
            return Ok(audit::ListLogsResponse::default());
        }
        Ok(audit::ListLogsResponse {
            logs: vec![self.resource().await?],
            next_page_token: String::new(),
        })
    }
}

pub(super) fn placed_event(event_id: String, placed: &Placed) -> audit::AppendedEvent {
    audit::AppendedEvent {
        event_id,
        index: wire::number(placed.index),
        leaf_hash: placed.hash.to_vec(),
        accept_time: Some(timestamp(placed.accepted)),
        proof: String::new(),
    }
}

pub(super) fn shown(caller: &Caller, opened: Opened) -> Opened {
    policy::shown(caller, "", opened)
}
