//! Destroying: her data key, and the rows that are kept for her alone. What both parties must be able to show for as long as
//! the law says (requests, consents, transfers, what was asked about rights) stays, by a name that is nobody's any more, with nothing in it that opens.

use sammati_api::audit::v1::event::Action;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Refusal, Slot};
use sammati_server::event::{Draft, system};
use sammati_store::{Command, Keys, Record, Store, View};

use super::hers;
use crate::rows::{CareContextRow, DataKeyRow, DiscoveryRow, LinkRow, NotificationRow, ProfileShareRow, StepUpRow};

/// Rows that one command clears.
const CLEARED: usize = 64;

/// Clears what is kept for her alone, then destroys her key.
pub(super) async fn purge(store: &Store, account: AccountId) -> Result<(), Refusal> {
    clear::<CareContextRow>(store, account, "subject", account.as_bytes()).await?;
    clear::<LinkRow>(store, account, "subject", account.as_bytes()).await?;
    clear::<DiscoveryRow>(store, account, "subject", account.as_bytes()).await?;
    clear::<ProfileShareRow>(store, account, "subject", account.as_bytes()).await?;
    clear::<NotificationRow>(store, account, "recipient", account.name().as_bytes()).await?;
    store.apply(Purge(account)).await
}

async fn clear<R: Blank + Send>(
    store: &Store,
    account: AccountId,
    column: &'static str,
    value: &[u8],
) -> Result<(), Refusal> {
    let keys: Vec<_> = hers::<R>(store, column, value).await?.iter().map(R::key).collect();
    for keys in keys.chunks(CLEARED) {
        let clear = Clear::<R> {
            slot: account.slot(),
            keys: keys.to_vec(),
            of: std::marker::PhantomData,
        };
        store.apply(clear).await?;
    }
    Ok(())
}

/// A row that may be left with nothing but its key: it stays, for rows are never deleted, and is found by nothing else.
trait Blank: Record {
    fn blank(self) -> Self;
}

impl Blank for CareContextRow {
    fn blank(self) -> Self {
        Self {
            key: self.key,
            ..Self::default()
        }
    }
}

impl Blank for LinkRow {
    fn blank(self) -> Self {
        Self {
            id: self.id,
            version: self.version + 1,
            ..Self::default()
        }
    }
}

impl Blank for DiscoveryRow {
    fn blank(self) -> Self {
        Self {
            id: self.id,
            state: self.state,
            version: self.version + 1,
            ..Self::default()
        }
    }
}

impl Blank for ProfileShareRow {
    fn blank(self) -> Self {
        Self {
            id: self.id,
            state: self.state,
            version: self.version + 1,
            ..Self::default()
        }
    }
}

impl Blank for NotificationRow {
    fn blank(self) -> Self {
        Self {
            id: self.id,
            position: self.position,
            acknowledged: self.acknowledged.max(1),
            ..Self::default()
        }
    }
}

/// Clears rows of one partition.
struct Clear<R> {
    slot: Slot,
    keys: Vec<Vec<u8>>,
    of: std::marker::PhantomData<fn() -> R>,
}

impl<R: Blank> Command for Clear<R> {
    type Answer = ();

    const NAME: &'static str = "consent.clear_of_account";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        for key in &self.keys {
            keys.row::<R>(key.clone());
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        for key in &self.keys {
            if let Some(row) = view.get::<R>(key) {
                view.put(&row.blank());
            }
        }
        Ok(())
    }
}

/// Whether the key is destroyed, which is the last of what is done for an account that is purged. Such a one is gone through
/// no more: whoever clears another table that rows of hers were in by then must number here what was cleared.
pub(super) const fn is_destroyed(row: &DataKeyRow) -> bool {
    row.wrapped.is_empty()
}

/// Destroys her data key, and empties what she has set. What is sealed under it opens no more, to anybody.
struct Purge(AccountId);

impl Command for Purge {
    type Answer = ();

    const NAME: &'static str = "consent.purge";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<DataKeyRow>(self.0.to_vec());
        keys.row::<StepUpRow>(self.0.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let empty = StepUpRow::of(self.0.as_bytes());
        let has_set = view.get::<StepUpRow>(self.0.as_bytes()).is_some_and(|row| row != empty);
        let row = view.get::<DataKeyRow>(self.0.as_bytes());
        if !has_set && row.is_some_and(|row| is_destroyed(&row)) {
            return Ok(());
        }
        if has_set {
            view.put(&empty);
        }
        // Of one who never had a key too: it says that this is done, and lets none be made.
        view.put(&DataKeyRow {
            owner: self.0.to_vec(),
            wrapped: Vec::new(),
        });
        Draft::new(
            "consent.purged",
            Action::Delete,
            RetentionClass::General,
            &system("consent"),
        )
        .subject(self.0)
        .resource(&self.0.name(), 0)
        .emit(view);
        Ok(())
    }
}
