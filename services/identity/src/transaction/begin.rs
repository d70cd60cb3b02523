//! A transaction begins: the intent is committed before anything is sent.

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::identity::v1::{BoundAction, Factor};
use sammati_api::types::v1::ConsentStamp;
use sammati_kernel::{AccountId, Caller, Micros, Reason, Refusal, Secret, Slot, TransactionId};
use sammati_server::event::micros;
use sammati_store::{ClaimKey, Command, Keys, View};

use super::{LIFE, OTP_LIFE, refused, sends_otp, signs_in, told};
use crate::lookup::{Lookup, slot_bytes};
use crate::rows::{DataKeyRow, GuardRow, TransactionRow};
use crate::wire::ACCEPTED;

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
    /// Whether she who proves herself has what the factor asks for.
    pub(crate) usable: bool,
    pub(crate) consent: Option<ConsentStamp>,
    /// The one call that a STEP_UP is for.
    pub(crate) bound_to: Option<BoundAction>,
}

impl Command for Begin {
    type Answer = TransactionId;
    const NAME: &'static str = "identity.create_transaction";

    fn slot(&self) -> Slot {
        self.slot
    }

    /// Who cannot sign in cannot take anything back.
    fn is_essential(&self) -> bool {
        signs_in(self.purpose)
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<GuardRow>(self.subject.clone());
        self.route.iter().for_each(|route| keys.claim(*route));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<TransactionId, Refusal> {
        self.may_begin(view.now())?;
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

/// How long ago a consent text may have been accepted.
const ACCEPTED_WITHIN: Duration = LIFE;

/// How far an app's clock may be ahead.
const AHEAD: Duration = Duration::from_secs(60);

impl Begin {
    /// What may change between a call and its repeat is judged here, where a repeat is answered before it is judged.
    fn may_begin(&self, now: Micros) -> Result<(), Refusal> {
        if let Some(stamp) = &self.consent {
            let accepted = stamp.accepted_time.as_ref().and_then(micros);
            if accepted.is_none_or(|at| at > now.plus(AHEAD) || at < now.minus(ACCEPTED_WITHIN)) {
                return Err(Refusal::field("consent.accepted_time", ACCEPTED));
            }
        }
        if !self.usable {
            let why = match self.factor {
                Factor::Pin => "your account has no PIN; set one with SetCredential",
                _ => "your account has no password or mobile to prove yourself with; use the other factor",
            };
            return Err(Refusal::new(Reason::FactorNotAllowed).saying(why));
        }
        Ok(())
    }

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
            veiled: self.lookup.veiled(id).to_vec(),
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
            bound_to: self.bound_to.clone(),
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
