//! What becomes of a locker's policy as its subscription is paused, resumed and taken back.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request::State as Asked;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::policy::State as Policy;
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_api::consent::v1::subscription_service_server::SubscriptionService;
use sammati_api::types::v1 as types;
use sammati_consent::rows::SubscriptionRow;
use sammati_kernel::{Caller, Reason, Refusal, Slot, SubscriptionId};
use sammati_store::{Command, Keys, View};
use tonic::{Response, Status};

use crate::policies::{disable, enable};
use crate::subscriptions::act;
use crate::world::{DAY, World, by, everywhere, participant, professional, reason};

const ADDRESS: &str = "asha.rao@sbx";

/// How she sets up the locker, until a year from the start.
pub(crate) fn setting_up(w: &World) -> api::SetupLockerRequest {
    api::SetupLockerRequest {
        locker: "participants/locker".into(),
        patient: ADDRESS.into(),
        hips: Vec::new(),
        hi_types: vec![types::HiType::Prescription.into()],
        expire_time: w.at(365 * DAY),
        request_id: w.request_id(),
        action_token: String::new(),
    }
}

pub(crate) async fn set_up(
    w: &World,
    she: &Caller,
    message: api::SetupLockerRequest,
) -> Result<(String, String), Status> {
    let set = w.rpc().setup_locker(by(she, message)).await.map(Response::into_inner)?;
    Ok((set.subscription.unwrap().name, set.policy.unwrap().name))
}

/// What becomes of what the locker asks for.
async fn asks(w: &World) -> Asked {
    let mut scope = w.scope();
    scope.purpose.as_mut().unwrap().code = types::PurposeCode::Patrqt.into();
    scope.hi_types = vec![types::HiType::Prescription.into()];
    scope.access_mode = types::AccessMode::Store.into();
    let request = api::CreateConsentRequestRequest {
        scope: Some(scope),
        requester: Some(professional()),
        ..w.asks(ADDRESS)
    };
    let locker = participant("locker");
    let asked = w.rpc().create_consent_request(by(&locker, request)).await.unwrap();
    asked.into_inner().state()
}

async fn policy(w: &World, she: &Caller) -> api::Policy {
    let listed = w.rpc().list_policies(by(she, Default::default())).await.unwrap();
    let mut policies = listed.into_inner().policies;
    assert_eq!(policies.len(), 1);
    policies.remove(0)
}

#[test]
fn c4_a_locker_that_is_taken_back_is_granted_nothing_more() {
    everywhere(|w| async move {
        let she = w.she(w.person(ADDRESS));
        w.linked(ADDRESS, &["visit-1"]).await;
        let message = setting_up(&w);
        let (subscription, made) = set_up(&w, &she, message.clone()).await.unwrap();
        assert_eq!(asks(&w).await, Asked::Granted);
        act(&w, &she, "revoke", &subscription, None).await.unwrap();
        assert_eq!(asks(&w).await, Asked::Requested);
        assert_eq!(policy(&w, &she).await.state(), Policy::Disabled);
        assert_eq!(w.count("policy.disabled").await, 1);
        // She sets it up again as it was, and gets the same policy.
        let again = api::SetupLockerRequest {
            request_id: w.request_id(),
            ..message
        };
        let (subscription, policy_again) = set_up(&w, &she, again).await.unwrap();
        assert_eq!(policy_again, made);
        assert_eq!(asks(&w).await, Asked::Granted);
        assert_eq!(w.count("policy.enabled").await, 2);
        // What the locker gives up it has not either.
        act(&w, &participant("locker"), "revoke", &subscription, None)
            .await
            .unwrap();
        assert_eq!(asks(&w).await, Asked::Requested);
    });
}

#[test]
fn a_locker_is_granted_nothing_while_it_is_paused() {
    everywhere(|w| async move {
        let account = w.person(ADDRESS);
        let she = w.she(account);
        w.linked(ADDRESS, &["visit-1"]).await;
        let (subscription, _) = set_up(&w, &she, setting_up(&w)).await.unwrap();
        act(&w, &she, "pause", &subscription, None).await.unwrap();
        assert_eq!(asks(&w).await, Asked::Requested);
        // Resuming grants beforehand, as enabling a policy does.
        w.advance(301);
        assert_eq!(
            reason(act(&w, &she, "resume", &subscription, None).await),
            Reason::StepUpRequired
        );
        let she = w.she(account);
        act(&w, &she, "resume", &subscription, None).await.unwrap();
        assert_eq!(asks(&w).await, Asked::Granted);
        // What she enabled again while it was paused is hers, and what she disabled by itself no pause brings back.
        act(&w, &she, "pause", &subscription, None).await.unwrap();
        let name = policy(&w, &she).await.name;
        enable(&w, &she, &name).await.unwrap();
        act(&w, &she, "resume", &subscription, None).await.unwrap();
        disable(&w, &she, &name).await.unwrap();
        act(&w, &she, "pause", &subscription, None).await.unwrap();
        act(&w, &she, "resume", &subscription, None).await.unwrap();
        assert_eq!(asks(&w).await, Asked::Requested);
    });
}

#[test]
fn a_paused_locker_that_is_given_less_resumes_with_its_policy() {
    everywhere(|w| async move {
        let she = w.she(w.person(ADDRESS));
        w.linked(ADDRESS, &["visit-1"]).await;
        let (subscription, _) = set_up(&w, &she, setting_up(&w)).await.unwrap();
        act(&w, &she, "pause", &subscription, None).await.unwrap();
        let message = api::GetSubscriptionRequest {
            name: subscription.clone(),
        };
        let read = w.rpc().get_subscription(by(&she, message)).await.unwrap().into_inner();
        act(&w, &she, "update", &subscription, read.given).await.unwrap();
        act(&w, &she, "resume", &subscription, None).await.unwrap();
        assert_eq!(asks(&w).await, Asked::Granted);
    });
}

/// A locker as it was kept before its policy was.
struct Older(SubscriptionId);

impl Command for Older {
    type Answer = ();

    const NAME: &'static str = "test.older";

    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<SubscriptionRow>(self.0.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        let mut row = view.get::<SubscriptionRow>(self.0.as_bytes()).unwrap();
        row.policy.clear();
        view.put(&row);
        Ok(())
    }
}

#[test]
fn c4_a_locker_that_was_set_up_before_its_policy_was_kept_is_taken_back_with_it() {
    everywhere(|w| async move {
        let she = w.she(w.person(ADDRESS));
        w.linked(ADDRESS, &["visit-1"]).await;
        let (subscription, _) = set_up(&w, &she, setting_up(&w)).await.unwrap();
        let id = SubscriptionId::parse_name(&subscription).unwrap();
        w.store().apply(Older(id)).await.unwrap();
        act(&w, &she, "revoke", &subscription, None).await.unwrap();
        assert_eq!(asks(&w).await, Asked::Requested);
    });
}
