//! How often may one guess? Counted before anything is compared.

use std::sync::atomic::Ordering;

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::types::v1::{Identifier, identifier};
use sammati_kernel::{Reason, Slot, TransactionId};
use sammati_store::Command;

use super::fixture::{Fixture, OTP, aadhaar, app, fixtures, mobile, person, reason};
use crate::transaction::Resend;

fn named(address: &str) -> Option<Subject> {
    Some(Subject::Identifier(Identifier {
        identifier: Some(identifier::Identifier::AbhaAddress(address.into())),
    }))
}

/// A hundred wrong guesses at once; tells how many were answered as compared.
async fn storm(fixture: &Fixture, transaction: &str) -> usize {
    let two = fixture.replica().await.unwrap_or_else(|| fixture.clone());
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..100_u32 {
        let fixture = if n % 2 == 0 { fixture.clone() } else { two.clone() };
        let transaction = transaction.to_owned();
        calls.spawn(async move {
            fixture
                .verify_otp(&app(), &transaction, &format!("{:06}", 900_000 + n))
                .await
        });
    }
    let mut compared = 0;
    while let Some(done) = calls.join_next().await {
        match reason(done.unwrap()) {
            Reason::OtpMismatch => compared += 1,
            // Blocked once all five were compared; before that no guess is left.
            other => assert!(
                matches!(other, Reason::OtpBlocked | Reason::TransactionState),
                "{other:?}"
            ),
        }
    }
    compared
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_wrong_guesses_at_an_agencys_otp_five_are_compared() {
    for fixture in fixtures().await {
        let begun = fixture.enrolling(1).await;
        assert_eq!(storm(&fixture, &begun.name).await, 5);
        assert_eq!(fixture.agency.compared.load(Ordering::SeqCst), 5);
        assert_eq!(fixture.count_events("identity.authn_failed").await, 5);
        assert_eq!(
            reason(fixture.verify_otp(&app(), &begun.name, OTP).await),
            Reason::OtpBlocked,
            "the right one too"
        );
        let again = fixture
            .begin(
                &app(),
                Purpose::Enrol,
                Factor::AadhaarOtp,
                Some(Subject::Aadhaar(aadhaar(1))),
            )
            .await;
        assert_eq!(reason(again), Reason::OtpBlocked);
        fixture.pass(30 * 60);
        fixture.enrolling(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_wrong_guesses_at_our_otp_five_are_compared() {
    for fixture in fixtures().await {
        fixture.enrol(1).await;
        let begun = fixture.logging_in(1).await;
        assert_eq!(storm(&fixture, &begun.name).await, 5);
        let otp = fixture.inbox.last(&mobile(1)).unwrap();
        assert_eq!(
            reason(fixture.verify_otp(&app(), &begun.name, &otp).await),
            Reason::OtpBlocked
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_mobiles_and_addresses_look_like_known_ones() {
    for fixture in fixtures().await {
        let account = fixture.enrol(1).await.account.unwrap();
        let known = fixture
            .begin(
                &app(),
                Purpose::Login,
                Factor::MobileOtp,
                named(&account.addresses[0].address),
            )
            .await
            .unwrap();
        let sent = fixture.inbox.count();
        for subject in [named("nobody.here@sbx"), Some(Subject::Mobile("9000000009".into()))] {
            let unknown = fixture
                .begin(&app(), Purpose::Login, Factor::MobileOtp, subject)
                .await
                .unwrap();
            assert_eq!(unknown.masked_target.len(), known.masked_target.len());
            assert_eq!(
                (unknown.state(), unknown.attempts_left, unknown.resends_left),
                (State::Challenged, 5, 2)
            );
            assert!(unknown.account.is_empty() && known.account.is_empty());
            assert_eq!(fixture.inbox.count(), sent, "nothing is sent");
            for n in 0..5 {
                assert_eq!(
                    reason(fixture.verify_otp(&app(), &unknown.name, &format!("{n:06}")).await),
                    Reason::OtpMismatch
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_otp_comes_after_a_minute_and_voids_the_old_one() {
    for fixture in fixtures().await {
        fixture.enrol(1).await;
        let begun = fixture.logging_in(1).await;
        let first = fixture.inbox.last(&mobile(1)).unwrap();
        let resend = || api::ResendOtpRequest {
            request_id: fixture.request_id(),
            name: begun.name.clone(),
            etag: String::new(),
        };
        fixture.pass(20);
        let early = fixture.inner.resend_otp(&app(), resend()).await.unwrap_err();
        assert_eq!(
            (early.reason, early.retry_after.unwrap().as_secs()),
            (Reason::ResendTooEarly, 40)
        );
        fixture.pass(40);
        let request = resend();
        let sent = fixture.inner.resend_otp(&app(), request.clone()).await.unwrap();
        assert_eq!((sent.resends_left, fixture.inbox.count()), (1, 2));
        fixture.inner.resend_otp(&app(), request).await.unwrap();
        assert_eq!(fixture.inbox.count(), 2, "a repeat sends nothing");
        let second = fixture.inbox.last(&mobile(1)).unwrap();
        if first != second {
            assert_eq!(
                reason(fixture.verify_otp(&app(), &begun.name, &first).await),
                Reason::OtpMismatch
            );
        }
        fixture.pass(60);
        fixture.inner.resend_otp(&app(), resend()).await.unwrap();
        fixture.pass(60);
        assert_eq!(
            reason(fixture.inner.resend_otp(&app(), resend()).await),
            Reason::ResendLimit
        );
        fixture.pass(300);
        let third = fixture.inbox.last(&mobile(1)).unwrap();
        assert_eq!(
            reason(fixture.verify_otp(&app(), &begun.name, &third).await),
            Reason::OtpExpired
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_otp_to_sign_in_with_is_sent_anew_though_the_disk_is_used_up() {
    for fixture in fixtures().await {
        let id = TransactionId::new(fixture.now(), Slot::new(0), [0; 8]);
        for (purpose, goes_on) in [
            (Purpose::Login, true),
            (Purpose::StepUp, true),
            (Purpose::Enrol, false),
            (Purpose::SetCredential, false),
        ] {
            let resend = Resend {
                caller: app(),
                lookup: fixture.inner.lookup.clone(),
                id,
                etag: String::new(),
                purpose,
                subject: Vec::new(),
                otp: String::new().into(),
            };
            assert_eq!(resend.is_essential(), goes_on, "{purpose:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_set_used_and_locked_after_five_wrong_ones() {
    for fixture in fixtures().await {
        let enrolled = fixture.enrol(1).await;
        let (account, session) = (enrolled.account.unwrap(), enrolled.session.unwrap());
        let her = person(&session);
        let other = fixture.enrol(1).await.session.unwrap();
        let begun = fixture
            .begin(&her, Purpose::SetCredential, Factor::MobileOtp, None)
            .await
            .unwrap();
        let otp = fixture.inbox.last(&mobile(1)).unwrap();
        fixture.verify_otp(&her, &begun.name, &otp).await.unwrap();
        let set = |password: &str, request_id: String| api::SetCredentialRequest {
            request_id,
            name: account.name.clone(),
            etag: String::new(),
            transaction: begun.name.clone(),
            credential: Some(api::set_credential_request::Credential::Password(password.into())),
        };
        assert_eq!(
            reason(
                fixture
                    .inner
                    .set_credential(&her, set("abc", fixture.request_id()))
                    .await
            ),
            Reason::CredentialWeak
        );
        let request = set("Gulmohar#27", fixture.request_id());
        let after = fixture.inner.set_credential(&her, request.clone()).await.unwrap();
        assert!(after.factors.contains(&Factor::Password.into()));
        fixture.inner.set_credential(&her, request).await.unwrap();
        assert_eq!(fixture.count_events("identity.credential_set").await, 1);
        assert!(
            fixture
                .inner
                .session(sammati_kernel::SessionId::parse_name(&other.name).unwrap())
                .await
                .unwrap()
                .unwrap()
                .end_time
                > 0
        );
        let try_password = async |password: &str| {
            let address = &account.addresses[0].address;
            let begun = fixture
                .begin(&app(), Purpose::Login, Factor::Password, named(address))
                .await
                .unwrap();
            let proof = Some(api::verify_transaction_request::Proof::Password(password.into()));
            let request = api::VerifyTransactionRequest {
                request_id: fixture.request_id(),
                name: begun.name,
                etag: String::new(),
                proof,
            };
            fixture.inner.verify_transaction(&app(), request).await
        };
        for _ in 0..4 {
            assert_eq!(reason(try_password("Gulmohar#28").await), Reason::CredentialMismatch);
        }
        assert_eq!(try_password("Gulmohar#27").await.unwrap().candidates.len(), 1);
        for _ in 0..5 {
            assert_eq!(reason(try_password("Gulmohar#28").await), Reason::CredentialMismatch);
        }
        assert_eq!(reason(try_password("Gulmohar#27").await), Reason::AccountLocked);
        let shown = fixture
            .inner
            .get_account(
                &her,
                api::GetAccountRequest {
                    name: account.name.clone(),
                    view: 0,
                },
            )
            .await
            .unwrap();
        assert!(shown.lock_until_time.is_some());
        fixture.pass(24 * 3600);
        assert!(try_password("Gulmohar#27").await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_that_an_agency_never_compared_block_nobody() {
    for fixture in fixtures().await {
        let subject = || Some(Subject::Aadhaar(aadhaar(1)));
        let begun = fixture
            .begin(&app(), Purpose::Enrol, Factor::AadhaarOtp, subject())
            .await
            .unwrap();
        fixture.agency.away.store(true, Ordering::SeqCst);
        for _ in 0..5 {
            let guess = fixture.verify_otp(&app(), &begun.name, OTP).await;
            assert_eq!(reason(guess), Reason::KycUnavailable);
        }
        fixture.agency.away.store(false, Ordering::SeqCst);
        let none_left = fixture.verify_otp(&app(), &begun.name, OTP).await.unwrap_err();
        assert_eq!(
            (none_left.reason, none_left.retry_after),
            (Reason::TransactionState, None),
            "nothing to wait for"
        );
        fixture.pass(60);
        let resend = api::ResendOtpRequest {
            request_id: fixture.request_id(),
            name: begun.name,
            etag: String::new(),
        };
        let sent = fixture.agency.sent.load(Ordering::SeqCst);
        let refused = fixture.inner.resend_otp(&app(), resend).await;
        assert_eq!(
            reason(refused),
            Reason::TransactionState,
            "there is nothing to guess any more"
        );
        assert_eq!(fixture.agency.sent.load(Ordering::SeqCst), sent);
        let anew = fixture
            .begin(&app(), Purpose::Enrol, Factor::AadhaarOtp, subject())
            .await
            .unwrap();
        fixture.verify_otp(&app(), &anew.name, OTP).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_otp_ends_after_five_minutes_whatever_the_agency_says() {
    for fixture in fixtures().await {
        let begun = fixture.enrolling(1).await;
        fixture.pass(300);
        assert_eq!(
            reason(fixture.verify_otp(&app(), &begun.name, OTP).await),
            Reason::OtpExpired
        );
    }
}
