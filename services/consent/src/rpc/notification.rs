//! `NotificationService`: what somebody must hear, and that it was heard.

use std::collections::BTreeMap;

use prost::Message;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::acknowledge_notifications_request::Outcome as Said;
use sammati_api::consent::v1::notification_service_server::NotificationService;
use sammati_kernel::{Caller, NotificationId, Refusal, Slot};
use sammati_server::{authz, error};
use sammati_store::{Outcome, RequestKey};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::list::{self, Whose};
use super::{Core, Rpc};
use crate::notification::acknowledge::{Acknowledge, Acknowledged, Item, unknown};
use crate::notification::token::{Place, ResumeTokens};
use crate::notification::watch::{Watch, heads_of};
use crate::policy;
use crate::rows::{NotificationRow, broken, notification_id};
use crate::wire::notification::{ACKNOWLEDGE, parse, render, too_many};
use crate::wire::states;

/// Messages that wait for a slow client; then the stream waits.
const BUFFER: usize = 16;

#[tonic::async_trait]
impl NotificationService for Rpc {
    type WatchNotificationsStream = ReceiverStream<Result<api::WatchNotificationsResponse, Status>>;

    async fn watch_notifications(
        &self,
        request: Request<api::WatchNotificationsRequest>,
    ) -> Result<Response<Self::WatchNotificationsStream>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .watch(&caller, &request.get_ref().resume_token)
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn acknowledge_notifications(
        &self,
        request: Request<api::AcknowledgeNotificationsRequest>,
    ) -> Result<Response<api::AcknowledgeNotificationsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .acknowledge(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn list_notifications(
        &self,
        request: Request<api::ListNotificationsRequest>,
    ) -> Result<Response<api::ListNotificationsResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .list_notifications(&caller, request.into_inner())
            .await
            .map(Response::new)
    }
}

/// What is acknowledged in one partition.
struct Part {
    slot: Slot,
    items: Vec<Item>,
}

impl Core {
    async fn list_notifications(
        &self,
        caller: &Caller,
        mut message: api::ListNotificationsRequest,
    ) -> Result<api::ListNotificationsResponse, Status> {
        let (size, token) = (
            std::mem::take(&mut message.page_size),
            std::mem::take(&mut message.page_token),
        );
        let page = self.pages.page(caller, "ListNotifications", &message, size, &token);
        let asked = list::asked(page, |v| {
            Ok(states::<api::notification::Kind>(v, "kinds", &message.kinds))
        });
        let (page, kinds) = asked.map_err(error::status)?;
        let source = Whose {
            column: "recipient",
            value: policy::recipient(caller).into_bytes(),
        };
        let pending = message.unacknowledged;
        let holds = move |row: &NotificationRow| {
            (kinds.is_empty() || kinds.contains(&row.kind)) && (!pending || row.acknowledged == 0)
        };
        let rows = list::page::<NotificationRow>(&self.store, vec![source], &page, holds).await;
        let (rows, next) = rows.map_err(error::status)?;
        let next_page_token = next.map(|last| page.next(&last)).transpose()?.unwrap_or_default();
        // Another replica may have written the rows: their revisions must not be older than they are.
        self.store.confirm().await.map_err(error::status)?;
        let shown = rows.iter().map(|row| {
            let slot = notification_id(&row.id)?.slot();
            Ok(render(row, "", self.revision(slot)))
        });
        let notifications: Result<_, Refusal> = shown.collect();
        Ok(api::ListNotificationsResponse {
            notifications: notifications.map_err(error::status)?,
            next_page_token,
        })
    }

    async fn watch(
        &self,
        caller: &Caller,
        token: &str,
    ) -> Result<ReceiverStream<Result<api::WatchNotificationsResponse, Status>>, Refusal> {
        self.store.confirm().await?;
        let (heads, recipient) = (heads_of(&self.store, caller.account()), policy::recipient(caller));
        let seen = match token {
            "" => ResumeTokens::beginning(&heads),
            token => self.resume_tokens.open(&recipient, token, &heads)?,
        };
        let (to, stream) = tokio::sync::mpsc::channel(BUFFER);
        let watch = Watch::new(self.store.clone(), self.resume_tokens.clone(), recipient, seen, to);
        // It ends with the client, and the client's stream with the connection: nothing outlives a drain.
        tokio::spawn(watch.run());
        Ok(ReceiverStream::new(stream))
    }

    async fn acknowledge(
        &self,
        caller: &Caller,
        message: api::AcknowledgeNotificationsRequest,
    ) -> Result<api::AcknowledgeNotificationsResponse, Refusal> {
        let key = self.request_key(caller, "notification.acknowledge", &message.request_id, &message);
        let (key, names) = Refusal::both(key, parse(&message))?;
        let parts = if names.is_empty() {
            self.up_to(caller, &message.up_to).await?
        } else {
            self.by_name(caller, names).await?
        };
        let mut all = Acknowledged::default();
        // One commit a partition, each under a request id of its own. The first has the caller's, so that another body
        // under it is refused before anything is done.
        let mut first = Some(key);
        for (partition, part) in parts {
            let method = format!("notification.acknowledge in {partition}");
            let key = match first.take() {
                Some(key) => key,
                None => self.request_key(caller, &method, &message.request_id, &message)?,
            };
            let done = self.acknowledge_part(caller, &message, part, key).await?;
            all.count += done.count;
            all.late += done.late;
        }
        Ok(api::AcknowledgeNotificationsResponse {
            acknowledged_count: all.count,
            late_count: all.late,
        })
    }

    async fn acknowledge_part(
        &self,
        caller: &Caller,
        message: &api::AcknowledgeNotificationsRequest,
        part: Part,
        key: RequestKey,
    ) -> Result<Acknowledged, Refusal> {
        let command = Acknowledge {
            caller: caller.clone(),
            slot: part.slot,
            items: part.items,
            ok: message.outcome() == Said::Ok,
            error: message.error_text.clone(),
        };
        match self.store.run(command, Some(key)).await? {
            Outcome::Fresh(done) => Ok(done),
            Outcome::Known(bytes) => Acknowledged::decode(bytes.as_slice()).map_err(|_| broken("an acknowledgement")),
        }
    }

    /// By name: each must be there and the caller's, before the first is acknowledged.
    async fn by_name(&self, caller: &Caller, names: Vec<NotificationId>) -> Result<BTreeMap<i64, Part>, Refusal> {
        let keys: Vec<_> = names.iter().map(|id| (id.slot(), id.to_vec())).collect();
        let rows = self.store.read(move |r| r.many::<NotificationRow>(&keys)).await?;
        if rows.len() != names.len() || !rows.iter().all(|row| policy::is_recipient(caller, &row.record)) {
            return Err(unknown());
        }
        self.parts(rows.into_iter().map(|stored| stored.record))
    }

    /// Everything up to a place that is not acknowledged yet. Partitions where nothing is left are asked too: there a
    /// repeat finds what it did.
    async fn up_to(&self, caller: &Caller, token: &str) -> Result<BTreeMap<i64, Part>, Refusal> {
        // The place may have been told by another replica, which knew more than this one does.
        self.store.confirm().await?;
        let heads = heads_of(&self.store, caller.account());
        let recipient = policy::recipient(caller);
        let places = self.resume_tokens.open(&recipient, token, &heads)?.places;
        let limit = i64::try_from(ACKNOWLEDGE).unwrap_or(i64::MAX) + 1;
        let read = self.store.read(move |r| {
            let (mut any, mut pending) = (Vec::new(), Vec::new());
            for Place { partition, seen, .. } in &places {
                let of = |column| (column, recipient.as_bytes());
                let first = r.range::<NotificationRow>(*partition, of("recipient"), ("position", -1), 1)?;
                any.extend(first.into_iter().map(|s| s.record).filter(|row| row.position <= *seen));
                let left = r.range::<NotificationRow>(*partition, of("pending"), ("position", -1), limit)?;
                pending.extend(left.into_iter().map(|s| s.record).filter(|row| row.position <= *seen));
            }
            Ok((any, pending))
        });
        let (any, pending) = read.await?;
        if pending.len() > ACKNOWLEDGE {
            return Err(too_many());
        }
        let mut parts = self.parts(pending.into_iter())?;
        for row in any {
            let slot = notification_id(&row.id)?.slot();
            parts.entry(self.store.partitions().of(slot)).or_insert(Part {
                slot,
                items: Vec::new(),
            });
        }
        Ok(parts)
    }

    fn parts(&self, rows: impl Iterator<Item = NotificationRow>) -> Result<BTreeMap<i64, Part>, Refusal> {
        let mut parts = BTreeMap::new();
        for row in rows {
            let item = Item::of(&row)?;
            let slot = item.id.slot();
            let part = parts.entry(self.store.partitions().of(slot)).or_insert(Part {
                slot,
                items: Vec::new(),
            });
            part.items.push(item);
        }
        Ok(parts)
    }
}
