//! What is a transaction? One proof of one thing: its times, its states, and the commands that move it.

mod attempt;
mod begin;
mod forget;
mod guard;
mod probe;
mod resend;
mod started;
mod step_up;

use std::time::Duration;

use sammati_api::audit::v1::event::{Action, Outcome};
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, Fact, Micros, Reason, Refusal};
use sammati_server::event::Draft;

pub(crate) use attempt::{CountAttempt, Known, Matched, Proof, Settle, mismatch};
pub(crate) use begin::Begin;
pub(crate) use forget::forget;
pub(crate) use probe::CountProbe;
pub(crate) use resend::Resend;
pub(crate) use started::Started;
pub(crate) use step_up::StepUp;

use crate::rows::TransactionRow;

/// From creation to end.
pub(crate) const LIFE: Duration = Duration::from_secs(15 * 60);
/// From VERIFIED to end.
pub(crate) const USABLE: Duration = Duration::from_secs(300);
/// How long an OTP is good.
pub(crate) const OTP_LIFE: Duration = Duration::from_secs(300);
/// How long after one OTP the next may be asked for.
pub(crate) const RESEND_AFTER: Duration = Duration::from_secs(60);
/// OTPs in one transaction: the first and two more.
pub(crate) const SENDS: i32 = 3;
/// Guesses in one transaction.
pub(crate) const ATTEMPTS: usize = 5;

impl TransactionRow {
    pub(crate) fn purpose(&self) -> Purpose {
        Purpose::try_from(self.purpose).unwrap_or_default()
    }

    pub(crate) fn factor(&self) -> Factor {
        Factor::try_from(self.factor).unwrap_or_default()
    }

    pub(crate) fn account(&self) -> Option<AccountId> {
        AccountId::from_slice(&self.account)
    }

    /// The state as written, without regard to time.
    fn written_state(&self) -> State {
        State::try_from(self.state).unwrap_or_default()
    }

    /// When it ends.
    pub(crate) fn end(&self) -> Micros {
        let life = Micros(self.create_time).plus(LIFE);
        if self.verify_time == 0 {
            life
        } else {
            life.min(Micros(self.verify_time).plus(USABLE))
        }
    }

    /// Where it stands at `now`: its end is seen, never written.
    pub(crate) fn state_at(&self, now: Micros) -> State {
        match self.written_state() {
            State::Challenged | State::Verified if now >= self.end() => State::Expired,
            state => state,
        }
    }

    /// Guesses left.
    pub(crate) fn attempts_left(&self) -> usize {
        ATTEMPTS.saturating_sub(self.attempts.len())
    }

    /// From when a new OTP may be asked for.
    pub(crate) fn resend_time(&self) -> Micros {
        Micros(self.send_time).plus(RESEND_AFTER)
    }

    /// Refuses unless it was made for `purpose` and is VERIFIED.
    pub(crate) fn require_verified(&self, purpose: Purpose, now: Micros) -> Result<(), Refusal> {
        if self.purpose() != purpose {
            return Err(Refusal::new(Reason::TransactionPurpose).saying("the transaction was made for another purpose"));
        }
        self.require(State::Verified, now)
    }

    /// Refuses unless it stands in `wanted`.
    pub(crate) fn require(&self, wanted: State, now: Micros) -> Result<(), Refusal> {
        let state = self.state_at(now);
        if state == wanted {
            return Ok(());
        }
        let why = match state {
            State::Challenged => "the transaction is not verified yet; verify it first",
            State::Verified => "the transaction is verified already",
            State::Consumed => "the transaction has been used; begin a new one",
            State::Expired => "the transaction has expired; begin a new one",
            State::Blocked => "the transaction is blocked after too many wrong guesses; begin a new one later",
            State::Unspecified => "the transaction cannot be used",
        };
        Err(Refusal::new(Reason::TransactionState)
            .saying(why)
            .with(Fact::State, state_name(state)))
    }

    /// Refuses unless it was proved after `ended`, when all sessions were ended that it could open.
    pub(crate) fn require_proved_after(&self, ended: i64) -> Result<(), Refusal> {
        let proved = if self.proof_time == 0 {
            self.verify_time
        } else {
            self.proof_time
        };
        if proved > ended {
            return Ok(());
        }
        let why =
            "all sessions were ended, or the password or PIN changed, since this was proved; begin a new transaction";
        Err(Refusal::new(Reason::TransactionState)
            .saying(why)
            .with(Fact::State, state_name(State::Expired)))
    }

    /// Notes a change.
    pub(crate) const fn touch(&mut self, now: Micros) {
        self.version += 1;
        self.update_time = now.0;
    }

    /// It was used.
    pub(crate) fn consume(&mut self, now: Micros) {
        self.state = State::Consumed.into();
        self.touch(now);
    }
}

/// Without the prefix of its enum.
pub(crate) fn state_name(state: State) -> &'static str {
    state.as_str_name().trim_start_matches("STATE_")
}

/// Whether an OTP is sent for it.
pub(crate) const fn sends_otp(factor: Factor) -> bool {
    matches!(factor, Factor::AadhaarOtp | Factor::MobileOtp)
}

/// Whether somebody who is known signs in or steps up with it, and may want to take something back.
const fn signs_in(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Login | Purpose::StepUp)
}

/// Without the prefix of its enum, as in `MOBILE_OTP`.
pub(crate) fn factor_name(factor: Factor) -> &'static str {
    factor.as_str_name().trim_start_matches("FACTOR_")
}

/// An event about a transaction.
fn told(event_type: &str, action: Action, row: &TransactionRow, caller: &Caller) -> Draft {
    let aadhaar = row.factor() == Factor::AadhaarOtp;
    let class = if aadhaar {
        RetentionClass::AadhaarAuth
    } else {
        RetentionClass::General
    };
    let mut draft = Draft::new(event_type, action, class, caller).resource(&row.name(), row.version);
    draft.event.txn_id = row.name();
    if let Some(actor) = &mut draft.payload().actor {
        actor.factors = vec![factor_name(row.factor()).to_owned()];
    }
    match row.account() {
        Some(account) => draft.subject(account),
        None => draft,
    }
}

/// The same about something that was refused.
fn refused(event_type: &str, row: &TransactionRow, caller: &Caller, reason: Reason) -> Draft {
    told(event_type, Action::Execute, row, caller).refused_for(Outcome::Minor, reason)
}
