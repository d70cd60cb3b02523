//! `ConsentService.ExportConsents`: page after page of what is kept of her decisions, then what proves that it is all.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message;
use ring::digest::{Context, SHA256, digest};
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::export_consents_response::Item;
use sammati_api::consent::v1::export_page::Kind;
use sammati_api::json;
use sammati_kernel::{AccountId, Caller, Reason, Refusal, hex};
use sammati_server::error;
use sammati_server::event::timestamp;
use sammati_store::Record;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tonic::Status;

use super::Core;
use crate::artefact::{Audience, canonical};
use crate::consent::export::{ExportConsents, Exporting};
use crate::rows::{ArtefactRow, ConsentRow, PolicyRow, RequestRow, RightsRow, SubscriptionRow, TransferRow, broken};

/// Resources of a page at most; of consents with all their artefacts a tenth.
const ROWS: i64 = 100;

/// The most bytes of a page, unless one resource alone has more.
const BYTES: usize = 1 << 20;

/// Pages that wait for a slow client; then reading waits.
const BUFFER: usize = 2;

/// What an export has, in this order.
const KINDS: [Kind; 9] = [
    Kind::ConsentRequest,
    Kind::Consent,
    Kind::Artefact,
    Kind::Notice,
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
    /// The notices that she was shown: name, version and language.
    notices: BTreeSet<(String, i32, String)>,
    pages: i32,
    counts: Vec<api::export_manifest::Count>,
    whole: Context,
    to: Sender<Sent>,
}

/// Some resources as JSON, and where the next ones begin.
type Part = (Vec<Value>, Option<Vec<u8>>);

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
            notices: BTreeSet::new(),
            pages: 0,
            counts: Vec::new(),
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
        let manifest = api::ExportManifest {
            subject: self.account.name(),
            export_time: Some(timestamp(exporting.at)),
            page_count: self.pages,
            counts: std::mem::take(&mut self.counts),
            sha256: hex(self.whole.clone().finish().as_ref()),
            event_id: exporting.event_id,
        };
        let _ = self.send(Item::Manifest(manifest)).await;
    }

    /// All pages of one kind.
    async fn kind(&mut self, kind: Kind) -> Result<Result<(), Gone>, Refusal> {
        let (mut before, mut count) = (None, 0);
        loop {
            let (values, next) = self.part(kind, before).await?;
            count += values.len();
            for page in pages(&values) {
                if self.page(kind, page).await.is_err() {
                    return Ok(Err(Gone));
                }
            }
            if next.is_none() {
                break;
            }
            before = next;
        }
        self.counts.push(api::export_manifest::Count {
            kind: kind.into(),
            resource_count: i32::try_from(count).unwrap_or(i32::MAX),
        });
        Ok(Ok(()))
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

    /// The next resources of a kind, newest first.
    async fn part(&mut self, kind: Kind, before: Option<Vec<u8>>) -> Result<Part, Refusal> {
        let (core, now) = (Arc::clone(&self.core), self.core.now());
        match kind {
            Kind::ConsentRequest => {
                let (rows, next) = self.rows::<RequestRow>(before, ROWS).await?;
                for row in &rows {
                    self.shown(&row.notice);
                }
                values(kind, &core.show_requests(&self.caller, &rows, now).await?, next)
            }
            Kind::Consent => {
                let (rows, next) = self.rows::<ConsentRow>(before, ROWS).await?;
                for row in &rows {
                    self.shown(&row.notice);
                }
                values(kind, &core.show_consents(&self.caller, &rows, now).await?, next)
            }
            Kind::Artefact => {
                let (rows, next) = self.rows::<ConsentRow>(before, ROWS / 10).await?;
                values(kind, &self.artefacts(&rows).await?, next)
            }
            Kind::Notice => {
                let mut notices = Vec::new();
                for (name, version, language) in std::mem::take(&mut self.notices) {
                    notices.extend(core.notice_shown(&name, version, &language).await?);
                }
                values(kind, &notices, None)
            }
            Kind::Transfer => {
                let (rows, next) = self.rows::<TransferRow>(before, ROWS).await?;
                values(kind, &core.show_transfers(&self.caller, &rows, now).await?, next)
            }
            Kind::Policy => {
                let (rows, next) = self.rows::<PolicyRow>(before, ROWS).await?;
                values(kind, &core.show_policies(&rows).await?, next)
            }
            Kind::Subscription => {
                let (rows, next) = self.rows::<SubscriptionRow>(before, ROWS).await?;
                values(kind, &core.show_subscriptions(&self.caller, &rows, now).await?, next)
            }
            Kind::RightsRequest => {
                let (rows, next) = self.rows::<RightsRow>(before, ROWS).await?;
                values(kind, &core.show_all_rights(&self.caller, &rows).await?, next)
            }
            Kind::StepUp => {
                let set = core.step_up(self.account).await?;
                let set = Some(set).filter(|set| set.update_time.is_some());
                values(kind, set.as_slice(), None)
            }
            Kind::Unspecified => Ok((Vec::new(), None)),
        }
    }

    fn shown(&mut self, notice: &sammati_api::types::v1::NoticeRef) {
        let key = (notice.notice.clone(), notice.version, notice.language.clone());
        self.notices.insert(key);
    }

    /// The next rows that are hers, and the last key where there may be more.
    async fn rows<R: Record + Send + Sync>(
        &self,
        before: Option<Vec<u8>>,
        most: i64,
    ) -> Result<(Vec<R>, Option<Vec<u8>>), Refusal> {
        let account = self.account;
        let read = self
            .core
            .store
            .read(move |r| r.page::<R>("subject", account.as_bytes(), before.as_deref(), most));
        let rows: Vec<R> = read.await?.into_iter().map(|stored| stored.record).collect();
        let is_full = i64::try_from(rows.len()) == Ok(most);
        let next = rows.last().filter(|_| is_full).map(Record::key);
        Ok((rows, next))
    }

    /// Both copies of every version of these consents.
    async fn artefacts(&self, consents: &[ConsentRow]) -> Result<Vec<api::Artefact>, Refusal> {
        let mut all = Vec::new();
        for consent in consents {
            let id = consent.id()?;
            for version in 1..=consent.grant_version {
                for audience in Audience::ALL {
                    let key = ArtefactRow::key_of(id.as_bytes(), version, audience.number());
                    let row = self
                        .core
                        .store
                        .read(move |r| r.get::<ArtefactRow>(id.slot(), &key))
                        .await?;
                    let Some(row) = row else { continue };
                    let of = (id, audience, version);
                    all.push(
                        self.core
                            .render_artefact(&self.caller, of, consent, &row.record)
                            .await?,
                    );
                }
            }
        }
        Ok(all)
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
        Kind::Unspecified => "",
    }
}

fn values(kind: Kind, resources: &[impl Message], next: Option<Vec<u8>>) -> Result<Part, Refusal> {
    let encode = |resource| json::encode(full_name(kind), resource).ok_or_else(|| broken("a resource as JSON"));
    let values = resources.iter().map(encode).collect::<Result<_, _>>()?;
    Ok((values, next))
}

/// Arrays of at most [`BYTES`].
fn pages(values: &[Value]) -> Vec<String> {
    let mut pages: Vec<String> = Vec::new();
    for text in values.iter().map(canonical) {
        match pages.last_mut() {
            Some(page) if page.len() + text.len() < BYTES => {
                page.push(',');
                page.push_str(&text);
            }
            _ => pages.push(format!("[{text}")),
        }
    }
    for page in &mut pages {
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
        assert!(pages.iter().all(|page| page.len() <= BYTES));
        let read = pages
            .iter()
            .flat_map(|page| serde_json::from_str::<Vec<Value>>(page).unwrap());
        assert_eq!(read.collect::<Vec<_>>(), all);
        assert!(super::pages(&[]).is_empty());
    }
}
