//! Ending: what is in force, and what waits for her.

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{
    ConsentId, ConsentRequestId, DiscoveryId, NotificationId, PolicyId, ProfileShareId, Refusal, RightsRequestId, Slot,
    SubscriptionId,
};
use sammati_server::event::system;
use sammati_store::{Command, Keys, View};

use super::GROUND;
use crate::consent::{self, Ending};
use crate::request::cancel::Grounds;
use crate::rows::{
    ConsentRow, DiscoveryRow, NotificationRow, PolicyRow, ProfileShareRow, RequestRow, RightsRow, SubscriptionRow,
    TransferRow,
};
use crate::{discovery, request, rights, share, standing, subscription};

/// Something of hers.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// An emergency's too.
    Consent(ConsentId),
    Subscription(SubscriptionId),
    Policy(PolicyId),
    Request(ConsentRequestId),
    Discovery(DiscoveryId),
    Share(ProfileShareId),
    Rights(RightsRequestId),
    Notification(NotificationId),
}

/// Ends it, if it has not ended.
pub(super) struct End(pub(super) What);

impl Command for End {
    type Answer = ();

    const NAME: &'static str = "consent.end_of_account";

    fn slot(&self) -> Slot {
        match self.0 {
            What::Consent(id) => id.slot(),
            What::Subscription(id) => id.slot(),
            What::Policy(id) => id.slot(),
            What::Request(id) => id.slot(),
            What::Discovery(id) => id.slot(),
            What::Share(id) => id.slot(),
            What::Rights(id) => id.slot(),
            What::Notification(id) => id.slot(),
        }
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        match self.0 {
            What::Consent(id) => {
                keys.row::<ConsentRow>(id.to_vec());
                keys.group::<TransferRow>("open", id.to_vec());
            }
            What::Subscription(id) => keys.row::<SubscriptionRow>(id.to_vec()),
            What::Policy(id) => keys.row::<PolicyRow>(id.to_vec()),
            What::Request(id) => keys.row::<RequestRow>(id.to_vec()),
            What::Discovery(id) => keys.row::<DiscoveryRow>(id.to_vec()),
            What::Share(id) => keys.row::<ProfileShareRow>(id.to_vec()),
            What::Rights(id) => keys.row::<RightsRow>(id.to_vec()),
            What::Notification(id) => keys.row::<NotificationRow>(id.to_vec()),
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        match self.0 {
            What::Consent(id) => view
                .get(id.as_bytes())
                .map_or(Ok(()), |mut row| withdraw(view, &mut row)),
            What::Subscription(id) => view
                .get(id.as_bytes())
                .map_or(Ok(()), |mut row| subscription::end_of_account(view, &mut row, GROUND)),
            What::Policy(id) => view.get(id.as_bytes()).map_or(Ok(()), |row| disable(view, row)),
            What::Request(id) => view.get(id.as_bytes()).map_or(Ok(()), |row| cancel(view, row)),
            What::Discovery(id) => view
                .get(id.as_bytes())
                .map_or(Ok(()), |mut row| discovery::end_of_account(view, &mut row, GROUND)),
            What::Share(id) => view
                .get(id.as_bytes())
                .map_or(Ok(()), |mut row| share::end_of_account(view, &mut row, GROUND)),
            What::Rights(id) => view
                .get(id.as_bytes())
                .map_or(Ok(()), |mut row| rights::end_of_account(view, &mut row, GROUND)),
            What::Notification(id) => {
                if let Some(row) = view.get(id.as_bytes()) {
                    silence(view, row);
                }
                Ok(())
            }
        }
    }
}

/// Takes a consent back, if it is in force.
fn withdraw(view: &mut View<'_>, row: &mut ConsentRow) -> Result<(), Refusal> {
    if consent::expire(view, row)? {
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
    consent::end(view, row, &ending)
}

/// Puts a policy out of force.
fn disable(view: &mut View<'_>, mut row: PolicyRow) -> Result<(), Refusal> {
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

/// Cancels a request that waits for her.
fn cancel(view: &mut View<'_>, mut row: RequestRow) -> Result<(), Refusal> {
    request::expire(view, &mut row)?;
    let Some(state) = row.state().after(request::Verb::Cancel) else {
        return Ok(());
    };
    row.settle(state, view.now());
    let grounds = Grounds {
        legal_basis: GROUND,
        ..Grounds::default()
    };
    request::cancel::cancel(view, &row, &system("consent"), grounds)
}

/// Word for her waits no more: nobody will take it in. That she did is not said, so there is no event of it.
fn silence(view: &mut View<'_>, mut row: NotificationRow) {
    if row.acknowledged == 0 {
        row.acknowledged = view.now().0;
        view.put(&row);
    }
}
