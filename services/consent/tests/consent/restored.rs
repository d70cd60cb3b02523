//! A stream that is held while its database is put back behind it, as by a failover that lost commits.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::notification_service_server::NotificationService;
use sammati_api::consent::v1::watch_notifications_response::Item;
use sammati_consent::rows::MIGRATIONS;
use sammati_kernel::{Micros, Reason};
use sammati_store::Location;
use sammati_store::verbs::{self, Recovery};
use tokio_stream::StreamExt;
use tonic::Response;

use crate::world::{World, by, everywhere, participant, reason};

/// Opens a new epoch in all partitions, and ends the recovery.
fn recover(world: &World) {
    let location = Location::parse(world.url()).unwrap();
    let recover = || {
        let mut recovery = Recovery::begin(&location, None, MIGRATIONS).unwrap();
        for standing in recovery.standings().unwrap() {
            let cut = recovery.open_epoch(standing.head.partition, 7000, None, Micros::ZERO, |_| b"a cut".to_vec());
            cut.unwrap();
        }
        recovery.release();
        verbs::finish(&location).unwrap();
    };
    std::thread::scope(|scope| scope.spawn(recover).join()).unwrap();
}

#[test]
fn a_stream_held_over_a_new_epoch_ends_and_its_place_is_unknown() {
    everywhere(|w| async move {
        if w.url().starts_with("sqlite:") {
            // A file is only recovered while nobody serves it.
            return;
        }
        let (she, consent) = w.granted("asha.rao@sbx", |_| {}).await;
        let hospital = participant("hospital");
        let watch = async |token: &str| {
            let message = api::WatchNotificationsRequest {
                resume_token: token.to_owned(),
            };
            w.rpc().watch_notifications(by(&hospital, message)).await
        };
        let mut held = watch("").await.map(Response::into_inner).unwrap();
        let token = loop {
            let message = held.next().await.unwrap().unwrap();
            if matches!(message.item, Some(Item::Heartbeat(_))) {
                break message.resume_token;
            }
        };
        recover(&w);
        // What is committed from here on has positions of the new epoch: none of it is told on the old stream.
        w.revoke(&she, &[&consent.name]).await.unwrap();
        let refused = loop {
            match held.next().await.unwrap() {
                Ok(message) => assert!(matches!(message.item, Some(Item::Heartbeat(_))), "{message:?}"),
                Err(status) => break reason::<()>(Err(status)),
            }
        };
        // It may have asked while the recovery went on.
        assert!(
            matches!(refused, Reason::PositionUnknown | Reason::StorageUnavailable),
            "{refused:?}"
        );
        assert!(held.next().await.is_none(), "and nothing after it");
        assert_eq!(reason(watch(&token).await.map(drop)), Reason::PositionUnknown);
        let mut anew = watch("").await.map(Response::into_inner).unwrap();
        assert!(anew.next().await.unwrap().is_ok());
    });
}
