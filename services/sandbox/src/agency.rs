//! The synthetic UIDAI: its e-KYC transactions, and what it answers. Simulated: it knows only the invented register.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sammati_kernel::{AadhaarNumber, Fact, Micros, MobileNumber, Reason, Refusal, Seed, TransactionId};

use crate::people::{Person, Register};

/// How long an OTP is good.
pub(crate) const OTP_LIFE: Duration = Duration::from_secs(600);

/// Wrong guesses in a transaction, after which it ends.
const WRONG_GUESSES: usize = 5;

/// OTPs in a transaction.
const SENDS: usize = 10;

/// Transactions that are remembered; the oldest go first.
const REMEMBERED: usize = 10_000;

/// UIDAI's code for a wrong OTP.
pub(crate) const WRONG_OTP: &str = "400";

/// UIDAI's code when no OTP is left to match: guessed too often, or there is none.
const NO_OTP: &str = "403";

/// The agency at its desk.
#[derive(Debug)]
pub(crate) struct Agency {
    register: Register,
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    cases: HashMap<TransactionId, Case>,
    /// The oldest at the front.
    order: VecDeque<TransactionId>,
}

/// One e-KYC transaction.
#[derive(Debug)]
struct Case {
    number: String,
    person: Person,
    mobile: MobileNumber,
    otp: String,
    otp_end: Micros,
    /// Until when the OTP of each send was good.
    sends: BTreeMap<i32, Micros>,
    /// Whether each attempt matched.
    attempts: BTreeMap<i32, bool>,
}

/// An OTP that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Started {
    /// The agency's own name of the transaction.
    pub(crate) number: String,
    /// Where the OTP went.
    pub(crate) mobile: MobileNumber,
    /// Until when it is good.
    pub(crate) expire_time: Micros,
    /// What must be sent now; `None` for a repeat.
    pub(crate) sent: Option<Sent>,
}

/// An OTP on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) otp: String,
    /// The end of the Aadhaar number, by which she knows what it is for.
    pub(crate) last4: String,
}

/// What the agency says of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It is she, and this is her mobile.
    Matched(Box<Person>),
    /// The OTP is wrong.
    Rejected,
}

impl Agency {
    /// The agency that knows the people of `register`.
    pub(crate) fn new(register: Register) -> Self {
        Self {
            register,
            desk: Mutex::default(),
        }
    }

    /// Everybody it knows.
    pub(crate) fn people(&self) -> &[Person] {
        self.register.people()
    }

    /// Makes the OTP number `send` of `transaction`; `seed` is where chance comes from. Only the first send names whom.
    ///
    /// # Errors
    /// KYC_IDENTIFIER_UNKNOWN, KYC_FACTOR_UNAVAILABLE, KYC_REJECTED.
    pub(crate) fn start(
        &self,
        transaction: TransactionId,
        send: i32,
        whom: Option<&AadhaarNumber>,
        now: Micros,
        seed: &Seed,
    ) -> Result<Started, Refusal> {
        let mut desk = self.lock();
        if !desk.cases.contains_key(&transaction) {
            let case = self.open(whom, seed)?;
            desk.keep(transaction, case);
        }
        let case = desk.cases.get_mut(&transaction).ok_or_else(no_otp)?;
        if whom.is_some_and(|whom| *whom != case.person.aadhaar) {
            return Err(Refusal::field(
                "aadhaar",
                "the number that this transaction was started with",
            ));
        }
        case.send(send, now, seed)
    }

    /// Judges the answer number `attempt`. A repeat of an attempt gets its old verdict, whatever it brings.
    ///
    /// # Errors
    /// KYC_EXPIRED, KYC_REJECTED.
    pub(crate) fn complete(
        &self,
        transaction: TransactionId,
        number: &str,
        attempt: i32,
        otp: &str,
        now: Micros,
    ) -> Result<Verdict, Refusal> {
        let mut desk = self.lock();
        let case = desk.cases.get_mut(&transaction).filter(|case| case.number == number);
        let case = case.ok_or_else(|| {
            Refusal::new(Reason::KycExpired).saying(
                "the synthetic UIDAI does not know this transaction; it forgets them when it restarts, begin a new one",
            )
        })?;
        case.guess(attempt, otp, now)
    }

    /// A case about the person whose number this is.
    fn open(&self, whom: Option<&AadhaarNumber>, seed: &Seed) -> Result<Case, Refusal> {
        let person = self.register.find(whom.ok_or_else(no_otp)?).ok_or_else(|| {
            Refusal::new(Reason::KycIdentifierUnknown)
                .saying("the synthetic UIDAI knows only invented people; SandboxService.ListPeople lists their numbers")
        })?;
        let mobile = person.mobile.clone().ok_or_else(|| {
            Refusal::new(Reason::KycFactorUnavailable).saying("no mobile is registered with this Aadhaar number")
        })?;
        Ok(Case {
            number: URL_SAFE_NO_PAD.encode(seed.bytes("transaction number")),
            person: person.clone(),
            mobile,
            otp: String::new(),
            otp_end: Micros::ZERO,
            sends: BTreeMap::new(),
            attempts: BTreeMap::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    fn keep(&mut self, transaction: TransactionId, case: Case) {
        self.cases.insert(transaction, case);
        self.order.push_back(transaction);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.cases.remove(&oldest);
        }
    }
}

impl Case {
    fn send(&mut self, send: i32, now: Micros, seed: &Seed) -> Result<Started, Refusal> {
        if let Some(expire_time) = self.sends.get(&send).copied() {
            return Ok(self.started(expire_time, None));
        }
        let behind = self.sends.last_key_value().is_some_and(|(last, _)| send < *last);
        if behind || self.is_over() || self.sends.len() >= SENDS {
            return Err(no_otp());
        }
        self.otp = format!("{:06}", seed.below("otp", 1_000_000));
        self.otp_end = now.plus(OTP_LIFE);
        self.sends.insert(send, self.otp_end);
        let number = self.person.aadhaar.expose();
        let sent = Sent {
            otp: self.otp.clone(),
            last4: number.get(8..).unwrap_or_default().to_owned(),
        };
        Ok(self.started(self.otp_end, Some(sent)))
    }

    fn started(&self, expire_time: Micros, sent: Option<Sent>) -> Started {
        Started {
            number: self.number.clone(),
            mobile: self.mobile.clone(),
            expire_time,
            sent,
        }
    }

    fn guess(&mut self, attempt: i32, otp: &str, now: Micros) -> Result<Verdict, Refusal> {
        let matched = match self.attempts.get(&attempt) {
            Some(matched) => *matched,
            None => self.judge(attempt, otp, now)?,
        };
        Ok(if matched {
            Verdict::Matched(Box::new(self.person.clone()))
        } else {
            Verdict::Rejected
        })
    }

    fn judge(&mut self, attempt: i32, otp: &str, now: Micros) -> Result<bool, Refusal> {
        if self.is_over() {
            return Err(no_otp());
        }
        if now >= self.otp_end {
            return Err(Refusal::new(Reason::KycExpired)
                .saying("the OTP of the synthetic UIDAI has expired; ask for a new one"));
        }
        let matched = self.otp == otp;
        self.attempts.insert(attempt, matched);
        Ok(matched)
    }

    /// An OTP is good once, and wrong guesses are few.
    fn is_over(&self) -> bool {
        let matched = self.attempts.values().filter(|matched| **matched).count();
        matched > 0 || self.attempts.len() - matched >= WRONG_GUESSES
    }
}

/// The agency's end of a transaction.
fn no_otp() -> Refusal {
    Refusal::new(Reason::KycRejected)
        .saying("the synthetic UIDAI has ended this transaction or does not know it; begin a new one")
        .with(Fact::ProviderCode, NO_OTP)
}

#[cfg(test)]
mod tests {
    use sammati_kernel::Slot;

    use super::*;
    use crate::people::DEFAULT_COUNT;

    const NOW: Micros = Micros::from_seconds(1_800_000_000);

    fn agency() -> Agency {
        Agency::new(Register::from_seed(1, DEFAULT_COUNT))
    }

    fn transaction(n: u8) -> TransactionId {
        TransactionId::new(NOW, Slot::new(1), [n; 8])
    }

    fn start(agency: &Agency, send: i32, whom: Option<&AadhaarNumber>) -> Result<Started, Refusal> {
        agency.start(transaction(1), send, whom, NOW, &Seed::draw().unwrap())
    }

    /// An agency that has sent an OTP to its first person.
    fn started() -> (Agency, Started, String) {
        let agency = agency();
        let started = start(&agency, 1, Some(&agency.people()[0].aadhaar)).unwrap();
        let otp = started.sent.clone().unwrap().otp;
        (agency, started, otp)
    }

    fn wrong(otp: &str) -> &'static str {
        if otp == "000000" { "000001" } else { "000000" }
    }

    #[test]
    fn a_repeated_start_sends_nothing_and_answers_alike() {
        let (agency, first, otp) = started();
        assert_eq!(otp.len(), 6);
        let person = agency.people()[0].clone();
        let again = start(&agency, 1, Some(&person.aadhaar)).unwrap();
        assert_eq!(
            again,
            Started {
                sent: None,
                ..first.clone()
            }
        );
        assert_eq!(Some(first.mobile), person.mobile);
        let other = start(&agency, 1, Some(&agency.people()[1].aadhaar));
        assert_eq!(other.unwrap_err().reason, Reason::FieldInvalid);
    }

    #[test]
    fn a_new_otp_voids_the_old() {
        let (agency, first, old) = started();
        let second = start(&agency, 2, None).unwrap();
        assert_eq!(second.number, first.number);
        let new = second.sent.unwrap().otp;
        if new != old {
            let verdict = agency.complete(transaction(1), &first.number, 1, &old, NOW);
            assert_eq!(verdict, Ok(Verdict::Rejected));
        }
        let verdict = agency.complete(transaction(1), &first.number, 2, &new, NOW);
        assert!(matches!(verdict, Ok(Verdict::Matched(_))));
    }

    #[test]
    fn an_otp_is_good_once_but_its_attempt_answers_for_ever() {
        let (agency, started, otp) = started();
        let complete = |attempt, otp: &str, now| agency.complete(transaction(1), &started.number, attempt, otp, now);
        let matched = complete(1, &otp, NOW).unwrap();
        assert_eq!(matched, Verdict::Matched(Box::new(agency.people()[0].clone())));
        assert_eq!(complete(1, wrong(&otp), NOW.plus(OTP_LIFE)).unwrap(), matched);
        let refused = complete(2, &otp, NOW).unwrap_err();
        assert_eq!(refused.reason, Reason::KycRejected);
        assert_eq!(refused.metadata, [("provider_code", "403".to_owned())]);
        assert_eq!(start(&agency, 2, None).unwrap_err().reason, Reason::KycRejected);
    }

    #[test]
    fn five_wrong_guesses_end_it() {
        let (agency, started, otp) = started();
        let complete = |attempt, otp: &str| agency.complete(transaction(1), &started.number, attempt, otp, NOW);
        for attempt in 1..=5 {
            assert_eq!(complete(attempt, wrong(&otp)), Ok(Verdict::Rejected));
            assert_eq!(
                complete(attempt, &otp),
                Ok(Verdict::Rejected),
                "a repeat is no second guess"
            );
        }
        assert_eq!(complete(6, &otp).unwrap_err().reason, Reason::KycRejected);
    }

    #[test]
    fn an_otp_ends_with_its_time() {
        let (agency, started, otp) = started();
        let complete = |now| agency.complete(transaction(1), &started.number, 1, &otp, now);
        assert_eq!(started.expire_time, NOW.plus(OTP_LIFE));
        assert_eq!(complete(started.expire_time).unwrap_err().reason, Reason::KycExpired);
        assert!(complete(Micros(started.expire_time.0 - 1)).is_ok());
    }

    #[test]
    fn strangers_and_people_without_a_mobile_are_refused() {
        let agency = agency();
        let stranger = AadhaarNumber::parse("234567890124").unwrap();
        assert_eq!(
            start(&agency, 1, Some(&stranger)).unwrap_err().reason,
            Reason::KycIdentifierUnknown
        );
        let without = agency.people().iter().find(|p| p.mobile.is_none()).unwrap();
        let refused = start(&agency, 1, Some(&without.aadhaar)).unwrap_err();
        assert_eq!(refused.reason, Reason::KycFactorUnavailable);
        assert_eq!(start(&agency, 2, None).unwrap_err().reason, Reason::KycRejected);
        let unknown = agency.complete(transaction(9), "x", 1, "123456", NOW);
        assert_eq!(unknown.unwrap_err().reason, Reason::KycExpired);
    }

    #[test]
    fn sends_are_few_and_only_forward() {
        let (agency, ..) = started();
        assert!(start(&agency, 3, None).is_ok());
        assert_eq!(start(&agency, 2, None).unwrap_err().reason, Reason::KycRejected);
        for send in 4..12 {
            start(&agency, send, None).unwrap();
        }
        assert_eq!(start(&agency, 12, None).unwrap_err().reason, Reason::KycRejected);
    }
}
