//! Transactions on the wire.

use sammati_api::identity::v1::create_transaction_request::Subject as ApiSubject;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::identity::v1::verify_transaction_request::Proof as ApiProof;
use sammati_api::identity::v1::{
    BoundAction, Candidate, CreateTransactionRequest, Factor, KycState, Transaction, VerifyTransactionRequest,
};
use sammati_kernel::{AadhaarNumber, AbhaNumber, Caller, Micros, MobileNumber, Reason, Refusal, Violations};
use sammati_server::action;
use sammati_server::event::timestamp;

use super::request::{self, Named};
use crate::password;
use crate::rows::{AccountRow, Profile, Target, TransactionRow, etag};
use crate::transaction::{Proof, SENDS, sends_otp};

/// Who is to be proved.
#[derive(Debug)]
pub(crate) enum Subject {
    Aadhaar(AadhaarNumber),
    Mobile(MobileNumber),
    Named(Named),
    /// The caller herself.
    Caller,
}

/// A CreateTransaction that is well-formed.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) purpose: Purpose,
    pub(crate) factor: Factor,
    pub(crate) subject: Subject,
}

/// Reads it, with every violation.
pub(crate) fn beginning(request: &CreateTransactionRequest) -> Result<Beginning, Refusal> {
    let mut v = Violations::new();
    let purpose = Purpose::try_from(request.purpose).unwrap_or_default();
    if purpose == Purpose::Unspecified {
        v.add(
            "purpose",
            "required: PURPOSE_ENROL, PURPOSE_LOGIN, PURPOSE_SET_CREDENTIAL or PURPOSE_STEP_UP",
        );
    }
    let factor = Factor::try_from(request.factor).unwrap_or_default();
    if factor == Factor::Unspecified {
        v.add(
            "factor",
            "required: FACTOR_AADHAAR_OTP, FACTOR_MOBILE_OTP, FACTOR_PASSWORD or FACTOR_PIN",
        );
    }
    match &request.consent {
        Some(stamp) => request::consent(&mut v, stamp, purpose == Purpose::Enrol),
        None if factor == Factor::AadhaarOtp => v.add(
            "consent",
            "required: the consent text that she accepted before Aadhaar is used",
        ),
        None => {}
    }
    bound_to(&mut v, purpose, request.bound_to.as_ref());
    let subject = subject(&mut v, request.subject.as_ref(), purpose, factor);
    v.check()?;
    allowed(purpose, factor)?;
    Ok(Beginning {
        purpose,
        factor,
        subject: request::present(subject)?,
    })
}

fn allowed(purpose: Purpose, factor: Factor) -> Result<(), Refusal> {
    let why = match (purpose, factor) {
        (Purpose::Enrol, Factor::AadhaarOtp)
        | (Purpose::Login, Factor::AadhaarOtp | Factor::MobileOtp | Factor::Password)
        | (Purpose::SetCredential, Factor::MobileOtp | Factor::Password)
        | (Purpose::StepUp, Factor::Pin) => return Ok(()),
        (Purpose::Enrol, _) => "enrolment is by FACTOR_AADHAAR_OTP",
        (Purpose::Login, _) => "a PIN is proved beside a login, not in its place",
        (Purpose::StepUp, _) => "a step-up is by FACTOR_PIN",
        _ => "a password is changed on the strength of FACTOR_MOBILE_OTP or FACTOR_PASSWORD",
    };
    Err(Refusal::new(Reason::FactorNotAllowed).saying(why))
}

fn subject(v: &mut Violations, given: Option<&ApiSubject>, purpose: Purpose, factor: Factor) -> Option<Subject> {
    if matches!(purpose, Purpose::SetCredential | Purpose::StepUp) {
        if given.is_some() {
            v.add("subject", "must be absent: the account is the caller's");
        }
        return Some(Subject::Caller);
    }
    match (factor, given) {
        (Factor::AadhaarOtp, Some(ApiSubject::Aadhaar(text))) => {
            v.keep("aadhaar", AadhaarNumber::parse(text)).map(Subject::Aadhaar)
        }
        (Factor::AadhaarOtp, _) => {
            v.add("aadhaar", "required with FACTOR_AADHAAR_OTP");
            None
        }
        (Factor::MobileOtp, Some(ApiSubject::Mobile(text))) => {
            v.keep("mobile", MobileNumber::parse(text)).map(Subject::Mobile)
        }
        (Factor::MobileOtp | Factor::Password, Some(ApiSubject::Identifier(identifier))) => {
            request::identifier(v, Some(identifier)).map(Subject::Named)
        }
        (Factor::MobileOtp, _) => {
            v.add("mobile", "mobile or identifier is required with FACTOR_MOBILE_OTP");
            None
        }
        (Factor::Password, _) => {
            v.add("identifier", "required with FACTOR_PASSWORD");
            None
        }
        // That it goes with no such purpose is said later.
        (Factor::Pin, _) => Some(Subject::Caller),
        // With which factor it goes is not known, but a number that is none goes with no factor.
        (Factor::Unspecified, Some(ApiSubject::Aadhaar(text))) => {
            v.keep("aadhaar", AadhaarNumber::parse(text)).map(Subject::Aadhaar)
        }
        (Factor::Unspecified, _) => None,
    }
}

/// What a step-up is for, and nothing else may have.
fn bound_to(v: &mut Violations, purpose: Purpose, given: Option<&BoundAction>) {
    if (purpose == Purpose::StepUp) != given.is_some() {
        let why = "the call that a step-up is for: required with PURPOSE_STEP_UP, and must be absent with every other";
        v.add("bound_to", why);
    }
    let Some(given) = given else { return };
    let length = 1..=128;
    if !length.contains(&given.method.len()) || action::service_of(&given.method).is_none() {
        let why = "a method's full name, as sammati.consent.v1.ConsentService/RevokeConsents";
        v.add("bound_to.method", why);
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let named = given.resource.split_once('/').is_some_and(|(collection, id)| {
        let letters = !collection.is_empty() && collection.bytes().all(|b| b.is_ascii_alphabetic());
        letters && !id.is_empty() && id.bytes().all(plain)
    });
    if !named || !length.contains(&given.resource.len()) || AadhaarNumber::found_in(&given.resource) {
        let why = "the resource's name, as consents/{id}: at most 128 characters";
        v.add("bound_to.resource", why);
    }
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if given.body_sha256.len() != 64 || !given.body_sha256.bytes().all(hex) {
        v.add("bound_to.body_sha256", "64 lower-case hexadecimal digits");
    }
}

/// Reads what the person shows.
pub(crate) fn proof(request: &VerifyTransactionRequest) -> Result<Proof, Refusal> {
    match &request.proof {
        Some(ApiProof::Otp(otp)) if otp.len() == 6 && otp.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(Proof::Otp(otp.clone().into()))
        }
        Some(ApiProof::Otp(_)) => Err(Refusal::field("otp", "must be 6 digits")),
        Some(ApiProof::Password(text))
            if (1..=password::MAX_CHARACTERS).contains(&text.chars().count()) && !text.contains(char::is_control) =>
        {
            Ok(Proof::Password(text.clone().into()))
        }
        Some(ApiProof::Password(_)) => Err(Refusal::field("password", "must be 8 to 128 characters")),
        Some(ApiProof::Pin(pin)) if pin.len() == 4 && pin.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(Proof::Pin(pin.clone().into()))
        }
        Some(ApiProof::Pin(_)) => Err(Refusal::field("pin", "must be 4 digits")),
        None => Err(Refusal::field("proof", "required: otp, password or pin")),
    }
}

/// A transaction as its creator sees it. Until it is VERIFIED nothing tells whether anybody was found.
pub(crate) fn transaction(
    row: &TransactionRow,
    target: &Target,
    candidates: Vec<Candidate>,
    caller: &Caller,
    now: Micros,
) -> Transaction {
    let state = row.state_at(now);
    let proved = matches!(state, State::Verified | State::Consumed);
    let own = caller.account().is_some();
    let otp = sends_otp(row.factor());
    Transaction {
        name: row.name(),
        purpose: row.purpose,
        factor: row.factor,
        state: state.into(),
        account: row
            .account()
            .filter(|_| proved || own)
            .map(|a| a.name())
            .unwrap_or_default(),
        masked_target: target.masked.clone(),
        resend_time: otp.then(|| timestamp(row.resend_time())),
        resends_left: if otp { (SENDS - row.sends).max(0) } else { 0 },
        attempts_left: i32::try_from(row.attempts_left()).unwrap_or(0),
        expire_time: Some(timestamp(row.end())),
        candidates,
        app: row.app.clone(),
        create_time: Some(timestamp(Micros(row.create_time))),
        update_time: Some(timestamp(Micros(row.update_time))),
        etag: etag(row.version),
        bound_to: row.bound_to.clone(),
    }
}

/// One account that a LOGIN reaches, `index` from 1.
pub(crate) fn candidate(
    index: usize,
    account: &AccountRow,
    number: Option<AbhaNumber>,
    profile: &Profile,
) -> Candidate {
    let names = profile.names.clone().unwrap_or_default();
    let words = [names.first, names.middle, names.last];
    Candidate {
        index: i32::try_from(index).unwrap_or(0),
        masked_number: number.map(AbhaNumber::masked).unwrap_or_default().to_lowercase(),
        name: words
            .iter()
            .map(|w| w.trim())
            .filter(|w| !w.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
        state: account.state,
        kyc_state: KycState::Verified.into(),
    }
}
