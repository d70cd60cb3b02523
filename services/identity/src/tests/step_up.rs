//! The PIN: set, guessed at, locked, set anew; and what a step-up with it leads to.

use std::collections::BTreeSet;

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::set_credential_request::Credential;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::identity::v1::verify_transaction_request::Proof;
use sammati_kernel::jws;
use sammati_kernel::{AccountId, Actor, Caller, Reason, Refusal, RepresentationId, RepresentationKind, Representing};
use sammati_server::action::{ActionClaims, TYP};

use super::fixture::{Fixture, app, fixtures, mobile, person, reason};

const METHOD: &str = "sammati.consent.v1.ConsentService/RevokeConsents";
pub(super) const PIN: &str = "2580";

/// Person `n`, logged in.
pub(super) async fn she(fixture: &Fixture, n: u64) -> (Caller, String) {
    let session = fixture.enrol(n).await.session.unwrap();
    (person(&session), session.account)
}

/// Sets or removes a credential of hers on the strength of an OTP.
pub(super) async fn set(
    fixture: &Fixture,
    (her, account): &(Caller, String),
    n: u64,
    credential: Credential,
) -> Result<api::Account, Refusal> {
    fixture.pass(60);
    let begun = fixture
        .begin(her, Purpose::SetCredential, Factor::MobileOtp, None)
        .await?;
    let otp = fixture.inbox.last(&mobile(n)).unwrap();
    fixture.verify_otp(her, &begun.name, &otp).await?;
    let request = api::SetCredentialRequest {
        request_id: fixture.request_id(),
        name: account.clone(),
        transaction: begun.name,
        credential: Some(credential),
        ..Default::default()
    };
    fixture.inner.set_credential(her, request).await
}

/// She with a PIN.
async fn with_pin(fixture: &Fixture, n: u64) -> (Caller, String) {
    let her = she(fixture, n).await;
    set(fixture, &her, n, Credential::Pin(PIN.into())).await.unwrap();
    her
}

fn bound() -> api::BoundAction {
    api::BoundAction {
        method: METHOD.into(),
        resource: "consents/0193".into(),
        body_sha256: "0a".repeat(32),
    }
}

async fn begin(fixture: &Fixture, her: &Caller) -> Result<api::Transaction, Refusal> {
    let request = api::CreateTransactionRequest {
        bound_to: Some(bound()),
        ..fixture.beginning(Purpose::StepUp, Factor::Pin, None)
    };
    fixture.inner.create_transaction(her, request).await
}

async fn verify(fixture: &Fixture, her: &Caller, name: &str, pin: &str) -> Result<api::Transaction, Refusal> {
    let request = api::VerifyTransactionRequest {
        request_id: fixture.request_id(),
        name: name.into(),
        etag: String::new(),
        proof: Some(Proof::Pin(pin.into())),
    };
    fixture.inner.verify_transaction(her, request).await
}

pub(super) async fn guess(fixture: &Fixture, her: &Caller, pin: &str) -> Result<api::Transaction, Refusal> {
    let begun = begin(fixture, her).await?;
    verify(fixture, her, &begun.name, pin).await
}

fn authorizing(fixture: &Fixture, transaction: &str) -> api::AuthorizeActionRequest {
    api::AuthorizeActionRequest {
        request_id: fixture.request_id(),
        transaction: transaction.into(),
        etag: String::new(),
    }
}

fn claims(fixture: &Fixture, token: &str) -> ActionClaims {
    jws::verify(token, TYP, |kid| fixture.inner.keys.find(kid)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_up_leads_to_one_token_for_the_call_that_it_names() {
    for fixture in fixtures().await {
        let (her, account) = with_pin(&fixture, 1).await;
        let proved = guess(&fixture, &her, PIN).await.unwrap();
        assert_eq!((proved.state(), &proved.bound_to), (State::Verified, &Some(bound())));
        let stale = api::AuthorizeActionRequest {
            etag: "\"1\"".into(),
            ..authorizing(&fixture, &proved.name)
        };
        assert_eq!(
            reason(fixture.inner.authorize_action(&her, stale).await),
            Reason::EtagMismatch
        );
        let request = authorizing(&fixture, &proved.name);
        let made = fixture.inner.authorize_action(&her, request.clone()).await.unwrap();
        let read = claims(&fixture, &made.token);
        assert_eq!((read.aud.as_str(), read.sub.as_str()), ("consent", account.as_str()));
        assert_eq!(
            (read.method, read.resource, read.body_sha256),
            (bound().method, bound().resource, bound().body_sha256)
        );
        assert_eq!(
            (read.sid, read.exp - read.iat),
            (her.session().unwrap().to_string(), 120)
        );
        let again = fixture.inner.authorize_action(&her, request.clone()).await.unwrap();
        assert_eq!(again, made, "a repeat");
        fixture.pass(30);
        let late = fixture.inner.authorize_action(&her, request).await.unwrap();
        assert!(late.token.is_empty() && late.expire_time == made.expire_time);
        let twice = fixture
            .inner
            .authorize_action(&her, authorizing(&fixture, &proved.name))
            .await;
        assert_eq!(reason(twice), Reason::TransactionState, "it is consumed");
        assert_eq!(fixture.count_events("identity.step_up_granted").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_up_is_hers_proved_and_made_for_that() {
    for fixture in fixtures().await {
        let (her, _) = with_pin(&fixture, 1).await;
        let (other, _) = she(&fixture, 200).await;
        let begun = begin(&fixture, &her).await.unwrap();
        let authorize = async |caller: &Caller, name: &str| {
            fixture
                .inner
                .authorize_action(caller, authorizing(&fixture, name))
                .await
        };
        assert_eq!(
            reason(authorize(&her, &begun.name).await),
            Reason::TransactionState,
            "not proved"
        );
        verify(&fixture, &her, &begun.name, PIN).await.unwrap();
        assert_eq!(reason(authorize(&other, &begun.name).await), Reason::NotAvailable);
        fixture.pass(300);
        assert_eq!(
            reason(authorize(&her, &begun.name).await),
            Reason::TransactionState,
            "expired"
        );
        let password = fixture
            .begin(&her, Purpose::SetCredential, Factor::MobileOtp, None)
            .await
            .unwrap();
        assert_eq!(
            reason(authorize(&her, &password.name).await),
            Reason::TransactionPurpose
        );
        // Nobody steps up without a PIN, without saying what for, with something else, or in place of a login.
        assert_eq!(reason(begin(&fixture, &other).await), Reason::FactorNotAllowed);
        let unbound = fixture
            .begin(&her, Purpose::StepUp, Factor::Pin, None)
            .await
            .unwrap_err();
        let fields: Vec<_> = unbound.violations.iter().map(|v| v.field.to_string()).collect();
        assert_eq!(fields, ["bound_to"]);
        for (caller, purpose, factor) in [
            (&her, Purpose::StepUp, Factor::MobileOtp),
            (&her, Purpose::SetCredential, Factor::Pin),
            (&app(), Purpose::Login, Factor::Pin),
        ] {
            let bound_to = (purpose == Purpose::StepUp).then(bound);
            let request = api::CreateTransactionRequest {
                bound_to,
                ..fixture.beginning(purpose, factor, None)
            };
            let refused = fixture.inner.create_transaction(caller, request).await;
            assert_eq!(reason(refused), Reason::FactorNotAllowed, "{purpose:?} {factor:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_wrong_pins_on_two_replicas_five_are_compared_and_the_next_day_is_another() {
    for fixture in fixtures().await {
        let her = with_pin(&fixture, 1).await;
        let two = fixture.replica().await.unwrap_or_else(|| fixture.clone());
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..100_usize {
            let (fixture, her) = (if n % 2 == 0 { fixture.clone() } else { two.clone() }, her.0.clone());
            calls.spawn(async move { reason(guess(&fixture, &her, "9713").await) });
        }
        let mut told = Vec::new();
        while let Some(done) = calls.join_next().await {
            told.push(done.unwrap());
        }
        let compared = told
            .iter()
            .filter(|reason| **reason == Reason::CredentialMismatch)
            .count();
        assert_eq!(compared, 5);
        // Argon2 works for a few at a time: who cannot wait is told so, and nothing is counted twice.
        let other: BTreeSet<_> = told.into_iter().filter(|r| *r != Reason::CredentialMismatch).collect();
        assert_eq!(other, BTreeSet::from([Reason::AccountLocked]));
        let locked = guess(&fixture, &her.0, PIN).await.unwrap_err();
        assert!(
            locked.reason == Reason::AccountLocked && locked.retry_after.is_some(),
            "the right one too"
        );
        fixture.clock.advance(locked.retry_after.unwrap());
        guess(&two, &her.0, PIN).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_chosen_well_lifts_the_lock_when_set_anew_and_goes_when_she_says_so() {
    for fixture in fixtures().await {
        let her = with_pin(&fixture, 1).await;
        for weak in ["1234", "1111", "1212"] {
            let refused = set(&fixture, &her, 1, Credential::Pin(weak.into())).await;
            assert_eq!(reason(refused), Reason::CredentialWeak, "{weak}");
        }
        let refused = set(&fixture, &her, 1, Credential::Pin("12345".into())).await;
        assert_eq!(reason(refused), Reason::FieldInvalid);
        assert_eq!(
            reason(set(&fixture, &her, 1, Credential::Pin(PIN.into())).await),
            Reason::CredentialReused
        );
        for _ in 0..5 {
            assert_eq!(
                reason(guess(&fixture, &her.0, "9713").await),
                Reason::CredentialMismatch
            );
        }
        assert_eq!(reason(guess(&fixture, &her.0, PIN).await), Reason::AccountLocked);
        fixture.pass(40 * 60);
        let account = set(&fixture, &her, 1, Credential::Pin("9713".into())).await.unwrap();
        assert!(account.factors.contains(&Factor::Pin.into()));
        let now = fixture.inner.now().seconds();
        assert_eq!(account.pin_set_time.map(|at| at.seconds), Some(now));
        guess(&fixture, &her.0, "9713").await.unwrap();
        // A password is another thing, and stays when the PIN goes.
        set(&fixture, &her, 1, Credential::Password("Gulmohar#27".into()))
            .await
            .unwrap();
        let account = set(&fixture, &her, 1, Credential::ClearPin(true)).await.unwrap();
        assert!(!account.factors.contains(&Factor::Pin.into()) && account.factors.contains(&Factor::Password.into()));
        assert_eq!(account.pin_set_time, None);
        assert_eq!(reason(begin(&fixture, &her.0).await), Reason::FactorNotAllowed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_for_her_steps_up_with_a_pin_of_his_own() {
    for fixture in fixtures().await {
        let (_, hers) = she(&fixture, 1).await;
        let (him, his) = with_pin(&fixture, 200).await;
        let representation = RepresentationId::new(fixture.now(), sammati_kernel::Slot::new(3), [1; 8]);
        let acting = Representing {
            representation,
            principal: AccountId::parse_name(&hers).unwrap(),
            representative: AccountId::parse_name(&his).unwrap(),
            kind: RepresentationKind::Guardian,
            powers: BTreeSet::new(),
            purposes: BTreeSet::new(),
            participants: BTreeSet::new(),
            ends: None,
            session: him.session().unwrap(),
            app: None,
            auth_time: 0,
        };
        let acts = Caller {
            actor: Some(Actor::Representative(Box::new(acting))),
            ..him.clone()
        };
        let proved = guess(&fixture, &acts, PIN).await.unwrap();
        assert_eq!(proved.account, his);
        let theft = fixture
            .inner
            .authorize_action(&him, authorizing(&fixture, &proved.name))
            .await;
        assert_eq!(
            reason(theft),
            Reason::NotAvailable,
            "it was begun as her representative"
        );
        let made = fixture
            .inner
            .authorize_action(&acts, authorizing(&fixture, &proved.name))
            .await
            .unwrap();
        assert_eq!(claims(&fixture, &made.token).sub, representation.name());
        let refused = fixture
            .begin(&acts, Purpose::SetCredential, Factor::MobileOtp, None)
            .await;
        assert_eq!(reason(refused), Reason::NotAvailable);
    }
}
