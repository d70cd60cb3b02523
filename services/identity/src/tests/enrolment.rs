//! N1: a number is issued once, a person has one, a retry returns it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_kernel::{AbhaNumber, Reason};

use super::fixture::{OTP, aadhaar, app, fixtures, operator, participant, person, reason};

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_enrolments_of_fifty_people_give_fifty_numbers() {
    for one in fixtures().await {
        let two = one.replica().await.unwrap_or_else(|| one.clone());
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..200_u64 {
            let fixture = if n % 2 == 0 { one.clone() } else { two.clone() };
            // People 0, 100, 200 …: each has a mobile of her own.
            calls.spawn(async move { (n % 50, fixture.enrol(n % 50 * 100).await) });
        }
        let mut numbers: HashMap<u64, HashSet<String>> = HashMap::new();
        let mut new = 0;
        while let Some(done) = calls.join_next().await {
            let (n, enrolled) = done.unwrap();
            let account = enrolled.account.unwrap();
            AbhaNumber::parse(&account.abha_number).unwrap();
            assert_eq!(enrolled.session.unwrap().account, account.name);
            numbers.entry(n).or_default().insert(account.abha_number);
            new += usize::from(enrolled.is_new);
        }
        assert!(numbers.len() == 50 && numbers.values().all(|n| n.len() == 1) && new == 50);
        assert_eq!(numbers.values().flatten().collect::<HashSet<_>>().len(), 50);
        assert_eq!(one.count_events("identity.enrolled").await, 50);
        assert_eq!(one.count_events("identity.session_created").await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n1_a_retried_enrolment_gets_the_same_account() {
    for fixture in fixtures().await {
        let begin = fixture.beginning(Purpose::Enrol, Factor::AadhaarOtp, Some(Subject::Aadhaar(aadhaar(7))));
        let begun = fixture.inner.create_transaction(&app(), begin.clone()).await.unwrap();
        assert_eq!(
            (begun.state(), begun.attempts_left, begun.resends_left),
            (State::Challenged, 5, 2)
        );
        assert_eq!(
            fixture
                .inner
                .create_transaction(&app(), begin.clone())
                .await
                .unwrap()
                .name,
            begun.name
        );
        assert_eq!(fixture.agency.sent.load(Ordering::SeqCst), 1, "a repeat sends nothing");
        let moved = api::CreateTransactionRequest {
            consent: begin.consent.clone().map(|c| sammati_api::types::v1::ConsentStamp {
                language: "en".into(),
                ..c
            }),
            ..begin
        };
        assert_eq!(
            reason(fixture.inner.create_transaction(&app(), moved).await),
            Reason::RequestIdReused
        );
        assert_eq!(
            reason(fixture.verify_otp(&app(), &begun.name, "000000").await),
            Reason::OtpMismatch
        );
        assert_eq!(
            reason(fixture.create_account(&begun.name, None).await),
            Reason::TransactionState
        );
        let verified = fixture.verify_otp(&app(), &begun.name, OTP).await.unwrap();
        assert_eq!((verified.state(), verified.account.as_str()), (State::Verified, ""));
        assert_eq!(
            reason(
                fixture
                    .inner
                    .create_account(
                        &participant("APP-2", &[]),
                        api::CreateAccountRequest {
                            request_id: fixture.request_id(),
                            transaction: begun.name.clone(),
                            chosen_address: None,
                            audiences: vec!["consent".into()]
                        }
                    )
                    .await
            ),
            Reason::NotAvailable
        );
        let request = api::CreateAccountRequest {
            request_id: fixture.request_id(),
            transaction: begun.name.clone(),
            chosen_address: Some("Asha.Rao84".into()),
            audiences: vec!["identity".into(), "consent".into()],
        };
        let first = fixture.inner.create_account(&app(), request.clone()).await.unwrap();
        let again = fixture.inner.create_account(&app(), request.clone()).await.unwrap();
        assert_eq!(first, again, "the same tokens too, within 30 s");
        let (account, session) = (first.account.unwrap(), first.session.unwrap());
        let addresses: Vec<_> = account
            .addresses
            .iter()
            .map(|a| (a.address.clone(), a.preferred))
            .collect();
        let digits = account.abha_number.replace('-', "");
        assert_eq!(
            addresses,
            [(format!("{digits}@sbx"), false), ("asha.rao84@sbx".into(), true)]
        );
        fixture.pass(31);
        let late = fixture
            .inner
            .create_account(&app(), request.clone())
            .await
            .unwrap()
            .session
            .unwrap();
        assert!(late.name == session.name && late.access_tokens.is_empty() && late.refresh_token.is_empty());
        let changed = api::CreateAccountRequest {
            audiences: vec!["audit".into()],
            ..request
        };
        assert_eq!(
            reason(fixture.inner.create_account(&app(), changed).await),
            Reason::RequestIdReused
        );
        let second = fixture.enrol(7).await;
        assert!(!second.is_new && second.account.unwrap().abha_number == account.abha_number);
        let events = fixture.events().await;
        assert_eq!(
            events[..6],
            [
                "enrolment_consented",
                "challenge_sent",
                "authn_failed",
                "authn_succeeded",
                "enrolled",
                "address_assigned"
            ]
            .map(|e| format!("identity.{e}"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_that_is_away_costs_nothing() {
    for fixture in fixtures().await {
        fixture.agency.away.store(true, Ordering::SeqCst);
        let begin = fixture.beginning(Purpose::Enrol, Factor::AadhaarOtp, Some(Subject::Aadhaar(aadhaar(1))));
        assert_eq!(
            reason(fixture.inner.create_transaction(&app(), begin.clone()).await),
            Reason::KycUnavailable
        );
        fixture.agency.away.store(false, Ordering::SeqCst);
        let begun = fixture.inner.create_transaction(&app(), begin).await.unwrap();
        let verify = api::VerifyTransactionRequest {
            request_id: fixture.request_id(),
            name: begun.name.clone(),
            etag: begun.etag.clone(),
            proof: Some(api::verify_transaction_request::Proof::Otp(OTP.into())),
        };
        fixture.agency.away.store(true, Ordering::SeqCst);
        assert_eq!(
            reason(fixture.inner.verify_transaction(&app(), verify.clone()).await),
            Reason::KycUnavailable
        );
        fixture.agency.away.store(false, Ordering::SeqCst);
        let verified = fixture.inner.verify_transaction(&app(), verify.clone()).await.unwrap();
        assert_eq!(
            (verified.state(), verified.attempts_left),
            (State::Verified, 4),
            "one attempt, not two"
        );
        assert_eq!(
            fixture.inner.verify_transaction(&app(), verify).await.unwrap(),
            verified
        );
        assert_eq!(fixture.agency.compared.load(Ordering::SeqCst), 1);
        fixture.pass(301);
        assert_eq!(
            reason(fixture.create_account(&begun.name, None).await),
            Reason::TransactionState
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mobile_has_six_numbers() {
    for fixture in fixtures().await {
        for n in 0..6 {
            assert!(fixture.enrol(n).await.is_new);
        }
        let seventh = fixture.proved(6).await;
        assert_eq!(
            reason(fixture.create_account(&seventh, None).await),
            Reason::MobileLimit
        );
        assert!(!fixture.enrol(3).await.is_new, "one of the six comes back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_what_of_an_account() {
    for fixture in fixtures().await {
        let enrolled = fixture.enrol(1).await;
        let (account, session) = (enrolled.account.unwrap(), enrolled.session.unwrap());
        let full = |name: &str| api::GetAccountRequest {
            name: name.into(),
            view: api::AccountView::Full.into(),
        };
        let own = fixture
            .inner
            .get_account(&person(&session), full(&account.name))
            .await
            .unwrap();
        assert_eq!(own.postal.unwrap().pincode, "560001");
        let seen = fixture
            .inner
            .get_account(&operator(), full(&account.name))
            .await
            .unwrap();
        assert!(seen.abha_number.starts_with("XX-") && seen.mobile.starts_with("******"));
        assert_eq!(fixture.count_events("identity.viewed").await, 1);
        let other = fixture.enrol(100).await.session.unwrap();
        assert_eq!(
            reason(fixture.inner.get_account(&person(&other), full(&account.name)).await),
            Reason::NotAvailable
        );
        let nobody = account.name.replace(&account.name[account.name.len() - 4..], "ffff");
        assert_eq!(
            reason(fixture.inner.get_account(&operator(), full(&nobody)).await),
            Reason::NotFound
        );
    }
}
