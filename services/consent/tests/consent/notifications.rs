//! Watching and acknowledging.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::acknowledge_notifications_request::Outcome;
use sammati_api::consent::v1::consent_request_service_server::ConsentRequestService;
use sammati_api::consent::v1::consent_service_server::ConsentService;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::consent::v1::notification_service_server::NotificationService;
use sammati_api::consent::v1::watch_notifications_response::Item;
use sammati_kernel::Reason;
use sammati_store::Revision;
use tokio_stream::StreamExt;
use tonic::Response;

use crate::world::{by, everywhere, participant, reason};

#[test]
fn a_stream_goes_on_from_its_token_and_wakes_when_something_comes() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let hospital = participant("hospital");
        let mut stream = w
            .rpc()
            .watch_notifications(by(&hospital, Default::default()))
            .await
            .unwrap()
            .into_inner();
        let first = stream.next().await.unwrap().unwrap();
        let Some(Item::Notification(granted)) = first.item else {
            panic!("no notification")
        };
        assert_eq!(
            (granted.kind(), &granted.resource, &granted.position),
            (Kind::ConsentGranted, &consent.name, &first.resume_token)
        );
        // It was acknowledged, and its revision names a place that holds it.
        assert_eq!(granted.update_time, granted.acknowledge_time);
        assert!(Revision::open(w.store().key(), &granted.revision).is_some() && granted.etag == "\"2\"");
        assert!(matches!(
            stream.next().await.unwrap().unwrap().item,
            Some(Item::Heartbeat(_))
        ));
        w.revoke(&she, &[&consent.name]).await.unwrap();
        let revoked = loop {
            if let Some(Item::Notification(n)) = stream.next().await.unwrap().unwrap().item {
                break n;
            }
        };
        assert_eq!(revoked.kind(), Kind::ConsentRevoked);
        let message = api::WatchNotificationsRequest {
            resume_token: first.resume_token,
        };
        let mut resumed = w
            .rpc()
            .watch_notifications(by(&hospital, message.clone()))
            .await
            .unwrap()
            .into_inner();
        let Some(Item::Notification(again)) = resumed.next().await.unwrap().unwrap().item else {
            panic!("no notification")
        };
        assert_eq!(again.event_id, revoked.event_id);
        let others = w
            .rpc()
            .watch_notifications(by(&participant("clinic"), message))
            .await
            .map(drop);
        assert_eq!(reason(others), Reason::PositionUnknown);
    });
}

#[test]
fn acknowledging_stamps_once_and_proves_that_a_revocation_arrived() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let read = async || {
            w.rpc()
                .get_consent(by(
                    &she,
                    api::GetConsentRequest {
                        name: consent.name.clone(),
                    },
                ))
                .await
                .unwrap()
                .into_inner()
        };
        let stamped = read().await;
        assert!(stamped.hip_acknowledge_time.is_some() && stamped.hiu_acknowledge_time.is_none());
        assert_eq!(w.acknowledge_all("hospital").await, 0);
        w.revoke(&she, &[&consent.name]).await.unwrap();
        w.advance(61);
        let last = w.notifications(&participant("hospital")).await.pop().unwrap();
        let message = api::AcknowledgeNotificationsRequest {
            up_to: last.position,
            outcome: Outcome::Ok.into(),
            request_id: w.request_id(),
            ..Default::default()
        };
        let acknowledge = async |who: &str, message| {
            w.rpc()
                .acknowledge_notifications(by(&participant(who), message))
                .await
                .map(Response::into_inner)
        };
        let done = acknowledge("hospital", message.clone()).await.unwrap();
        assert_eq!((done.acknowledged_count, done.late_count), (1, 1));
        assert_eq!(acknowledge("hospital", message).await.unwrap(), done);
        // It counts, and it is marked: on the notification and in the log.
        let late = w.notifications(&participant("hospital")).await.pop().unwrap();
        assert!(late.late && late.acknowledge_time.is_some());
        let propagated = w.events().await;
        let propagated = propagated
            .iter()
            .find(|e| e.event_type == "consent.revocation_propagated");
        assert_eq!(propagated.unwrap().reason_code, "LATE");
        assert_eq!(
            (
                w.count("consent.revocation_propagated").await,
                w.count("consent.notification_acknowledged").await
            ),
            (1, 1)
        );
        let others = api::AcknowledgeNotificationsRequest {
            names: vec![last.name],
            outcome: Outcome::Ok.into(),
            request_id: w.request_id(),
            ..Default::default()
        };
        assert_eq!(reason(acknowledge("clinic", others).await), Reason::NotificationUnknown);
    });
}

#[test]
fn an_error_is_recorded_and_acknowledges_nothing() {
    everywhere(|w| async move {
        let she = w.she(w.person("asha.rao@sbx"));
        let request = w.create(w.asks("asha.rao@sbx")).await.unwrap();
        w.approve(&she, w.approval(&request)).await.unwrap();
        let names = w
            .notifications(&participant("hospital"))
            .await
            .into_iter()
            .map(|n| n.name)
            .collect();
        let message = api::AcknowledgeNotificationsRequest {
            names,
            outcome: Outcome::Error.into(),
            error_text: "disk full".into(),
            request_id: w.request_id(),
            ..Default::default()
        };
        let done = w
            .rpc()
            .acknowledge_notifications(by(&participant("hospital"), message))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(done.acknowledged_count, 0);
        assert_eq!(w.acknowledge_all("hospital").await, 1);
    });
}

#[test]
fn a_place_that_one_replica_told_is_acknowledged_on_another() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let (first, last) = (&w.replicas[0].0, &w.replicas[w.replicas.len() - 1].0);
        let revoke = api::RevokeConsentsRequest {
            names: vec![consent.name],
            request_id: w.request_id(),
            ..Default::default()
        };
        first.revoke_consents(by(&she, revoke)).await.unwrap();
        let hospital = participant("hospital");
        let watch = first.watch_notifications(by(&hospital, Default::default()));
        let mut stream = watch.await.unwrap().into_inner();
        let place = loop {
            let message = stream.next().await.unwrap().unwrap();
            if let Some(Item::Notification(n)) = message.item
                && n.kind() == Kind::ConsentRevoked
            {
                break n.position;
            }
        };
        let message = api::AcknowledgeNotificationsRequest {
            up_to: place,
            outcome: Outcome::Ok.into(),
            request_id: w.request_id(),
            ..Default::default()
        };
        let done = last.acknowledge_notifications(by(&hospital, message)).await.unwrap();
        assert_eq!(done.into_inner().acknowledged_count, 1);
    });
}

#[test]
fn a_stream_tells_a_backlog_of_all_partitions_without_gap_and_in_order() {
    everywhere(|w| async move {
        let persons: Vec<_> = (0..40).map(|n| format!("person{n}.x@sbx")).collect();
        let asked = persons.iter().flat_map(|address| {
            let she = w.she(w.person(address));
            let w = &w;
            (0..8).map(move |_| {
                let (she, address) = (she.clone(), address.clone());
                async move {
                    let request = w.create(w.asks(&address)).await.unwrap();
                    let deny = api::DenyConsentRequestRequest {
                        name: request.name.clone(),
                        request_id: w.request_id(),
                        ..Default::default()
                    };
                    w.rpc().deny_consent_request(by(&she, deny)).await.unwrap();
                    request.name
                }
            })
        });
        let mut asked = futures::future::join_all(asked).await;
        let told = w.notifications(&participant("clinic")).await;
        let mut names: Vec<_> = told.iter().map(|n| n.resource.clone()).collect();
        let mut last = std::collections::BTreeMap::new();
        for (n, told) in told.iter().enumerate() {
            let id: sammati_kernel::NotificationId = sammati_kernel::Id::parse_name(&told.name).unwrap();
            let partition = w.store().partitions().of(id.slot());
            // Once a partition is left there is nothing more in it.
            assert!(last.insert(partition, n).is_none_or(|before| before + 1 == n));
        }
        names.sort();
        asked.sort();
        assert_eq!(names, asked);
    });
}

#[test]
fn whoever_keeps_no_stream_open_lists_what_there_is_newest_first() {
    everywhere(|w| async move {
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        w.advance(1);
        w.revoke(&she, &[&consent.name]).await.unwrap();
        let list = async |who: &str, message: api::ListNotificationsRequest| {
            let listed = w.rpc().list_notifications(by(&participant(who), message)).await;
            listed.unwrap().into_inner()
        };
        let kinds = |listed: &api::ListNotificationsResponse| {
            listed
                .notifications
                .iter()
                .map(api::Notification::kind)
                .collect::<Vec<_>>()
        };
        let all = list("hospital", Default::default()).await;
        assert_eq!(kinds(&all), [Kind::ConsentRevoked, Kind::ConsentGranted]);
        let pending = api::ListNotificationsRequest {
            unacknowledged: true,
            ..Default::default()
        };
        assert_eq!(kinds(&list("hospital", pending).await), [Kind::ConsentRevoked]);
        let grants = api::ListNotificationsRequest {
            kinds: vec![Kind::ConsentGranted.into()],
            ..Default::default()
        };
        assert_eq!(kinds(&list("clinic", grants).await), [Kind::ConsentGranted]);
        assert!(kinds(&list("lab", Default::default()).await).is_empty());
        let first = api::ListNotificationsRequest {
            page_size: 1,
            ..Default::default()
        };
        let one = list("hospital", first.clone()).await;
        let rest = api::ListNotificationsRequest {
            page_token: one.next_page_token.clone(),
            ..first
        };
        assert_eq!(kinds(&list("hospital", rest).await), [Kind::ConsentGranted]);
    });
}

#[test]
fn i1_one_acknowledgement_reaches_every_partition_once() {
    everywhere(|w| async move {
        for address in ["asha.rao@sbx", "ravi.kumar@sbx", "meera.joshi@sbx"] {
            let she = w.she(w.person(address));
            let request = w.create(w.asks(address)).await.unwrap();
            w.approve(&she, w.approval(&request)).await.unwrap();
        }
        let hospital = participant("hospital");
        let seen = w.notifications(&hospital).await;
        let mut message = api::AcknowledgeNotificationsRequest {
            names: seen.into_iter().map(|n| n.name).collect(),
            outcome: Outcome::Ok.into(),
            request_id: w.request_id(),
            ..Default::default()
        };
        for _ in 0..2 {
            let done = w.rpc().acknowledge_notifications(by(&hospital, message.clone())).await;
            assert_eq!(done.unwrap().into_inner().acknowledged_count, 3);
        }
        assert_eq!(w.count("consent.notification_acknowledged").await, 3);
        message.names.pop();
        assert_eq!(
            reason(w.rpc().acknowledge_notifications(by(&hospital, message)).await),
            Reason::RequestIdReused
        );
    });
}
