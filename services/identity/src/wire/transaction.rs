//! Transactions on the wire.

use sammati_api::identity::v1::create_transaction_request::Subject as ApiSubject;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::identity::v1::verify_transaction_request::Proof as ApiProof;
use sammati_api::identity::v1::{
    Candidate, CreateTransactionRequest, Factor, KycState, Transaction, VerifyTransactionRequest,
};
use sammati_kernel::{AadhaarNumber, AbhaNumber, Caller, Micros, MobileNumber, Reason, Refusal, Violations};
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
            "required: PURPOSE_ENROL, PURPOSE_LOGIN or PURPOSE_SET_CREDENTIAL",
        );
    }
    let factor = Factor::try_from(request.factor).unwrap_or_default();
    if factor == Factor::Unspecified {
        v.add(
            "factor",
            "required: FACTOR_AADHAAR_OTP, FACTOR_MOBILE_OTP or FACTOR_PASSWORD",
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
        | (Purpose::Login, _)
        | (Purpose::SetCredential, Factor::MobileOtp | Factor::Password) => return Ok(()),
        (Purpose::Enrol, _) => "enrolment is by FACTOR_AADHAAR_OTP",
        _ => "a password is changed on the strength of FACTOR_MOBILE_OTP or FACTOR_PASSWORD",
    };
    Err(Refusal::new(Reason::FactorNotAllowed).saying(why))
}

fn subject(v: &mut Violations, given: Option<&ApiSubject>, purpose: Purpose, factor: Factor) -> Option<Subject> {
    if purpose == Purpose::SetCredential {
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
        // With which factor it goes is not known, but a number that is none goes with no factor.
        (Factor::Unspecified, Some(ApiSubject::Aadhaar(text))) => {
            v.keep("aadhaar", AadhaarNumber::parse(text)).map(Subject::Aadhaar)
        }
        (Factor::Unspecified, _) => None,
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
        None => Err(Refusal::field("proof", "required: otp or password")),
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
