//! How far her policies reach, and how often: renewals, the limits of a day, and the room for more.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_request::State as Asked;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{Caller, Reason};

use crate::policies::{approve, deny, disable, enable, make};
use crate::world::{DAY, World, by, everywhere, participant, reason, refused};

#[test]
fn a_deny_is_about_renewals_too_and_an_approve_leaves_them_to_her() {
    everywhere(|w| async move {
        let (she, old) = w.granted("asha.rao@sbx", |_| {}).await;
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        make(&w, &she, approve(&w)).await.unwrap();
        let waits = w.create(w.renewal("asha.rao@sbx", &old)).await.unwrap();
        assert_eq!(waits.state(), Asked::Requested);
        make(&w, &she, deny(&w, "participants/clinic")).await.unwrap();
        let denied = w.create(w.renewal("asha.rao@sbx", &old)).await.unwrap();
        assert_eq!((denied.state(), denied.renews), (Asked::Denied, old.name));
    });
}

/// How often she was told so.
async fn told(w: &World, she: &Caller, kind: Kind) -> usize {
    let told = w.notifications(she).await;
    told.iter().filter(|n| n.kind() == kind).count()
}

#[test]
fn what_her_policies_decide_has_a_limit_of_a_day_and_is_no_question_to_her() {
    everywhere(|w| async move {
        for (address, message, state) in [
            ("asha.rao@sbx", deny(&w, "participants/clinic"), Asked::Denied),
            ("ravi.kumar@sbx", approve(&w), Asked::Granted),
        ] {
            let account = w.person(address);
            let she = w.she(account);
            w.linked(address, &[&format!("visit of {address}")]).await;
            make(&w, &she, message).await.unwrap();
            for _ in 0..20 {
                assert_eq!(w.create(w.asks(address)).await.unwrap().state(), state);
            }
            let refusal = refused(w.create(w.asks(address)).await);
            assert_eq!(refusal.reason, Reason::RequestLimit);
            assert_eq!(refusal.retry_after, Some(std::time::Duration::from_secs(24 * 3600)));
            assert_eq!(told(&w, &she, Kind::ConsentRequested).await, 0);
            assert_eq!(told(&w, &she, Kind::PolicyApplied).await, 20);
            // It is each asker's own.
            let other = w
                .rpc()
                .create_consent_request(by(&participant("insurer"), w.asks(address)));
            assert_eq!(other.await.unwrap().into_inner().state(), Asked::Requested);
            assert_eq!(told(&w, &she, Kind::ConsentRequested).await, 1);
            w.advance(DAY);
            assert_eq!(w.create(w.asks(address)).await.unwrap().state(), state);
        }
    });
}

#[test]
fn the_limit_of_a_day_does_not_tell_that_two_addresses_are_one_persons() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        w.also(account, "asha.too@sbx");
        make(&w, &w.she(account), deny(&w, "")).await.unwrap();
        for _ in 0..20 {
            w.create(w.asks("asha.rao@sbx")).await.unwrap();
        }
        assert_eq!(reason(w.create(w.asks("asha.rao@sbx")).await), Reason::RequestLimit);
        assert_eq!(w.create(w.asks("asha.too@sbx")).await.unwrap().state(), Asked::Denied);
    });
}

#[test]
fn what_is_not_in_force_takes_no_room_from_her_blocks() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let block = |n: usize| api::CreatePolicyRequest {
            hiu: format!("participants/asker-{n}"),
            ..deny(&w, "")
        };
        let mut made = Vec::new();
        for n in 0..200 {
            made.push(make(&w, &she, block(n)).await.unwrap().name);
        }
        assert_eq!(reason(make(&w, &she, block(200)).await), Reason::OpenLimit);
        disable(&w, &she, &made[0]).await.unwrap();
        make(&w, &she, block(200)).await.unwrap();
        assert_eq!(reason(enable(&w, &she, &made[0]).await), Reason::OpenLimit);
        disable(&w, &she, &made[1]).await.unwrap();
        enable(&w, &she, &made[0]).await.unwrap();
    });
}
