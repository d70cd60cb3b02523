//! Making: pages for the leaves that came, and their merges, behind the appends. Any replica may; what another has done
//! already is left alone.

use sammati_kernel::{Reason, Refusal, Slot};
use sammati_store::{Command, Error, Keys, View};
use tokio_util::sync::CancellationToken;

use super::page::{self, Posting};
use super::{FAN, Merge, Place, PostingRow, RUN, Reach};
use crate::log::Log;
use crate::rows::{LeafRow, LogRow, SLOT};
use crate::tree::Tree;

/// Runs of level 0 that one command brings.
const AT_ONCE: u64 = 4;

impl Log {
    /// Makes postings whenever the log has grown, until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut grown = self.grown.subscribe();
        loop {
            if let Err(refusal) = self.post().await {
                // Nothing is lost by it: what has no postings yet is looked through.
                tracing::warn!(reason = refusal.reason.as_str(), "cannot make postings; trying again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = grown.changed() => {}
            }
        }
    }

    /// Makes all postings that are due by now.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn post(&self) -> Result<(), Refusal> {
        loop {
            let head = self.head().await?;
            let (reach, tree) = (head.reach(), Tree::of(&head).map_err(|_| Reason::Internal)?);
            let runs = tree.size() / RUN;
            if reach.posted >= reach.merged + FAN {
                let at = reach.merged + FAN;
                self.store.apply(MergeAll { at }).await?;
            } else if runs > reach.posted {
                let end = runs.min(reach.posted + AT_ONCE).min(reach.merged + FAN);
                self.post_runs(reach.posted, end, head.cleared).await?;
            } else {
                return Ok(());
            }
        }
    }

    /// Leaves change what they are about only when they are cleared, so their postings are made of what is committed, before
    /// the lane is asked; it does not take them if any leaf was cleared since.
    async fn post_runs(&self, from: u64, end: u64, cleared: u64) -> Result<(), Refusal> {
        let read = self.store.read(move |r| {
            let mut rows = Vec::new();
            for run in from..end {
                let after = (run * RUN).checked_sub(1).map(LeafRow::key_of).unwrap_or_default();
                let leaves = r.scan::<LeafRow>((0, &after), RUN as i64)?;
                let mut postings: Vec<Posting> = Vec::with_capacity(leaves.len() * 8);
                for leaf in &leaves {
                    postings.extend(leaf.record.postings().into_iter().map(|tag| (tag, leaf.record.index)));
                }
                postings.sort_unstable();
                rows.push(Place { level: 0, run, page: 0 }.row(&postings));
            }
            Ok::<_, Error>(rows)
        });
        let rows = read.await?;
        self.store.apply(Post { from, cleared, rows }).await
    }
}

/// Brings pages of level 0.
struct Post {
    /// The first run.
    from: u64,
    /// How often leaves had been cleared before these pages were made.
    cleared: u64,
    rows: Vec<PostingRow>,
}

impl Command for Post {
    type Answer = ();
    const NAME: &'static str = "audit.post";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn bytes(&self) -> usize {
        1024 + self.rows.iter().map(|row| row.postings.len()).sum::<usize>()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut log = view.get::<LogRow>(LogRow::KEY).ok_or(Reason::Internal)?;
        if log.posted == self.from && log.cleared == self.cleared {
            self.rows.iter().for_each(|row| view.put(row));
            log.posted += self.rows.len() as u64;
            view.put(&log);
        }
        Ok(())
    }
}

/// Does the merges that are due when there are so many runs of level 0.
struct MergeAll {
    at: u64,
}

impl Command for MergeAll {
    type Answer = ();
    const NAME: &'static str = "audit.merge_postings";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<LogRow>(LogRow::KEY);
        for place in Merge::due(self.at).flat_map(Merge::from) {
            keys.row::<PostingRow>(place.key());
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut log = view.get::<LogRow>(LogRow::KEY).ok_or(Reason::Internal)?;
        let Reach { posted, merged } = log.reach();
        if merged + FAN != self.at || posted < self.at {
            return Ok(());
        }
        for merge in Merge::due(self.at) {
            merge.run(view)?;
        }
        log.merged = self.at;
        view.put(&log);
        Ok(())
    }
}

impl Merge {
    fn run(self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut all: Vec<Posting> = Vec::new();
        for place in self.from() {
            let row = view.get::<PostingRow>(&place.key()).ok_or(Reason::Internal)?;
            all.extend(page::decode(&row.postings, place.first()).map_err(|_| Reason::Internal)?);
            view.put(&place.row(&[]));
        }
        all.sort_unstable();
        for place in self.into() {
            let begin = all.partition_point(|(tag, _)| tag.page(self.level) < place.page);
            let end = all.partition_point(|(tag, _)| tag.page(self.level) <= place.page);
            view.put(&place.row(&all[begin..end]));
        }
        Ok(())
    }
}
