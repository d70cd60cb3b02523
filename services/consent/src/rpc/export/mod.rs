//! `ConsentService.ExportConsents`: page after page of what is kept of her, each with what recorded it, then what proves that
//! it is all.

mod parts;
mod records;

use std::collections::BTreeMap;
use std::sync::Arc;

use ring::digest::{Context, SHA256, digest};
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::export_consents_response::Item;
use sammati_api::consent::v1::export_page::Kind;
use sammati_kernel::{AccountId, Caller, Reason, Refusal, hex};
use sammati_server::error;
use sammati_server::event::timestamp;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tonic::Status;

use self::parts::Line;
use super::Core;
use crate::artefact::canonical;
use crate::consent::export::{ExportConsents, Exporting};
use crate::recorded::Asked;

/// The most bytes of a page, unless one resource alone has more.
const BYTES: usize = 1 << 20;

/// Pages that wait for a slow client; then reading waits.
const BUFFER: usize = 2;

/// What an export has, in this order.
const KINDS: [Kind; 12] = [
    Kind::ConsentRequest,
    Kind::Consent,
    Kind::Artefact,
    Kind::Notice,
    Kind::Link,
    Kind::Discovery,
    Kind::ProfileShare,
    Kind::Transfer,
    Kind::Policy,
    Kind::Subscription,
    Kind::RightsRequest,
    Kind::StepUp,
];

type Sent = Result<api::ExportConsentsResponse, Status>;

/// One export on its way.
struct Export {
    core: Arc<Core>,
    caller: Caller,
    account: AccountId,
    /// The notices that she was shown: name, version and language, and what with.
    notices: BTreeMap<(String, i32, String), String>,
    /// What the log says of her, unless it could not be asked.
    asked: Option<Asked>,
    pages: i32,
    counts: Vec<api::export_manifest::Count>,
    records: usize,
    unproved: i32,
    whole: Context,
    to: Sender<Sent>,
}

/// The client went.
struct Gone;

impl Core {
    pub(super) async fn export(self: &Arc<Self>, caller: &Caller) -> Result<Receiver<Sent>, Refusal> {
        let account = caller.account().ok_or(Reason::CallerKind)?;
        let command = ExportConsents {
            caller: caller.clone(),
            account,
        };
        let exporting = self.store.once(command).await?;
        let (to, pages) = channel(BUFFER);
        let export = Export {
            core: Arc::clone(self),
            caller: caller.clone(),
            account,
            notices: BTreeMap::new(),
            asked: None,
            pages: 0,
            counts: Vec::new(),
            records: 0,
            unproved: 0,
            whole: Context::new(&SHA256),
            to,
        };
        // It ends with the client, and the client's stream with the connection: nothing outlives a drain.
        tokio::spawn(export.run(exporting));
        Ok(pages)
    }
}

impl Export {
    async fn run(mut self, exporting: Exporting) {
        self.asked = self.ask(&exporting).await;
        for kind in KINDS {
            match self.kind(kind).await {
                Ok(Ok(())) => {}
                Ok(Err(Gone)) => return,
                Err(refusal) => {
                    let _ = self.to.send(Err(error::status(refusal))).await;
                    return;
                }
            }
        }
        self.count(Kind::Record, self.records);
        let manifest = api::ExportManifest {
            subject: self.account.name(),
            export_time: Some(timestamp(exporting.at)),
            page_count: self.pages,
            counts: std::mem::take(&mut self.counts),
            sha256: hex(self.whole.clone().finish().as_ref()),
            event_id: exporting.event_id,
            checkpoints: self.asked.as_ref().map(Asked::checkpoints).unwrap_or_default(),
            unproved_count: self.unproved,
        };
        let _ = self.send(Item::Manifest(manifest)).await;
    }

    /// What the log has of her up to this export; she gets what is hers without it too.
    async fn ask(&self, exporting: &Exporting) -> Option<Asked> {
        let asked = self.core.logs.ask(self.account, &exporting.event_id).await;
        asked
            .inspect_err(|refusal| tracing::warn!(reason = refusal.reason.as_str(), "an export goes without proofs"))
            .ok()
    }

    /// All pages of one kind, each with its records.
    async fn kind(&mut self, kind: Kind) -> Result<Result<(), Gone>, Refusal> {
        let (mut before, mut count) = (None, 0);
        loop {
            let (lines, next) = self.part(kind, before).await?;
            count += lines.len();
            let mut rest = lines.as_slice();
            for (page, length) in pages(lines.iter().map(|line| &line.value)) {
                let (on_it, after) = rest.split_at(length);
                rest = after;
                if self.page(kind, page).await.is_err() || self.recorded(on_it).await?.is_err() {
                    return Ok(Err(Gone));
                }
            }
            if next.is_none() {
                break;
            }
            before = next;
        }
        self.count(kind, count);
        Ok(Ok(()))
    }

    /// What recorded the lines of the page before.
    async fn recorded(&mut self, lines: &[Line]) -> Result<Result<(), Gone>, Refusal> {
        let (records, unproved) = records::of(self.asked.as_ref(), self.pages, lines).await?;
        self.records += records.len();
        self.unproved = self.unproved.saturating_add(unproved);
        for (page, _) in pages(&records) {
            if self.page(Kind::Record, page).await.is_err() {
                return Ok(Err(Gone));
            }
        }
        Ok(Ok(()))
    }

    fn count(&mut self, kind: Kind, count: usize) {
        self.counts.push(api::export_manifest::Count {
            kind: kind.into(),
            resource_count: i32::try_from(count).unwrap_or(i32::MAX),
        });
    }

    async fn page(&mut self, kind: Kind, json: String) -> Result<(), Gone> {
        self.pages += 1;
        self.whole.update(json.as_bytes());
        let page = api::ExportPage {
            number: self.pages,
            kind: kind.into(),
            schema: format!("type.googleapis.com/{}", full_name(kind)),
            sha256: hex(digest(&SHA256, json.as_bytes()).as_ref()),
            json,
        };
        self.send(Item::Page(page)).await
    }

    async fn send(&self, item: Item) -> Result<(), Gone> {
        let message = api::ExportConsentsResponse { item: Some(item) };
        self.to.send(Ok(message)).await.map_err(|_| Gone)
    }
}

const fn full_name(kind: Kind) -> &'static str {
    match kind {
        Kind::ConsentRequest => "sammati.consent.v1.ConsentRequest",
        Kind::Consent => "sammati.consent.v1.Consent",
        Kind::Artefact => "sammati.consent.v1.Artefact",
        Kind::Notice => "sammati.consent.v1.Notice",
        Kind::Transfer => "sammati.consent.v1.Transfer",
        Kind::Policy => "sammati.consent.v1.Policy",
        Kind::Subscription => "sammati.consent.v1.Subscription",
        Kind::RightsRequest => "sammati.consent.v1.RightsRequest",
        Kind::StepUp => "sammati.consent.v1.StepUp",
        Kind::Link => "sammati.consent.v1.Link",
        Kind::Discovery => "sammati.consent.v1.Discovery",
        Kind::ProfileShare => "sammati.consent.v1.ProfileShare",
        Kind::Record => "sammati.consent.v1.ExportRecord",
        Kind::Unspecified => "",
    }
}

/// Arrays of at most [`BYTES`], and how many values each has.
fn pages<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<(String, usize)> {
    let mut pages: Vec<(String, usize)> = Vec::new();
    for text in values.into_iter().map(canonical) {
        match pages.last_mut() {
            Some((page, count)) if page.len() + text.len() < BYTES => {
                page.push(',');
                page.push_str(&text);
                *count += 1;
            }
            _ => pages.push((format!("[{text}"), 1)),
        }
    }
    for (page, _) in &mut pages {
        page.push(']');
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_all_in_order_and_stay_small() {
        let all: Vec<Value> = (0..5)
            .map(|n| Value::from("x".repeat(BYTES / 3) + &n.to_string()))
            .collect();
        let pages = pages(&all);
        assert_eq!(pages.len(), 3);
        let mut read = Vec::new();
        for (page, count) in &pages {
            let values: Vec<Value> = serde_json::from_str(page).unwrap();
            assert!(page.len() <= BYTES && values.len() == *count);
            read.extend(values);
        }
        assert_eq!(read, all);
        assert!(super::pages(&[]).is_empty());
    }
}
