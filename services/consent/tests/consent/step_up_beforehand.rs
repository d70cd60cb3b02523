//! What she decides beforehand needs her PIN too where giving does: one token, for one call, once. What protects her needs none.

use std::sync::Arc;

use futures::future::join_all;
use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::policy::State;
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_api::consent::v1::subscription_service_server::SubscriptionService;
use sammati_kernel::{Caller, Reason};
use tonic::{Response, Status};

use crate::lockers::setting_up;
use crate::policies::{approve, deny, disable, make};
use crate::step_up::{Call, anew, both, claims, proved, with};
use crate::subscriptions::{act, ask, asking};
use crate::world::{World, by, everywhere, reason};

macro_rules! call {
    ($request:ident, $method:literal, $about:expr, [$($apart:ident),+]) => {
        impl Call for api::$request {
            const METHOD: &'static str = concat!("sammati.consent.v1.", $method);

            fn apart(&mut self) -> Vec<&mut String> {
                vec![$(&mut self.$apart),+]
            }

            fn resource(&self, she: &Caller) -> String {
                let about: fn(&Self, &Caller) -> String = $about;
                about(self, she)
            }
        }
    };
}

fn account<M>(_: &M, she: &Caller) -> String {
    she.account().unwrap().name()
}

call!(
    CreatePolicyRequest,
    "PolicyService/CreatePolicy",
    account,
    [action_token, request_id]
);
call!(
    EnablePolicyRequest,
    "PolicyService/EnablePolicy",
    |r, _| r.name.clone(),
    [action_token, request_id, etag]
);
call!(
    ApproveSubscriptionRequest,
    "SubscriptionService/ApproveSubscription",
    |r, _| r.name.clone(),
    [action_token, request_id, etag]
);
call!(
    UpdateSubscriptionRequest,
    "SubscriptionService/UpdateSubscription",
    |r, _| r.name.clone(),
    [action_token, request_id, etag]
);
call!(
    ResumeSubscriptionRequest,
    "SubscriptionService/ResumeSubscription",
    |r, _| r.name.clone(),
    [action_token, request_id, etag]
);
call!(
    SetupLockerRequest,
    "SubscriptionService/SetupLocker",
    account,
    [action_token, request_id]
);

/// That a call goes through with a token of its own, once, and not without. What it answers.
async fn needs_it<M: Call, T: std::fmt::Debug>(
    w: &World,
    she: &Caller,
    (message, other): (M, M),
    call: impl AsyncFn(M) -> Result<Response<T>, Status>,
) -> T {
    assert_eq!(reason(call(message.clone()).await), Reason::StepUpRequired, "none");
    let bent = with(&message, &w.people.tokens, &claims(w, she, &other));
    assert_eq!(reason(call(bent).await), Reason::StepUpRequired, "for another content");
    let good = proved(w, she, &message);
    let answer = call(good.clone()).await.unwrap();
    assert_eq!(reason(call(anew(w, &good)).await), Reason::StepUpRequired, "used");
    w.advance(120);
    call(good).await.unwrap();
    answer.into_inner()
}

#[test]
fn what_gives_beforehand_needs_a_token_and_a_token_is_good_once() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let rpc = w.rpc();
        let she = w.she(account);
        both(&w, &she).await;
        let message = approve(&w);
        let mut other = message.clone();
        other.hips = vec!["participants/lab".into()];
        let made = needs_it(&w, &she, (message, other), async |m| {
            rpc.create_policy(by(&she, m)).await
        })
        .await;
        assert_eq!(made.state(), State::Enabled);

        // Taking it out of force needs none, and putting it into force does.
        disable(&w, &she, &made.name).await.unwrap();
        let enabling = |name: &str| api::EnablePolicyRequest {
            name: name.to_owned(),
            request_id: w.request_id(),
            ..Default::default()
        };
        let messages = (enabling(&made.name), enabling("policies/1"));
        let enabled = needs_it(&w, &she, messages, async |m| rpc.enable_policy(by(&she, m)).await).await;
        assert_eq!(enabled.state(), State::Enabled);

        let she = w.she(account);
        let asked = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        let message = api::ApproveSubscriptionRequest {
            name: asked.name,
            request_id: w.request_id(),
            ..Default::default()
        };
        let other = api::ApproveSubscriptionRequest {
            sources: asked.asked,
            ..message.clone()
        };
        let granted = needs_it(&w, &she, (message, other), async |m| {
            rpc.approve_subscription(by(&she, m)).await
        });
        let granted = granted.await;
        act(&w, &she, "pause", &granted.name, None).await.unwrap();
        // What is told of it is no more than she granted with her PIN.
        act(&w, &she, "resume", &granted.name, None).await.unwrap();
    });
}

#[test]
fn c3_a_subscription_tells_more_than_she_gave_with_her_pin_alone() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let rpc = w.rpc();
        let asked = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
        let all = asked.asked.clone().unwrap();
        // She gives the news of one hospital, and not its reports.
        let given = api::SubscribedSources {
            hips: vec!["participants/hospital".into()],
            excluded: vec![api::ExcludedSource {
                hip: String::new(),
                hi_types: vec![all.hi_types[1]],
            }],
            ..all.clone()
        };
        act(&w, &she, "approve", &asked.name, Some(given.clone()))
            .await
            .unwrap();
        both(&w, &she).await;
        let less = api::SubscribedSources {
            categories: vec![1],
            ..given.clone()
        };
        let wider = [
            all.clone(),
            api::SubscribedSources {
                hips: Vec::new(),
                ..less.clone()
            },
            api::SubscribedSources {
                excluded: Vec::new(),
                ..less.clone()
            },
            given.clone(),
        ];
        // Less needs none; and then what she gave before is more.
        act(&w, &she, "update", &asked.name, Some(less.clone())).await.unwrap();
        for pause in [false, true] {
            if pause {
                act(&w, &she, "pause", &asked.name, None).await.unwrap();
            }
            for sources in &wider {
                let done = act(&w, &she, "update", &asked.name, Some(sources.clone())).await;
                assert_eq!(reason(done), Reason::StepUpRequired, "{sources:?}");
            }
            act(&w, &she, "update", &asked.name, Some(less.clone())).await.unwrap();
        }
        let resumed = act(&w, &she, "resume", &asked.name, None).await.unwrap();
        assert_eq!(resumed.given, Some(less));
        let updating = |sources: &api::SubscribedSources| api::UpdateSubscriptionRequest {
            name: asked.name.clone(),
            sources: Some(sources.clone()),
            request_id: w.request_id(),
            ..Default::default()
        };
        let messages = (updating(&given), updating(&all));
        let updated = needs_it(&w, &she, messages, async |m| rpc.update_subscription(by(&she, m)).await);
        assert_eq!(updated.await.given, Some(given));
    });
}

#[test]
fn a_locker_is_set_up_and_resumed_with_her_pin() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let rpc = w.rpc();
        both(&w, &she).await;
        let message = setting_up(&w);
        let mut other = message.clone();
        other.hi_types = (1..=8).collect();
        let set = needs_it(&w, &she, (message, other), async |m| {
            rpc.setup_locker(by(&she, m)).await
        })
        .await;
        let name = set.subscription.unwrap().name;
        act(&w, &she, "pause", &name, None).await.unwrap();
        let resuming = |name: &str| api::ResumeSubscriptionRequest {
            name: name.to_owned(),
            request_id: w.request_id(),
            ..Default::default()
        };
        let messages = (resuming(&name), resuming("subscriptions/1"));
        let resumed = needs_it(&w, &she, messages, async |m| rpc.resume_subscription(by(&she, m)).await).await;
        assert_eq!(resumed.state(), api::subscription::State::Granted);
    });
}

#[test]
fn what_denies_needs_no_pin_and_uses_up_one_that_is_shown() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        both(&w, &she).await;
        let block = make(&w, &she, deny(&w, "participants/clinic")).await.unwrap();
        disable(&w, &she, &block.name).await.unwrap();
        crate::policies::enable(&w, &she, &block.name).await.unwrap();
        let message = deny(&w, "participants/insurer");
        let bent = with(&message, &w.people.tokens, &claims(&w, &she, &deny(&w, "")));
        assert_eq!(reason(make(&w, &she, bent).await), Reason::StepUpRequired);
        let good = proved(&w, &she, &message);
        make(&w, &she, good.clone()).await.unwrap();
        assert_eq!(reason(make(&w, &she, anew(&w, &good)).await), Reason::StepUpRequired);
    });
}

#[test]
fn of_16_calls_with_one_token_on_two_replicas_one_puts_a_policy_into_force() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let made = make(&w, &she, approve(&w)).await.unwrap();
        disable(&w, &she, &made.name).await.unwrap();
        both(&w, &she).await;
        let message = api::EnablePolicyRequest {
            name: made.name,
            request_id: w.request_id(),
            ..Default::default()
        };
        let message = proved(&w, &she, &message);
        let racers = (0..16).map(|_| {
            let (w, she, message) = (Arc::clone(&w), she.clone(), anew(&w, &message));
            tokio::spawn(async move { w.rpc().enable_policy(by(&she, message)).await })
        });
        let done: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
        let refused = done.into_iter().filter(Result::is_err).map(reason);
        assert!(refused.into_iter().all(|reason| reason == Reason::StepUpRequired));
        assert_eq!(w.count("policy.enabled").await, 2);
    });
}
