//! Streaming notifications: what is there, then what comes, with a sign of life every 5 seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::watch_notifications_response::{Heartbeat, Item};
use sammati_kernel::{AccountId, Micros, Refusal};
use sammati_server::event::timestamp;
use sammati_store::{Head, Store};
use tokio::sync::mpsc::Sender;
use tokio::time::MissedTickBehavior;
use tonic::Status;

use super::token::{Place, Places, ResumeTokens};
use crate::rows::{NotificationRow, notification_id};
use crate::study::known::Studies;
use crate::wire::notification::render;

/// Between signs of life.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// The longest life of a stream.
pub const LIFE: Duration = Duration::from_secs(3600);

/// The shortest time between two looks: what is committed meanwhile is seen at once, and the first news without delay.
const QUIET: Duration = Duration::from_millis(200);

/// Rows read at once.
const BATCH: i64 = 256;

type Message = api::WatchNotificationsResponse;

/// One stream.
pub struct Watch {
    store: Store,
    tokens: ResumeTokens,
    studies: Studies,
    recipient: String,
    seen: Places,
    to: Sender<Result<Message, Status>>,
}

/// The stream has ended: the client went, or was told why.
struct Ended;

/// The partitions that hold notifications of a recipient: a person's one, or all.
pub fn heads_of(store: &Store, account: Option<AccountId>) -> Vec<(i64, Head)> {
    let only = account.map(|account| store.partitions().of(account.slot()));
    store
        .heads()
        .into_iter()
        .filter(|(partition, _)| only.is_none_or(|p| p == *partition))
        .collect()
}

impl Watch {
    /// A stream to `recipient` from `seen` on.
    pub fn new(
        store: Store,
        tokens: ResumeTokens,
        studies: Studies,
        recipient: String,
        seen: Places,
        to: Sender<Result<Message, Status>>,
    ) -> Self {
        Self {
            store,
            tokens,
            studies,
            recipient,
            seen,
            to,
        }
    }

    /// Streams until the client goes, an hour has passed or storage fails.
    pub async fn run(mut self) {
        let mut changes = self.store.changes();
        let mut beat = tokio::time::interval(HEARTBEAT);
        let mut quiet = tokio::time::interval(QUIET);
        quiet.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = tokio::time::sleep(LIFE);
        tokio::pin!(end);
        loop {
            quiet.tick().await;
            changes.mark_unchanged();
            let as_of = match self.catch_up().await {
                Ok(as_of) => as_of,
                Err(Ended) => return,
            };
            tokio::select! {
                () = &mut end => return,
                () = self.to.closed() => return,
                _ = beat.tick() => if self.heartbeat(as_of).await.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Sends all that is committed by now; tells the instant before which nothing is missing.
    async fn catch_up(&mut self) -> Result<Micros, Ended> {
        let now = self.store.clock().now();
        if let Err(refusal) = self.store.confirm().await {
            return self.fail(refusal).await;
        }
        let heads = self.store.heads().into_iter().collect::<BTreeMap<_, _>>();
        while self.more(&heads).await? {}
        Ok(now)
    }

    /// Sends what there is in all partitions that went on, at most a batch; tells whether there may be more.
    async fn more(&mut self, heads: &BTreeMap<i64, Head>) -> Result<bool, Ended> {
        let head = |place: &Place| heads.get(&place.partition);
        let behind = |place: &Place| head(place).is_some_and(|head| place.seen < head.next - 1);
        if self
            .seen
            .places
            .iter()
            .any(|place| head(place).is_some_and(|head| head.epoch != place.epoch))
        {
            return self.fail(sammati_kernel::Reason::PositionUnknown.into()).await;
        }
        let behind = self.seen.places.iter().filter(|place| behind(place));
        let behind: Vec<_> = behind.map(|place| (place.partition, place.seen)).collect();
        if behind.is_empty() {
            return Ok(false);
        }
        let (recipient, after) = (self.recipient.clone(), behind.clone());
        let rows = self.store.read(move |r| {
            let of = ("recipient", recipient.as_bytes());
            r.ranges::<NotificationRow>(&after, of, "position", BATCH)
        });
        let rows = match rows.await {
            Ok(rows) => rows,
            Err(refusal) => return self.fail(refusal).await,
        };
        // Rows come partition by partition: all before the last one's are told in full.
        let full = i64::try_from(rows.len()).unwrap_or(BATCH) >= BATCH;
        let last = rows.last().map(|row| row.partition).filter(|_| full);
        for row in rows {
            self.saw(row.partition, row.record.position);
            self.send(&row.record).await?;
        }
        for (partition, _) in behind {
            if last.is_none_or(|last| partition < last)
                && let Some(head) = heads.get(&partition)
            {
                // Everything up to the head was asked for, so nothing before it can still come.
                self.saw(partition, head.next - 1);
            }
        }
        Ok(full)
    }

    fn saw(&mut self, partition: i64, position: i64) {
        if let Some(place) = self.seen.places.iter_mut().find(|place| place.partition == partition) {
            place.seen = place.seen.max(position);
        }
    }

    async fn send(&self, row: &NotificationRow) -> Result<(), Ended> {
        let token = self.tokens.seal(&self.recipient, &self.seen);
        let slot = notification_id(&row.id).map(|id| id.slot()).ok();
        let revision = slot
            .and_then(|slot| self.store.sealed_revision(slot))
            .unwrap_or_default();
        let shown = match self.studies.veil(row, render(row, &token, revision)).await {
            Ok(shown) => shown,
            Err(refusal) => return self.fail(refusal).await,
        };
        let item = Item::Notification(shown);
        self.push(Ok(Message {
            resume_token: token,
            item: Some(item),
        }))
        .await
    }

    async fn heartbeat(&self, as_of: Micros) -> Result<(), Ended> {
        let item = Item::Heartbeat(Heartbeat {
            as_of_time: Some(timestamp(as_of)),
        });
        let resume_token = self.tokens.seal(&self.recipient, &self.seen);
        self.push(Ok(Message {
            resume_token,
            item: Some(item),
        }))
        .await
    }

    async fn fail<T>(&self, refusal: Refusal) -> Result<T, Ended> {
        self.push(Err(sammati_server::error::status(refusal))).await?;
        Err(Ended)
    }

    async fn push(&self, message: Result<Message, Status>) -> Result<(), Ended> {
        self.to.send(message).await.map_err(|_| Ended)
    }
}
