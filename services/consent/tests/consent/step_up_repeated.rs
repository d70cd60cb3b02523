//! A call that carries a token is repeated with whatever token she has by then: it is done once, and the token is kept.

use std::fmt::Debug;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::policy_service_server::PolicyService;
use sammati_api::consent::v1::step_up::Action;
use sammati_api::consent::v1::step_up_service_server::StepUpService;
use sammati_api::consent::v1::subscription_service_server::SubscriptionService;
use sammati_kernel::{AccountId, Actor, Caller, Clock, Reason, SessionId};
use tonic::{Response, Status};

use crate::lockers::setting_up;
use crate::policies::{approve, disable};
use crate::step_up::{Call, anew, both, claims, proved, revocation, setting, with};
use crate::subscriptions::{act, ask, asking};
use crate::world::{World, by, everywhere, refused};

const ADDRESS: &str = "asha.rao@sbx";

/// She, logged in a moment ago in a session of its own.
fn logged_in(w: &World, account: AccountId) -> Caller {
    let mut she = w.she(account);
    if let Some(Actor::Person { session, .. }) = &mut she.actor {
        *session = SessionId::new(w.clock.now(), account.slot(), [6; 8]);
    }
    she
}

fn answered<T: Debug>(answer: Result<Response<T>, Status>, what: &str) -> T {
    answer
        .map(Response::into_inner)
        .unwrap_or_else(|status| panic!("{what}: {status:?}"))
}

/// That of a call and its repeats one is done, whatever token they carry, and that a repeat uses none up. What it answers.
async fn once<M: Call, T: Debug>(
    w: &World,
    account: AccountId,
    (event, message, other): (&str, M, M),
    call: impl AsyncFn(&Caller, M) -> Result<Response<T>, Status>,
) -> T {
    let she = logged_in(w, account);
    let before = w.count(event).await;
    let bent = with(&message, &w.people.tokens, &claims(w, &she, &other));
    let answer = call(&she, bent).await;
    assert_eq!(refused(answer).reason, Reason::StepUpRequired, "{event}: a first call");
    let first = proved(w, &she, &message);
    let done = answered(call(&she, first.clone()).await, event);
    let told = w.count(event).await;
    assert!(told > before, "{event}");
    // The answer was lost; the token is over, and so is the session.
    w.advance(121);
    let she = logged_in(w, account);
    answered(call(&she, first).await, "the token of the session before");
    let fresh = proved(w, &she, &message);
    answered(call(&she, fresh.clone()).await, "another token");
    let forged = with(&message, &w.people.tokens, &claims(w, &she, &other));
    answered(call(&she, forged).await, "a token for something else");
    assert_eq!(w.count(event).await, told, "{event}: done twice");
    // What is asked under the id is not changed by a token that is good for it.
    let mut changed = other;
    changed.apart()[1].clone_from(fresh.clone().apart()[1]);
    let reused = call(&she, proved(w, &she, &changed)).await;
    assert_eq!(refused(reused).reason, Reason::RequestIdReused, "{event}");
    // It is good still: a call of its own is not refused for it.
    if let Err(status) = call(&she, anew(w, &fresh)).await {
        assert_ne!(refused(Err::<(), _>(status)).reason, Reason::StepUpRequired, "{event}");
    }
    done
}

#[test]
fn i1_what_she_sets_grants_and_takes_back_is_done_once_whatever_token_a_repeat_carries() {
    everywhere(|w| async move {
        let account = w.person(ADDRESS);
        let rpc = w.rpc();
        let all = [Action::Approve, Action::Revoke];
        let messages = ("consent.step_up_set", setting(&w, &all), setting(&w, &[]));
        once(&w, account, messages, async |she, m| rpc.set_step_up(by(she, m)).await).await;

        let request = w.create(w.asks(ADDRESS)).await.unwrap();
        let message = w.approval(&request);
        let other = api::ApproveConsentRequestRequest {
            dry_run: true,
            ..message.clone()
        };
        let granted = once(&w, account, ("consent.granted", message, other), async |she, m| {
            rpc.approve_consent_request(by(she, m)).await
        });
        let name = granted.await.consents.remove(0).name;

        let message = revocation(&w, &name);
        let other = api::RevokeConsentsRequest {
            reason: "another body".into(),
            ..message.clone()
        };
        once(&w, account, ("consent.withdrawn", message, other), async |she, m| {
            rpc.revoke_consents(by(she, m)).await
        })
        .await;
    });
}

#[test]
fn i1_a_policy_comes_into_force_once_whatever_token_a_repeat_carries() {
    everywhere(|w| async move {
        let account = w.person(ADDRESS);
        let rpc = w.rpc();
        both(&w, &w.she(account)).await;
        let message = approve(&w);
        let mut other = message.clone();
        other.hips = vec!["participants/lab".into()];
        let made = once(&w, account, ("policy.enabled", message, other), async |she, m| {
            rpc.create_policy(by(she, m)).await
        });
        let name = made.await.name;
        disable(&w, &w.she(account), &name).await.unwrap();
        let enabling = |name: &str| api::EnablePolicyRequest {
            name: name.to_owned(),
            request_id: w.request_id(),
            ..Default::default()
        };
        let other = enabling(&name.replace(['0', '1'], "2"));
        once(
            &w,
            account,
            ("policy.enabled", enabling(&name), other),
            async |she, m| rpc.enable_policy(by(she, m)).await,
        )
        .await;
    });
}

#[test]
fn i1_a_subscription_is_given_once_whatever_token_a_repeat_carries() {
    everywhere(|w| async move {
        let account = w.person(ADDRESS);
        let rpc = w.rpc();
        both(&w, &w.she(account)).await;
        let asked = ask(&w, "clinic", asking(&w, ADDRESS)).await.unwrap();
        let less = asked.asked.clone().map(|all| api::SubscribedSources {
            categories: vec![1],
            ..all
        });
        let message = api::ApproveSubscriptionRequest {
            name: asked.name.clone(),
            sources: less.clone(),
            request_id: w.request_id(),
            ..Default::default()
        };
        let other = api::ApproveSubscriptionRequest {
            sources: asked.asked.clone(),
            ..message.clone()
        };
        once(&w, account, ("subscription.granted", message, other), async |she, m| {
            rpc.approve_subscription(by(she, m)).await
        })
        .await;
        let message = api::UpdateSubscriptionRequest {
            name: asked.name,
            sources: asked.asked,
            request_id: w.request_id(),
            ..Default::default()
        };
        let other = api::UpdateSubscriptionRequest {
            sources: less,
            ..message.clone()
        };
        once(
            &w,
            account,
            ("subscription.modified", message, other),
            async |she, m| rpc.update_subscription(by(she, m)).await,
        )
        .await;
    });
}

#[test]
fn i1_a_locker_is_set_up_and_resumed_once_whatever_token_a_repeat_carries() {
    everywhere(|w| async move {
        let account = w.person(ADDRESS);
        let rpc = w.rpc();
        both(&w, &w.she(account)).await;
        let message = setting_up(&w);
        let mut other = message.clone();
        other.hi_types = (1..=8).collect();
        let set = once(&w, account, ("subscription.granted", message, other), async |she, m| {
            rpc.setup_locker(by(she, m)).await
        });
        let name = set.await.subscription.unwrap().name;
        act(&w, &w.she(account), "pause", &name, None).await.unwrap();
        let resuming = |name: &str| api::ResumeSubscriptionRequest {
            name: name.to_owned(),
            request_id: w.request_id(),
            ..Default::default()
        };
        let other = resuming(&name.replace(['0', '1'], "2"));
        once(
            &w,
            account,
            ("subscription.resumed", resuming(&name), other),
            async |she, m| rpc.resume_subscription(by(she, m)).await,
        )
        .await;
    });
}
