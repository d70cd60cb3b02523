//! An account is deleted: what she gave ends, what was asked of her is cancelled, and what is sealed of hers opens no more.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::transfer::State;
use sammati_consent::closing::Closings;
use tonic::Response;

use crate::policies::{approve, list, make};
use crate::subscriptions::{act, ask, asking, read};
use crate::transfers::{open, state, wanted};
use crate::world::{World, by, everywhere, operator, participant};

async fn consent(w: &World, name: &str) -> api::Consent {
    let request = api::GetConsentRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    let read = w.rpc().get_consent(by(&operator(), request)).await;
    read.map(Response::into_inner).unwrap()
}

#[test]
fn what_belongs_to_a_deleted_account_ends_and_its_key_goes_when_identity_says_so() {
    everywhere(|w| async move {
        let name = w.granted("asha.rao@sbx", |_| {}).await.1.name;
        let asha = w.account("asha.rao@sbx");
        let transfer = open(&w, "clinic", wanted(&w, &name)).await.unwrap();
        let waiting = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        let other = w.granted("ravi.k@sbx", |_| {}).await.1.name;
        let mut closings = Closings::default();
        w.rpc().close_accounts(&mut closings).await.unwrap();
        assert_eq!(consent(&w, &name).await.state(), api::consent::State::Granted);

        *w.people.deleted.lock().unwrap() = vec![(asha, false)];
        for _ in 0..2 {
            w.rpc().close_accounts(&mut closings).await.unwrap();
        }
        let ended = consent(&w, &name).await;
        assert_eq!(ended.state(), api::consent::State::Revoked);
        assert!(!ended.patient.is_empty());
        assert_eq!(state(&w, &participant("clinic"), &transfer).await, State::Cancelled);
        assert_eq!(consent(&w, &other).await.state(), api::consent::State::Granted);
        assert_eq!(w.count("consent.withdrawn").await, 1);
        assert_eq!(w.count("consent.request_cancelled").await, 1);
        let told = w.notifications(&participant("clinic")).await;
        let cancelled =
            |n: &&api::Notification| n.kind() == Kind::ConsentRequestCancelled && n.resource == waiting.name;
        assert_eq!(told.iter().filter(cancelled).count(), 1);

        *w.people.deleted.lock().unwrap() = vec![(asha, true)];
        // A process that starts anew does it as well, once.
        for _ in 0..2 {
            w.rpc().close_accounts(&mut Closings::default()).await.unwrap();
        }
        assert_eq!(w.count("consent.purged").await, 1);
        assert_eq!(consent(&w, &name).await.patient, "", "what was sealed is gone");
    });
}

#[test]
fn policies_and_subscriptions_of_a_deleted_account_end_whatever_their_state() {
    everywhere(|w| async move {
        let (she, granted) = w.granted("asha.rao@sbx", |_| {}).await;
        let (name, asha) = (granted.name, w.account("asha.rao@sbx"));
        let paused = api::PauseConsentRequest {
            name: name.clone(),
            request_id: w.request_id(),
            ..Default::default()
        };
        w.rpc().pause_consent(by(&she, paused)).await.unwrap();
        let policy = make(&w, &she, approve(&w)).await.unwrap();
        let mut subscriptions = Vec::new();
        for verb in ["", "approve", "deny", "pause"] {
            let asked = ask(&w, "clinic", asking(&w, "asha.rao@sbx")).await.unwrap();
            if verb == "pause" {
                act(&w, &she, "approve", &asked.name, None).await.unwrap();
            }
            if !verb.is_empty() {
                act(&w, &she, verb, &asked.name, None).await.unwrap();
            }
            subscriptions.push(asked.name);
        }
        *w.people.deleted.lock().unwrap() = vec![(asha, false)];
        for _ in 0..2 {
            w.rpc().close_accounts(&mut Closings::default()).await.unwrap();
        }
        assert_eq!(consent(&w, &name).await.state(), api::consent::State::Revoked);
        let policies = list(&w, &operator(), &asha.name()).await;
        assert_eq!(
            (&policies[0].name, policies[0].state()),
            (&policy.name, api::policy::State::Disabled)
        );
        use api::subscription::State::{Denied, Revoked};
        for (subscription, state) in subscriptions.iter().zip([Denied, Revoked, Denied, Revoked]) {
            let read = read(&w, &participant("clinic"), subscription).await.unwrap();
            assert_eq!(read.state(), state);
        }
        assert_eq!(w.count("policy.disabled").await, 1);
        assert_eq!(
            (
                w.count("subscription.withdrawn").await,
                w.count("subscription.denied").await
            ),
            (2, 2)
        );
    });
}
