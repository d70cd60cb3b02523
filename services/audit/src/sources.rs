//! What the log has of one service's feed: how far it has come in each partition and epoch, and the events themselves, so
//! that a service whose database lost some of them learns which.

use std::collections::{BTreeMap, BTreeSet};

use sammati_kernel::Refusal;
use sammati_store::{Error, Reader};

use crate::log::Log;
use crate::rows::{LeafRow, LogRow, PARTITION, SLOT, SourceRow, event_key};

/// Rows that one call looks at, at most: the next page goes on.
const MOST: usize = 5000;

/// Rows of one query.
const CHUNK: i64 = 256;

/// The partitions that are asked about, each with ids of events that its service has, and the page's size.
#[derive(Debug, Clone)]
pub struct Ends {
    /// By partition.
    pub feeds: BTreeMap<i32, Vec<String>>,
    /// Rows of a page.
    pub size: usize,
}

/// A page of a service's own events.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Own {
    /// The oldest first.
    pub rows: Vec<LeafRow>,
    /// The index that the next page begins at; `None` after the last.
    pub next: Option<u64>,
}

impl Log {
    /// How far the log has come in the partitions of `service`, by partition and epoch.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn positions(&self, service: &str, ends: &Ends) -> Result<Vec<SourceRow>, Refusal> {
        let (service, partitions) = (service.to_owned(), ends.feeds.keys().copied().collect());
        self.store.snapshot(move |r| positions(r, &service, &partitions)).await
    }

    /// A page of the events that `service` sent of these partitions, from the index `from` on; without one, from behind
    /// what both sides have.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn own(&self, service: &str, ends: &Ends, from: Option<u64>) -> Result<Own, Refusal> {
        let (service, ends) = (service.to_owned(), ends.clone());
        self.store
            .snapshot(move |r| {
                let from = match from {
                    Some(from) => from,
                    None => beginning(r, &service, &ends)?,
                };
                page(r, &service, &ends, from)
            })
            .await
    }
}

fn positions(r: &mut Reader<'_>, service: &str, partitions: &BTreeSet<i32>) -> Result<Vec<SourceRow>, Error> {
    let (mut found, mut after) = (Vec::new(), format!("{service}/").into_bytes());
    loop {
        let rows = r.scan::<SourceRow>((PARTITION, &after), CHUNK)?;
        let Some(last) = rows.last() else { return Ok(found) };
        after = sammati_store::Record::key(&last.record);
        for row in rows {
            // Keys begin with the service.
            if row.record.service != service {
                return Ok(found);
            }
            if partitions.contains(&row.record.partition) {
                found.push(row.record);
            }
        }
    }
}

/// The first index that can hold something that a partition's service has not: behind the newest event that both have.
/// A partition in which the log has nothing beyond that one needs no look.
fn beginning(r: &mut Reader<'_>, service: &str, ends: &Ends) -> Result<u64, Error> {
    let log = r.get::<LogRow>(SLOT, LogRow::KEY)?;
    let mut first = log.map_or(0, |log| size(&log.record));
    let known = positions(r, service, &ends.feeds.keys().copied().collect())?;
    for (partition, ids) in &ends.feeds {
        let of = known.iter().filter(|row| row.partition == *partition);
        // Of a partition that never sent anything there is nothing.
        let Some(newest) = of.max_by_key(|row| row.epoch) else {
            continue;
        };
        let mut behind = 0;
        let mut all = false;
        for id in ids {
            let Some(row) = r.group::<LeafRow>(SLOT, "event_id", &event_key(id))?.pop() else {
                continue;
            };
            let source = row.record.header().source.unwrap_or_default();
            if source.service == service && source.partition == *partition && row.record.index >= behind {
                behind = row.record.index + 1;
                all = source.epoch == newest.epoch && source.position + 1 == newest.next;
            }
        }
        if !all {
            first = first.min(behind);
        }
    }
    Ok(first)
}

fn size(log: &LogRow) -> u64 {
    crate::tree::Tree::of(log).map_or(0, |tree| tree.size())
}

fn page(r: &mut Reader<'_>, service: &str, ends: &Ends, from: u64) -> Result<Own, Error> {
    let (mut own, mut next, mut seen) = (Own::default(), from, 0);
    loop {
        let after = next
            .checked_sub(1)
            .map(|last| last.to_be_bytes().to_vec())
            .unwrap_or_default();
        let rows = r.scan::<LeafRow>((PARTITION, &after), CHUNK)?;
        if rows.is_empty() {
            return Ok(own);
        }
        for row in rows {
            if own.rows.len() == ends.size || seen == MOST {
                own.next = Some(next);
                return Ok(own);
            }
            seen += 1;
            next = row.record.index + 1;
            let source = row.record.header().source.unwrap_or_default();
            // What was sent directly has no place in the feed: no epoch.
            if source.service == service && source.epoch > 0 && ends.feeds.contains_key(&source.partition) {
                own.rows.push(row.record);
            }
        }
    }
}
