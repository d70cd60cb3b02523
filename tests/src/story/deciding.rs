//! May it happen, now?

use std::time::Duration;

use sammati_api::consent::v1::decision_service_client::DecisionServiceClient;
use sammati_api::consent::v1::transfer_service_client::TransferServiceClient;
use sammati_api::consent::v1::{self as consent, check_access_request};
use sammati_api::types::v1 as types;
use sammati_kernel::Micros;
use sammati_server::event::timestamp;
use tonic::Status;

use super::{CARE, Story, at};

/// How often it is asked whether consent has heard of something.
const TRIES: u32 = 200;

/// Between two such questions.
const PAUSE: Duration = Duration::from_millis(50);

impl Story {
    /// What the clinic asks about a consent: prescriptions of the last year, to view.
    pub fn question(&self, consent: &str) -> consent::CheckAccessRequest {
        consent::CheckAccessRequest {
            target: Some(check_access_request::Target::Consent(consent.to_owned())),
            provider: "participants/hospital".into(),
            purpose: CARE.into(),
            access_mode: types::AccessMode::View.into(),
            hi_types: vec![types::HiType::Prescription.into()],
            record_range: self.asked_range(),
            ..Default::default()
        }
    }

    /// The clinic asks whether it may.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn check(
        &self,
        replica: usize,
        question: consent::CheckAccessRequest,
    ) -> Result<consent::Decision, Status> {
        let mut client = DecisionServiceClient::new(self.clinic.consent_at(replica));
        Ok(client.check_access(question).await?.into_inner())
    }

    /// Waits until consent has heard of all that identity did up to `then`, by their clock: one that stands still is to be
    /// moved on before.
    ///
    /// # Errors
    /// The service's refusal; DEADLINE_EXCEEDED where the news did not come.
    pub async fn until_known(&self, then: Micros) -> Result<(), Status> {
        let then = timestamp(then);
        // Why a consent that there is not permits nothing: that is recorded nowhere.
        let question = consent::ExplainAccessRequest {
            check: Some(self.question(&format!("consents/{}", self.rid()))),
            ..Default::default()
        };
        let mut client = DecisionServiceClient::new(self.clinic.consent());
        for _ in 0..TRIES {
            let told = client.explain_access(question.clone()).await?.into_inner();
            let heard = told.identity_as_of_time.unwrap_or_default();
            if (heard.seconds, heard.nanos) > (then.seconds, then.nanos) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Status::deadline_exceeded("identity's news did not come in ten seconds"))
    }

    /// What the hospital asks about a consent before it releases records to the clinic.
    pub fn authorization(&self, consent: &str) -> consent::AuthorizeAccessRequest {
        consent::AuthorizeAccessRequest {
            target: Some(consent::authorize_access_request::Target::Consent(consent.to_owned())),
            requester: "participants/clinic".into(),
            purpose: CARE.into(),
            access_mode: types::AccessMode::View.into(),
            hi_types: vec![types::HiType::Prescription.into()],
            record_range: self.asked_range(),
            request_id: self.rid(),
            ..Default::default()
        }
    }

    /// The hospital, about to release records to the clinic, asks and takes a use.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn authorize(&self, replica: usize, consent: &str) -> Result<consent::Decision, Status> {
        let mut client = DecisionServiceClient::new(self.hospital.consent_at(replica));
        let request = self.authorization(consent);
        Ok(client.authorize_access(request).await?.into_inner())
    }

    /// The clinic's transfer under a consent.
    pub fn transfer(&self, consent: &str) -> consent::CreateTransferRequest {
        let content = r#"{"cryptoAlg":"ECDH","curve":"Curve25519","dhPublicKey":{"expiry":"2099-01-01T00:00:00.000Z","parameters":"Curve25519/32byte random key","keyValue":"BB8sjdkY8VLbIyhRBSwS8uJGzBQQ3zLTWAGiTjGfWSkSLVPfVMQwOsm2cvvZ1LjsyVIBiJ0mT5gS8XfUGnD+MZ8="},"nonce":"6uj1RdDUbcpI3lVMZvijkMC8Te20O4Bcyz0SyivX8Eg="}"#;
        let expire_time = at(self.clock.now().plus(Duration::from_secs(3600)));
        consent::CreateTransferRequest {
            consent: consent.to_owned(),
            hi_types: vec![types::HiType::Prescription.into()],
            record_range: self.asked_range(),
            user: None,
            push_uri: "https://clinic.example/push".into(),
            key_material: Some(consent::KeyMaterial {
                content: content.into(),
                expire_time,
            }),
            request_id: self.rid(),
        }
    }

    /// The clinic opens a transfer.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn open_transfer(&self, request: consent::CreateTransferRequest) -> Result<consent::Transfer, Status> {
        Ok(TransferServiceClient::new(self.clinic.consent())
            .create_transfer(request)
            .await?
            .into_inner())
    }
}
