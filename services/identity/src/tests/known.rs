//! Nobody learns by asking who is known, what belongs to whom, or what she knows.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::types::v1::{Identifier, identifier};
use sammati_kernel::{AbhaNumber, Caller, MobileNumber, Reason, Seed, TransactionId};
use tokio::time::Instant;

use super::fixture::{Fixture, Inbox, app, fixtures, mobile, person, reason};
use crate::providers::{Courier, Otp};

fn numbered(number: &str) -> Option<Subject> {
    Some(Subject::Identifier(Identifier {
        identifier: Some(identifier::Identifier::AbhaNumber(number.into())),
    }))
}

fn addressed(address: &str) -> Option<Subject> {
    Some(Subject::Identifier(Identifier {
        identifier: Some(identifier::Identifier::AbhaAddress(address.into())),
    }))
}

/// What a caller sees of five transactions about one person, spelled in two ways: their slots and masked targets.
async fn seen(fixture: &Fixture, number: &str) -> (Vec<u16>, Vec<String>) {
    let default = format!("{}@sbx", number.replace('-', ""));
    let (mut slots, mut targets) = (Vec::new(), Vec::new());
    for (factor, subject) in [
        (Factor::Password, numbered(number)),
        (Factor::Password, addressed(&default)),
        (Factor::Password, addressed(&default.to_uppercase())),
        (Factor::MobileOtp, numbered(number)),
        (Factor::MobileOtp, addressed(&default)),
    ] {
        let begun = fixture.begin(&app(), Purpose::Login, factor, subject).await.unwrap();
        slots.push(TransactionId::parse_name(&begun.name).unwrap().slot().number());
        targets.push(begun.masked_target);
    }
    (slots, targets)
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_spellings_do_not_tell_who_is_known() {
    for fixture in fixtures().await {
        let known = fixture.enrol(1).await.account.unwrap().abha_number;
        let unknown = AbhaNumber::issue(&Seed::draw().unwrap(), 0).to_string();
        for number in [known, unknown] {
            let (slots, targets) = seen(&fixture, &number).await;
            let distinct: std::collections::BTreeSet<_> = slots.iter().collect();
            // Two of five may be equal by chance, once in some hundred runs; three are not.
            assert!(distinct.len() >= 4, "{number}: {slots:?}");
            assert_eq!(targets[..3], ["", "", ""]);
            assert!(targets[3].len() == 10 && targets[3] == targets[4], "{targets:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_found_by_its_shown_name_alone() {
    for fixture in fixtures().await {
        let begun = fixture.logging_in(1).await;
        let inside = fixture
            .inner
            .lookup
            .veiled(TransactionId::parse_name(&begun.name).unwrap())
            .name();
        if inside != begun.name {
            assert_eq!(
                reason(fixture.verify_otp(&app(), &inside, "123456").await),
                Reason::NotAvailable
            );
        }
        assert_eq!(
            reason(fixture.verify_otp(&app(), &begun.name, "123456").await),
            Reason::OtpMismatch
        );
    }
}

async fn proof(fixture: &Fixture, her: &Caller, otp: bool) -> String {
    let begun = fixture
        .begin(her, Purpose::SetCredential, Factor::MobileOtp, None)
        .await
        .unwrap();
    if otp {
        let otp = fixture.inbox.last(&mobile(1)).unwrap();
        fixture.verify_otp(her, &begun.name, &otp).await.unwrap();
    }
    begun.name
}

fn setting(fixture: &Fixture, account: &str, transaction: &str, password: &str) -> api::SetCredentialRequest {
    api::SetCredentialRequest {
        request_id: fixture.request_id(),
        name: account.into(),
        etag: String::new(),
        transaction: transaction.into(),
        credential: Some(api::set_credential_request::Credential::Password(password.into())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_proved_herself_learns_nothing_of_the_password() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let her = person(&session);
        let first = proof(&fixture, &her, true).await;
        let set = |transaction: &str, password: &str| {
            let request = setting(&fixture, &session.account, transaction, password);
            let (inner, her) = (fixture.inner.clone(), her.clone());
            async move { inner.set_credential(&her, request).await }
        };
        set(&first, "Gulmohar#27").await.unwrap();
        fixture.pass(60);
        let unproved = proof(&fixture, &her, false).await;
        for password in ["Gulmohar#27", "Gulmohar#28"] {
            // Not with a proof that is not one yet, and not with one that is used.
            assert_eq!(reason(set(&unproved, password).await), Reason::TransactionState);
            assert_eq!(reason(set(&first, password).await), Reason::TransactionState);
        }
        let otp = fixture.inbox.last(&mobile(1)).unwrap();
        fixture.verify_otp(&her, &unproved, &otp).await.unwrap();
        assert_eq!(reason(set(&unproved, "Gulmohar#27").await), Reason::CredentialReused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_an_old_change_of_the_password_repeated_does_not_come_back() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let her = person(&session);
        let mut requests = Vec::new();
        for password in ["Gulmohar#27", "Gulmohar#28"] {
            let transaction = proof(&fixture, &her, true).await;
            let request = setting(&fixture, &session.account, &transaction, password);
            fixture.inner.set_credential(&her, request.clone()).await.unwrap();
            requests.push(request);
            fixture.pass(60);
        }
        fixture.inner.set_credential(&her, requests.remove(0)).await.unwrap();
        assert_eq!(fixture.count_events("identity.credential_set").await, 2);
        for (password, right) in [("Gulmohar#27", false), ("Gulmohar#28", true)] {
            let account = fixture
                .inner
                .get_account(
                    &her,
                    api::GetAccountRequest {
                        name: session.account.clone(),
                        view: 0,
                    },
                )
                .await
                .unwrap();
            let begun = fixture
                .begin(&app(), Purpose::Login, Factor::Password, numbered(&account.abha_number))
                .await
                .unwrap();
            let request = api::VerifyTransactionRequest {
                request_id: fixture.request_id(),
                name: begun.name,
                etag: String::new(),
                proof: Some(api::verify_transaction_request::Proof::Password(password.into())),
            };
            let verified = fixture.inner.verify_transaction(&app(), request).await;
            assert_eq!(
                verified.is_ok_and(|t| t.state() == State::Verified),
                right,
                "{password}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_repeat_is_answered_after_what_it_was_judged_by_has_changed() {
    for fixture in fixtures().await {
        let session = fixture.enrol(1).await.session.unwrap();
        let her = person(&session);
        let enrol = fixture.beginning(
            Purpose::Enrol,
            Factor::AadhaarOtp,
            Some(Subject::Aadhaar(super::fixture::aadhaar(2))),
        );
        let begun = fixture.inner.create_transaction(&app(), enrol.clone()).await.unwrap();
        let transaction = proof(&fixture, &her, true).await;
        let request = setting(&fixture, &session.account, &transaction, "Gulmohar#27");
        fixture.inner.set_credential(&her, request).await.unwrap();
        let by_password = fixture.beginning(Purpose::SetCredential, Factor::Password, None);
        let proving = fixture
            .inner
            .create_transaction(&her, by_password.clone())
            .await
            .unwrap();
        fixture.pass(60);
        let transaction = proof(&fixture, &her, true).await;
        let clear = api::SetCredentialRequest {
            credential: Some(api::set_credential_request::Credential::Clear(true)),
            ..setting(&fixture, &session.account, &transaction, "")
        };
        fixture.inner.set_credential(&her, clear).await.unwrap();
        fixture.pass(16 * 60);
        let again = fixture.inner.create_transaction(&app(), enrol.clone()).await.unwrap();
        assert_eq!(
            (again.name.as_str(), again.state()),
            (begun.name.as_str(), State::Expired),
            "accepted long ago"
        );
        let again = fixture
            .inner
            .create_transaction(&her, by_password.clone())
            .await
            .unwrap();
        assert_eq!(again.name, proving.name, "the password is gone");
        let anew = |request: api::CreateTransactionRequest| api::CreateTransactionRequest {
            request_id: fixture.request_id(),
            ..request
        };
        let late = fixture.inner.create_transaction(&app(), anew(enrol)).await.unwrap_err();
        let fields: Vec<_> = late.violations.iter().map(|v| v.field.to_string()).collect();
        assert_eq!(fields, ["consent.accepted_time"]);
        assert_eq!(
            reason(fixture.inner.create_transaction(&her, anew(by_password)).await),
            Reason::FactorNotAllowed
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sending_to_nobody_takes_as_long_as_one_to_somebody() {
    let floor = Duration::from_millis(80);
    let inbox = Arc::new(Inbox::default());
    let courier = Courier::new(Arc::clone(&inbox) as _, floor);
    let somebody = MobileNumber::parse("9876543210").unwrap();
    // Nobody first: right after a start there is no last sending to go by.
    for to in [None, Some(&somebody)] {
        let otp = Otp {
            message_id: "1".into(),
            template: "otp-login",
            language: "en".into(),
            otp: "123456".into(),
        };
        let began = Instant::now();
        courier.send(to, otp).await.unwrap();
        assert!(began.elapsed() >= floor, "{to:?}");
    }
    assert_eq!(inbox.count(), 1);
}
