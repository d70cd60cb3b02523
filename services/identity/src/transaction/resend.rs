//! A new OTP to the same place: the old one is void from the commit on.

use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_kernel::{Caller, Fact, Micros, Reason, Refusal, Secret, Slot, TransactionId};
use sammati_store::{Command, Keys, View};

use super::attempt::no_guess_left;
use super::{OTP_LIFE, SENDS, refused, sends_otp, signs_in, told};
use crate::lookup::Lookup;
use crate::policy;
use crate::rows::{GuardRow, TransactionRow, check_etag};

/// Counts the sending and replaces the OTP.
#[derive(Debug)]
pub(crate) struct Resend {
    pub(crate) caller: Caller,
    pub(crate) lookup: Lookup,
    pub(crate) id: TransactionId,
    pub(crate) etag: String,
    /// What for, as read before; it never changes.
    pub(crate) purpose: Purpose,
    /// The key of the guard, as read before.
    pub(crate) subject: Vec<u8>,
    /// The new OTP, used where we send it.
    pub(crate) otp: Secret<String>,
}

impl Command for Resend {
    type Answer = ();
    const NAME: &'static str = "identity.resend_otp";

    fn slot(&self) -> Slot {
        self.id.slot()
    }

    /// Who cannot sign in cannot take anything back, and the first OTP may have been lost.
    fn is_essential(&self) -> bool {
        signs_in(self.purpose)
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransactionRow>(self.id.to_vec());
        keys.row::<GuardRow>(self.subject.clone());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let now = view.now();
        let mut row = view
            .get::<TransactionRow>(self.id.as_bytes())
            .ok_or_else(|| policy::unavailable(&self.caller))?;
        policy::created_by(&row, &self.caller)?;
        check_etag(&self.etag, row.version)?;
        row.require(State::Challenged, now)?;
        may_resend(&row, now)?;
        let mut guard = view
            .get::<GuardRow>(&self.subject)
            .unwrap_or_else(|| GuardRow::of(&self.subject));
        let counted = guard.count_send(row.purpose(), now);
        view.put(&guard);
        if let Err(refusal) = counted {
            refused("identity.challenge_sent", &row, &self.caller, refusal.reason).emit(view);
            return Err(refusal);
        }
        row.sends += 1;
        row.send_time = now.0;
        row.otp_end = now.plus(OTP_LIFE).0;
        if !row.otp.is_empty() {
            row.otp = self.lookup.otp(&row.id, row.sends, self.otp.expose()).to_vec();
        }
        row.touch(now);
        view.put(&row);
        told("identity.challenge_sent", Action::Update, &row, &self.caller).emit(view);
        Ok(())
    }
}

fn may_resend(row: &TransactionRow, now: Micros) -> Result<(), Refusal> {
    if !sends_otp(row.factor()) {
        return Err(Refusal::new(Reason::FactorNotAllowed).saying("a password has no OTP to send"));
    }
    if row.factor() == Factor::AadhaarOtp && row.started < row.sends {
        let why = "UIDAI has not sent the OTP yet; repeat the call that asked for it, with the same request_id";
        return Err(Refusal::new(Reason::TransactionState)
            .saying(why)
            .with(Fact::State, "CHALLENGED"));
    }
    if row.attempts_left() == 0 {
        return Err(no_guess_left());
    }
    if row.sends >= SENDS {
        return Err(Refusal::new(Reason::ResendLimit)
            .saying("both resends are used; begin a new transaction")
            .retry_after(row.end().since(now)));
    }
    let wait: Duration = row.resend_time().since(now);
    if wait.is_zero() {
        Ok(())
    } else {
        Err(Refusal::new(Reason::ResendTooEarly)
            .saying(format!(
                "a new OTP can be sent in {} s; the last one is still good",
                wait.as_secs().max(1)
            ))
            .retry_after(wait))
    }
}
