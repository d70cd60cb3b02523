//! Subscriptions and lockers.

use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::subscription_service_client::SubscriptionServiceClient;
use sammati_api::types::v1 as types;
use sammati_kernel::Clock;
use sammati_server::event::timestamp;
use sammati_tests::story::{Failure, Person, Story};
use std::time::Duration;

use super::{Made, Stage, made};

/// How the clinic asks to be told of news of whoever has this address.
pub(crate) fn subscribing(story: &Story, address: &str) -> consent::CreateSubscriptionRequest {
    let now = story.clock.now();
    consent::CreateSubscriptionRequest {
        patient: address.to_owned(),
        purpose: types::PurposeCode::Caremgt.into(),
        sources: Some(consent::SubscribedSources {
            categories: vec![consent::SubscriptionCategory::Link.into()],
            hi_types: vec![types::HiType::Prescription.into()],
            period: Some(types::TimeRange {
                from: Some(timestamp(now)),
                to: Some(timestamp(now.plus(Duration::from_secs(86_400)))),
            }),
            ..Default::default()
        }),
        request_id: story.rid(),
    }
}

impl Stage {
    async fn asked(&self, person: &Person) -> Result<consent::Subscription, Failure> {
        let mut client = SubscriptionServiceClient::new(self.story.clinic.consent());
        let request = subscribing(&self.story, &person.address());
        Ok(client.create_subscription(request).await?.into_inner())
    }

    async fn granted_subscription(&self, person: &Person) -> Result<consent::Subscription, Failure> {
        let asked = self.asked(person).await?;
        let request = consent::ApproveSubscriptionRequest {
            name: asked.name,
            sources: None,
            etag: String::new(),
            request_id: self.story.rid(),
            action_token: String::new(),
        };
        let mut client = SubscriptionServiceClient::new(person.who.consent());
        Ok(client.approve_subscription(request).await?.into_inner())
    }

    pub(super) async fn create_subscription(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_people().await?;
        let request = subscribing(&self.story, &one.address());
        Ok(made(&self.story.clinic, request, |r| r.patient = other.address()))
    }

    pub(super) async fn approve_subscription(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let (one, other) = (self.asked(&person).await?, self.asked(&person).await?);
        let request = consent::ApproveSubscriptionRequest {
            name: one.name,
            sources: None,
            etag: String::new(),
            request_id: self.story.rid(),
            action_token: String::new(),
        };
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    pub(super) async fn deny_subscription(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let (one, other) = (self.asked(&person).await?, self.asked(&person).await?);
        let request = consent::DenySubscriptionRequest {
            name: one.name,
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    pub(super) async fn update_subscription(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let one = self.granted_subscription(&person).await?;
        let other = self.granted_subscription(&person).await?;
        let request = consent::UpdateSubscriptionRequest {
            name: one.name,
            sources: one.given,
            etag: String::new(),
            request_id: self.story.rid(),
            action_token: String::new(),
        };
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    pub(super) async fn pause_subscription(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let one = self.granted_subscription(&person).await?;
        let other = self.granted_subscription(&person).await?;
        Ok(made(&person.who, self.pausing(&one), |r| r.name = other.name))
    }

    fn pausing(&self, subscription: &consent::Subscription) -> consent::PauseSubscriptionRequest {
        consent::PauseSubscriptionRequest {
            name: subscription.name.clone(),
            etag: String::new(),
            request_id: self.story.rid(),
        }
    }

    pub(super) async fn resume_subscription(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let one = self.granted_subscription(&person).await?;
        let other = self.granted_subscription(&person).await?;
        let mut client = SubscriptionServiceClient::new(person.who.consent());
        client.pause_subscription(self.pausing(&one)).await?;
        let request = consent::ResumeSubscriptionRequest {
            name: one.name,
            etag: String::new(),
            request_id: self.story.rid(),
            action_token: String::new(),
        };
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    /// By the holder, who may name those of several persons.
    pub(super) async fn revoke_subscription(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_people().await?;
        let one = self.granted_subscription(&one).await?;
        let other = self.granted_subscription(&other).await?;
        let request = consent::RevokeSubscriptionRequest {
            name: one.name,
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.clinic, request, |r| r.name = other.name))
    }

    pub(super) async fn setup_locker(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let locker = self.unused();
        let role = types::ParticipantRole::Locker;
        self.story.register(&locker, "A locker", role).await?;
        let request = consent::SetupLockerRequest {
            locker: format!("participants/{locker}"),
            patient: person.address(),
            hips: Vec::new(),
            hi_types: vec![types::HiType::Prescription.into()],
            expire_time: Some(timestamp(self.clock.now().plus(Duration::from_secs(86_400)))),
            request_id: self.story.rid(),
            action_token: String::new(),
        };
        self.until_known().await?;
        Ok(made(&person.who, request, |r| {
            r.locker = "participants/elsewhere".into()
        }))
    }
}
