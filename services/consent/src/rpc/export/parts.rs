//! The resources of an export, some at a time, and by what name each is recorded.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use prost::Message;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::export_page::Kind;
use sammati_api::json;
use sammati_api::types::v1::NoticeRef;
use sammati_kernel::Refusal;
use sammati_store::Record;
use serde_json::Value;

use super::{Export, full_name};
use crate::artefact::Audience;
use crate::recorded::notice_key;
use crate::rows::{
    ArtefactRow, ConsentRow, DiscoveryRow, LinkRow, PolicyRow, ProfileShareRow, RequestRow, RightsRow, SubscriptionRow,
    TransferRow, broken,
};

/// Resources that are read at once; of consents with all their artefacts, and links with all they have, a tenth.
const ROWS: i64 = 100;

/// One resource.
pub(super) struct Line {
    /// As JSON.
    pub(super) value: Value,
    /// What its steps are found by.
    pub(super) key: String,
    /// By which name the log lists them.
    pub(super) resource: String,
}

/// Some resources, and where the next ones begin.
type Part = (Vec<Line>, Option<Vec<u8>>);

impl Export {
    /// The next resources of a kind, newest first.
    pub(super) async fn part(&mut self, kind: Kind, before: Option<Vec<u8>>) -> Result<Part, Refusal> {
        let (core, now) = (Arc::clone(&self.core), self.core.now());
        match kind {
            Kind::ConsentRequest => {
                let (rows, next) = self.rows::<RequestRow>(before, ROWS).await?;
                for row in &rows {
                    self.shown(&row.notice, || Ok(row.id()?.name()))?;
                }
                lines(kind, &core.show_requests(&self.caller, &rows, now).await?, next)
            }
            Kind::Consent => {
                let (rows, next) = self.rows::<ConsentRow>(before, ROWS).await?;
                for row in &rows {
                    self.shown(&row.notice, || Ok(row.id()?.name()))?;
                }
                lines(kind, &core.show_consents(&self.caller, &rows, now).await?, next)
            }
            Kind::Artefact => {
                let (rows, next) = self.rows::<ConsentRow>(before, ROWS / 10).await?;
                lines(kind, &self.artefacts(&rows).await?, next)
            }
            Kind::Notice => {
                let mut notices = Vec::new();
                for ((notice, version, language), with) in std::mem::take(&mut self.notices) {
                    let Some(shown) = core.notice_shown(&notice, version, &language).await? else {
                        continue;
                    };
                    let of = NoticeRef {
                        notice,
                        version,
                        language,
                        ..NoticeRef::default()
                    };
                    notices.push(Line {
                        value: encode(kind, &shown)?,
                        key: notice_key(&of),
                        resource: with,
                    });
                }
                Ok((notices, None))
            }
            Kind::Link => {
                let (rows, next) = self.rows::<LinkRow>(before, ROWS / 10).await?;
                lines(kind, &core.show_links(&self.caller, &rows).await?, next)
            }
            Kind::Discovery => {
                let (rows, next) = self.rows::<DiscoveryRow>(before, ROWS).await?;
                lines(kind, &core.show_discoveries(&self.caller, &rows, now).await?, next)
            }
            Kind::ProfileShare => {
                let (rows, next) = self.rows::<ProfileShareRow>(before, ROWS).await?;
                lines(kind, &core.show_shares(&rows, now).await?, next)
            }
            Kind::Transfer => {
                let (rows, next) = self.rows::<TransferRow>(before, ROWS).await?;
                lines(kind, &core.show_transfers(&self.caller, &rows, now).await?, next)
            }
            Kind::Policy => {
                let (rows, next) = self.rows::<PolicyRow>(before, ROWS).await?;
                lines(kind, &core.show_policies(&rows).await?, next)
            }
            Kind::Subscription => {
                let (rows, next) = self.rows::<SubscriptionRow>(before, ROWS).await?;
                lines(kind, &core.show_subscriptions(&self.caller, &rows, now).await?, next)
            }
            Kind::RightsRequest => {
                let (rows, next) = self.rows::<RightsRow>(before, ROWS).await?;
                lines(kind, &core.show_all_rights(&self.caller, &rows).await?, next)
            }
            Kind::StepUp => {
                let set = core.step_up(self.account).await?;
                let set = Some(set).filter(|set| set.update_time.is_some());
                lines(kind, set.as_slice(), None)
            }
            Kind::Record | Kind::Unspecified => Ok((Vec::new(), None)),
        }
    }

    fn shown(&mut self, notice: &NoticeRef, with: impl FnOnce() -> Result<String, Refusal>) -> Result<(), Refusal> {
        let key = (notice.notice.clone(), notice.version, notice.language.clone());
        if let Entry::Vacant(new) = self.notices.entry(key) {
            new.insert(with()?);
        }
        Ok(())
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

fn encode(kind: Kind, resource: &impl Message) -> Result<Value, Refusal> {
    json::encode(full_name(kind), resource).ok_or_else(|| broken("a resource as JSON"))
}

fn lines(kind: Kind, resources: &[impl Message], next: Option<Vec<u8>>) -> Result<Part, Refusal> {
    let line = |resource| {
        let value = encode(kind, resource)?;
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        Ok(Line {
            key: text("name"),
            // An artefact is listed with its consent.
            resource: text(if kind == Kind::Artefact { "consent" } else { "name" }),
            value,
        })
    };
    let lines = resources.iter().map(line).collect::<Result<_, Refusal>>()?;
    Ok((lines, next))
}
