//! Whom does it ask outside? The e-KYC agency and the message sender, never within a commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sammati_api::audit::v1::EraseSubjectRequest;
use sammati_api::audit::v1::subject_service_client::SubjectServiceClient;
use sammati_api::provider::v1 as provider;
use sammati_api::provider::v1::kyc_provider_service_client::KycProviderServiceClient;
use sammati_api::provider::v1::kyc_provider_service_server::KycProviderService;
use sammati_kernel::{AccountId, Clock, MobileNumber, Reason, Refusal, Seed, TransactionId};
use sammati_server::channel::Channel;
use sammati_server::error::refusal_of;
use sammati_server::messages::Messages;
use tonic::{Request, Response, Status};

use crate::account::{Erases, PATIENCE};

/// The agency, whoever it is.
pub type Kyc = Arc<dyn KycProviderService>;

/// The agency at the other end of a connection.
#[derive(Debug, Clone)]
pub struct RemoteKyc(pub Channel);

#[tonic::async_trait]
impl KycProviderService for RemoteKyc {
    async fn start_kyc(
        &self,
        request: Request<provider::StartKycRequest>,
    ) -> Result<Response<provider::StartKycResponse>, Status> {
        KycProviderServiceClient::new(self.0.clone()).start_kyc(request).await
    }

    async fn complete_kyc(
        &self,
        request: Request<provider::CompleteKycRequest>,
    ) -> Result<Response<provider::CompleteKycResponse>, Status> {
        KycProviderServiceClient::new(self.0.clone())
            .complete_kyc(request)
            .await
    }
}

/// The audit log at the other end of a connection.
pub struct RemoteAudit {
    channel: Channel,
    clock: Arc<dyn Clock>,
}

impl RemoteAudit {
    /// Over a channel to audit.
    pub fn new(channel: Channel, clock: Arc<dyn Clock>) -> Self {
        Self { channel, clock }
    }
}

#[tonic::async_trait]
impl Erases for RemoteAudit {
    async fn erase(&self, account: AccountId) -> Result<(), Refusal> {
        let seed = Seed::draw().map_err(|_| Reason::Internal)?;
        let id: TransactionId = seed.id("erase", self.clock.now(), account.slot());
        let mut request = Request::new(EraseSubjectRequest {
            // One of its own each time: asked again, audit books what was told since it was asked first.
            request_id: id.to_string(),
            subject: account.name(),
            classes: Vec::new(),
            legal_basis: "DPDP Act s.8(7): her account is deleted".to_owned(),
        });
        request.set_timeout(PATIENCE);
        let asked = SubjectServiceClient::new(self.channel.clone())
            .erase_subject(request)
            .await;
        asked.map(drop).map_err(|status| {
            tracing::warn!(code = ?status.code(), "audit did not take an erasure");
            refusal_of(&status).unwrap_or_else(|| Reason::StorageUnavailable.into())
        })
    }
}

/// What the agency's refusal becomes: its own reason where the caller may learn it, else that it is away.
pub(crate) fn kyc_refusal(status: &Status) -> Refusal {
    let told = refusal_of(status);
    match told.as_ref().map(|refusal| refusal.reason) {
        Some(Reason::KycIdentifierUnknown | Reason::KycFactorUnavailable | Reason::KycRejected) => {
            told.unwrap_or_else(|| Reason::KycUnavailable.into())
        }
        Some(Reason::KycExpired) => Refusal::new(Reason::OtpExpired).saying("the OTP has expired; ask for a new one"),
        _ => {
            tracing::warn!(code = ?status.code(), "the e-KYC provider did not answer");
            Refusal::new(Reason::KycUnavailable)
                .saying("UIDAI cannot be reached just now; nothing is lost, repeat the same call in a moment")
                .retry_after(Duration::from_secs(5))
        }
    }
}

/// Sends OTPs. Where nobody is to be reached it behaves as if somebody were, so that callers cannot tell: it takes as
/// long as the last real sending, and neither takes less than the floor.
#[derive(Clone)]
pub(crate) struct Courier {
    sender: Messages,
    floor: Duration,
    last: Arc<Last>,
}

/// How the last real sending went.
#[derive(Debug, Default)]
struct Last {
    failed: AtomicBool,
    micros: AtomicU64,
}

/// One OTP on its way.
#[derive(Debug)]
pub(crate) struct Otp {
    pub(crate) message_id: String,
    pub(crate) template: &'static str,
    pub(crate) language: String,
    pub(crate) otp: String,
}

/// A message that something has happened, on its way.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) message_id: String,
    pub(crate) template: &'static str,
    pub(crate) language: String,
}

impl Courier {
    /// Sends a notice to a mobile, 10 digits.
    pub(crate) async fn tell(&self, mobile: &str, notice: Notice) -> Result<(), Refusal> {
        let message = provider::SendMessageRequest {
            message_id: notice.message_id,
            channel: provider::Channel::Sms.into(),
            recipient: mobile.to_owned(),
            template: notice.template.to_owned(),
            template_version: 1,
            language: notice.language,
            parameters: std::collections::HashMap::new(),
        };
        let sent = self.sender.send_message(Request::new(message)).await;
        sent.map(drop).map_err(|_| Reason::MessageUnavailable.into())
    }

    /// With how long a sending takes at least.
    pub(crate) fn new(sender: Messages, floor: Duration) -> Self {
        Self {
            sender,
            floor,
            last: Arc::default(),
        }
    }

    /// Sends it; with `to` absent it only takes as long.
    pub(crate) async fn send(&self, to: Option<&MobileNumber>, otp: Otp) -> Result<(), Refusal> {
        let (sent, ()) = tokio::join!(self.deliver(to, otp), tokio::time::sleep(self.floor));
        sent
    }

    async fn deliver(&self, to: Option<&MobileNumber>, otp: Otp) -> Result<(), Refusal> {
        let Some(to) = to else {
            tokio::time::sleep(Duration::from_micros(self.last.micros.load(Ordering::Relaxed))).await;
            return if self.last.failed.load(Ordering::Relaxed) {
                Err(away())
            } else {
                Ok(())
            };
        };
        let began = tokio::time::Instant::now();
        let message = provider::SendMessageRequest {
            message_id: otp.message_id,
            channel: provider::Channel::Sms.into(),
            recipient: to.expose().to_owned(),
            template: otp.template.to_owned(),
            template_version: 1,
            language: otp.language,
            parameters: [("otp".to_owned(), otp.otp)].into(),
        };
        let sent = self.sender.send_message(Request::new(message)).await;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(0).min(2_000_000);
        self.last.micros.store(micros, Ordering::Relaxed);
        self.last.failed.store(sent.is_err(), Ordering::Relaxed);
        sent.map(drop).map_err(|status| {
            tracing::warn!(code = ?status.code(), "an OTP could not be handed to the message sender");
            away()
        })
    }
}

fn away() -> Refusal {
    Refusal::new(Reason::MessageUnavailable)
        .saying("the OTP could not be sent; ask for a new one with ResendOtp in a minute")
        .retry_after(Duration::from_secs(60))
}
