//! What proved who somebody is, and would prove it again after a restore: a password that was replaced, and an assertion that
//! a participant used.

use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::account_service_client::AccountServiceClient;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::set_credential_request::Credential;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_api::identity::v1::transaction_service_client::TransactionServiceClient;
use sammati_api::identity::v1::verify_transaction_request::Proof;
use sammati_api::sandbox::v1 as sandbox;
use sammati_api::types::v1 as types;
use sammati_tests::story::{Outsider, Person, Story, reason};
use tonic::Status;

use crate::restored::{listed, persist, until_told_times};

const OLD: &str = "Gulmohar#27";
const NEW: &str = "Amaltas#1857";
const LATER: &str = "Palash#2031";

/// Somebody with a password, and a participant with a key, before the backup.
pub(crate) struct Keys {
    person: Person,
    outsider: Outsider,
}

/// An assertion that was used, and its `jti`.
pub(crate) struct Used {
    assertion: String,
    jti: String,
}

impl Keys {
    pub(crate) async fn of(story: &Story, entry: &sandbox::Person) -> Self {
        let person = story.enrol(entry).await.unwrap();
        set(story, &person, OLD).await.unwrap();
        log_in(story, &person, OLD).await.unwrap();
        let outsider = Outsider::behind(story, "institute").await.unwrap();
        Self { person, outsider }
    }

    /// Replaces the password and uses an assertion: both in their leaves when this returns.
    pub(crate) async fn lose(&self, story: &Story) -> Used {
        set(story, &self.person, NEW).await.unwrap();
        let account = &self.person.account.name;
        until_told_times(story, &self.person, ("identity.credential_set", account), 2).await;
        let jti = story.rid();
        let assertion = self.outsider.assertion_called(story, &jti).unwrap();
        let opened = self.opened(story, &assertion).await.unwrap();
        let used = Used { assertion, jti };
        for _ in 0..600 {
            let sessions = listed(story, "identity.participant_session_created").await;
            let of = |event: &sammati_api::audit::v1::LogEvent| event.payload.clone().unwrap_or_default().resource;
            if sessions.iter().any(|event| of(event) == opened.name) {
                return used;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the participant's session did not reach the log");
    }

    /// What is said of the password.
    pub(crate) fn said(&self) -> String {
        let account = &self.person.account.name;
        format!("identity: {account} was given another password, and has none until it is set again")
    }

    async fn opened(&self, story: &Story, assertion: &str) -> Result<identity::Session, Status> {
        let role = types::ParticipantRole::Hip;
        self.outsider.opened(story, role, assertion).await
    }

    /// Why an assertion opens nothing; each try may be with another one.
    async fn refused(&self, story: &Story, assertion: impl Fn() -> String) -> String {
        let why = async || match self.opened(story, &assertion()).await {
            Err(status) if reason(&status).starts_with("ASSERTION_") => Ok(reason(&status)),
            Err(status) => Err(status),
            Ok(_) => panic!("an assertion was good twice"),
        };
        persist(why).await
    }

    /// Neither password is good; an OTP is, and on its strength she sets another.
    pub(crate) async fn are_gone(&self, story: &Story) {
        for password in [OLD, NEW] {
            let refused = log_in(story, &self.person, password).await.unwrap_err();
            assert_eq!(reason(&refused), "CREDENTIAL_MISMATCH", "{refused:?}");
        }
        let person = story.log_in(&self.person).await.unwrap();
        set(story, &person, LATER).await.unwrap();
        log_in(story, &person, LATER).await.unwrap();
    }
}

impl Used {
    /// It opens nothing, though the session that it opened is lost; a fresh one does.
    pub(crate) async fn is_refused(&self, keys: &Keys, story: &Story) {
        // Once its minute is over it is refused for its age, which says nothing of what was used.
        let itself = keys.refused(story, || self.assertion.clone()).await;
        assert!(
            ["ASSERTION_REPLAYED", "ASSERTION_INVALID"].contains(&itself.as_str()),
            "{itself}"
        );
        // So another is made of its jti, for which it makes no difference how long the restore took.
        let made_now = || keys.outsider.assertion_called(story, &self.jti).unwrap();
        assert_eq!(keys.refused(story, made_now).await, "ASSERTION_REPLAYED");
        let fresh = async || keys.opened(story, &keys.outsider.assertion(story).unwrap()).await;
        persist(fresh).await;
    }
}

/// Gives her a password, on the strength of an OTP.
async fn set(story: &Story, person: &Person, password: &str) -> Result<(), Status> {
    let mut client = TransactionServiceClient::new(person.who.identity());
    let create = identity::CreateTransactionRequest {
        request_id: story.rid(),
        purpose: Purpose::SetCredential.into(),
        factor: identity::Factor::MobileOtp.into(),
        ..Default::default()
    };
    let transaction = client.create_transaction(create).await?.into_inner();
    let otp = story.otp(&person.entry.mobile).await?;
    client
        .verify_transaction(story.verification(&transaction.name, &otp))
        .await?;
    let request = identity::SetCredentialRequest {
        request_id: story.rid(),
        name: person.account.name.clone(),
        etag: String::new(),
        transaction: transaction.name,
        credential: Some(Credential::Password(password.to_owned())),
    };
    let mut client = AccountServiceClient::new(person.who.identity());
    client.set_credential(request).await.map(drop)
}

/// Proves a login by a password.
async fn log_in(story: &Story, person: &Person, password: &str) -> Result<(), Status> {
    let number = types::identifier::Identifier::AbhaNumber(person.account.abha_number.clone());
    let create = identity::CreateTransactionRequest {
        request_id: story.rid(),
        purpose: Purpose::Login.into(),
        factor: identity::Factor::Password.into(),
        subject: Some(Subject::Identifier(types::Identifier {
            identifier: Some(number),
        })),
        ..Default::default()
    };
    let mut client = TransactionServiceClient::new(story.app.identity());
    let transaction = client.create_transaction(create).await?.into_inner();
    let request = identity::VerifyTransactionRequest {
        request_id: story.rid(),
        name: transaction.name,
        etag: String::new(),
        proof: Some(Proof::Password(password.to_owned())),
    };
    client.verify_transaction(request).await.map(drop)
}
