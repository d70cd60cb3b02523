//! Leaves, as they are looked for and opened.

use std::time::Duration;

use sammati_api::audit::v1::Leaf;
use sammati_kernel::{Micros, Refusal};
use sammati_server::event::micros;
use tokio::time::Instant;

use super::Log;
use crate::keyring::{self, Opened};
use crate::retention;
use crate::rows::{LeafRow, SLOT, event_key};

/// How often another replica's appends are looked for by whoever waits for an event.
const POLL: Duration = Duration::from_millis(200);

/// How often at most somebody who waits for events looks for them, however fast the log grows.
const PACE: Duration = Duration::from_millis(50);

impl Log {
    /// The leaf at `index`.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn leaf(&self, index: u64) -> Result<Option<LeafRow>, Refusal> {
        let row = self
            .store
            .read(move |r| r.get::<LeafRow>(SLOT, &index.to_be_bytes()))
            .await?;
        Ok(row.map(|row| row.record))
    }

    /// The leaf of an event, if it is one that `allowed` lets through. One that is not there yet, or is not allowed, is
    /// waited for alike.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn leaf_of(
        &self,
        event_id: &str,
        wait: Duration,
        allowed: impl Fn(&LeafRow) -> bool + Send,
    ) -> Result<Option<LeafRow>, Refusal> {
        let found = self.leaves_of(&[event_id.to_owned()], wait, allowed).await?;
        Ok(found.into_iter().flatten().next())
    }

    /// The same for several events, in the order of their ids.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn leaves_of(
        &self,
        event_ids: &[String],
        wait: Duration,
        allowed: impl Fn(&LeafRow) -> bool + Send,
    ) -> Result<Vec<Option<LeafRow>>, Refusal> {
        let deadline = Instant::now() + wait;
        let mut grown = self.grown.subscribe();
        let asked: Vec<_> = event_ids.iter().map(|id| event_key(id)).collect();
        let mut found: Vec<Option<LeafRow>> = vec![None; asked.len()];
        loop {
            grown.mark_unchanged();
            let missing = asked.iter().zip(&found).filter(|(_, found)| found.is_none());
            let keys: Vec<_> = missing.map(|(key, _)| key.clone()).collect();
            let read = self.store.read(move |r| r.groups::<LeafRow>(SLOT, "event_id", &keys));
            for row in read.await?.into_iter().map(|row| row.record).filter(&allowed) {
                let key = event_key(&row.header().event_id);
                let places = asked.iter().zip(&mut found).filter(|(asked, _)| **asked == key);
                places.for_each(|(_, place)| *place = Some(row.clone()));
            }
            let now = Instant::now();
            if found.iter().all(Option::is_some) || now >= deadline {
                return Ok(found);
            }
            // On an embedded database this process is the only one that appends.
            let look_again = if self.store.path().is_some() {
                deadline
            } else {
                deadline.min(now + POLL)
            };
            drop(tokio::time::timeout_at(look_again, grown.changed()).await);
            tokio::time::sleep_until(deadline.min(now + PACE)).await;
        }
    }

    /// The payloads of leaves, where their keys live.
    ///
    /// # Errors
    /// `LOG_FROZEN` when one is not what its leaf committed to; `STORAGE_UNAVAILABLE`.
    pub async fn payloads(&self, rows: &[LeafRow]) -> Result<Vec<(Leaf, Opened)>, Refusal> {
        let sealed: Vec<_> = rows.iter().map(|row| (row.header(), row.payload.clone())).collect();
        let mut opened = self.keyring.open(&sealed).await?;
        let damaged = (0..rows.len()).filter(|at| opened[*at] == Opened::Damaged);
        let (locked, changed): (Vec<_>, Vec<_>) =
            damaged.partition(|at| keyring::is_own(&sealed[*at].0, &sealed[*at].1));
        if let Some(at) = changed.first() {
            let why = format!("the payload of leaf {} is not what the leaf says", rows[*at].index);
            return Err(self.freeze(why).await);
        }
        // The leaf is another one, and then has no proof; or the key is, for a key database that was restored had lost it.
        let indexes: Vec<_> = locked.iter().map(|at| rows[*at].index).collect();
        if let Some(last) = indexes.iter().max() {
            let checkpoint = self.covering(last + 1).await?;
            self.prove_inclusion(&indexes, &checkpoint).await?;
        }
        for at in locked {
            opened[at] = Opened::Erased;
        }
        let (now, leaves) = (self.store.clock().now(), sealed.into_iter().map(|(leaf, _)| leaf));
        let in_archive = |(leaf, opened): (Leaf, Opened)| match opened {
            Opened::Readable(payload) if is_archived(&leaf, now) => (leaf, Opened::Archived(payload)),
            opened => (leaf, opened),
        };
        Ok(leaves.zip(opened).map(in_archive).collect())
    }
}

/// Whether the payload of a leaf lies in the archive.
fn is_archived(leaf: &Leaf, now: Micros) -> bool {
    let accepted = leaf.accept_time.as_ref().and_then(micros);
    accepted.is_some_and(|at| retention::is_archived(leaf.class(), at, now))
}
