//! `SubjectService`: one person in the log.

use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::subject_service_server::SubjectService;
use sammati_kernel::{AccountId, Caller, Reason, Refusal};
use sammati_server::event::micros;
use sammati_server::{authz, error};
use tonic::{Request, Response, Status};

use super::Rpc;
use super::export::{AT_ONCE, File, Parts, poured};
use crate::export;
use crate::log::queried;
use crate::policy;
use crate::rows::LeafRow;
use crate::subject::Walk;
use crate::summary::Summary;
use crate::wire;

/// Events that a summary is made from, at most.
const MOST: u64 = 20_000;

/// Events of one look.
const CHUNK: usize = 500;

#[tonic::async_trait]
impl SubjectService for Rpc {
    async fn list_subject_events(
        &self,
        request: Request<audit::ListSubjectEventsRequest>,
    ) -> Result<Response<audit::ListSubjectEventsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.subject_events(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn summarize_access(
        &self,
        request: Request<audit::SummarizeAccessRequest>,
    ) -> Result<Response<audit::AccessSummary>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.summary(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    type ExportSubjectStream = Parts<audit::ExportSubjectResponse>;

    async fn export_subject(
        &self,
        request: Request<audit::ExportSubjectRequest>,
    ) -> Result<Response<Self::ExportSubjectStream>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.export(caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_subject_source_events(
        &self,
        request: Request<audit::ListSubjectSourceEventsRequest>,
    ) -> Result<Response<audit::ListSubjectSourceEventsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.own_about(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn erase_subject(
        &self,
        request: Request<audit::EraseSubjectRequest>,
    ) -> Result<Response<audit::EraseSubjectResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.erase(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

impl Rpc {
    async fn export(
        &self,
        caller: Caller,
        request: audit::ExportSubjectRequest,
    ) -> Result<Parts<audit::ExportSubjectResponse>, Refusal> {
        let format = wire::export_format(request.format);
        let occurred = wire::occurred(request.occurred_range.as_ref());
        let subject = wire::subject(&caller, &request.subject, &request.legal_basis);
        let (format, (subject, occurred)) = Refusal::both(format, Refusal::both(subject, occurred))?;
        let tag = self.log.tags().subject(&subject.name());
        let walk = self.log.begin_walk(&tag, self.log.newest().await?.size).await?;
        // Of a part it is not known yet how many they are.
        let records = match occurred {
            None => usize::try_from(walk.top.0).unwrap_or(usize::MAX),
            Some(_) => 0,
        };
        self.read_subject("audit.exported", &caller, subject, &request.legal_basis, records)
            .await?;
        let rpc = self.clone();
        Ok(poured(|out| async move {
            let (_, note, checkpoint) = rpc.log.subject_head(&tag, walk).await?;
            // It states how many there are in all, which a part cannot show.
            let end = match occurred {
                None => export::end(format, &note, &checkpoint.note),
                Some(_) => None,
            };
            let file = File::new(rpc, caller, format, checkpoint, out);
            hers(file, &tag, walk, occurred, end).await
        }))
    }

    async fn erase(
        &self,
        caller: &Caller,
        request: audit::EraseSubjectRequest,
    ) -> Result<audit::EraseSubjectResponse, Refusal> {
        let key = self.request_key(caller, "audit.erase_subject", &request.request_id, &request);
        let (key, (subject, classes)) = Refusal::both(key, wire::erased_subject(&request))?;
        let tag = self.log.tags().subject(&subject.name());
        let stand = self
            .log
            .erase_subject(caller, &tag, &classes, &request.legal_basis, key)
            .await?;
        let log = self.log.name();
        let classes = stand
            .into_iter()
            .map(|(class, standing)| wire::class_erasure(&log, class, standing));
        Ok(audit::EraseSubjectResponse {
            classes: classes.collect(),
        })
    }

    async fn subject_events(
        &self,
        caller: &Caller,
        request: audit::ListSubjectEventsRequest,
    ) -> Result<audit::ListSubjectEventsResponse, Refusal> {
        let query = audit::ListSubjectEventsRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let page = self.pages.page(
            caller,
            "ListSubjectEvents",
            &query,
            request.page_size,
            &request.page_token,
        );
        let subject = wire::subject(caller, &request.subject, &request.legal_basis);
        let (subject, page) = Refusal::both(subject, page)?;
        let tag = self.log.tags().subject(&subject.name());
        let walk = match page.after.as_deref() {
            Some(token) => Walk::read(token).ok_or(Reason::Internal)?,
            None => self.log.begin_walk(&tag, self.log.newest().await?.size).await?,
        };
        let found = self.log.walk(&tag, walk, page.size).await?;
        let (head, note, checkpoint) = self.log.subject_head(&tag, found.walk).await?;
        let proofs = match request.with_proofs && !found.rows.is_empty() {
            true => {
                let indexes: Vec<_> = found.rows.iter().map(|row| row.index).collect();
                self.log.prove_inclusion(&indexes, &checkpoint).await?
            }
            false => Vec::new(),
        };
        let payloads = self.log.payloads(&found.rows).await?;
        self.read_subject("audit.queried", caller, subject, &request.legal_basis, found.rows.len())
            .await?;
        let name = self.log.name();
        let mut proofs = proofs.into_iter();
        let event = |(row, (header, opened)): (&LeafRow, _)| audit::SubjectEvent {
            event: Some(wire::log_event(
                &name,
                row,
                header,
                policy::shown(caller, &request.legal_basis, opened),
            )),
            leaf: row.leaf.clone(),
            proof: proofs.next().map(|proof| proof.bundle.to_string()).unwrap_or_default(),
        };
        let events = found.rows.iter().zip(payloads).map(event).collect();
        let (next_page_token, subject_head) = match found.walk.is_over() {
            false => (page.next(&found.walk.write()).map_err(|_| Reason::Internal)?, None),
            true => (String::new(), Some(wire::subject_head(&head, note, &checkpoint))),
        };
        Ok(audit::ListSubjectEventsResponse {
            events,
            next_page_token,
            subject_head,
        })
    }

    async fn summary(
        &self,
        caller: &Caller,
        request: audit::SummarizeAccessRequest,
    ) -> Result<audit::AccessSummary, Refusal> {
        let occurred = wire::occurred(request.occurred_range.as_ref());
        let subject = wire::subject(caller, &request.subject, &request.legal_basis);
        let (subject, occurred) = Refusal::both(subject, occurred)?;
        let tag = self.log.tags().subject(&subject.name());
        let mut walk = self.log.begin_walk(&tag, self.log.newest().await?.size).await?;
        let (events, mut seen) = (walk.top.0, 0);
        let mut summary = Summary::default();
        while !walk.is_over() {
            let found = self.log.walk(&tag, walk, CHUNK).await?;
            walk = found.walk;
            if occurred.is_some_and(|(from, _)| accepted_before(found.rows.first(), from.saturating_sub(DAY))) {
                break;
            }
            seen += found.rows.len() as u64;
            if seen > MOST {
                return Err(too_wide());
            }
            for (header, opened) in self.log.payloads(&found.rows).await? {
                summary.take(&header, &opened, occurred);
            }
        }
        self.read_subject(
            "audit.queried",
            caller,
            subject,
            &request.legal_basis,
            usize::try_from(seen).unwrap_or(usize::MAX),
        )
        .await?;
        Ok(summary.answer(events))
    }

    /// Records that `caller` read the events of one person.
    pub(super) async fn read_subject(
        &self,
        event_type: &str,
        caller: &Caller,
        subject: AccountId,
        legal_basis: &str,
        records: usize,
    ) -> Result<(), Refusal> {
        let mut read = queried(caller, &self.log.name());
        event_type.clone_into(&mut read.event.event_type);
        let payload = read.payload();
        payload.subject = subject.name();
        legal_basis.clone_into(&mut payload.legal_basis);
        payload.counts = Some(audit::Counts {
            records: wire::number(records as u64),
            ..audit::Counts::default()
        });
        self.log.record(read).await
    }
}

/// Writes one person's events of a time, or all of them, into a file, as many as are taken.
async fn hers(
    mut file: File<audit::ExportSubjectResponse>,
    tag: &[u8],
    mut walk: Walk,
    occurred: Option<(i64, i64)>,
    end: Option<String>,
) -> Result<(), Refusal> {
    while !walk.is_over() {
        let found = file.log().walk(tag, walk, AT_ONCE).await?;
        walk = found.walk;
        if occurred.is_some_and(|(from, _)| accepted_before(found.rows.first(), from.saturating_sub(DAY))) {
            break;
        }
        let is_within = |row: &LeafRow| {
            let at = row.header().occurred_time.as_ref().and_then(micros);
            occurred.is_none_or(|(from, to)| at.is_some_and(|at| (from..to).contains(&at.0)))
        };
        let rows: Vec<_> = found.rows.into_iter().filter(is_within).collect();
        if !file.add(&rows).await? {
            return Ok(());
        }
    }
    file.end(end).await;
    Ok(())
}

/// Microseconds of a day. Nothing was taken in before it occurred, but for what a clock that is fast wrote: a day is enough
/// for it.
const DAY: i64 = 86_400_000_000;

fn accepted_before(newest: Option<&LeafRow>, time: i64) -> bool {
    let accepted = newest.and_then(|row| row.header().accept_time);
    accepted.as_ref().and_then(micros).is_some_and(|at| at.0 < time)
}

fn too_wide() -> Refusal {
    Refusal {
        reason: Reason::QueryTooWide,
        ..Refusal::field(
            "occurred_range",
            "required: there are more than 20000 events; name a shorter time",
        )
    }
}
