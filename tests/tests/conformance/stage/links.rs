//! Discoveries, announcements, profile shares and policies.

use ring::agreement::{EphemeralPrivateKey, X25519};
use ring::rand::SystemRandom;
use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::answer_discovery_request::{Answer, Candidates};
use sammati_api::consent::v1::link_service_client::LinkServiceClient;
use sammati_api::consent::v1::policy_service_client::PolicyServiceClient;
use sammati_api::consent::v1::profile_share_service_client::ProfileShareServiceClient;
use sammati_api::types::v1 as types;
use sammati_kernel::Clock;
use sammati_server::event::timestamp;
use sammati_tests::story::{Failure, Person, Story};
use std::time::Duration;

use super::{Made, Stage, apart, made};

/// What she asks the hospital for.
pub(crate) fn search(story: &Story, person: &Person) -> consent::CreateDiscoveryRequest {
    let own = story.described(person);
    consent::CreateDiscoveryRequest {
        hip: "participants/hospital".into(),
        identifier: own.identifier,
        demographics: own.demographics,
        unverified_identifiers: Vec::new(),
        request_id: story.rid(),
    }
}

/// What she shares at the hospital's counter.
pub(crate) fn sharing(story: &Story, person: &Person) -> consent::CreateProfileShareRequest {
    let own = story.described(person);
    consent::CreateProfileShareRequest {
        hip: "participants/hospital".into(),
        counter: "OPD1".into(),
        intent: consent::profile_share::Intent::ProfileShare.into(),
        profile: Some(consent::SharedProfile {
            identifier: own.identifier,
            demographics: own.demographics,
            ..Default::default()
        }),
        request_id: story.rid(),
    }
}

/// What denies everything to somebody who never asks.
pub(crate) fn denial(story: &Story, hiu: &str) -> consent::CreatePolicyRequest {
    consent::CreatePolicyRequest {
        effect: consent::policy::Effect::Deny.into(),
        hiu: format!("participants/{hiu}"),
        request_id: story.rid(),
        ..Default::default()
    }
}

impl Stage {
    async fn discovery(&self, person: &Person) -> Result<consent::Discovery, Failure> {
        let mut client = LinkServiceClient::new(person.who.consent());
        let created = client.create_discovery(search(&self.story, person)).await?;
        Ok(created.into_inner())
    }

    fn found(&self, discovery: &consent::Discovery) -> (consent::AnswerDiscoveryRequest, String) {
        let reference = format!("visit {}", self.story.rid());
        let context = types::CareContextRef {
            patient_reference: "MRN-1".into(),
            care_context_reference: reference.clone(),
            hi_type: types::HiType::Prescription.into(),
            display: "Visit".into(),
        };
        let answer = Answer::Candidates(Candidates {
            care_contexts: vec![context],
            matched_by: vec![consent::IdentifierType::Mobile.into()],
        });
        (self.answering(discovery, answer), reference)
    }

    fn answering(&self, discovery: &consent::Discovery, answer: Answer) -> consent::AnswerDiscoveryRequest {
        consent::AnswerDiscoveryRequest {
            name: discovery.name.clone(),
            answer: Some(answer),
            etag: String::new(),
            request_id: self.story.rid(),
        }
    }

    async fn answer(&self, request: consent::AnswerDiscoveryRequest) -> Result<(), Failure> {
        let mut client = LinkServiceClient::new(self.story.hospital.consent());
        client.answer_discovery(request).await?;
        Ok(())
    }

    /// A discovery of hers in which the hospital found something, and how to choose it.
    async fn matched(&self, person: &Person) -> Result<consent::SelectCareContextsRequest, Failure> {
        let discovery = self.discovery(person).await?;
        let (answer, reference) = self.found(&discovery);
        self.answer(answer).await?;
        Ok(consent::SelectCareContextsRequest {
            name: discovery.name,
            care_context_references: vec![reference],
            etag: String::new(),
            request_id: self.story.rid(),
        })
    }

    /// One in which it challenged her.
    async fn discovery_challenged(&self, person: &Person) -> Result<consent::Discovery, Failure> {
        let select = self.matched(person).await?;
        let mut client = LinkServiceClient::new(person.who.consent());
        let discovery = client.select_care_contexts(select).await?.into_inner();
        let key = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(|_| "no randomness")?;
        let public = key.compute_public_key().map_err(|_| "no key")?;
        let challenge = consent::DiscoveryChallenge {
            medium: consent::discovery_challenge::Medium::Mobile.into(),
            hint: "******5852".into(),
            expire_time: Some(timestamp(self.clock.now().plus(Duration::from_secs(300)))),
            token_key: public.as_ref().to_vec(),
        };
        self.answer(self.answering(&discovery, Answer::Challenge(challenge)))
            .await?;
        Ok(discovery)
    }

    pub(super) async fn create_discovery(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let request = search(&self.story, &person);
        Ok(made(&person.who, request, |r| r.hip = "participants/elsewhere".into()))
    }

    pub(super) async fn answer_discovery(&self) -> Result<Made, Failure> {
        let (one, other) = self.two_people().await?;
        let (one, other) = (self.discovery(&one).await?, self.discovery(&other).await?);
        let (request, _) = self.found(&one);
        Ok(made(&self.story.hospital, request, |r| r.name = other.name))
    }

    pub(super) async fn select_care_contexts(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let request = self.matched(&person).await?;
        let other = self.matched(&person).await?;
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    pub(super) async fn confirm_care_contexts(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let (one, other) = (
            self.discovery_challenged(&person).await?,
            self.discovery_challenged(&person).await?,
        );
        let request = consent::ConfirmCareContextsRequest {
            name: one.name,
            token: "483920".into(),
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    pub(super) async fn announce_care_contexts(&self) -> Result<Made, Failure> {
        let linked = async || {
            let reference = format!("visit {}", self.story.rid());
            let person = self.person().await?;
            let link = self.story.link(&person, &[&reference]).await?;
            Ok((link.name, reference))
        };
        let ((one, reference), (other, _)) = apart(linked, |(name, _)| name).await?;
        let request = consent::AnnounceCareContextsRequest {
            name: one,
            care_context_references: vec![reference],
            hi_types: vec![types::HiType::Prescription.into()],
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.hospital, request, |r| r.name = other))
    }

    pub(super) fn send_deep_link(&self) -> Made {
        // Mobiles that nothing was sent to.
        let mobile = || {
            let rid = self.story.rid();
            let digits: String = rid.chars().rev().filter(char::is_ascii_digit).take(9).collect();
            format!("9{digits:0>9}")
        };
        let request = consent::SendDeepLinkRequest {
            mobile: mobile(),
            language: "hi".into(),
            request_id: self.story.rid(),
        };
        made(&self.story.hospital, request, |r| r.mobile = mobile())
    }

    pub(super) async fn create_profile_share(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let request = sharing(&self.story, &person);
        Ok(made(&person.who, request, |r| r.counter = "OPD2".into()))
    }

    pub(super) async fn acknowledge_profile_share(&self) -> Result<Made, Failure> {
        let share = async || {
            let person = self.person().await?;
            let mut client = ProfileShareServiceClient::new(person.who.consent());
            let shared = client.create_profile_share(sharing(&self.story, &person)).await?;
            Ok(shared.into_inner())
        };
        let (one, other) = apart(share, |share| &share.name).await?;
        let request = consent::AcknowledgeProfileShareRequest {
            name: one.name,
            token_number: "17".into(),
            etag: String::new(),
            request_id: self.story.rid(),
        };
        Ok(made(&self.story.hospital, request, |r| r.name = other.name))
    }

    pub(super) async fn create_policy(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let request = denial(&self.story, &self.unused());
        Ok(made(&person.who, request, |r| r.hiu = "participants/elsewhere".into()))
    }

    /// Two policies of hers.
    async fn two_policies(&self, person: &Person) -> Result<(consent::Policy, consent::Policy), Failure> {
        let mut client = PolicyServiceClient::new(person.who.consent());
        let one = client.create_policy(denial(&self.story, &self.unused())).await?;
        let other = client.create_policy(denial(&self.story, &self.unused())).await?;
        Ok((one.into_inner(), other.into_inner()))
    }

    pub(super) async fn disable_policy(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let (one, other) = self.two_policies(&person).await?;
        Ok(made(&person.who, self.disabling(&one), |r| r.name = other.name))
    }

    pub(super) async fn enable_policy(&self) -> Result<Made, Failure> {
        let person = self.person().await?;
        let (one, other) = self.two_policies(&person).await?;
        let mut client = PolicyServiceClient::new(person.who.consent());
        client.disable_policy(self.disabling(&one)).await?;
        let request = consent::EnablePolicyRequest {
            name: one.name,
            etag: String::new(),
            request_id: self.story.rid(),
            action_token: String::new(),
        };
        Ok(made(&person.who, request, |r| r.name = other.name))
    }

    fn disabling(&self, policy: &consent::Policy) -> consent::DisablePolicyRequest {
        consent::DisablePolicyRequest {
            name: policy.name.clone(),
            etag: String::new(),
            request_id: self.story.rid(),
        }
    }
}
