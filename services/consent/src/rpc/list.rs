//! Lists: newest first over all partitions, filtered, a page at a time.

use sammati_kernel::{AccountId, Caller, Reason, Refusal, Slot, Violations};
use sammati_server::page::Page;
use sammati_store::{Error, Reader, Record, Store, Stored};

use super::Core;
use crate::vault::Ring;

/// Rows read at once while a page is filled.
const BATCH: i64 = 256;

/// How many such reads one call makes of one source at most: a page of the largest size, and as much again that is not
/// kept.
const BATCHES: usize = 8;

/// Whose rows a list shows: a look-up column and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) column: &'static str,
    pub(super) value: Vec<u8>,
}

impl Whose {
    /// A person's own.
    pub(super) fn subject(account: AccountId) -> Self {
        Self {
            column: "subject",
            value: account.to_vec(),
        }
    }

    /// A participant's, in one part.
    pub(super) fn participant(column: &'static str, caller: &Caller) -> Result<Self, Refusal> {
        let id = crate::policy::participant(caller)?;
        Ok(Self {
            column,
            value: id.as_str().into(),
        })
    }
}

/// What a list is asked for, page and filters, with everything that is wrong in one answer.
pub(super) fn asked<F>(
    page: Result<Page, Refusal>,
    filters: impl FnOnce(&mut Violations) -> Result<F, Refusal>,
) -> Result<(Page, F), Refusal> {
    let mut v = Violations::new();
    let filters = filters(&mut v).and_then(|filters| v.check().map(|()| filters));
    Refusal::both(page, filters)
}

/// The subject a caller may list: an operator names one, a person is one, a participant names none.
pub(super) fn subject(v: &mut Violations, caller: &Caller, name: &str) -> Result<Option<AccountId>, Refusal> {
    let named: Option<AccountId> = crate::wire::optional_name(v, "subject", name);
    match caller.account() {
        Some(account) if name.is_empty() || named == Some(account) => Ok(Some(account)),
        Some(_) if named.is_some() => Err(Reason::NotAvailable.into()),
        Some(_) => Ok(None),
        None if caller.is_operator() => {
            if name.is_empty() {
                v.add("subject", "required of an operator");
            }
            Ok(named)
        }
        None => {
            if !name.is_empty() {
                v.add("subject", "not for participants");
            }
            Ok(None)
        }
    }
}

/// One page of the rows for which `keep` holds, over several sources at once; a row that is in two is shown once. It may
/// be short, even empty, where few of many rows are kept: then the next page goes on from where this one stopped reading.
pub(super) async fn page<R: Record + Send + Sync>(
    store: &Store,
    sources: Vec<Whose>,
    page: &Page,
    keep: impl Fn(&R) -> bool + Send + 'static,
) -> Result<(Vec<R>, Option<Vec<u8>>), Refusal> {
    let (size, after) = (page.size, page.after.clone());
    let read = store.read(move |reader| {
        let (mut rows, mut floor) = (Vec::new(), None);
        for source in &sources {
            let stopped = gather(reader, source, after.clone(), size, &keep, &mut rows)?;
            floor = floor.max(stopped);
        }
        Ok((rows, floor))
    });
    let (mut rows, floor): (Vec<R>, _) = read.await?;
    // Below the highest place where a source was left there may be more of it.
    rows.retain(|row| floor.as_ref().is_none_or(|floor| row.key() >= *floor));
    rows.sort_by_key(|row| std::cmp::Reverse(row.key()));
    rows.dedup_by_key(|row| row.key());
    let more = rows.len() > size;
    rows.truncate(size);
    let last = rows.last().filter(|_| more).map(Record::key);
    Ok((rows, last.or(floor)))
}

/// Reads one source downwards until one more than a page is found, which tells that there is another, or as much was
/// read as one call may; tells the last key it read, unless the source is at its end.
fn gather<R: Record>(
    reader: &mut Reader<'_>,
    source: &Whose,
    mut before: Option<Vec<u8>>,
    size: usize,
    keep: &impl Fn(&R) -> bool,
    kept: &mut Vec<R>,
) -> Result<Option<Vec<u8>>, Error> {
    let wanted = kept.len() + size;
    for _ in 0..BATCHES {
        let batch: Vec<Stored<R>> = reader.page(source.column, &source.value, before.as_deref(), BATCH)?;
        let full = i64::try_from(batch.len()).unwrap_or(BATCH) == BATCH;
        before = batch.last().map(|stored| stored.record.key());
        kept.extend(batch.into_iter().map(|stored| stored.record).filter(|row| keep(row)));
        if !full {
            return Ok(None);
        }
        if kept.len() > wanted {
            break;
        }
    }
    Ok(before)
}

impl Core {
    /// What a list tells of rows: each opened with the data keys of whom `of` says it is kept with, under a revision that
    /// is not older than the row, which another replica may have written.
    pub(super) async fn shown<R, T>(
        &self,
        rows: &[R],
        of: impl Fn(&R) -> Result<(Slot, Vec<u8>), Refusal>,
        render: impl Fn(&R, &Ring, String) -> Result<T, Refusal>,
    ) -> Result<Vec<T>, Refusal> {
        let owners = rows.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        let slots: Vec<_> = owners.iter().map(|(slot, _)| *slot).collect();
        let ring = self.ring(owners).await?;
        self.store.confirm().await?;
        let shown = rows
            .iter()
            .zip(slots)
            .map(|(row, slot)| render(row, &ring, self.revision(slot)));
        shown.collect()
    }
}

/// Counts all rows of a source for which `count` tells a name, by that name.
pub(super) async fn counts<R: Record + Send + Sync>(
    store: &Store,
    source: Whose,
    count: impl Fn(&R) -> Option<String> + Send + 'static,
) -> Result<Vec<(String, i32)>, Refusal> {
    let counted = store.read(move |reader| {
        let mut counts = std::collections::BTreeMap::<String, i32>::new();
        let mut before: Option<Vec<u8>> = None;
        loop {
            let batch: Vec<Stored<R>> = reader.page(source.column, &source.value, before.as_deref(), BATCH)?;
            before = batch.last().map(|stored| stored.record.key());
            for name in batch.iter().filter_map(|row| count(&row.record)) {
                *counts.entry(name).or_default() += 1;
            }
            if i64::try_from(batch.len()).unwrap_or(0) < BATCH {
                return Ok(counts);
            }
        }
    });
    Ok(counted.await?.into_iter().collect())
}
