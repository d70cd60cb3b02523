//! What a lock, a used OTP and an answer are worth: a lock closes as often as it must, an OTP is good once, and an account that
//! was told of is there.

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::set_credential_request::Credential;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_api::identity::v1::verify_transaction_request::Proof;
use sammati_api::types::v1::{Identifier, identifier};
use sammati_kernel::{Reason, Refusal};
use sammati_testkit::{Database, Line};
use tokio::task::JoinSet;

use super::fixture::{Fixture, OTP, app, fixtures, mobile, person, reason};
use super::step_up::{PIN, guess, set, she};

const PASSWORD: &str = "Gulmohar#27";

/// Logs in with a password.
async fn enter(fixture: &Fixture, address: &str, password: &str) -> Result<api::Transaction, Refusal> {
    let her = Some(Subject::Identifier(Identifier {
        identifier: Some(identifier::Identifier::AbhaAddress(address.to_owned())),
    }));
    let begun = fixture.begin(&app(), Purpose::Login, Factor::Password, her).await?;
    let request = api::VerifyTransactionRequest {
        request_id: fixture.request_id(),
        name: begun.name,
        etag: String::new(),
        proof: Some(Proof::Password(password.to_owned())),
    };
    fixture.inner.verify_transaction(&app(), request).await
}

/// The lock of each day is as good as that of the first: a count that was once over its limit counts anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_closes_again_on_every_day_after_the_first() {
    for fixture in fixtures().await {
        let her = she(&fixture, 1).await;
        set(&fixture, &her, 1, Credential::Pin(PIN.into())).await.unwrap();
        let account = set(&fixture, &her, 1, Credential::Password(PASSWORD.into()))
            .await
            .unwrap();
        let address = &account.addresses[0].address;
        for day in 1..=3 {
            for n in 1..=5 {
                let wrong = reason(guess(&fixture, &her.0, "9713").await);
                assert_eq!(wrong, Reason::CredentialMismatch, "PIN {n} of day {day}");
                let wrong = reason(enter(&fixture, address, "Gulmohar#28").await);
                assert_eq!(wrong, Reason::CredentialMismatch, "password {n} of day {day}");
            }
            for _ in 0..3 {
                let locked = reason(guess(&fixture, &her.0, PIN).await);
                assert_eq!(locked, Reason::AccountLocked, "the right PIN on day {day}");
                let locked = reason(enter(&fixture, address, PASSWORD).await);
                assert_eq!(locked, Reason::AccountLocked, "the right password on day {day}");
            }
            fixture.pass(24 * 3600);
        }
        guess(&fixture, &her.0, PIN).await.unwrap();
        enter(&fixture, address, PASSWORD).await.unwrap();
    }
}

/// Of 32 who show the right OTP at once, on all replicas, one has proved who she is; nobody after that, and not for another login.
#[tokio::test(flavor = "multi_thread")]
async fn an_otp_of_ours_is_good_once() {
    for fixture in fixtures().await {
        fixture.enrol(1).await;
        let before = fixture.count_events("identity.authn_succeeded").await;
        let begun = fixture.logging_in(1).await;
        let otp = fixture.inbox.last(&mobile(1)).unwrap();
        let two = fixture.replica().await.unwrap_or_else(|| fixture.clone());
        let mut calls = JoinSet::new();
        for n in 0..32_usize {
            let fixture = if n % 2 == 0 { fixture.clone() } else { two.clone() };
            let (name, otp) = (begun.name.clone(), otp.clone());
            calls.spawn(async move { fixture.verify_otp(&app(), &name, &otp).await });
        }
        let (went, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((went.len(), refused.len()), (1, 31));
        assert!(
            refused
                .into_iter()
                .all(|refused| reason(refused) == Reason::TransactionState)
        );
        assert_eq!(fixture.count_events("identity.authn_succeeded").await, before + 1);
        fixture.pass(60);
        let another = fixture.logging_in(1).await;
        let own = fixture.inbox.last(&mobile(1)).unwrap();
        if own != otp {
            assert_eq!(
                reason(fixture.verify_otp(&app(), &another.name, &otp).await),
                Reason::OtpMismatch
            );
        }
    }
}

/// The OTP of an agency too: what is proved is proved once, and nobody is asked to compare again.
#[tokio::test(flavor = "multi_thread")]
async fn an_agencys_otp_is_good_once() {
    for fixture in fixtures().await {
        let begun = fixture.enrolling(1).await;
        fixture.verify_otp(&app(), &begun.name, OTP).await.unwrap();
        assert_eq!(
            reason(fixture.verify_otp(&app(), &begun.name, OTP).await),
            Reason::TransactionState
        );
        fixture.create_account(&begun.name, None).await.unwrap();
        for again in [
            fixture.verify_otp(&app(), &begun.name, OTP).await.map(drop),
            fixture.create_account(&begun.name, None).await.map(drop),
        ] {
            assert_eq!(reason(again), Reason::TransactionState, "it is consumed");
        }
        let compared = fixture.agency.compared.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(compared, 1);
    }
}

/// An account that could not be kept is not told of, and one that was told of is there, once.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_told_of_when_it_is_there_and_not_before() {
    let Some(mut database) = Database::postgres() else {
        return;
    };
    let (server, name) = database.url.rsplit_once('/').unwrap();
    let line = Line::to(server);
    database.url = line.url(name);
    let fixture = Fixture::on(database).await;
    let request = api::CreateAccountRequest {
        request_id: fixture.request_id(),
        transaction: fixture.proved(1).await,
        audiences: vec!["identity".into()],
        ..Default::default()
    };
    line.cut_all();
    let away = fixture.inner.create_account(&app(), request.clone()).await;
    assert_eq!(reason(away), Reason::StorageUnavailable);
    line.mend();
    // A process that has not just found the database away, and one after it that has nothing in memory.
    let (again, fresh) = (fixture.replica().await.unwrap(), fixture.replica().await.unwrap());
    assert_eq!(again.count_events("identity.enrolled").await, 0);
    let told = again.inner.create_account(&app(), request).await.unwrap();
    let (account, session) = (told.account.unwrap(), told.session.unwrap());
    let asked = api::GetAccountRequest {
        name: account.name.clone(),
        view: 0,
    };
    let read = fresh.inner.get_account(&person(&session), asked).await.unwrap();
    assert_eq!((read.name, read.abha_number), (account.name, account.abha_number));
    assert_eq!(fresh.count_events("identity.enrolled").await, 1);
}
