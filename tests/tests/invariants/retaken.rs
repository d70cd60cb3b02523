//! What a restore would put in force again beside a consent that was taken back: a request that was denied, uses, a consent
//! that was paused, a policy that denies, sessions that were ended or refreshed; and what callers hold of the epoch before.

use sammati_api::consent::v1::check_access_request::Consistency;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::consent::v1::notification_service_client::NotificationServiceClient;
use sammati_api::consent::v1::policy::{Effect, State as Switch};
use sammati_api::consent::v1::policy_service_client::PolicyServiceClient;
use sammati_api::consent::v1::{self as consent, decision::Outcome, decision::Reason};
use sammati_api::identity::v1 as identity;
use sammati_api::identity::v1::session_service_client::SessionServiceClient;
use sammati_api::types::v1 as types;
use sammati_tests::story::{Person, Story, reason};
use tonic::Status;

use crate::restored::{acknowledged_within, persist, until_told, until_told_times};

/// How many uses there are, and how many of them are lost.
const USES: (i32, usize) = (5, 2);

/// What there is before the backup.
pub(crate) struct Before {
    /// A request that nobody decided.
    request: consent::ConsentRequest,
    /// A consent of few uses.
    counted: String,
    /// A consent in force.
    paused: String,
    /// A policy that denies, out of force.
    policy: String,
    /// Sessions of hers.
    ended: identity::Session,
    refreshed: identity::Session,
}

impl Before {
    pub(crate) async fn of(story: &Story, her: &Person) -> Self {
        let mut scope = story.scope();
        scope.max_uses = USES.0;
        Self {
            request: story.ask(her, story.scope()).await.unwrap(),
            counted: acknowledged_within(story, her, scope).await,
            paused: acknowledged_within(story, her, story.scope()).await,
            policy: disabled(story, her).await.unwrap(),
            ended: story.open_session(her, "").await.unwrap(),
            refreshed: story.open_session(her, "").await.unwrap(),
        }
    }

    /// All that will be lost; each in its leaf when this returns. Tells what callers keep of it.
    pub(crate) async fn lose(&self, story: &Story, her: &Person) -> Kept {
        deny(story, her, &self.request.name).await.unwrap();
        for _ in 0..USES.1 {
            let used = story.authorize(0, &self.counted).await.unwrap();
            assert_eq!(used.outcome(), Outcome::Permit);
        }
        story.pause(her, &self.paused).await.unwrap();
        enable(story, her, &self.policy).await.unwrap();
        let revoke = identity::RevokeSessionsRequest {
            request_id: story.rid(),
            names: vec![self.ended.name.clone()],
            all_of: String::new(),
        };
        let mut client = SessionServiceClient::new(story.operator.identity());
        assert_eq!(
            client.revoke_sessions(revoke).await.unwrap().into_inner().revoked_count,
            1
        );
        refresh(story, &self.refreshed).await.unwrap();
        let decision = story.check(0, story.question(&self.counted)).await.unwrap();
        until_told(story, her, "consent.denied", &self.request.name).await;
        until_told(story, her, "consent.paused", &self.paused).await;
        until_told(story, her, "policy.enabled", &self.policy).await;
        until_told_times(story, her, ("data.use_consumed", self.counted.as_str()), USES.1).await;
        until_told(story, her, "identity.session_revoked", &self.ended.name).await;
        until_told(story, her, "identity.session_refreshed", &self.refreshed.name).await;
        Kept {
            revision: decision.revision,
            resume_token: last_token(story).await,
        }
    }

    /// What is said of it.
    pub(crate) fn said(&self) -> [String; 5] {
        [
            format!(
                "consent: {} was paused, and is so again, until she resumes it",
                self.paused
            ),
            format!("consent: {} denied and was enabled, and is so again", self.policy),
            format!("consent: {} was denied, and is so again", self.request.name),
            format!("identity: {} was ended or refreshed, and is ended", self.ended.name),
            format!("identity: {} was ended or refreshed, and is ended", self.refreshed.name),
        ]
    }

    /// None of it is in force again.
    pub(crate) async fn is_retaken(&self, story: &Story, her: &Person) {
        let late = persist(async || match deny(story, her, &self.request.name).await {
            Err(status) if reason(&status) == "STATE_CONFLICT" => Ok(()),
            Err(status) => Err(status),
            Ok(_) => panic!("it could be decided a second time"),
        });
        late.await;
        let decision = persist(async || story.check(0, story.question(&self.paused)).await).await;
        assert_eq!(decision.reason(), Reason::ConsentPaused);
        let state = persist(async || switch(her, &self.policy).await).await;
        assert_eq!(state, Some(Switch::Enabled));
        for session in [&self.ended, &self.refreshed] {
            let refused = refresh(story, session).await.unwrap_err();
            assert!(
                ["REFRESH_REUSED", "REFRESH_EXPIRED", "TOKEN_REVOKED"].contains(&reason(&refused).as_str()),
                "{refused:?}"
            );
        }
        let left = i64::from(USES.0) - i64::try_from(USES.1).unwrap();
        let decision = persist(async || story.check(0, story.question(&self.counted)).await).await;
        assert_eq!((decision.reason(), decision.uses_left), (Reason::Granted, Some(left)));
    }
}

/// What callers keep: of an epoch that is over by then.
pub(crate) struct Kept {
    revision: String,
    resume_token: String,
}

impl Kept {
    /// Whoever comes back with it is told that it names nothing any more.
    pub(crate) async fn is_unknown(&self, story: &Story, consent: &str) {
        let question = consent::CheckAccessRequest {
            consistency: Some(Consistency::AtLeast(self.revision.clone())),
            ..story.question(consent)
        };
        let refused = persist(async || match story.check(0, question.clone()).await {
            Err(status) if reason(&status) == "POSITION_UNKNOWN" => Ok(status),
            Err(status) => Err(status),
            Ok(decision) => panic!("answered of an epoch that is over: {decision:?}"),
        });
        assert_eq!(refused.await.code(), tonic::Code::OutOfRange);
        let gone = watch(story, &self.resume_token).await.unwrap_err();
        assert_eq!(reason(&gone), "POSITION_UNKNOWN");
        assert!(watch(story, "").await.is_ok(), "from the beginning it goes on");
    }
}

async fn deny(story: &Story, her: &Person, name: &str) -> Result<consent::ConsentRequest, Status> {
    let request = consent::DenyConsentRequestRequest {
        name: name.to_owned(),
        reason: "not now".to_owned(),
        etag: String::new(),
        request_id: story.rid(),
    };
    let mut client = ConsentRequestServiceClient::new(her.who.consent());
    Ok(client.deny_consent_request(request).await?.into_inner())
}

/// A policy that denied a purpose, and does not any more.
async fn disabled(story: &Story, her: &Person) -> Result<String, Status> {
    let mut client = PolicyServiceClient::new(her.who.consent());
    let request = consent::CreatePolicyRequest {
        effect: Effect::Deny.into(),
        purposes: vec![types::PurposeCode::Hpaymt.into()],
        request_id: story.rid(),
        ..Default::default()
    };
    let name = client.create_policy(request).await?.into_inner().name;
    let request = consent::DisablePolicyRequest {
        name: name.clone(),
        request_id: story.rid(),
        ..Default::default()
    };
    client.disable_policy(request).await?;
    Ok(name)
}

async fn enable(story: &Story, her: &Person, name: &str) -> Result<(), Status> {
    let request = consent::EnablePolicyRequest {
        name: name.to_owned(),
        request_id: story.rid(),
        ..Default::default()
    };
    let mut client = PolicyServiceClient::new(her.who.consent());
    client.enable_policy(request).await.map(drop)
}

/// The state of a policy.
async fn switch(her: &Person, name: &str) -> Result<Option<Switch>, Status> {
    let mut client = PolicyServiceClient::new(her.who.consent());
    let listed = client.list_policies(consent::ListPoliciesRequest::default()).await?;
    let found = listed
        .into_inner()
        .policies
        .into_iter()
        .find(|policy| policy.name == name);
    Ok(found.map(|policy| policy.state()))
}

async fn refresh(story: &Story, session: &identity::Session) -> Result<identity::Session, Status> {
    let request = identity::RefreshSessionRequest {
        request_id: story.rid(),
        refresh_token: session.refresh_token.clone(),
        audiences: vec!["identity".to_owned()],
    };
    let mut client = SessionServiceClient::new(story.app.identity());
    Ok(client.refresh_session(request).await?.into_inner())
}

/// The first message of the hospital's stream from `token` on.
async fn watch(story: &Story, token: &str) -> Result<consent::WatchNotificationsResponse, Status> {
    let request = consent::WatchNotificationsRequest {
        resume_token: token.to_owned(),
    };
    let mut client = NotificationServiceClient::new(story.hospital.consent());
    let mut stream = client.watch_notifications(request).await?.into_inner();
    stream
        .message()
        .await?
        .ok_or_else(|| Status::aborted("the stream ended"))
}

/// The token of the first sign of life, behind all that there is.
async fn last_token(story: &Story) -> String {
    use consent::watch_notifications_response::Item;
    let mut client = NotificationServiceClient::new(story.hospital.consent());
    let request = consent::WatchNotificationsRequest::default();
    let mut stream = client.watch_notifications(request).await.unwrap().into_inner();
    loop {
        let message = stream.message().await.unwrap().unwrap();
        if matches!(message.item, Some(Item::Heartbeat(_))) {
            return message.resume_token;
        }
    }
}
