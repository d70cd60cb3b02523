//! Transactions, accounts and addresses.

use std::time::Duration;

use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::create_transaction_request::Subject;
use sammati_api::identity::v1::set_credential_request::Credential;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_api::sandbox::v1 as sandbox;
use sammati_tests::story::{Failure, Person};

use super::{Made, PASSWORD, Stage, apart, made, proved};

/// A transaction and whom it is about.
type Challenged = (identity::Transaction, sandbox::Person);

impl Stage {
    async fn challenged(&self) -> Result<Challenged, Failure> {
        let entry = self.entry();
        let transaction = self.story.challenge(0, self.story.enrolment(&entry)).await?;
        Ok((transaction, entry))
    }

    async fn two_challenged(&self) -> Result<(Challenged, Challenged), Failure> {
        apart(async || self.challenged().await, |(transaction, _)| &transaction.name).await
    }

    pub(super) async fn create_transaction(&self) -> Result<Made, Failure> {
        // Where an Aadhaar number lives only its transactions tell.
        let ((_, one), (_, other)) = self.two_challenged().await?;
        Ok(made(&self.story.app, self.story.enrolment(&one), |r| {
            r.subject = Some(Subject::Aadhaar(other.aadhaar));
        }))
    }

    pub(super) async fn resend_otp(&self) -> Result<Made, Failure> {
        let ((one, _), (other, _)) = self.two_challenged().await?;
        // A resend is accepted after a minute; who is known by then is known anew within seconds.
        self.clock.advance(Duration::from_secs(61));
        let request = identity::ResendOtpRequest {
            request_id: self.story.rid(),
            name: one.name,
            etag: String::new(),
        };
        Ok(made(&self.story.app, request, |r| r.name = other.name))
    }

    pub(super) async fn verify_transaction(&self) -> Result<Made, Failure> {
        let ((one, entry), (other, _)) = self.two_challenged().await?;
        let request = self
            .story
            .verification(&one.name, &self.story.otp(&entry.mobile).await?);
        Ok(made(&self.story.app, request, |r| r.name = other.name))
    }

    pub(super) async fn create_account(&self) -> Result<Made, Failure> {
        let prove = async || Ok(self.story.prove_aadhaar(0, &self.entry()).await?);
        let (one, other) = apart(prove, |transaction| &transaction.name).await?;
        let request = identity::CreateAccountRequest {
            request_id: self.story.rid(),
            transaction: one.name,
            chosen_address: None,
            audiences: vec!["identity".into(), "consent".into()],
        };
        Ok(made(&self.story.app, request, |r| r.transaction = other.name))
    }

    /// Her account is the only one she may name.
    pub(super) async fn set_credential(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let request = self.credential(&person, PASSWORD).await?;
        Ok(made(&person.who, request, |r| {
            r.credential = Some(Credential::Clear(true))
        }))
    }

    /// By an operator: who deletes her own account cannot ask again.
    pub(super) async fn delete_account(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_people().await?;
        let request = identity::DeleteAccountRequest {
            request_id: self.story.rid(),
            name: one.account.name,
            etag: String::new(),
            legal_basis: "an order".to_owned(),
        };
        Ok(made(&self.story.operator, request, |r| r.name = other.account.name))
    }

    /// A good request to set her password.
    pub(crate) async fn credential(
        &self,
        person: &Person,
        password: &str,
    ) -> Result<identity::SetCredentialRequest, Failure> {
        let proved = proved(&self.story, &person.who, &person.entry, Purpose::SetCredential, None).await?;
        Ok(identity::SetCredentialRequest {
            request_id: self.story.rid(),
            name: person.account.name.clone(),
            etag: String::new(),
            transaction: proved,
            credential: Some(Credential::Password(password.into())),
        })
    }

    /// By the app that enrolled them both: a person may name only her own account.
    pub(super) async fn create_address(&self) -> Result<Made, Failure> {
        let enrol = async || {
            let entry = self.entry();
            let proved = self.story.prove_aadhaar(0, &entry).await?;
            let rid = self.story.rid();
            let person = self.story.create_account(0, &entry, &proved.name, &rid).await?;
            Ok((proved.name, person.account.name))
        };
        let (one, other) = apart(enrol, |(_, account)| account).await?;
        let request = identity::CreateAddressRequest {
            request_id: self.story.rid(),
            account: one.1,
            etag: String::new(),
            transaction: one.0,
            local_part: self.unused(),
            preferred: true,
        };
        Ok(made(&self.story.app, request, |r| {
            (r.transaction, r.account) = other;
            r.local_part = self.unused();
        }))
    }

    /// Her account is the only one she may name.
    pub(super) async fn set_preferred_address(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let before = person.address();
        let account = self.story.claim_address(&person, &self.unused()).await?;
        let after = account
            .addresses
            .iter()
            .find(|a| a.preferred)
            .map(|a| a.address.clone())
            .ok_or("none preferred")?;
        let request = identity::SetPreferredAddressRequest {
            request_id: self.story.rid(),
            account: account.name,
            etag: String::new(),
            address: before,
        };
        Ok(made(&person.who, request, |r| r.address = after))
    }
}
