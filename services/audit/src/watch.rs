//! Watching: every event from an index on, once and in order, up to what was signed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::watch_events_response::Item;
use sammati_kernel::{Caller, Fact, Reason, Refusal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::log::Log;
use crate::policy;
use crate::rows::{CheckpointRow, LeafRow, SLOT};
use crate::wire;

/// Events that are read at once.
const CHUNK: u64 = 64;

/// How often what was signed is looked at while nothing is told: another replica may have signed.
const POLL: Duration = Duration::from_millis(200);

/// After so long without an item the newest checkpoint is told again: the stream is alive.
const BEAT: Duration = Duration::from_secs(1);

/// One watcher, pulled by its stream: whoever does not read is not read for.
pub(crate) struct Watcher {
    log: Arc<Log>,
    caller: Caller,
    /// The next index.
    next: u64,
    ready: VecDeque<audit::WatchEventsResponse>,
    signed: watch::Receiver<()>,
    /// The size of the checkpoint that was told last.
    told: Option<u64>,
    /// When the last item was told.
    last: Instant,
}

impl Watcher {
    /// From an index, or from where a token says.
    ///
    /// # Errors
    /// `POSITION_UNKNOWN` when the log has not signed that far, `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn begin(log: Arc<Log>, caller: Caller, next: u64) -> Result<Self, Refusal> {
        let wakes = log.newly_signed.subscribe();
        let signed = log.good_enough(0).await?.map_or(0, |row| row.size);
        if next > signed {
            return Err(Refusal::new(Reason::PositionUnknown)
                .saying("the log has not signed so many events; tree_size says how many it has")
                .with(Fact::TreeSize, signed));
        }
        Ok(Self {
            log,
            caller,
            next,
            ready: VecDeque::new(),
            signed: wakes,
            told: None,
            last: Instant::now(),
        })
    }

    /// The next item: an event, or once all that was signed was told the checkpoint that covers it.
    ///
    /// # Errors
    /// `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn next(&mut self) -> Result<audit::WatchEventsResponse, Refusal> {
        let item = self.item().await?;
        self.last = Instant::now();
        Ok(item)
    }

    async fn item(&mut self) -> Result<audit::WatchEventsResponse, Refusal> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            self.signed.mark_unchanged();
            let (signed, now) = (self.log.good_enough(0).await?, Instant::now());
            match signed {
                Some(row) if row.size > self.next => self.load(&row).await?,
                // All of it was told.
                Some(row) if self.told != Some(row.size) || now >= self.last + BEAT => return self.covered(row).await,
                _ => drop(timeout(POLL, self.signed.changed()).await),
            }
        }
    }

    async fn load(&mut self, signed: &CheckpointRow) -> Result<(), Refusal> {
        let end = signed.size.min(self.next + CHUNK);
        let rows = self.log.leaves(self.next..end).await?;
        let payloads = self.log.payloads(&rows).await?;
        for (row, (header, opened)) in rows.iter().zip(payloads) {
            let shown = policy::shown(&self.caller, "", opened);
            let event = wire::log_event(&self.log.name(), row, header, shown);
            self.ready.push_back(item(&self.log, row.index + 1, Item::Event(event)));
        }
        self.next = end;
        Ok(())
    }

    async fn covered(&mut self, row: CheckpointRow) -> Result<audit::WatchEventsResponse, Refusal> {
        self.told = Some(row.size);
        let row = self.log.noted(row).await?;
        let checkpoint = wire::checkpoint(&self.log.name(), row);
        Ok(item(&self.log, self.next, Item::Checkpoint(checkpoint)))
    }
}

fn item(log: &Log, next: u64, item: Item) -> audit::WatchEventsResponse {
    audit::WatchEventsResponse {
        resume_token: format!("{}/{next}", log.name()),
        item: Some(item),
    }
}

/// The index in a resume token of this log.
pub(crate) fn resumed(log: &Log, token: &str) -> Option<u64> {
    let digits = token.strip_prefix(&log.name())?.strip_prefix('/')?;
    digits.parse().ok().filter(|next: &u64| next.to_string() == digits)
}

impl Log {
    /// The leaves at these indexes, which are all there.
    ///
    /// # Errors
    /// `LOG_FROZEN` when one is missing, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn leaves(&self, indexes: std::ops::Range<u64>) -> Result<Vec<LeafRow>, Refusal> {
        let keys: Vec<_> = indexes
            .clone()
            .map(|index| (SLOT, index.to_be_bytes().to_vec()))
            .collect();
        let read = self.store.read(move |r| r.many::<LeafRow>(&keys)).await?;
        let mut rows: Vec<_> = read.into_iter().map(|row| row.record).collect();
        rows.sort_unstable_by_key(|row| row.index);
        if rows.iter().map(|row| row.index).eq(indexes.clone()) {
            return Ok(rows);
        }
        Err(self.freeze(format!("a leaf among {indexes:?} is missing")).await)
    }
}
