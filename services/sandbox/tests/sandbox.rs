//! The sandbox over real sockets, with the certificates of its callers.

use std::sync::Arc;

use sammati_api::identity::v1::Factor;
use sammati_api::provider::v1 as provider;
use sammati_api::provider::v1::complete_kyc_request::Proof;
use sammati_api::provider::v1::complete_kyc_response::Verdict;
use sammati_api::provider::v1::kyc_provider_service_client::KycProviderServiceClient;
use sammati_api::provider::v1::message_sender_service_client::MessageSenderServiceClient;
use sammati_api::provider::v1::start_kyc_request::Identifier;
use sammati_api::sandbox::v1 as api;
use sammati_api::sandbox::v1::sandbox_service_client::SandboxServiceClient;
use sammati_api::types::v1::ConsentStamp;
use sammati_kernel::{ManualClock, Micros, Reason};
use sammati_sandbox::{Sandbox, Settings};
use sammati_server::error::refusal_of;
use sammati_server::{Config, Running, StartError, serve_on};
use sammati_testkit::Authority;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const TRANSACTION: &str = "transactions/0192f0c1-7b1a-7000-8000-000000000001";

struct Host {
    running: Running,
    authority: Authority,
    _folder: TempDir,
}

async fn start(service: &str) -> Result<Host, StartError> {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("sammati.test").unwrap();
    authority.write(folder.path()).unwrap();
    let own = authority.issue("service/sandbox", &["127.0.0.1"]).unwrap();
    own.write(folder.path(), "sandbox").unwrap();
    let text = format!(
        r#"
        [server]
        listen = "127.0.0.1:0"
        admin_listen = "127.0.0.1:0"
        trust_domain = "sammati.test"
        [server.tls]
        certificate = "sandbox.pem"
        key = "sandbox-key.pem"
        client_ca = "ca.pem"
        [service]
        {service}
        "#
    );
    let config: Config<Settings> = Config::parse(&text, &folder.path().join("sandbox.toml"))?;
    let clock = ManualClock::at(Micros::from_seconds(1_800_000_000));
    let running = serve_on::<Sandbox>(config, port().await, port().await, Arc::new(clock)).await?;
    Ok(Host {
        running,
        authority,
        _folder: folder,
    })
}

async fn port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl Host {
    /// A connection that shows the certificate of `who`.
    async fn channel(&self, who: &str) -> Channel {
        let shown = self.authority.issue(who, &[]).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .identity(Identity::from_pem(shown.cert_pem, shown.key_pem));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.running.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }
}

fn start_kyc(aadhaar: &str) -> provider::StartKycRequest {
    provider::StartKycRequest {
        transaction: TRANSACTION.into(),
        send_number: 1,
        identifier: Some(Identifier::Aadhaar(aadhaar.into())),
        factor: Factor::AadhaarOtp.into(),
        consent: Some(ConsentStamp {
            code: "abha-enrollment".into(),
            version: "1.4".into(),
            language: "en".into(),
            notice: String::new(),
            accepted_time: Some(Default::default()),
        }),
    }
}

fn complete_kyc(number: &str, attempt: i32, otp: &str) -> provider::CompleteKycRequest {
    provider::CompleteKycRequest {
        provider_transaction: number.into(),
        attempt,
        transaction: TRANSACTION.into(),
        proof: Some(Proof::Otp(otp.into())),
    }
}

fn reason(status: &Status) -> Reason {
    refusal_of(status).unwrap_or_else(|| panic!("{status:?}")).reason
}

#[tokio::test]
async fn it_starts_only_on_purpose() {
    for service in ["", "sandbox = false", "sandbox = true\npeople = 0"] {
        assert!(matches!(start(service).await, Err(StartError::Config(_))), "{service}");
    }
    let Err(error) = start("seed = 2").await else {
        panic!("it started")
    };
    assert!(error.to_string().contains("sandbox = true"), "{error}");
}

#[tokio::test]
async fn all_that_is_wrong_with_a_list_is_told_at_once() {
    let host = start("sandbox = true").await.unwrap();
    let mut operator = SandboxServiceClient::new(host.channel("operator/asha").await);
    let wrong = api::ListMessagesRequest {
        recipient: "a\0b".into(),
        page_size: -1,
        ..Default::default()
    };
    let refused = refusal_of(&operator.list_messages(wrong).await.unwrap_err()).unwrap();
    let fields: Vec<_> = refused.violations.iter().map(|v| v.field.to_string()).collect();
    assert_eq!(fields, ["recipient", "page_size"]);
}

#[tokio::test]
async fn a_person_is_found_proved_and_known() {
    let host = start("sandbox = true").await.unwrap();
    let mut operator = SandboxServiceClient::new(host.channel("operator/asha").await);
    let mut agency = KycProviderServiceClient::new(host.channel("service/identity").await);

    let ask = api::ListPeopleRequest {
        page_size: 2,
        page_token: String::new(),
    };
    let first = operator.list_people(ask.clone()).await.unwrap().into_inner();
    let second = operator
        .list_people(api::ListPeopleRequest {
            page_token: first.next_page_token.clone(),
            ..ask
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((first.people.len(), second.people.len()), (2, 2));
    assert_ne!(first.people[0], second.people[0]);
    let person = &first.people[0];

    let started = agency.start_kyc(start_kyc(&person.aadhaar)).await.unwrap().into_inner();
    assert_eq!(
        agency.start_kyc(start_kyc(&person.aadhaar)).await.unwrap().into_inner(),
        started
    );
    assert_eq!(started.masked_target, format!("******{}", &person.mobile[6..]));
    let inbox = operator
        .list_messages(api::ListMessagesRequest {
            recipient: person.mobile.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(inbox.messages.len(), 1, "a repeated start sends nothing");
    let otp = &inbox.messages[0].parameters["otp"];
    assert_eq!(inbox.messages[0].template, "uidai-otp");

    let wrong = if otp == "000000" { "000001" } else { "000000" };
    let number = &started.provider_transaction;
    let rejected = agency
        .complete_kyc(complete_kyc(number, 1, wrong))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (rejected.verdict(), rejected.provider_code.as_str()),
        (Verdict::Rejected, "400")
    );
    assert_eq!(rejected.names, None);
    let matched = agency
        .complete_kyc(complete_kyc(number, 2, otp))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((matched.verdict(), &matched.names), (Verdict::Matched, &person.names));
    assert_eq!((&matched.mobile, matched.reference.len()), (&person.mobile, 43));
    let again = agency
        .complete_kyc(complete_kyc(number, 2, otp))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, matched);
    let spent = agency.complete_kyc(complete_kyc(number, 3, otp)).await.unwrap_err();
    let spent = refusal_of(&spent).unwrap();
    assert_eq!(
        (spent.reason, spent.metadata),
        (Reason::KycRejected, vec![("provider_code", "403".to_owned())])
    );
    host.running.shutdown().await;
}

#[tokio::test]
async fn a_message_lies_in_the_inbox_once() {
    let host = start("sandbox = true").await.unwrap();
    let mut operator = SandboxServiceClient::new(host.channel("operator/asha").await);
    let mut sender = MessageSenderServiceClient::new(host.channel("service/identity").await);
    let message = provider::SendMessageRequest {
        message_id: "0192f0c1-7b1a-7000-8000-000000000002".into(),
        channel: provider::Channel::Sms.into(),
        recipient: "9000012345".into(),
        template: "otp-login".into(),
        template_version: 1,
        language: "en".into(),
        parameters: [("otp".to_owned(), "123456".to_owned())].into(),
    };
    let first = sender.send_message(message.clone()).await.unwrap().into_inner();
    assert_eq!(sender.send_message(message).await.unwrap().into_inner(), first);
    let inbox = operator
        .list_messages(api::ListMessagesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(inbox.messages.len(), 1);
    assert!(inbox.messages[0].text.starts_with("123456"));
    assert!(inbox.next_page_token.is_empty());
    host.running.shutdown().await;
}

#[tokio::test]
async fn only_those_whom_the_contract_names_are_served() {
    let host = start("sandbox = true").await.unwrap();
    let stranger = start_kyc("234567890124");
    let mut identity = KycProviderServiceClient::new(host.channel("service/identity").await);
    let unknown = identity.start_kyc(stranger.clone()).await.unwrap_err();
    assert_eq!(reason(&unknown), Reason::KycIdentifierUnknown);
    for who in ["service/consent", "operator/asha"] {
        let mut agency = KycProviderServiceClient::new(host.channel(who).await);
        assert_eq!(
            reason(&agency.start_kyc(stranger.clone()).await.unwrap_err()),
            Reason::CallerKind
        );
    }
    for who in ["service/identity", "participant/hospital"] {
        let mut inbox = SandboxServiceClient::new(host.channel(who).await);
        let refused = inbox
            .list_messages(api::ListMessagesRequest::default())
            .await
            .unwrap_err();
        assert!([Reason::CallerKind, Reason::TokenMissing].contains(&reason(&refused)));
    }
    host.running.shutdown().await;
}
