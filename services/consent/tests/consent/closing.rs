//! An account is deleted: what she gave ends, what was asked of her is cancelled, and what is sealed of hers opens no more.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::transfer::State;
use sammati_consent::closing::Closings;
use tonic::Response;

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
        let name = w.granted("asha@sbx", |_| {}).await.1.name;
        let asha = w.person("asha@sbx");
        let transfer = open(&w, "clinic", wanted(&w, &name)).await.unwrap();
        let waiting = w.create(w.asks("asha@sbx")).await.unwrap();
        let other = w.granted("ravi@sbx", |_| {}).await.1.name;
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
