//! ABHA addresses: claimed for ever, at most six beside the default one, exactly one preferred.

use sammati_api::audit::v1::event::Action;
use sammati_kernel::{AbhaAddress, AccountId, Caller, Fact, Reason, Refusal, Slot};
use sammati_store::{ClaimKey, Command, Keys, View};

use super::told;
use crate::policy;
use crate::rows::{AccountRow, AddressRow, GuardRow, check_etag};
use crate::vault::{DataKey, Sealed};

/// Addresses beside the default one.
const CHOSEN: usize = 6;

/// Claims an address for an account. The caller's right to the account has been proved, unless it is a person.
#[derive(Debug)]
pub(crate) struct CreateAddress {
    pub(crate) caller: Caller,
    pub(crate) account: AccountId,
    pub(crate) etag: String,
    pub(crate) address: AbhaAddress,
    pub(crate) claim: ClaimKey,
    pub(crate) preferred: bool,
    /// Her data key.
    pub(crate) key: DataKey,
}

impl Command for CreateAddress {
    type Answer = ();
    const NAME: &'static str = "identity.create_address";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.account.to_vec());
        keys.row::<GuardRow>(self.account.to_vec());
        keys.claim(self.claim);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = usable(self.account, &self.caller, &self.etag, view)?;
        let held = row.addresses.iter().position(|a| a.claim == self.claim);
        if let Some(at) = held {
            if self.preferred {
                prefer(&mut row, at, &self.caller, view);
            }
            return Ok(());
        }
        // Who may have no more learns nothing of what others have.
        if row.addresses.len() > CHOSEN {
            return Err(
                Refusal::new(Reason::AddressLimit).saying("you have six addresses beside the default one; that is all")
            );
        }
        self.check_free(view)?;
        view.claim(self.claim, self.account.to_vec());
        row.addresses.push(AddressRow {
            claim: self.claim.to_vec(),
            address: self
                .key
                .seal_by(view.seed(), Sealed::Address, self.address.folded().as_bytes())?,
            preferred: false,
            create_time: view.now().0,
        });
        row.touch(view.now());
        view.put(&row);
        told("identity.address_assigned", Action::Create, &row, &self.caller)
            .claims([self.claim])
            .emit(view);
        if self.preferred {
            let last = row.addresses.len() - 1;
            prefer(&mut row, last, &self.caller, view);
        }
        Ok(())
    }
}

impl CreateAddress {
    /// Refuses what somebody has, and counts it: addresses are not to be listed by trying.
    fn check_free(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let guard = view.get::<GuardRow>(self.account.as_bytes());
        let mut guard = guard.unwrap_or_else(|| GuardRow::of(self.account.as_bytes()));
        guard.check_taken(view.now())?;
        if view.claimed(&self.claim).is_none() {
            return Ok(());
        }
        guard.count_taken(view.now());
        view.put(&guard);
        Err(taken().recorded())
    }
}

/// Makes one of her addresses the preferred one.
#[derive(Debug)]
pub(crate) struct PreferAddress {
    pub(crate) caller: Caller,
    pub(crate) account: AccountId,
    pub(crate) etag: String,
    pub(crate) claim: ClaimKey,
}

impl Command for PreferAddress {
    type Answer = ();
    const NAME: &'static str = "identity.set_preferred_address";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.account.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = usable(self.account, &self.caller, &self.etag, view)?;
        let at = row.addresses.iter().position(|a| a.claim == self.claim);
        let at = at.ok_or_else(|| policy::unavailable(&self.caller))?;
        prefer(&mut row, at, &self.caller, view);
        Ok(())
    }
}

/// Her account, if it is in use and as she saw it.
fn usable(account: AccountId, caller: &Caller, etag: &str, view: &View<'_>) -> Result<AccountRow, Refusal> {
    if caller.account().is_some() {
        policy::own_account(caller, account)?;
    }
    let row = view
        .get::<AccountRow>(account.as_bytes())
        .ok_or_else(|| policy::unavailable(caller))?;
    check_etag(etag, row.version)?;
    if !row.is_active() {
        let state = row.state().as_str_name().trim_start_matches("STATE_");
        return Err(Refusal::new(Reason::StateConflict)
            .saying("the account is not active")
            .with(Fact::State, state));
    }
    Ok(row)
}

fn prefer(row: &mut AccountRow, at: usize, caller: &Caller, view: &mut View<'_>) {
    if row.addresses[at].preferred {
        return;
    }
    for (n, address) in row.addresses.iter_mut().enumerate() {
        address.preferred = n == at;
    }
    row.touch(view.now());
    view.put(row);
    told("identity.address_preferred", Action::Update, row, caller).emit(view);
}

pub(crate) fn taken() -> Refusal {
    Refusal::new(Reason::AddressTaken).saying("this address belongs to somebody, or once did; choose another one")
}
