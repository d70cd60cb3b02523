//! An account is deleted: what she gave ends, her policies with it, what is asked of her is cancelled, and once identity has destroyed its data
//! the key of hers that is kept here goes too.
//!
//! Identity's facts say it again to every process that starts, so that what was left, or came back with a restore, is
//! done then.

use std::collections::BTreeMap;
use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, ConsentId, ConsentRequestId, PolicyId, Refusal, Slot, SubscriptionId};
use sammati_server::event::{Draft, system};
use sammati_store::{Command, Keys, Record, Store, View};

use crate::consent::{self, Ending};
use crate::directory::Directory;
use crate::notification::{Recipients, notify};
use crate::rows::{ConsentRow, DataKeyRow, PolicyRow, RequestRow, SubscriptionRow, TransferRow, id};
use crate::{request, standing, subscription, sweep};

/// What the events say it rests on.
const GROUND: &str = "her account is deleted";

/// Rows taken at once.
const BATCH: i64 = 256;

/// Follows which accounts are deleted.
#[derive(Default)]
pub struct Closings {
    /// Those that are done, and whether their data was destroyed by then.
    seen: BTreeMap<AccountId, bool>,
}

impl Closings {
    /// Closes what must not go on now, and destroys what is due.
    ///
    /// # Errors
    /// When storage fails; what was left is looked at again the next time.
    pub async fn run(&mut self, store: &Store, directory: &Arc<dyn Directory>) -> Result<(), Refusal> {
        let mut deleted = directory.deleted();
        deleted.retain(|(account, purged)| self.seen.get(account) != Some(purged));
        for (account, purged) in &deleted {
            close(store, *account).await?;
            if *purged {
                store.apply(Purge(*account)).await?;
            }
        }
        // By each process once, for whoever purged may not have come so far.
        if deleted.iter().any(|(_, purged)| *purged) {
            store.scrub().await?;
        }
        self.seen.extend(deleted);
        Ok(())
    }
}

async fn close(store: &Store, account: AccountId) -> Result<(), Refusal> {
    for row in hers::<ConsentRow>(store, account).await? {
        let end = id(&row.id).map(|consent| EndConsent { consent });
        sweep::all(store, end.into_iter().collect()).await?;
    }
    for row in hers::<SubscriptionRow>(store, account).await? {
        let end = id(&row.id).map(|subscription| EndSubscription { subscription });
        sweep::all(store, end.into_iter().collect()).await?;
    }
    for row in hers::<PolicyRow>(store, account).await? {
        let end = id(&row.id).map(|policy| EndPolicy { policy });
        sweep::all(store, end.into_iter().collect()).await?;
    }
    for row in hers::<RequestRow>(store, account).await? {
        let cancel = id(&row.id).map(|request| CancelRequest { request });
        sweep::all(store, cancel.into_iter().collect()).await?;
    }
    Ok(())
}

/// All rows about a person.
async fn hers<R: Record + Send>(store: &Store, account: AccountId) -> Result<Vec<R>, Refusal> {
    let (mut all, mut before): (Vec<R>, Option<Vec<u8>>) = (Vec::new(), None);
    loop {
        let from = before.take();
        let read = store.read(move |r| r.page::<R>("subject", account.as_bytes(), from.as_deref(), BATCH));
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

/// Takes a consent back, if it is in force.
struct EndConsent {
    consent: ConsentId,
}

impl Command for EndConsent {
    type Answer = ();

    const NAME: &'static str = "consent.end_of_account";

    fn slot(&self) -> Slot {
        self.consent.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ConsentRow>(self.consent.to_vec());
        keys.group::<TransferRow>("open", self.consent.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let Some(mut row) = view.get::<ConsentRow>(self.consent.as_bytes()) else {
            return Ok(());
        };
        if consent::expire(view, &mut row)? {
            return Ok(());
        }
        let Some(state) = row.state().after(consent::Verb::Revoke) else {
            return Ok(());
        };
        let at = view.now();
        row.revoked = at.0;
        let ending = Ending {
            state,
            event: "consent.withdrawn",
            kind: Kind::ConsentRevoked,
            caller: &system("consent"),
            at,
            legal_basis: GROUND,
            cause: "",
        };
        consent::end(view, &mut row, &ending)
    }
}

/// Takes a subscription back, and denies one that waits for her.
struct EndSubscription {
    subscription: SubscriptionId,
}

impl Command for EndSubscription {
    type Answer = ();

    const NAME: &'static str = "subscription.end_of_account";

    fn slot(&self) -> Slot {
        self.subscription.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<SubscriptionRow>(self.subscription.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        match view.get::<SubscriptionRow>(self.subscription.as_bytes()) {
            Some(mut row) => subscription::end_of_account(view, &mut row, GROUND),
            None => Ok(()),
        }
    }
}

/// Puts a policy out of force.
struct EndPolicy {
    policy: PolicyId,
}

impl Command for EndPolicy {
    type Answer = ();

    const NAME: &'static str = "policy.end_of_account";

    fn slot(&self) -> Slot {
        self.policy.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<PolicyRow>(self.policy.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let Some(mut row) = view.get::<PolicyRow>(self.policy.as_bytes()) else {
            return Ok(());
        };
        let Some(to) = row.state().after(standing::Verb::Disable) else {
            return Ok(());
        };
        row.settle(to, view.now());
        view.put(&row);
        let mut told = standing::draft("policy.disabled", Action::Update, &system("consent"), &row)?;
        GROUND.clone_into(&mut told.payload().legal_basis);
        told.emit(view);
        Ok(())
    }
}

/// Cancels a request that waits for her.
struct CancelRequest {
    request: ConsentRequestId,
}

impl Command for CancelRequest {
    type Answer = ();

    const NAME: &'static str = "consent.cancel_of_account";

    fn slot(&self) -> Slot {
        self.request.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<RequestRow>(self.request.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let Some(mut row) = view.get::<RequestRow>(self.request.as_bytes()) else {
            return Ok(());
        };
        request::expire(view, &mut row)?;
        let Some(state) = row.state().after(request::Verb::Cancel) else {
            return Ok(());
        };
        row.settle(state, view.now());
        view.put(&row);
        let mut told = request::draft("consent.request_cancelled", Action::Update, &system("consent"), &row)?;
        GROUND.clone_into(&mut told.payload().legal_basis);
        let told = told.emit(view);
        let asker = Recipients::new().participant(&row.hiu);
        let name = self.request.name();
        notify(
            view,
            told,
            Kind::ConsentRequestCancelled,
            &name,
            &asker,
            request::subject(&row),
        );
        Ok(())
    }
}

/// Destroys her data key. What is sealed under it opens no more, to anybody.
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
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<DataKeyRow>(self.0.as_bytes());
        let Some(row) = row.filter(|row| !row.wrapped.is_empty()) else {
            return Ok(());
        };
        view.put(&DataKeyRow {
            wrapped: Vec::new(),
            ..row
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
