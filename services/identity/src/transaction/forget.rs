//! What a transaction holds of a person ends with it, unless an account took it over: OTP targets, and e-KYC that was
//! never used.

use sammati_api::identity::v1::transaction::State;
use sammati_kernel::{Refusal, Slot, TransactionId};
use sammati_store::{Command, Keys, Reader, Store, View};

use crate::rows::{PortraitRow, TransactionRow};

/// Transactions emptied in one go.
const BATCH: i64 = 1000;

/// Empties a transaction that is over. Harmless when repeated.
#[derive(Debug)]
struct Forget {
    id: TransactionId,
    /// The key its data is sealed under.
    key: Vec<u8>,
}

impl Command for Forget {
    type Answer = ();
    const NAME: &'static str = "identity.forget_transaction";

    fn slot(&self) -> Slot {
        self.id.slot()
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransactionRow>(self.id.to_vec());
        keys.row::<PortraitRow>(self.key.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let row = view.get::<TransactionRow>(self.id.as_bytes());
        let Some(mut row) = row.filter(|row| row.holds_data() && view.now() >= row.end()) else {
            return Ok(());
        };
        // With the profile in it nobody enrolled: the portrait is no account's. One that was used has none, whatever older
        // code has written into it since.
        if !row.profile.is_empty() && row.state_at(view.now()) != State::Consumed {
            view.put(&PortraitRow::empty(&row.key));
        }
        row.target.clear();
        row.profile.clear();
        row.otp.clear();
        view.put(&row);
        Ok(())
    }
}

/// Empties what is over by now. Any replica may do it, and what is left is due the next time.
pub(crate) async fn forget(store: &Store) -> Result<(), Refusal> {
    let now = store.clock().now();
    let due = store
        .read(move |r: &mut Reader<'_>| r.due::<TransactionRow>("due", now.0, BATCH))
        .await?;
    let runs = due.into_iter().filter_map(|stored| {
        let (id, key) = (stored.record.id()?, stored.record.key);
        Some(store.apply(Forget { id, key }))
    });
    // Each whatever becomes of the others: one that cannot be emptied must not keep the rest.
    let done = futures::future::join_all(runs).await;
    done.into_iter().collect()
}
