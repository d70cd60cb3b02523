//! An attempt is counted and committed before anything is compared; what was found is a second commit.

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_kernel::{Caller, Fact, Micros, Reason, Refusal, Secret, Slot, TransactionId};
use sammati_store::{ClaimKey, Command, Keys, View};

use super::{ATTEMPTS, refused, told};
use crate::lookup::Lookup;
use crate::policy;
use crate::rows::{AttemptRow, Credential, GuardRow, PortraitRow, TransactionRow, Verdict, check_etag};

/// What the person shows.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    Otp(Secret<String>),
    Password(Secret<String>),
    Pin(Secret<String>),
}

impl Proof {
    /// The credential that it is; none for an OTP.
    pub(crate) const fn credential(&self) -> Option<Credential> {
        match self {
            Self::Otp(_) => None,
            Self::Password(_) => Some(Credential::Password),
            Self::Pin(_) => Some(Credential::Pin),
        }
    }
}

/// Counts an attempt. An OTP of ours is compared at once; an agency's, a password or a PIN only after the commit.
#[derive(Debug)]
pub(crate) struct CountAttempt {
    pub(crate) caller: Caller,
    pub(crate) lookup: Lookup,
    pub(crate) id: TransactionId,
    pub(crate) etag: String,
    pub(crate) proof: Proof,
    /// The key of the guard, as read before.
    pub(crate) subject: Vec<u8>,
    /// The claims of the accounts that the proof reaches, for a LOGIN by mobile.
    pub(crate) claims: Vec<ClaimKey>,
}

impl Command for CountAttempt {
    /// The attempt's number, from 1.
    type Answer = u8;
    const NAME: &'static str = "identity.verify_transaction";

    fn slot(&self) -> Slot {
        self.id.slot()
    }

    /// Who cannot sign in cannot take anything back.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransactionRow>(self.id.to_vec());
        keys.row::<GuardRow>(self.subject.clone());
        self.claims.iter().for_each(|claim| keys.claim(*claim));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<u8, Refusal> {
        let now = view.now();
        let mut row = view
            .get::<TransactionRow>(self.id.as_bytes())
            .ok_or_else(|| policy::unavailable(&self.caller))?;
        policy::created_by(&row, &self.caller)?;
        check_etag(&self.etag, row.version)?;
        let mut guard = view
            .get::<GuardRow>(&self.subject)
            .unwrap_or_else(|| GuardRow::of(&self.subject));
        self.may_attempt(&row, &mut guard, now)?;
        row.attempts.push(AttemptRow {
            verdict: Verdict::Pending.into(),
            time: now.0,
        });
        let number = row.attempts.len();
        let Proof::Otp(otp) = &self.proof else {
            return Ok(keep(view, row, &guard));
        };
        if row.factor() == Factor::AadhaarOtp {
            return Ok(keep(view, row, &guard));
        }
        let right = !row.decoy && row.otp == self.lookup.otp(&row.id, row.sends, otp.expose());
        let candidates = if right { self.reached(&row, view) } else { Vec::new() };
        let verdict = if right { Verdict::Matched } else { Verdict::Rejected };
        let factor = row.factor();
        Conclusion {
            caller: &self.caller,
            number,
            verdict,
            candidates,
        }
        .write(view, row, guard);
        if right {
            Ok(byte(number))
        } else {
            Err(mismatch(factor, number).recorded())
        }
    }

    fn outcome(&self, number: &u8) -> Vec<u8> {
        vec![*number]
    }
}

/// Keeps a counted attempt; tells its number.
fn keep(view: &mut View<'_>, mut row: TransactionRow, guard: &GuardRow) -> u8 {
    row.touch(view.now());
    view.put(&row);
    view.put(guard);
    byte(row.attempts.len())
}

impl CountAttempt {
    fn may_attempt(&self, row: &TransactionRow, guard: &mut GuardRow, now: Micros) -> Result<(), Refusal> {
        let credential = Credential::of(row.factor());
        if credential != self.proof.credential() {
            let wanted = match credential {
                Some(Credential::Password) => "this transaction is proved with the password",
                Some(Credential::Pin) => "this transaction is proved with the PIN",
                None => "this transaction is proved with the OTP",
            };
            return Err(Refusal::new(Reason::FactorNotAllowed).saying(wanted));
        }
        let state = row.state_at(now);
        if credential.is_none() && matches!(state, State::Challenged | State::Blocked) {
            guard.check(row.purpose(), now)?;
        }
        if state == State::Blocked || (state == State::Challenged && row.attempts.len() >= ATTEMPTS) {
            return Err(exhausted(row, guard, now));
        }
        row.require(State::Challenged, now)?;
        if let Some(credential) = credential {
            return guard.count(credential, now);
        }
        if now.0 >= row.otp_end {
            return Err(
                Refusal::new(Reason::OtpExpired).saying("the OTP has expired; ask for a new one with ResendOtp")
            );
        }
        if row.factor() == Factor::AadhaarOtp && row.started < row.sends {
            let why = "UIDAI has not sent the OTP yet; repeat the call that asked for it, with the same request_id";
            return Err(Refusal::new(Reason::TransactionState)
                .saying(why)
                .with(Fact::State, "CHALLENGED"));
        }
        Ok(())
    }

    /// The accounts that a right OTP of ours opens.
    fn reached(&self, row: &TransactionRow, view: &View<'_>) -> Vec<Vec<u8>> {
        if row.purpose() != Purpose::Login {
            return Vec::new();
        }
        if !row.account.is_empty() {
            return vec![row.account.clone()];
        }
        self.claims.iter().filter_map(|claim| view.claimed(claim)).collect()
    }
}

/// No guess is left: what blocks her, if something does. Guesses that nobody compared, because UIDAI was away, do not.
fn exhausted(row: &TransactionRow, guard: &mut GuardRow, now: Micros) -> Refusal {
    let block = match Credential::of(row.factor()) {
        Some(credential) => guard.count(credential, now),
        None => guard.check(row.purpose(), now),
    };
    block.err().unwrap_or_else(no_guess_left)
}

pub(super) fn no_guess_left() -> Refusal {
    Refusal::new(Reason::TransactionState)
        .saying("all five guesses are used; begin a new transaction")
        .with(Fact::State, "BLOCKED")
}

/// What a wrong proof is told: the `number`th, from 1.
pub(crate) fn mismatch(factor: Factor, number: usize) -> Refusal {
    let left = ATTEMPTS.saturating_sub(number);
    let (reason, what) = match factor {
        Factor::Password => (Reason::CredentialMismatch, "password"),
        Factor::Pin => (Reason::CredentialMismatch, "PIN"),
        _ => (Reason::OtpMismatch, "OTP"),
    };
    let then = match left {
        0 => "no guess is left; begin a new transaction later".to_owned(),
        1 => "one guess is left".to_owned(),
        n => format!("{n} guesses are left"),
    };
    Refusal::new(reason)
        .saying(format!("the {what} is wrong; {then}"))
        .with(Fact::AttemptsLeft, left)
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// What a comparison outside found.
#[derive(Debug)]
pub(crate) enum Matched {
    /// It was wrong.
    No,
    /// The password or PIN was right.
    Credential,
    /// The agency knows her.
    Kyc(Box<Known>),
}

/// What the agency told of a person.
#[derive(Debug)]
pub(crate) struct Known {
    /// The claim on her.
    pub(crate) reference: ClaimKey,
    /// The keyed hash of her mobile; empty without one.
    pub(crate) mobile: Vec<u8>,
    /// A sealed `Profile`.
    pub(crate) profile: Vec<u8>,
    pub(crate) portrait: PortraitRow,
}

/// Notes what became of an attempt. Harmless when repeated.
#[derive(Debug)]
pub(crate) struct Settle {
    pub(crate) caller: Caller,
    pub(crate) id: TransactionId,
    pub(crate) subject: Vec<u8>,
    pub(crate) number: u8,
    pub(crate) found: Matched,
}

impl Command for Settle {
    type Answer = ();
    const NAME: &'static str = "identity.settle_attempt";

    fn slot(&self) -> Slot {
        self.id.slot()
    }

    /// Who cannot sign in cannot take anything back.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransactionRow>(self.id.to_vec());
        keys.row::<GuardRow>(self.subject.clone());
        if let Matched::Kyc(known) = &self.found {
            keys.claim(known.reference);
            keys.row::<PortraitRow>(known.portrait.key.clone());
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let number = usize::from(self.number);
        let Some(mut row) = view.get::<TransactionRow>(self.id.as_bytes()) else {
            return Ok(());
        };
        let pending = number
            .checked_sub(1)
            .and_then(|at| row.attempts.get(at))
            .map(AttemptRow::verdict);
        if pending != Some(Verdict::Pending) {
            return Ok(());
        }
        let guard = view
            .get::<GuardRow>(&self.subject)
            .unwrap_or_else(|| GuardRow::of(&self.subject));
        let mut candidates = Vec::new();
        let verdict = match &self.found {
            Matched::No => Verdict::Rejected,
            Matched::Credential => {
                candidates.push(row.account.clone());
                Verdict::Matched
            }
            Matched::Kyc(known) => {
                // Once another attempt has verified it, what it holds of her may be an account's.
                if row.state_at(view.now()) == State::Challenged {
                    keep_profile(&mut row, known, view);
                }
                candidates.extend(view.claimed(&known.reference));
                Verdict::Matched
            }
        };
        Conclusion {
            caller: &self.caller,
            number,
            verdict,
            candidates,
        }
        .write(view, row, guard);
        Ok(())
    }
}

fn keep_profile(row: &mut TransactionRow, known: &Known, view: &mut View<'_>) {
    row.reference = known.reference.to_vec();
    if row.purpose() == Purpose::Enrol {
        row.mobile.clone_from(&known.mobile);
        row.profile.clone_from(&known.profile);
        view.put(&known.portrait);
    }
}

/// The end of one attempt.
struct Conclusion<'a> {
    caller: &'a Caller,
    number: usize,
    verdict: Verdict,
    candidates: Vec<Vec<u8>>,
}

impl Conclusion<'_> {
    fn write(self, view: &mut View<'_>, mut row: TransactionRow, mut guard: GuardRow) {
        let now = view.now();
        let mut shown = 0;
        if let Some(attempt) = row.attempts.get_mut(self.number - 1) {
            attempt.set_verdict(self.verdict);
            shown = attempt.time;
        }
        row.touch(now);
        let right = self.verdict == Verdict::Matched;
        if right && row.state_at(now) == State::Challenged {
            row.state = State::Verified.into();
            row.verify_time = now.0;
            row.proof_time = shown;
            if let [only] = self.candidates.as_slice() {
                row.account.clone_from(only);
            }
            if row.purpose() == Purpose::Login {
                row.candidates = self.candidates;
            }
        }
        let credential = Credential::of(row.factor());
        if let Some(credential) = credential.filter(|_| right) {
            guard.forgive(credential);
        }
        let wrong = row.attempts.iter().filter(|a| a.verdict() == Verdict::Rejected).count();
        if !right && wrong >= ATTEMPTS && row.state_at(now) == State::Challenged {
            row.state = State::Blocked.into();
            if credential.is_none() {
                guard.block(row.purpose(), now);
            }
        }
        if right {
            told("identity.authn_succeeded", Action::Execute, &row, self.caller).emit(view);
        } else {
            let reason = mismatch(row.factor(), self.number).reason;
            refused("identity.authn_failed", &row, self.caller, reason).emit(view);
        }
        view.put(&row);
        view.put(&guard);
    }
}
