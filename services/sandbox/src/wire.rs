//! How is it spelled? The messages of the contracts, read with every violation named, and rendered.

use std::collections::HashMap;

use sammati_api::identity::v1 as identity;
use sammati_api::provider::v1 as provider;
use sammati_api::provider::v1::complete_kyc_request::Proof;
use sammati_api::provider::v1::complete_kyc_response as response;
use sammati_api::provider::v1::start_kyc_request::Identifier;
use sammati_api::sandbox::v1 as api;
use sammati_api::types::v1::ConsentStamp;
use sammati_kernel::{AadhaarNumber, Micros, MobileNumber, Reason, Refusal, Secret, TransactionId, Violations};
use sammati_server::event::{micros, timestamp};

use crate::agency::{Sent, Started, Verdict, WRONG_OTP};
use crate::people::{BirthDate, Person, PersonName, Place, PostalAddress};
use crate::template;

/// What StartKyc asks.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) transaction: TransactionId,
    pub(crate) send: i32,
    pub(crate) whom: Option<AadhaarNumber>,
    /// The language that the person reads.
    language: &'static str,
}

impl Ask {
    /// # Errors
    /// FIELD_INVALID with everything that is wrong.
    pub(crate) fn read(request: &provider::StartKycRequest) -> Result<Self, Refusal> {
        let mut wrong = Violations::new();
        let transaction = transaction(&request.transaction, &mut wrong);
        if request.send_number < 1 {
            wrong.add(
                "send_number",
                "1 for the first OTP of the transaction, one more for each resend",
            );
        }
        let whom = match (&request.identifier, request.send_number) {
            (Some(Identifier::Aadhaar(digits)), ..=1) => wrong.keep("aadhaar", AadhaarNumber::parse(digits)),
            (None, ..=1) => {
                wrong.add("aadhaar", "required with send_number 1");
                None
            }
            (Some(_), _) => {
                wrong.add("aadhaar", "only with send_number 1");
                None
            }
            (None, _) => None,
        };
        if request.factor() != identity::Factor::AadhaarOtp {
            wrong.add("factor", "FACTOR_AADHAAR_OTP: this agency proves nothing else");
        }
        let language = stamp(request.consent.as_ref(), &mut wrong);
        wrong.check()?;
        Ok(Self {
            transaction: transaction.ok_or(Reason::FieldInvalid)?,
            send: request.send_number,
            whom,
            language,
        })
    }
}

/// The answer that CompleteKyc brings.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) transaction: TransactionId,
    pub(crate) number: String,
    pub(crate) attempt: i32,
    pub(crate) otp: Secret<String>,
}

impl Answer {
    /// # Errors
    /// FIELD_INVALID with everything that is wrong.
    pub(crate) fn read(request: provider::CompleteKycRequest) -> Result<Self, Refusal> {
        let mut wrong = Violations::new();
        let transaction = transaction(&request.transaction, &mut wrong);
        text("provider_transaction", &request.provider_transaction, 255, &mut wrong);
        if request.attempt < 1 {
            wrong.add(
                "attempt",
                "1 for the first attempt of the transaction, one more for each further one",
            );
        }
        let otp = match request.proof {
            Some(Proof::Otp(otp)) => Secret::new(otp),
            None => Secret::default(),
        };
        let digits = otp.expose();
        if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            wrong.add("otp", "required: 6 digits");
        }
        wrong.check()?;
        Ok(Self {
            transaction: transaction.ok_or(Reason::FieldInvalid)?,
            number: request.provider_transaction,
            attempt: request.attempt,
            otp,
        })
    }
}

/// What SendMessage sends, as it lies in the inbox.
///
/// # Errors
/// FIELD_INVALID with everything that is wrong; CHANNEL_DISABLED; RECIPIENT_INVALID.
pub(crate) fn message(request: provider::SendMessageRequest, now: Micros) -> Result<api::Message, Refusal> {
    let channel = request.channel();
    let mut wrong = Violations::new();
    if uuid::Uuid::try_parse(&request.message_id).is_err() {
        wrong.add("message_id", "required: a UUID, one for each message");
    }
    if channel == provider::Channel::Unspecified {
        wrong.add("channel", "required: CHANNEL_SMS");
    }
    text("recipient", &request.recipient, 255, &mut wrong);
    text("template", &request.template, 64, &mut wrong);
    text("language", &request.language, 35, &mut wrong);
    if request.template_version < 1 {
        wrong.add("template_version", "1 and up");
    }
    let short = |(name, value): (&String, &String)| is_text(name, 64) && value.len() <= 256 && is_clean(value);
    if request.parameters.len() > 16 || !request.parameters.iter().all(short) {
        wrong.add(
            "parameters",
            "at most 16, names of at most 64 and values of at most 256 characters",
        );
    }
    wrong.check()?;
    if channel != provider::Channel::Sms {
        return Err(Refusal::new(Reason::ChannelDisabled).saying("the sandbox carries text messages only: CHANNEL_SMS"));
    }
    MobileNumber::parse(&request.recipient).map_err(|why| Refusal {
        reason: Reason::RecipientInvalid,
        ..Refusal::field("recipient", why)
    })?;
    let language = template::language(&request.language);
    Ok(api::Message {
        text: template::text(&request.template, language, &request.parameters),
        message_id: request.message_id.to_ascii_lowercase(),
        channel: channel.into(),
        recipient: request.recipient,
        template: request.template,
        language: language.to_owned(),
        parameters: request.parameters,
        accept_time: Some(timestamp(now)),
    })
}

/// The text message in which the synthetic UIDAI sends an OTP.
pub(crate) fn otp_message(ask: &Ask, mobile: &MobileNumber, sent: &Sent, now: Micros) -> api::Message {
    let parameters = HashMap::from([
        ("otp".to_owned(), sent.otp.clone()),
        ("last4".to_owned(), sent.last4.clone()),
    ]);
    api::Message {
        message_id: format!("uidai/{}/{}", ask.transaction, ask.send),
        channel: provider::Channel::Sms.into(),
        recipient: mobile.expose().to_owned(),
        template: template::UIDAI_OTP.to_owned(),
        language: ask.language.to_owned(),
        text: template::text(template::UIDAI_OTP, ask.language, &parameters),
        parameters,
        accept_time: Some(timestamp(now)),
    }
}

/// The answer of StartKyc.
pub(crate) fn started(started: &Started) -> provider::StartKycResponse {
    provider::StartKycResponse {
        provider_transaction: started.number.clone(),
        masked_target: sammati_kernel::masked_mobile(&started.mobile),
        expire_time: Some(timestamp(started.expire_time)),
    }
}

/// The answer of CompleteKyc. The synthetic people have no photo.
pub(crate) fn verdict(verdict: Verdict) -> provider::CompleteKycResponse {
    match verdict {
        Verdict::Rejected => provider::CompleteKycResponse {
            verdict: response::Verdict::Rejected.into(),
            provider_code: WRONG_OTP.to_owned(),
            ..Default::default()
        },
        Verdict::Matched(person) => provider::CompleteKycResponse {
            verdict: response::Verdict::Matched.into(),
            names: Some(names(&person.names)),
            birth: Some(birth(person.birth)),
            gender: person.gender.number(),
            mobile: mobile(&person),
            postal: Some(postal(&person.postal)),
            reference: person.uid_token,
            ..Default::default()
        },
    }
}

/// A person, as ListPeople shows her.
pub(crate) fn person(person: &Person) -> api::Person {
    api::Person {
        aadhaar: person.aadhaar.expose().to_owned(),
        names: Some(names(&person.names)),
        local_name: person.local_name.clone(),
        language: person.language.to_owned(),
        birth: Some(birth(person.birth)),
        gender: person.gender.number(),
        mobile: mobile(person),
        postal: Some(postal(&person.postal)),
        household: person.household.clone(),
        parents: person.parents.iter().map(|parent| parent.expose().to_owned()).collect(),
    }
}

/// # Errors
/// FIELD_INVALID when no recipient could be called so.
pub(crate) fn recipient_filter(recipient: &str) -> Result<(), Refusal> {
    if recipient.is_empty() || is_text(recipient, 320) {
        return Ok(());
    }
    Err(Refusal::field("recipient", "a mobile of 10 digits, or nothing for all"))
}

fn transaction(name: &str, wrong: &mut Violations) -> Option<TransactionId> {
    let id = TransactionId::parse_name(name).ok_or("required: transactions/{id}, the id a UUIDv7 in lower case");
    wrong.keep("transaction", id)
}

/// Checks that consent came first, and gives the language that it was shown in.
fn stamp(consent: Option<&ConsentStamp>, wrong: &mut Violations) -> &'static str {
    let Some(consent) = consent else {
        wrong.add("consent", "required: the consent that she gave before this call");
        return template::language("");
    };
    text("consent.code", &consent.code, 64, wrong);
    text("consent.version", &consent.version, 16, wrong);
    text("consent.language", &consent.language, 35, wrong);
    if !is_notice(&consent.notice) {
        wrong.add("consent.notice", "notices/{id}, or empty");
    }
    if consent.accepted_time.as_ref().and_then(micros).is_none() {
        wrong.add(
            "consent.accepted_time",
            "required: when she accepted, in the years 1 to 9999",
        );
    }
    template::language(&consent.language)
}

fn is_notice(name: &str) -> bool {
    let plain = |id: &str| is_text(id, 64) && !id.contains(['/', '.']);
    name.is_empty() || name.strip_prefix("notices/").is_some_and(plain)
}

fn text(field: &'static str, value: &str, most: usize, wrong: &mut Violations) {
    if !is_text(value, most) {
        wrong.add(
            field,
            format!("required: 1 to {most} characters, none of them a control character"),
        );
    }
}

fn is_text(value: &str, most: usize) -> bool {
    !value.is_empty() && value.len() <= most && is_clean(value)
}

fn is_clean(value: &str) -> bool {
    !value.chars().any(char::is_control)
}

fn mobile(person: &Person) -> String {
    person
        .mobile
        .as_ref()
        .map(|mobile| mobile.expose().to_owned())
        .unwrap_or_default()
}

fn names(names: &PersonName) -> identity::PersonName {
    identity::PersonName {
        first: names.first.clone(),
        middle: names.middle.clone(),
        last: names.last.clone(),
    }
}

const fn birth(birth: BirthDate) -> identity::BirthDate {
    identity::BirthDate {
        year: birth.year,
        month: birth.month,
        day: birth.day,
    }
}

fn postal(postal: &PostalAddress) -> identity::PostalAddress {
    identity::PostalAddress {
        line: postal.line.clone(),
        town: postal.town.to_owned(),
        district: Some(place(postal.district)),
        state: Some(place(postal.state)),
        pincode: postal.pincode.to_owned(),
        ..Default::default()
    }
}

fn place(place: Place) -> identity::Place {
    identity::Place {
        code: place.code.to_owned(),
        name: place.name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(refusal: &Refusal) -> Vec<&str> {
        refusal
            .violations
            .iter()
            .map(|violation| violation.field.as_ref())
            .collect()
    }

    fn sms() -> provider::SendMessageRequest {
        provider::SendMessageRequest {
            message_id: "0192F0C1-7b1a-7000-8000-000000000001".into(),
            channel: provider::Channel::Sms.into(),
            recipient: "9000012345".into(),
            template: "otp-login".into(),
            template_version: 1,
            language: "hi-IN".into(),
            parameters: HashMap::from([("otp".to_owned(), "123456".to_owned())]),
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let refusal = Ask::read(&provider::StartKycRequest::default()).unwrap_err();
        assert_eq!(
            fields(&refusal),
            ["transaction", "send_number", "aadhaar", "factor", "consent"]
        );
        let late = provider::StartKycRequest {
            send_number: 2,
            identifier: Some(Identifier::Aadhaar("1".into())),
            consent: Some(ConsentStamp::default()),
            ..Default::default()
        };
        let refusal = Ask::read(&late).unwrap_err();
        assert!(fields(&refusal).contains(&"aadhaar") && fields(&refusal).contains(&"consent.accepted_time"));
        let refusal = Answer::read(provider::CompleteKycRequest::default()).unwrap_err();
        assert_eq!(
            fields(&refusal),
            ["transaction", "provider_transaction", "attempt", "otp"]
        );
        let refusal = message(provider::SendMessageRequest::default(), Micros::ZERO).unwrap_err();
        let all = [
            "message_id",
            "channel",
            "recipient",
            "template",
            "language",
            "template_version",
        ];
        assert_eq!(fields(&refusal), all);
    }

    #[test]
    fn a_text_message_is_written_in_its_language() {
        let taken = message(sms(), Micros::ZERO).unwrap();
        assert_eq!(
            (taken.language.as_str(), taken.recipient.as_str()),
            ("hi", "9000012345")
        );
        assert!(taken.text.contains("123456") && taken.text.contains("ओटीपी"));
        assert_eq!(taken.message_id, "0192f0c1-7b1a-7000-8000-000000000001");
    }

    #[test]
    fn other_ways_and_other_recipients_are_refused() {
        let push = provider::SendMessageRequest {
            channel: provider::Channel::Push.into(),
            ..sms()
        };
        assert_eq!(message(push, Micros::ZERO).unwrap_err().reason, Reason::ChannelDisabled);
        let abroad = provider::SendMessageRequest {
            recipient: "+4915112345678".into(),
            ..sms()
        };
        assert_eq!(
            message(abroad, Micros::ZERO).unwrap_err().reason,
            Reason::RecipientInvalid
        );
        assert!(recipient_filter("a\0b").is_err() && recipient_filter("").is_ok());
    }
}
