//! Time: writes the expiries that are due. Readers do not wait for it, and any number of replicas may do it.

use std::time::Duration;

use sammati_kernel::{ConsentId, ConsentRequestId, Micros, Refusal, Slot, TransferId};
use sammati_store::{Command, Error, Keys, Store, View};

use crate::rows::{ConsentRow, RequestRow, TransferRow, id};
use crate::{consent, request, transfer};

/// Between looks at the due index.
pub const EVERY: Duration = Duration::from_secs(1);

/// Rows of one kind taken at once.
const BATCH: i64 = 256;

/// What is due.
#[derive(Debug, Clone, Copy)]
pub enum Due {
    /// A request's window.
    Request(ConsentRequestId),
    /// A consent's time.
    Consent(ConsentId),
    /// A transfer's time; and the consent that its use goes back to.
    Transfer(TransferId, ConsentId),
}

/// Expires one thing, if its time is over by the lock's clock.
pub struct Expire(pub Due);

impl Command for Expire {
    type Answer = ();

    const NAME: &'static str = "consent.expire";

    fn slot(&self) -> Slot {
        match self.0 {
            Due::Request(id) => id.slot(),
            Due::Consent(id) => id.slot(),
            Due::Transfer(id, _) => id.slot(),
        }
    }

    fn reads(&self, keys: &mut Keys) {
        match self.0 {
            Due::Request(id) => keys.row::<RequestRow>(id.to_vec()),
            Due::Consent(id) => {
                keys.row::<ConsentRow>(id.to_vec());
                keys.group::<TransferRow>("open", id.to_vec());
            }
            Due::Transfer(id, consent) => {
                keys.row::<TransferRow>(id.to_vec());
                keys.row::<ConsentRow>(consent.to_vec());
            }
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        match self.0 {
            Due::Request(id) => {
                let row = view.get::<RequestRow>(id.as_bytes());
                row.map_or(Ok(()), |mut row| request::expire(view, &mut row))
            }
            Due::Consent(id) => {
                let row = view.get::<ConsentRow>(id.as_bytes());
                row.map_or(Ok(()), |mut row| consent::expire(view, &mut row).map(drop))
            }
            Due::Transfer(id, consent) => {
                let consent = view.get::<ConsentRow>(consent.as_bytes());
                let row = view.get::<TransferRow>(id.as_bytes());
                row.map_or(Ok(()), |mut row| transfer::expire(view, &mut row, consent))
            }
        }
    }
}

/// Expires what is due now, and tells how much it was.
///
/// # Errors
/// When storage fails; what was left is due the next time.
pub async fn sweep(store: &Store) -> Result<usize, Refusal> {
    let now = store.clock().now();
    let due = store.read(move |r| due(r, now)).await?;
    let runs = due.iter().map(|due| store.apply(Expire(*due)));
    futures::future::try_join_all(runs).await?;
    Ok(due.len())
}

fn due(reader: &mut sammati_store::Reader<'_>, now: Micros) -> Result<Vec<Due>, Error> {
    let mut all = Vec::new();
    for row in reader.due::<RequestRow>("due", now.0, BATCH)? {
        all.extend(id(&row.record.id).ok().map(Due::Request));
    }
    for row in reader.due::<TransferRow>("due", now.0, BATCH)? {
        all.extend(
            id(&row.record.id)
                .ok()
                .zip(id(&row.record.consent).ok())
                .map(|(t, c)| Due::Transfer(t, c)),
        );
    }
    for row in reader.due::<ConsentRow>("due", now.0, BATCH)? {
        all.extend(id(&row.record.id).ok().map(Due::Consent));
    }
    Ok(all)
}
