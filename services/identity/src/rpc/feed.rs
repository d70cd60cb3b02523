//! FeedService: what other services must know of identity, as it changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::change::Kind;
use sammati_api::identity::v1::watch_changes_response::Item;
use sammati_kernel::{Micros, Reason, Refusal};
use sammati_server::error::status;
use sammati_server::event::timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::Status;

use crate::changes::{self, Cursor, Now};
use crate::rows::{AccountRow, ParticipantRow, SessionRow, etag};
use crate::service::Inner;
use crate::tokens::{ACCESS, ACTOR};
use crate::wire;

/// How often a heartbeat comes.
const BEAT: Duration = Duration::from_secs(1);

/// One watcher, pulled by its stream: whoever does not read is not read for.
struct Watcher {
    inner: Arc<Inner>,
    cursor: Cursor,
    ready: VecDeque<api::WatchChangesResponse>,
    committed: watch::Receiver<u64>,
    /// When the last heartbeat was made; `None` before the first.
    beat: Option<Instant>,
}

impl Inner {
    /// The stream; a refusal where the resume token is no good.
    pub(crate) async fn watch_changes(
        self: Arc<Self>,
        request: api::WatchChangesRequest,
    ) -> Result<impl Stream<Item = Result<api::WatchChangesResponse, Status>> + use<>, Refusal> {
        let watcher = Watcher::begin(self, &request.resume_token).await?;
        Ok(futures::stream::try_unfold(watcher, |mut watcher| async move {
            let item = watcher.next().await.map_err(status)?;
            Ok(Some((item, watcher)))
        }))
    }
}

impl Watcher {
    async fn begin(inner: Arc<Inner>, token: &str) -> Result<Self, Refusal> {
        // Before anything is read: what is committed meanwhile wakes the watcher.
        let committed = inner.store.changes();
        let mut ready = VecDeque::new();
        let cursor = if token.is_empty() {
            let snapshot = changes::snapshot(&inner.store, inner.now()).await?;
            ready.extend(
                snapshot
                    .participants
                    .into_iter()
                    .map(|row| begun(Kind::Participant(participant(&row)))),
            );
            ready.extend(
                snapshot
                    .accounts
                    .into_iter()
                    .map(|row| begun(Kind::Account(account(&row)))),
            );
            ready.extend(
                snapshot
                    .sessions
                    .into_iter()
                    .map(|row| begun(Kind::SessionEnd(session_end(&row)))),
            );
            ready.push_back(begun(Kind::KeySet(api::KeySet {
                keys: inner.keys.list(),
            })));
            snapshot.cursor
        } else {
            let cursor = Cursor::open(inner.store.key(), token).ok_or_else(changes::begin_anew)?;
            cursor.check(&inner.store).await?;
            // Keys are not in the feed: they change only with a restart, and a watcher comes back after one.
            let keys = Kind::KeySet(api::KeySet {
                keys: inner.keys.list(),
            });
            ready.push_back(item(&inner, &cursor, None, keys)?);
            cursor
        };
        Ok(Self {
            inner,
            cursor,
            ready,
            committed,
            beat: None,
        })
    }

    async fn next(&mut self) -> Result<api::WatchChangesResponse, Refusal> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            self.pause().await?;
            self.fill().await?;
        }
    }

    /// Until something is committed or a heartbeat is due; not before the first one.
    async fn pause(&mut self) -> Result<(), Refusal> {
        let Some(beat) = self.beat else { return Ok(()) };
        let left = BEAT.saturating_sub(beat.elapsed());
        match timeout(left, self.committed.changed()).await {
            Ok(Err(_)) => Err(Reason::StorageUnavailable.into()),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Reads what has come in, and adds a heartbeat where one is due and nothing is left to be told before it.
    async fn fill(&mut self) -> Result<(), Refusal> {
        let due = self.beat.is_none_or(|beat| beat.elapsed() >= BEAT);
        let as_of = self.inner.now();
        if due {
            self.inner.store.confirm().await?;
        }
        let news = self.cursor.advance(&self.inner.store).await?;
        for (event, now, cursor) in &news.items {
            let change = match now {
                Now::Participant(row) => Kind::Participant(participant(row)),
                Now::Account(row) => Kind::Account(account(row)),
                Now::Session(row) => Kind::SessionEnd(session_end(row)),
            };
            self.ready
                .push_back(item(&self.inner, cursor, Some(Micros(event.time)), change)?);
        }
        if due && news.drained {
            self.beat = Some(Instant::now());
            let beat = Item::Heartbeat(api::Heartbeat {
                as_of_time: Some(timestamp(as_of)),
            });
            let resume_token = self.cursor.seal(self.inner.store.key())?;
            self.ready.push_back(api::WatchChangesResponse {
                resume_token,
                item: Some(beat),
            });
        }
        Ok(())
    }
}

/// An item of a snapshot: until it is complete, who comes back begins anew.
fn begun(kind: Kind) -> api::WatchChangesResponse {
    let change = api::Change {
        occur_time: None,
        kind: Some(kind),
    };
    api::WatchChangesResponse {
        resume_token: String::new(),
        item: Some(Item::Change(change)),
    }
}

fn item(inner: &Inner, cursor: &Cursor, at: Option<Micros>, kind: Kind) -> Result<api::WatchChangesResponse, Refusal> {
    let change = api::Change {
        occur_time: at.map(timestamp),
        kind: Some(kind),
    };
    let resume_token = cursor.seal(inner.store.key())?;
    Ok(api::WatchChangesResponse {
        resume_token,
        item: Some(Item::Change(change)),
    })
}

fn participant(row: &ParticipantRow) -> api::ParticipantState {
    api::ParticipantState {
        participant: Some(wire::participant(row, true)),
    }
}

fn account(row: &AccountRow) -> api::AccountState {
    api::AccountState {
        account: row.name(),
        state: row.state,
        etag: etag(row.version),
        purged: row.purged,
    }
}

fn session_end(row: &SessionRow) -> api::SessionEnd {
    // An actor token may have been made from an access token at its last moment.
    let forget = Micros(row.end_time).plus(ACCESS).plus(ACTOR);
    api::SessionEnd {
        session: row.name(),
        forget_time: Some(timestamp(forget)),
    }
}
