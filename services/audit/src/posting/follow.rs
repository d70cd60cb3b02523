//! Making: pages for the leaves that came, and their merges, behind the appends. Any replica may; what another has done
//! already is left alone.

use sammati_kernel::{Reason, Refusal, Slot};
use sammati_store::{Command, Error, Keys, Record, View};
use tokio_util::sync::CancellationToken;

use super::page::{self, Posting};
use super::{FAN, Merge, Place, PostingRow, RUN, Reach};
use crate::log::Log;
use crate::rows::{LeafRow, LogRow, SLOT};
use crate::tree::Tree;

/// Runs of level 0 that one command brings.
const AT_ONCE: u64 = 4;

impl Log {
    /// Makes postings whenever another run of leaves is full, until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut grown = self.grown.subscribe();
        loop {
            let posted = self.post_all().await.unwrap_or_else(|refusal| {
                // Nothing is lost by it: what has no postings yet is looked through.
                tracing::warn!(reason = refusal.reason.as_str(), "cannot make postings; trying again");
                0
            });
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = grown.changed() => {}
                }
                if *grown.borrow_and_update() / RUN > posted {
                    break;
                }
            }
        }
    }

    /// Makes all postings that are due by now.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn post(&self) -> Result<(), Refusal> {
        self.post_all().await.map(drop)
    }

    /// The same; tells how many runs have postings then.
    async fn post_all(&self) -> Result<u64, Refusal> {
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
                return Ok(reach.posted);
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
        // A page that is there is replaced.
        for row in &self.rows {
            keys.row::<PostingRow>(row.key());
        }
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
        for merge in Merge::due(self.at) {
            for place in merge.from().chain(merge.into()) {
                keys.row::<PostingRow>(place.key());
            }
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
        let mut from = Vec::with_capacity(FAN as usize);
        for place in self.from() {
            let row = view.get::<PostingRow>(&place.key()).ok_or(Reason::Internal)?;
            from.push((place.first(), row.postings));
            view.put(&place.row(&[]));
        }
        let pages: Vec<_> = from.iter().map(|(first, page)| (*first, page.as_slice())).collect();
        let mut made: Vec<_> = self.into().map(|place| place.row(&[])).collect();
        let first = pages.first().map_or(0, |(first, _)| *first);
        let merged = page::merge(&pages, first, |tag, leaves| {
            let page = tag.page(self.level);
            if let Some(row) = made.iter_mut().find(|row| row.page == page) {
                page::add(&mut row.postings, tag, leaves);
            }
        });
        merged.map_err(|_| Reason::Internal)?;
        made.iter().for_each(|row| view.put(row));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use sammati_kernel::Clock;

    use super::super::Tag;
    use super::*;
    use crate::head::Begin;
    use crate::testing::{logs, received, stores};

    /// The head of the log as it was before there were postings.
    struct Forget;

    impl Command for Forget {
        type Answer = ();
        const NAME: &'static str = "test.forget";

        fn slot(&self) -> Slot {
            SLOT
        }

        fn reads(&self, keys: &mut Keys) {
            keys.row::<LogRow>(LogRow::KEY);
        }

        fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
            let mut log = view.get::<LogRow>(LogRow::KEY).ok_or(Reason::Internal)?;
            (log.posted, log.merged) = (0, 0);
            view.put(&log);
            Ok(())
        }
    }

    /// Postings are made of leaves, and may be made again: what is there already is replaced.
    #[tokio::test(flavor = "multi_thread")]
    async fn pages_are_made_again() {
        for (_database, store) in stores(|| crate::rows::MIGRATIONS) {
            let (id, origin, vkey) = ("1".to_owned(), "test".to_owned(), "key".to_owned());
            store.apply(Begin { id, origin, vkey }).await.unwrap();
            for first in [1, 2] {
                store.apply(Forget).await.unwrap();
                let rows = (0..FAN).map(|run| {
                    let place = Place { level: 0, run, page: 0 };
                    place.row(&[(Tag([9; 5]), place.first() + first)])
                });
                let rows = rows.collect();
                store
                    .apply(Post {
                        from: 0,
                        cleared: 0,
                        rows,
                    })
                    .await
                    .unwrap();
                store.apply(MergeAll { at: FAN }).await.unwrap();
                let place = Place {
                    level: 1,
                    run: 0,
                    page: Tag([9; 5]).page(1),
                };
                let page = store.read(move |r| r.get::<PostingRow>(SLOT, &place.key())).await;
                let page = page.unwrap().unwrap().record;
                let found = page::decode(&page.postings, 0).unwrap();
                let leaves: Vec<_> = found.into_iter().map(|(_, leaf)| leaf).collect();
                assert!(leaves.into_iter().eq((0..FAN).map(|run| run * RUN + first)));
            }
        }
    }

    /// Nobody has to ask, and it may become full in the middle of a call.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_has_postings_once_it_is_full() {
        for replicas in logs().await {
            let (log, stop) = (&replicas.logs[0], CancellationToken::new());
            let following = tokio::spawn({
                let (log, stop) = (Arc::clone(log), stop.clone());
                async move { log.follow(stop).await }
            });
            for runs in 1..3 {
                for _ in 0..2 {
                    let events: Vec<_> = (0..RUN / 2 + 1).map(|_| received(replicas.clock.now())).collect();
                    log.append("consent", &events, Vec::new()).await.unwrap();
                }
                let posted = async {
                    while log.head().await.unwrap().posted < runs {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(30), posted)
                    .await
                    .expect("it is posted");
            }
            stop.cancel();
            following.await.unwrap();
        }
    }
}
