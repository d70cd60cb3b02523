//! `SubjectService.ListSubjectSourceEvents`: what a service itself has sent about one person.

use sammati_api::audit::v1 as audit;
use sammati_kernel::{Caller, Reason, Refusal};

use super::Rpc;
use crate::keyring::Opened;
use crate::policy;
use crate::rows::LeafRow;
use crate::subject::Walk;
use crate::wire;

/// Events that one call looks at, at most: the next page goes on.
const MOST: usize = 5000;

/// Events of one look.
const CHUNK: usize = 100;

/// Bytes of payloads after which a page ends.
const BYTES: usize = 1 << 20;

/// A page on its way.
struct Page {
    rows: Vec<LeafRow>,
    walk: Walk,
    bytes: usize,
    seen: usize,
}

impl Page {
    const fn is_full(&self, size: usize) -> bool {
        self.walk.is_over() || self.rows.len() >= size || self.bytes >= BYTES || self.seen >= MOST
    }

    fn take(&mut self, found: crate::subject::Page, service: &str) {
        self.walk = found.walk;
        self.seen += found.rows.len();
        for row in found.rows {
            let header = row.header();
            let is_own = header.source.is_some_and(|source| source.service == service);
            if is_own && !header.resource_type.is_empty() {
                self.bytes += row.payload.len();
                self.rows.push(row);
            }
        }
    }
}

impl Rpc {
    pub(super) async fn own_about(
        &self,
        caller: &Caller,
        request: audit::ListSubjectSourceEventsRequest,
    ) -> Result<audit::ListSubjectSourceEventsResponse, Refusal> {
        let service = policy::appender(caller, None)?;
        let query = audit::ListSubjectSourceEventsRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let (method, size, token) = ("ListSubjectSourceEvents", request.page_size, &request.page_token);
        let page = self.pages.page(caller, method, &query, size, token);
        let (subject, page) = Refusal::both(wire::account(&request.subject), page)?;
        let tag = self.log.tags().subject(&subject.name());
        let walk = match page.after.as_deref() {
            Some(token) => Walk::read(token).ok_or(Reason::Internal)?,
            None => self.log.begin_walk(&tag, self.log.newest().await?.size).await?,
        };
        let mut own = Page {
            rows: Vec::new(),
            walk,
            bytes: 0,
            seen: 0,
        };
        while !own.is_full(page.size) {
            let most = CHUNK.min(page.size - own.rows.len());
            own.take(self.log.walk(&tag, own.walk, most).await?, service);
        }
        let (_, _, checkpoint) = self.log.subject_head(&tag, own.walk).await?;
        let payloads = self.log.payloads(&own.rows).await?;
        self.read_subject("audit.queried", caller, subject, "", own.rows.len())
            .await?;
        let name = self.log.name();
        // It gets what it wrote, all of it.
        let all = |opened| match opened {
            Opened::Archived(payload) => Opened::Readable(payload),
            opened => opened,
        };
        let rows = own.rows.iter().zip(payloads);
        let events = rows.map(|(row, (header, opened))| wire::log_event(&name, row, header, all(opened)));
        let next_page_token = match own.walk.is_over() {
            false => page.next(&own.walk.write()).map_err(|_| Reason::Internal)?,
            true => String::new(),
        };
        Ok(audit::ListSubjectSourceEventsResponse {
            events: events.collect(),
            next_page_token,
            tree_size: wire::number(checkpoint.size),
            checkpoint: checkpoint.note,
        })
    }
}
