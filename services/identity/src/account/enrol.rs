//! A proved person gets her number: once, whoever asks and how often.

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::account::State;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_kernel::{
    AbhaAddress, AbhaNumber, AccountId, AddressSuffix, Caller, LocalPart, Reason, Refusal, Slot, TransactionId,
};
use sammati_store::{ClaimKey, Command, Keys, View};

use super::told;
use crate::lookup::Lookup;
use crate::policy;
use crate::rows::{AccountRow, AddressRow, PortraitRow, TransactionRow};
use crate::session::{self, Login};
use crate::vault::{DataKey, Sealed};

/// How many numbers are tried in one go. One in 31 billion is taken by chance for each number issued.
const CANDIDATES: u32 = 4;

/// Consumes an ENROL transaction: a new account with number, addresses, claims and session, all or nothing; or the one
/// that the person has.
#[derive(Debug)]
pub(crate) struct Enrol {
    pub(crate) caller: Caller,
    pub(crate) lookup: Lookup,
    pub(crate) suffix: AddressSuffix,
    pub(crate) transaction: TransactionId,
    /// The claim on the person, as read before; VERIFIED fixes it.
    pub(crate) reference: ClaimKey,
    /// The keyed hash of her mobile, likewise; empty without one.
    pub(crate) mobile: Vec<u8>,
    /// Her data key, likewise.
    pub(crate) key: DataKey,
    pub(crate) chosen: Option<LocalPart>,
}

/// Whose account, and which session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Enrolled {
    pub(crate) login: Login,
    pub(crate) is_new: bool,
}

impl Enrolled {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (login, is_new) = bytes.split_at_checked(32)?;
        Some(Self {
            login: Login::from_bytes(login)?,
            is_new: is_new == [1],
        })
    }
}

impl Command for Enrol {
    type Answer = Enrolled;
    const NAME: &'static str = "identity.create_account";

    fn slot(&self) -> Slot {
        self.transaction.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransactionRow>(self.transaction.to_vec());
        keys.row::<PortraitRow>(self.key.id.clone());
        keys.claim(self.reference);
        self.mobile_claims().into_iter().for_each(|claim| keys.claim(claim));
        self.chosen_claim().iter().for_each(|claim| keys.claim(*claim));
    }

    fn then(&self, loaded: &View<'_>, keys: &mut Keys) {
        for n in 0..CANDIDATES {
            keys.claim(self.lookup.number(AbhaNumber::issue(loaded.seed(), n)));
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Enrolled, Refusal> {
        let now = view.now();
        let row = view.get::<TransactionRow>(self.transaction.as_bytes());
        let mut row = row.ok_or_else(|| policy::unavailable(&self.caller))?;
        policy::created_by(&row, &self.caller)?;
        row.require_verified(Purpose::Enrol, now)?;
        if row.reference != self.reference || row.key != self.key.id || row.mobile != self.mobile {
            return Err(Reason::Internal.into());
        }
        let owner = view.claimed(&self.reference);
        let enrolled = match owner.and_then(|bytes| AccountId::from_slice(&bytes)) {
            Some(account) => Enrolled {
                login: login(account, view),
                is_new: false,
            },
            None => {
                self.check_chosen(&mut row, view)?;
                self.new_account(&row, view)?
            }
        };
        row.account = enrolled.login.account.to_vec();
        row.profile.clear();
        if !enrolled.is_new {
            // What was told again is kept under a key that is not hers, so it is not kept.
            row.target.clear();
            view.put(&PortraitRow::empty(&row.key));
        }
        row.consume(now);
        view.put(&row);
        Ok(enrolled)
    }

    fn outcome(&self, enrolled: &Enrolled) -> Vec<u8> {
        let mut bytes = enrolled.login.to_bytes();
        bytes.push(u8::from(enrolled.is_new));
        bytes
    }
}

impl Enrol {
    fn mobile_claims(&self) -> Vec<ClaimKey> {
        if self.mobile.is_empty() {
            Vec::new()
        } else {
            self.lookup.mobile_claims(&self.mobile)
        }
    }

    fn chosen_address(&self) -> Option<AbhaAddress> {
        self.chosen.clone().map(|local| AbhaAddress::new(local, self.suffix))
    }

    fn chosen_claim(&self) -> Option<ClaimKey> {
        self.chosen_address().map(|address| self.lookup.address(&address))
    }

    /// Refuses an address that somebody has, and counts it, before anything else is changed.
    fn check_chosen(&self, row: &mut TransactionRow, view: &mut View<'_>) -> Result<(), Refusal> {
        let Some(claim) = self.chosen_claim() else {
            return Ok(());
        };
        if view.claimed(&claim).is_none() {
            return Ok(());
        }
        row.count_taken(view.now())?;
        view.put(row);
        Err(super::address::taken().recorded())
    }

    fn new_account(&self, transaction: &TransactionRow, view: &mut View<'_>) -> Result<Enrolled, Refusal> {
        let id: AccountId = view.id("account");
        let login = login(id, view);
        view.claim(self.reference, id.to_vec());
        self.claim_mobile(id, view)?;
        let number = self.claim_number(id, view)?;
        let row = self.row(id, number, transaction, view)?;
        view.put(&row);
        told("identity.enrolled", Action::Create, &row, &self.caller)
            .claims(row.addresses.iter().map(|address| address.claim.clone()))
            .emit(view);
        for _ in &row.addresses {
            told("identity.address_assigned", Action::Create, &row, &self.caller).emit(view);
        }
        let session = session::of_person(login.session, id, transaction, view.now());
        view.put(&session);
        session::told("identity.session_created", Action::Create, &session, &self.caller).emit(view);
        Ok(Enrolled { login, is_new: true })
    }

    fn claim_mobile(&self, id: AccountId, view: &mut View<'_>) -> Result<(), Refusal> {
        let claims = self.mobile_claims();
        if claims.is_empty() {
            return Ok(());
        }
        let free = claims.into_iter().find(|claim| view.claimed(claim).is_none());
        let free = free.ok_or_else(|| {
            Refusal::new(Reason::MobileLimit)
                .saying("six ABHA numbers have this mobile already; have another mobile registered with Aadhaar first")
        })?;
        view.claim(free, id.to_vec());
        Ok(())
    }

    fn claim_number(&self, id: AccountId, view: &mut View<'_>) -> Result<AbhaNumber, Refusal> {
        let candidates = (0..CANDIDATES)
            .map(|n| AbhaNumber::issue(view.seed(), n))
            .collect::<Vec<_>>();
        let free = candidates
            .into_iter()
            .find(|number| view.claimed(&self.lookup.number(*number)).is_none());
        // The next attempt draws others.
        let number = free.ok_or(Reason::StorageUnavailable)?;
        view.claim(self.lookup.number(number), id.to_vec());
        Ok(number)
    }

    fn row(
        &self,
        id: AccountId,
        number: AbhaNumber,
        transaction: &TransactionRow,
        view: &mut View<'_>,
    ) -> Result<AccountRow, Refusal> {
        let now = view.now();
        let default = AbhaAddress::default_for(number, self.suffix);
        let mut addresses = vec![self.address(&default, view)?];
        if let (Some(chosen), Some(claim)) = (self.chosen_address(), self.chosen_claim()) {
            view.claim(claim, id.to_vec());
            addresses.push(self.address(&chosen, view)?);
        }
        if let Some(last) = addresses.last_mut() {
            last.preferred = true;
        }
        Ok(AccountRow {
            id: id.to_vec(),
            version: 1,
            state: State::Active.into(),
            key: self.key.id.clone(),
            number: self
                .key
                .seal_by(view.seed(), Sealed::Number, number.digits().as_bytes())?,
            profile: transaction.profile.clone(),
            addresses,
            consent: transaction.consent.clone(),
            create_time: now.0,
            update_time: now.0,
            ..AccountRow::default()
        })
    }

    fn address(&self, address: &AbhaAddress, view: &View<'_>) -> Result<AddressRow, Refusal> {
        Ok(AddressRow {
            claim: self.lookup.address(address).to_vec(),
            address: self
                .key
                .seal_by(view.seed(), Sealed::Address, address.folded().as_bytes())?,
            preferred: false,
            create_time: view.now().0,
        })
    }
}

/// The session that is opened in `account`, which may live elsewhere.
fn login(account: AccountId, view: &View<'_>) -> Login {
    Login {
        account,
        session: view.seed().id("session", view.now(), account.slot()),
    }
}
