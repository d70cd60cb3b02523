//! Time: writes the expiries that are due. Readers do not wait for it, and any number of replicas may do it.

use std::time::Duration;

use futures::StreamExt;
use sammati_kernel::{
    ConsentId, ConsentRequestId, DiscoveryId, Micros, ProfileShareId, Refusal, RightsRequestId, Slot, SubscriptionId,
    TransferId,
};
use sammati_store::{Command, Error, Keys, Store, View};

use crate::rows::{ConsentRow, DiscoveryRow, ProfileShareRow, RequestRow, RightsRow, SubscriptionRow, TransferRow, id};
use crate::{break_glass, consent, discovery, request, rights, share, subscription, transfer};

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
    /// A discovery's time.
    Discovery(DiscoveryId),
    /// A profile share's time.
    Share(ProfileShareId),
    /// A subscription's window or period.
    Subscription(SubscriptionId),
    /// The review of what was opened in an emergency.
    Review(ConsentId),
    /// The time to answer a request about her rights.
    Rights(RightsRequestId),
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
            Due::Discovery(id) => id.slot(),
            Due::Share(id) => id.slot(),
            Due::Subscription(id) => id.slot(),
            Due::Review(id) => id.slot(),
            Due::Rights(id) => id.slot(),
        }
    }

    fn is_essential(&self) -> bool {
        !matches!(self.0, Due::Review(_))
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
            Due::Discovery(id) => keys.row::<DiscoveryRow>(id.to_vec()),
            Due::Share(id) => keys.row::<ProfileShareRow>(id.to_vec()),
            Due::Subscription(id) => keys.row::<SubscriptionRow>(id.to_vec()),
            Due::Review(id) => keys.row::<ConsentRow>(id.to_vec()),
            Due::Rights(id) => keys.row::<RightsRow>(id.to_vec()),
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
            Due::Discovery(id) => {
                let row = view.get::<DiscoveryRow>(id.as_bytes());
                row.map_or(Ok(()), |mut row| discovery::expire(view, &mut row).map(drop))
            }
            Due::Share(id) => {
                let row = view.get::<ProfileShareRow>(id.as_bytes());
                row.map_or(Ok(()), |mut row| share::expire(view, &mut row).map(drop))
            }
            Due::Subscription(id) => {
                let row = view.get::<SubscriptionRow>(id.as_bytes());
                row.map_or(Ok(()), |mut row| subscription::expire(view, &mut row).map(drop))
            }
            Due::Review(id) => {
                let row = view.get::<ConsentRow>(id.as_bytes());
                row.map_or(Ok(()), |mut row| break_glass::remind::remind(view, &mut row))
            }
            Due::Rights(id) => {
                let row = view.get::<RightsRow>(id.as_bytes());
                row.map_or(Ok(()), |mut row| rights::expire(view, &mut row).map(drop))
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
    let discoveries = reader.due::<DiscoveryRow>("due", now.0, BATCH)?;
    let shares = reader.due::<ProfileShareRow>("due", now.0, BATCH)?;
    let subscriptions = reader.due::<SubscriptionRow>("due", now.0, BATCH)?;
    let reviews = reader.due::<ConsentRow>("review_due", now.0, BATCH)?;
    let rights = reader.due::<RightsRow>("due", now.0, BATCH)?;
    let read = [
        requests.len(),
        transfers.len(),
        consents.len(),
        discoveries.len(),
        shares.len(),
        subscriptions.len(),
        reviews.len(),
        rights.len(),
    ];
    let full = read.iter().any(|read| is_full(*read, BATCH));
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
    let ids = discoveries.iter().filter_map(|row| id(&row.record.id).ok());
    all.extend(ids.map(Due::Discovery));
    let ids = shares.iter().filter_map(|row| id(&row.record.id).ok());
    all.extend(ids.map(Due::Share));
    let ids = subscriptions.iter().filter_map(|row| id(&row.record.id).ok());
    all.extend(ids.map(Due::Subscription));
    let ids = reviews.iter().filter_map(|row| id(&row.record.id).ok());
    all.extend(ids.map(Due::Review));
    let ids = rights.iter().filter_map(|row| id(&row.record.id).ok());
    all.extend(ids.map(Due::Rights));
    Ok((all, full))
}
