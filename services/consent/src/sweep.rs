//! Time: writes the expiries that are due. Readers do not wait for it, and any number of replicas may do it.

use std::time::Duration;

use futures::StreamExt;
use sammati_kernel::{ConsentId, ConsentRequestId, Micros, Refusal, Slot, TransferId};
use sammati_store::{Command, Error, Keys, Store, View};

use crate::rows::{ConsentRow, RequestRow, TransferRow, id};
use crate::{consent, request, transfer};

/// Between looks at the due index.
pub const EVERY: Duration = Duration::from_secs(1);

/// Rows of one kind taken at once.
const BATCH: i64 = 256;

/// Commands in flight: they share the lanes with whoever calls.
const IN_FLIGHT: usize = 64;

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

    fn is_essential(&self) -> bool {
        true
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
                let mut consent = view.get::<ConsentRow>(consent.as_bytes());
                let row = view.get::<TransferRow>(id.as_bytes());
                row.map_or(Ok(()), |mut row| {
                    transfer::expire(view, &mut row, consent.as_mut()).map(drop)
                })
            }
        }
    }
}

/// Expires all that is due now, and tells how much it was.
///
/// # Errors
/// When storage fails; what was left is due the next time.
pub async fn sweep(store: &Store) -> Result<usize, Refusal> {
    let (now, mut done) = (store.clock().now(), 0);
    loop {
        let (due, full) = store.read(move |r| due(r, now)).await?;
        done += due.len();
        all(store, due.into_iter().map(Expire).collect()).await?;
        if !full {
            return Ok(done);
        }
    }
}

/// Runs commands, several at a time, each whatever becomes of the others.
///
/// # Errors
/// What the first one refused that did.
pub(crate) async fn all<C: Command>(store: &Store, commands: Vec<C>) -> Result<(), Refusal> {
    let runs: Vec<_> = commands.into_iter().map(|command| store.apply(command)).collect();
    let done = futures::stream::iter(runs).buffer_unordered(IN_FLIGHT);
    let done: Vec<_> = done.collect().await;
    done.into_iter().try_for_each(|done| done.map(drop))
}

/// Whether a read may have left something, since it took all it could.
pub(crate) fn is_full(read: usize, limit: i64) -> bool {
    i64::try_from(read).is_ok_and(|read| read >= limit)
}

/// What is due, and whether more may be.
fn due(reader: &mut sammati_store::Reader<'_>, now: Micros) -> Result<(Vec<Due>, bool), Error> {
    let requests = reader.due::<RequestRow>("due", now.0, BATCH)?;
    let transfers = reader.due::<TransferRow>("due", now.0, BATCH)?;
    let consents = reader.due::<ConsentRow>("due", now.0, BATCH)?;
    let full = [requests.len(), transfers.len(), consents.len()]
        .iter()
        .any(|read| is_full(*read, BATCH));
    let mut all = Vec::new();
    all.extend(
        requests
            .iter()
            .filter_map(|row| id(&row.record.id).ok())
            .map(Due::Request),
    );
    all.extend(transfers.iter().filter_map(|row| {
        let (transfer, consent) = (&row.record.id, &row.record.consent);
        Some(Due::Transfer(id(transfer).ok()?, id(consent).ok()?))
    }));
    all.extend(
        consents
            .iter()
            .filter_map(|row| id(&row.record.id).ok())
            .map(Due::Consent),
    );
    Ok((all, full))
}
