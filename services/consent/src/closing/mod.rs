//! An account is deleted: what she gave ends, emergencies too, her policies with it, what is asked of her is cancelled, what
//! she asked about her rights is closed, and once identity has destroyed its data the key of hers that is kept here goes too.
//!
//! Identity's facts say it again to every process that starts, so that what was left, or came back with a restore, is
//! done then. Whose key is destroyed is gone through whole, and not gone through again.

mod end;
mod purge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sammati_kernel::{AccountId, Id, IdKind, Refusal};
use sammati_store::{Record, Store};

use self::end::{End, What};
use crate::directory::Directory;
use crate::rows::{
    ConsentRow, DataKeyRow, DiscoveryRow, NotificationRow, PolicyRow, ProfileShareRow, RequestRow, RightsRow,
    SubscriptionRow, account,
};
use crate::{request, rights, share, standing, sweep};

/// What the events say it rests on.
const GROUND: &str = "her account is deleted";

/// Rows taken at once.
const BATCH: i64 = 256;

/// Keys looked at in one read.
const MANY: usize = 500;

/// Follows which accounts are deleted.
#[derive(Default)]
pub struct Closings {
    /// Those that are done, and whether their data was destroyed by then.
    seen: BTreeMap<AccountId, bool>,
}

impl Closings {
    /// Closes what must not go on now, and destroys what is due, of each account whatever becomes of the others.
    ///
    /// # Errors
    /// The first; what was left is looked at again the next time.
    pub async fn run(&mut self, store: &Store, directory: &Arc<dyn Directory>) -> Result<(), Refusal> {
        let mut deleted = directory.deleted();
        deleted.retain(|(account, purged)| self.seen.get(account) != Some(purged));
        // Such as are new to this process.
        let purged = deleted
            .iter()
            .filter(|(account, purged)| *purged && !self.seen.contains_key(account));
        let mut closed = destroyed(store, purged.map(|(account, _)| *account).collect()).await?;
        let gone: BTreeSet<AccountId> = closed.iter().map(|(account, _)| *account).collect();
        deleted.retain(|(account, _)| !gone.contains(account));
        let mut first = Ok(());
        for (account, purged) in deleted {
            match close_one(store, account, purged).await {
                Ok(()) => closed.push((account, purged)),
                Err(refusal) => first = first.and(Err(refusal)),
            }
        }
        // By each process once, for whoever purged may not have come so far.
        if closed.iter().any(|(_, purged)| *purged) {
            store.leaves_remains::<DataKeyRow>();
        }
        self.seen.extend(closed);
        store.clear_remains().await;
        first
    }
}

/// Those of them whose key is destroyed.
async fn destroyed(store: &Store, accounts: Vec<AccountId>) -> Result<Vec<(AccountId, bool)>, Refusal> {
    let mut all = Vec::new();
    for some in accounts.chunks(MANY) {
        let keys: Vec<_> = some.iter().map(|one| (one.slot(), one.to_vec())).collect();
        let rows = store.read(move |r| r.many::<DataKeyRow>(&keys)).await?;
        let rows = rows.into_iter().map(|stored| stored.record);
        let owners = rows.filter(purge::is_destroyed).filter_map(|row| account(&row.owner));
        all.extend(owners.map(|account| (account, true)));
    }
    Ok(all)
}

async fn close_one(store: &Store, account: AccountId, purged: bool) -> Result<(), Refusal> {
    close(store, account).await?;
    if purged {
        purge::purge(store, account).await?;
    }
    Ok(())
}

async fn close(store: &Store, account: AccountId) -> Result<(), Refusal> {
    let hers = ("subject", &account.as_bytes()[..]);
    end::<ConsentRow, _>(store, hers, |row| row.state().is_open(), What::Consent).await?;
    end::<SubscriptionRow, _>(store, hers, |row| row.end().is_some(), What::Subscription).await?;
    end::<PolicyRow, _>(store, hers, |row| row.state() == standing::State::Enabled, What::Policy).await?;
    end::<RequestRow, _>(
        store,
        hers,
        |row| row.state() == request::State::Requested,
        What::Request,
    )
    .await?;
    end::<DiscoveryRow, _>(store, hers, |row| row.state().is_open(), What::Discovery).await?;
    end::<ProfileShareRow, _>(store, hers, |row| row.state() != share::State::Expired, What::Share).await?;
    let waits = |row: &RightsRow| row.state().after(rights::Verb::End).is_some();
    end::<RightsRow, _>(store, hers, waits, What::Rights).await?;
    // Last, for the others told her of themselves.
    let name = account.name();
    let of_her = ("recipient", name.as_bytes());
    end::<NotificationRow, _>(store, of_her, |row| row.acknowledged == 0, What::Notification).await
}

/// Ends all of one kind that go on.
async fn end<R: Record + Send, K: IdKind>(
    store: &Store,
    (column, value): (&'static str, &[u8]),
    goes_on: impl Fn(&R) -> bool,
    what: fn(Id<K>) -> What,
) -> Result<(), Refusal> {
    let rows = hers::<R>(store, column, value).await?;
    let rows = rows.iter().filter(|row| goes_on(row));
    let ids = rows.filter_map(|row| Id::from_slice(&row.key()));
    sweep::all(store, ids.map(|id| End(what(id))).collect()).await
}

/// All rows whose `column` says that they are hers.
async fn hers<R: Record + Send>(store: &Store, column: &'static str, value: &[u8]) -> Result<Vec<R>, Refusal> {
    let (mut all, mut before): (Vec<R>, Option<Vec<u8>>) = (Vec::new(), None);
    loop {
        let (from, value) = (before.take(), value.to_vec());
        let read = store.read(move |r| r.page::<R>(column, &value, from.as_deref(), BATCH));
        let page = read.await?;
        if sweep::is_full(page.len(), BATCH) {
            before = page.last().map(|stored| stored.record.key());
        }
        all.extend(page.into_iter().map(|stored| stored.record));
        if before.is_none() {
            return Ok(all);
        }
    }
}
