//! Streaming notifications: what is there, then what comes, with a sign of life every 5 seconds.

use std::time::Duration;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::watch_notifications_response::{Heartbeat, Item};
use sammati_kernel::{AccountId, Micros, Refusal};
use sammati_server::event::timestamp;
use sammati_store::{Head, Store};
use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::token::{Places, ResumeTokens};
use crate::rows::NotificationRow;
use crate::wire::notification::render;

/// Between signs of life.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// The longest life of a stream.
pub const LIFE: Duration = Duration::from_secs(3600);

/// Rows read at once from one partition.
const BATCH: i64 = 256;

type Message = api::WatchNotificationsResponse;

/// One stream.
pub struct Watch {
    store: Store,
    tokens: ResumeTokens,
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
        recipient: String,
        seen: Places,
        to: Sender<Result<Message, Status>>,
    ) -> Self {
        Self {
            store,
            tokens,
            recipient,
            seen,
            to,
        }
    }

    /// Streams until the client goes, an hour has passed or storage fails.
    pub async fn run(mut self) {
        let mut changes = self.store.changes();
        let mut beat = tokio::time::interval(HEARTBEAT);
        let end = tokio::time::sleep(LIFE);
        tokio::pin!(end);
        loop {
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
        let heads = self.store.heads();
        for (partition, head) in heads {
            self.partition(partition, &head).await?;
        }
        Ok(now)
    }

    async fn partition(&mut self, partition: i64, head: &Head) -> Result<(), Ended> {
        let Some(at) = self.seen.places.iter().position(|place| place.partition == partition) else {
            return Ok(());
        };
        loop {
            let place = self.seen.places[at];
            if place.epoch != head.epoch {
                return self.fail(sammati_kernel::Reason::PositionUnknown.into()).await;
            }
            if place.seen >= head.next - 1 {
                return Ok(());
            }
            let (recipient, seen) = (self.recipient.clone(), place.seen);
            let rows = self.store.read(move |r| {
                r.range::<NotificationRow>(
                    partition,
                    ("recipient", recipient.as_bytes()),
                    ("position", seen),
                    BATCH,
                )
            });
            let rows = match rows.await {
                Ok(rows) => rows,
                Err(refusal) => return self.fail(refusal).await,
            };
            let full = i64::try_from(rows.len()).unwrap_or(BATCH) == BATCH;
            for row in rows {
                self.seen.places[at].seen = row.record.position;
                self.send(&row.record).await?;
            }
            if !full {
                // Everything up to the head was asked for, so nothing before it can still come.
                let seen = &mut self.seen.places[at].seen;
                *seen = (*seen).max(head.next - 1);
            }
        }
    }

    async fn send(&self, row: &NotificationRow) -> Result<(), Ended> {
        let token = self.tokens.seal(&self.recipient, &self.seen);
        let item = Item::Notification(render(row, &token));
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
