//! A transaction begins: the intent is committed before anything is sent.

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::types::v1::ConsentStamp;
use sammati_kernel::{AccountId, Caller, Reason, Refusal, Secret, Slot, TransactionId};
use sammati_store::{ClaimKey, Command, Keys, View};

use super::{OTP_LIFE, refused, sends_otp, told};
use crate::lookup::{Lookup, slot_bytes};
use crate::rows::{DataKeyRow, GuardRow, TransactionRow};

/// Creates a transaction, CHALLENGED.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) caller: Caller,
    pub(crate) lookup: Lookup,
    pub(crate) purpose: Purpose,
    pub(crate) factor: Factor,
    /// Where what is proved lives.
    pub(crate) slot: Slot,
    /// The claim that fixes the slot for repeats, where a look-up chose it.
    pub(crate) route: Option<ClaimKey>,
    /// The key of the guard.
    pub(crate) subject: Vec<u8>,
    /// Nobody was found.
    pub(crate) decoy: bool,
    pub(crate) account: Option<AccountId>,
    /// The keyed hash of the mobile, where one is proved.
    pub(crate) mobile: Vec<u8>,
    pub(crate) key: DataKeyRow,
    /// A sealed `Target`.
    pub(crate) target: Vec<u8>,
    /// The OTP, where we send it.
    pub(crate) otp: Option<Secret<String>>,
    pub(crate) consent: Option<ConsentStamp>,
}

impl Command for Begin {
    type Answer = TransactionId;
    const NAME: &'static str = "identity.create_transaction";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<GuardRow>(self.subject.clone());
        self.route.iter().for_each(|route| keys.claim(*route));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<TransactionId, Refusal> {
        self.follow_route(view)?;
        let id: TransactionId = view.id("transaction");
        let row = self.row(id, view);
        if sends_otp(self.factor) {
            self.count_send(&row, view)?;
        }
        view.put(&self.key);
        view.put(&row);
        self.tell(&row, view);
        Ok(id)
    }

    fn outcome(&self, id: &TransactionId) -> Vec<u8> {
        id.to_vec()
    }
}

impl Begin {
    /// A repeat goes where the first attempt went, though somebody enrolled in between.
    fn follow_route(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let Some(route) = self.route else { return Ok(()) };
        let here = slot_bytes(self.slot);
        match view.claimed(&route) {
            None => view.claim(route, here),
            Some(slot) if slot == here => {}
            Some(_) => return Err(Reason::StorageUnavailable.into()),
        }
        Ok(())
    }

    fn count_send(&self, row: &TransactionRow, view: &mut View<'_>) -> Result<(), Refusal> {
        let guard = view.get::<GuardRow>(&self.subject);
        let mut guard = guard.unwrap_or_else(|| GuardRow::of(&self.subject));
        let counted = guard.count_send(self.purpose, view.now());
        view.put(&guard);
        if let Err(refusal) = &counted {
            refused("identity.challenge_sent", row, &self.caller, refusal.reason).emit(view);
        }
        counted
    }

    fn row(&self, id: TransactionId, view: &View<'_>) -> TransactionRow {
        let now = view.now();
        let sends = i32::from(sends_otp(self.factor));
        let otp = self
            .otp
            .as_ref()
            .map(|otp| self.lookup.otp(id.as_bytes(), sends, otp.expose()).to_vec());
        TransactionRow {
            id: id.to_vec(),
            version: 1,
            purpose: self.purpose.into(),
            factor: self.factor.into(),
            state: State::Challenged.into(),
            creator: self.caller.id(),
            app: self.caller.participant().map(|p| p.name()).unwrap_or_default(),
            subject: self.subject.clone(),
            decoy: self.decoy,
            account: self.account.map(AccountId::to_vec).unwrap_or_default(),
            key: self.key.id.clone(),
            target: self.target.clone(),
            otp: otp.unwrap_or_default(),
            send_time: now.0,
            otp_end: now.plus(OTP_LIFE).0,
            sends,
            create_time: now.0,
            update_time: now.0,
            consent: self.consent.clone(),
            mobile: self.mobile.clone(),
            language: self
                .consent
                .as_ref()
                .map_or_else(|| "en".to_owned(), |c| c.language.clone()),
            ..TransactionRow::default()
        }
    }

    fn tell(&self, row: &TransactionRow, view: &mut View<'_>) {
        if let (Purpose::Enrol, Some(stamp)) = (self.purpose, &self.consent) {
            let mut draft = told("identity.enrolment_consented", Action::Create, row, &self.caller);
            draft.payload().legal_basis = format!(
                "consent text {} {}, shown in {}",
                stamp.code, stamp.version, stamp.language
            );
            draft.emit(view);
        }
        told("identity.challenge_sent", Action::Create, row, &self.caller).emit(view);
    }
}
