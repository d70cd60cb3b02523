//! Lists: newest first over all partitions, filtered, a page at a time.

use sammati_kernel::{AccountId, Caller, Reason, Refusal, Violations};
use sammati_server::page::Page;
use sammati_store::{Record, Store, Stored};

/// Rows read at once while a page is filled.
const BATCH: i64 = 256;

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

/// One page of the rows for which `keep` holds, over several sources at once; a row that is in two is shown once.
pub(super) async fn page<R: Record + Send + Sync>(
    store: &Store,
    sources: Vec<Whose>,
    page: &Page,
    keep: impl Fn(&R) -> bool + Send + 'static,
) -> Result<(Vec<R>, Option<Vec<u8>>), Refusal> {
    let (size, after) = (page.size, page.after.clone());
    let mut rows: Vec<R> = store
        .read(move |reader| {
            let mut kept = Vec::new();
            for source in &sources {
                // One more than the page, to know whether there is another.
                let mut before = after.clone();
                let mut found = 0;
                while found <= size {
                    let batch: Vec<Stored<R>> = reader.page(source.column, &source.value, before.as_deref(), BATCH)?;
                    let full = i64::try_from(batch.len()).unwrap_or(BATCH) == BATCH;
                    before = batch.last().map(|stored| stored.record.key());
                    let good: Vec<R> = batch
                        .into_iter()
                        .map(|stored| stored.record)
                        .filter(|row| keep(row))
                        .collect();
                    found += good.len();
                    kept.extend(good);
                    if !full {
                        break;
                    }
                }
            }
            Ok(kept)
        })
        .await?;
    rows.sort_by_key(|row| std::cmp::Reverse(row.key()));
    rows.dedup_by_key(|row| row.key());
    let more = rows.len() > size;
    rows.truncate(size);
    let next = rows.last().filter(|_| more).map(Record::key);
    Ok((rows, next))
}

/// Counts the rows for which `count` tells a name, by that name.
pub(super) async fn counts<R: Record + Send + Sync>(
    store: &Store,
    sources: Vec<Whose>,
    count: impl Fn(&R) -> Option<String> + Send + 'static,
) -> Result<Vec<(String, i32)>, Refusal> {
    let counted = store.read(move |reader| {
        let mut seen = std::collections::HashSet::new();
        let mut counts = std::collections::BTreeMap::<String, i32>::new();
        for source in &sources {
            let mut before: Option<Vec<u8>> = None;
            loop {
                let batch: Vec<Stored<R>> = reader.page(source.column, &source.value, before.as_deref(), BATCH)?;
                before = batch.last().map(|stored| stored.record.key());
                for row in &batch {
                    if let Some(name) = count(&row.record)
                        && (sources.len() == 1 || seen.insert(row.record.key()))
                    {
                        *counts.entry(name).or_default() += 1;
                    }
                }
                if i64::try_from(batch.len()).unwrap_or(0) < BATCH {
                    break;
                }
            }
        }
        Ok(counts)
    });
    Ok(counted.await?.into_iter().collect())
}
